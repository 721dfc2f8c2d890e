"""Losses of predictors that need no training, against values worked out by hand, and their place in the log."""

import pytest
import torch
from helpers.shared import TINY
from helpers.synthetic_clips import trainer
from transformers import TrainerControl, TrainerState

from videomae_hf import VideoMAEV2Config, VideoMAEV2ForPreTraining
from videomae_hf.evaluation.trivial_predictors import nearest_visible, trivial_loss, trivial_losses
from videomae_hf.training.trivial_baseline import ReconstructionBaseline


def four_patches(**fields) -> VideoMAEV2ForPreTraining:
    """Grey clips of 2 x 4 x 4 in four patches of 2 x 2 x 2."""
    shape = {"num_frames": 2, "image_size": 4, "patch_size": 2, "num_channels": 1}
    return VideoMAEV2ForPreTraining(VideoMAEV2Config(**{**TINY, **shape, **fields}))


@pytest.fixture
def clip() -> torch.Tensor:
    """Black, white, black, and half of each: (1, 2, 1, 4, 4), uint8."""
    frame = [[0, 0, 255, 255], [0, 0, 255, 255], [0, 0, 0, 255], [0, 0, 0, 255]]
    return torch.tensor(frame, dtype=torch.uint8).expand(1, 2, 1, 4, 4)


VISIBLE, HIDDEN = torch.tensor([[0]]), torch.tensor([[1, 2, 3]])


def test_plain_pixels(clip):
    model = four_patches(norm_pix_loss=False)
    found = trivial_losses(model, clip, VISIBLE, HIDDEN)
    # The visible patch is black: errors of 1, 0 and 1/2; the means of the patches leave only the last one's variance
    assert found == pytest.approx(
        {"patch_mean": 0.25 / 3, "background": 0.5, "nearest_in_space": 0.5, "nearest_in_time": 0.5}
    )
    assert trivial_loss(found, model.config) == pytest.approx(0.5)  # the mean of a hidden patch is not known
    floats = (clip.float() / 255 - model.config.image_mean[0]) / model.config.image_std[0]
    assert trivial_losses(model, floats, VISIBLE, HIDDEN) == pytest.approx(found)


def test_normalised_patches(clip):
    model = four_patches(norm_pix_loss=True)
    found = trivial_losses(model, clip, VISIBLE, HIDDEN)
    # A patch of one colour is 0 after normalisation; half black and half white has an unbiased variance of 2/7
    assert found == pytest.approx({name: 0.25 / (2 / 7) / 3 for name in found}, rel=1e-4)
    assert set(found) == {"patch_mean", "nearest_in_space", "nearest_in_time"}
    assert trivial_loss(found, model.config) == found["patch_mean"]


def test_visible_tokens_among_the_decoded_are_left_out(clip):
    model = four_patches(norm_pix_loss=False)
    decoded = torch.tensor([[0, 1, 2, 3]])
    assert trivial_losses(model, clip, VISIBLE, decoded) == pytest.approx(trivial_losses(model, clip, VISIBLE, HIDDEN))


def test_nearest_visible():
    config = VideoMAEV2Config(**{**TINY, "num_frames": 4, "image_size": 16, "patch_size": 8})  # 2 x 2 x 2 tokens
    visible, decoded = torch.tensor([[0, 7], [1, 2]]), torch.tensor([[1, 3, 4, 6], [0, 3, 5, 7]])
    in_space = nearest_visible(config, visible, decoded, first="space")
    in_time = nearest_visible(config, visible, decoded, first="time")
    assert in_space.tolist() == [[0, 0, 7, 7], [1, 1, 1, 1]]  # 7 (1, 1, 1): 1 and 2 are equally near, the first wins
    assert in_time.tolist() == [[0, 7, 0, 7], [1, 1, 1, 1]]


def test_the_log_of_a_pretraining(tmp_path):
    run = trainer(tmp_path, max_steps=2, gradient_accumulation_steps=2, eval_strategy="steps", eval_steps=2)
    run.train()
    steps = [entry for entry in run.state.log_history if "loss" in entry]
    assert [set(entry) >= {"trivial", "explained"} for entry in steps] == [True, True]
    # Noise: the best prediction of a normalised patch is 0, whose error is the biased variance, 127 / 128
    pixels = 2 * 8 * 8
    assert steps[0]["trivial"] == pytest.approx((pixels - 1) / pixels, abs=1e-3)
    last = run._step.last_batch
    loss = run.model.eval()(**last).loss.item()
    assert run.trivial.training_entries(last, loss, loss)["explained"] == pytest.approx(
        1 - loss / steps[1]["trivial"], abs=1e-3
    )
    evaluated = [entry for entry in run.state.log_history if "eval_loss" in entry][-1]
    expected = 1 - evaluated["eval_loss"] / evaluated["eval_trivial"]
    assert evaluated["eval_explained"] == pytest.approx(expected, abs=1e-3)


def test_the_baseline_changes_no_step(tmp_path):
    weights = []
    for with_baseline in (True, False):
        run = trainer(tmp_path, max_steps=3)
        if not with_baseline:
            run.remove_callback(run.trivial)
            run.trivial = None
        run.train()
        weights.append(run.model.state_dict())
    torch.testing.assert_close(*weights, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("explained", "said"), [([0.0] * 20, [25, 100]), ([0.0] * 10 + [0.3] * 10, [25]), ([0.2] * 20, [])]
)
def test_a_run_that_explains_nothing_says_so(explained, said, capsys):
    assert lines_of(explained, capsys) == said


def test_a_resumed_run_is_not_checked_again_midway(capsys):
    assert lines_of([0.0] * 10, capsys, start=50) == [100]


def test_runs_of_few_steps_are_not_judged(capsys):
    assert lines_of([0.0] * 20, capsys, max_steps=99) == []


def lines_of(explained: list[float], capsys, start: int = 0, max_steps: int = 100) -> list[int]:
    """The steps at which a run with these entries, one every five steps, prints a line."""
    baseline, state = ReconstructionBaseline(four_patches()), TrainerState(max_steps=max_steps, global_step=start)
    baseline.on_train_begin(None, state, TrainerControl())
    lines = []
    for value in explained:
        state.global_step += 5
        baseline.on_log(None, state, TrainerControl(), logs={"explained": value})
        lines += [state.global_step] if "no better than" in capsys.readouterr().out else []
    baseline.on_train_end(None, state, TrainerControl())
    return lines + ([state.global_step] if "no better than" in capsys.readouterr().out else [])
