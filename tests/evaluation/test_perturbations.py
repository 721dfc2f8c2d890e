"""Changes of clips: on a clip of six pixels a frame, and in a pass over videos."""

import numpy as np
import pytest
import torch
from helpers.indexed_video import write_indexed_video
from helpers.trained_models import save_trained

from videomae_hf.checkpoints.opening import checkpoint_processor, trained_classifier
from videomae_hf.data.clips import EvalTransform
from videomae_hf.data.sources.records import VideoRecord
from videomae_hf.evaluation.perturbations import (
    NOISE,
    PERTURBATIONS,
    PLAIN,
    perturbed,
    score_perturbed,
    usable_perturbations,
)


MEAN, STD = (0.5, 0.4, 0.3), (0.25, 0.2, 0.1)


def clip(frames: int = 6, height: int = 4, width: int = 4) -> torch.Tensor:
    """(T, 3, H, W), normalised: frame t has the grey level t / 10."""
    grey = (torch.arange(frames) / 10)[:, None, None, None].expand(frames, 3, height, width)
    return (grey - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]


def levels(clips: torch.Tensor) -> torch.Tensor:
    """Normalised pixels -> grey levels in [0, 1]."""
    return clips * torch.tensor(STD)[:, None, None] + torch.tensor(MEAN)[:, None, None]


def changed(name: str, clips: torch.Tensor, seed: int = 0) -> torch.Tensor:
    return levels(perturbed(name, clips, torch.Generator().manual_seed(seed), MEAN, STD))


@pytest.mark.parametrize(
    ("name", "order"),
    [("reversed", [5, 4, 3, 2, 1, 0]), ("first_frame", [0] * 6), ("half_rate", [0, 0, 2, 2, 4, 4])],
)
def test_changes_of_order(name, order):
    assert (10 * changed(name, clip())[:, 0, 0, 0]).round().int().tolist() == order


def test_shuffled_frames_are_a_permutation_that_all_views_share():
    found = (10 * changed("shuffled", clip().expand(2, -1, -1, -1, -1))[:, :, 0, 0, 0]).round().int()
    expected = torch.randperm(6, generator=torch.Generator().manual_seed(0))
    assert found[0].tolist() == found[1].tolist() == expected.tolist()


def test_half_rate_of_an_odd_number_of_frames():
    assert (10 * changed("half_rate", clip(5))[:, 0, 0, 0]).round().int().tolist() == [0, 0, 2, 2, 4]


def test_occlusion_is_a_grey_square_of_a_quarter_of_the_frame_in_all_frames():
    found = changed("occluded", clip(3, 8, 8))
    hidden = torch.isclose(found, torch.tensor(0.5)).all(dim=1)  # (T, H, W); no frame has this level
    assert hidden.sum(dim=(1, 2)).tolist() == [16, 16, 16] and (hidden[0] == hidden[2]).all()
    rows, columns = hidden[0].nonzero().unbind(1)
    assert rows.max() - rows.min() == columns.max() - columns.min() == 3
    assert torch.allclose(found[2, :, ~hidden[2]], torch.tensor(0.2))
    # Wider than high: the square is no larger than the frame
    assert torch.isclose(changed("occluded", clip(1, 2, 20)), torch.tensor(0.5))[0, 0].sum() == 2 * 3


def test_noise_has_the_stated_deviation_and_stays_in_range():
    grey = torch.zeros(4, 3, 64, 64)  # the mean of each channel
    found = changed("noise", grey) - torch.tensor(MEAN)[:, None, None]
    assert found.std().item() == pytest.approx(NOISE, rel=0.02) and abs(found.mean().item()) < 0.001
    dark = changed("noise", clip(1, 64, 64))
    assert dark.min() >= -1e-6 and 0.4 < (dark < 1e-6).float().mean() < 0.6


def test_an_image_has_no_order():
    assert usable_perturbations(1) == ["noise", "occluded"]
    assert usable_perturbations(2) == list(PERTURBATIONS)


@pytest.fixture(scope="module")
def scored(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scored")
    records = []
    for number in range(3):
        write_indexed_video(folder / f"{number}.mp4", 12)
        records.append(VideoRecord(str(folder / f"{number}.mp4"), number))
    (folder / "bad.mp4").write_bytes(b"no video")
    records.insert(1, VideoRecord(str(folder / "bad.mp4"), 0))
    model, _ = trained_classifier(str(save_trained(folder / "model")))
    transform = EvalTransform(checkpoint_processor(folder / "model", model.config), 2, 1, 3)
    return model, records, transform


def test_a_pass_scores_every_change_and_marks_unreadable_videos(scored):
    model, records, transform = scored
    logits, labels = score_perturbed(model, records, transform, list(PERTURBATIONS), batch_size=3)
    assert labels.tolist() == [0, -100, 1, 2] and list(logits) == [PLAIN, *PERTURBATIONS]
    views = transform(records[2], torch.Generator())["pixel_values"]  # (2, T, C, H, W)
    with torch.no_grad():
        for name, order in ((PLAIN, [0, 1, 2, 3]), ("reversed", [3, 2, 1, 0]), ("first_frame", [0] * 4)):
            np.testing.assert_allclose(logits[name][2], model(views[:, order][None]).logits[0], atol=1e-5)


def test_neither_batches_nor_the_choice_of_changes_matter(scored):
    model, records, transform = scored
    one, _ = score_perturbed(model, records, transform, list(PERTURBATIONS), batch_size=1)
    two, _ = score_perturbed(model, records, transform, ["noise", "shuffled"], batch_size=4)
    for name in (PLAIN, "noise", "shuffled"):
        np.testing.assert_allclose(one[name][[0, 2, 3]], two[name][[0, 2, 3]], atol=1e-5)
