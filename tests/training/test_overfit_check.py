"""The check that one batch can be learnt: passes, hints, and what it must leave as it was."""

import random

import numpy as np
import pytest
import torch
from helpers.shared import TINY

from videomae_hf import VideoMAEV2Config, VideoMAEV2ForPreTraining, VideoMAEV2ForVideoClassification
from videomae_hf.data.clips import ClipSampler, FinetuneTransform, PretrainTransform
from videomae_hf.data.sources.folders_and_lists import VideoRecord
from videomae_hf.data.sources.synthetic import CLASSES, synthesise_video, write_video
from videomae_hf.data.video_dataset import VideoDataset
from videomae_hf.settings.training_arguments import VideoMAETrainingArguments
from videomae_hf.training import overfit_check
from videomae_hf.training.adaptation import freeze
from videomae_hf.training.overfit_check import SanityError, check_learning, plain_batch
from videomae_hf.training.trainer import VideoMAETrainer


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    found = []
    for label, name in enumerate(CLASSES[:4]):
        for index in range(4):
            path = folder / f"{name}_{index}.mp4"
            write_video(path, synthesise_video(name, np.random.default_rng((label, index)), 32, 8))
            found.append(VideoRecord(str(path), label))
    return found


def trainer(folder, samples, model_class=VideoMAEV2ForVideoClassification, frozen=False, **options) -> VideoMAETrainer:
    torch.manual_seed(0)
    fields = {"num_labels": 4} if model_class is VideoMAEV2ForVideoClassification else {"norm_pix_loss": False}
    model = model_class(VideoMAEV2Config(**TINY, drop_path_rate=0.3, hidden_dropout_prob=0.3, **fields))
    freeze(model, freeze_encoder=frozen)
    sampling = ClipSampler(num_frames=4, sampling_rate=2)
    if model_class is VideoMAEV2ForPreTraining:
        clips = PretrainTransform(model.config, sampling)
    else:
        clips = FinetuneTransform(model.config, sampling, rand_augment="rand-m7-n4-mstd0.5-inc1", num_sample=2)
    args = VideoMAETrainingArguments(
        **{"output_dir": str(folder), "use_cpu": True, "learning_rate": 1e-2, "disable_tqdm": True, **options}
    )
    return VideoMAETrainer(model=model, args=args, train_dataset=VideoDataset(samples, clips, seed=42))


def test_a_classifier_learns_the_batch(tmp_path, samples):
    lines = check_learning(trainer(tmp_path, samples))
    assert len(lines) == 1 and "100% of the labels right; passed" in lines[0]
    assert lines[0].startswith("overfit check on 8 clips: loss 1.386 -> ")  # ln 4


def test_pretraining_learns_the_batch(tmp_path, samples):
    (line,) = check_learning(trainer(tmp_path, samples, VideoMAEV2ForPreTraining))
    assert "passed" in line and "labels" not in line


def test_the_batch_is_spread_over_the_classes_and_plain(tmp_path, samples):
    run = trainer(tmp_path, samples)
    batch = plain_batch(run.train_dataset, run.model.config, 8)
    assert batch["labels"].tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert batch["pixel_values"].shape == (8, 4, 3, 32, 32) and batch["pixel_values"].dtype == torch.uint8
    assert run.train_dataset.load.num_sample == 2
    assert len(plain_batch(run.train_dataset, run.model.config, 100)["labels"]) == 16


def test_the_run_does_not_notice(tmp_path, samples):
    run = trainer(tmp_path, samples)
    before = {name: value.clone() for name, value in run.model.state_dict().items()}
    mode = run.model.training
    states = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    epoch, load = int(run.train_dataset.epoch), run.train_dataset.load
    check_learning(run)
    assert torch.equal(torch.get_rng_state(), states[0])
    assert (np.random.get_state()[1].tolist(), random.getstate()) == states[1:]
    assert all(torch.equal(value, before[name]) for name, value in run.model.state_dict().items())
    assert all(parameter.grad is None for parameter in run.model.parameters())
    assert run.optimizer is None and run.model.training == mode
    assert int(run.train_dataset.epoch) == epoch and run.train_dataset.load is load


@pytest.fixture
def few_steps(monkeypatch):
    monkeypatch.setattr(overfit_check, "STEPS", 40)


@pytest.mark.parametrize(
    ("rate", "message"),
    [
        (1e-3, "not overfitted. At 0.01 it overfits: the learning rate of 0.001 is too low"),
        (1e-4, "not overfitted. At 0.001 the loss falls to .*: the learning rate of 0.0001 is too low"),
        (0.5, "not overfitted. At 0.05 .*: the learning rate of 0.5 is too high"),
        (1e4, "The loss becomes non-finite: the learning rate of 1e[+]04 is too high"),
    ],
)
def test_a_learning_rate_that_does_not_fit(tmp_path, samples, few_steps, rate, message):
    with pytest.raises(SanityError, match=message):
        check_learning(trainer(tmp_path, samples, learning_rate=rate))


def test_everything_frozen(tmp_path, samples):
    run = trainer(tmp_path, samples)
    run.model.requires_grad_(False)
    with pytest.raises(SanityError, match="all parameters are frozen"):
        check_learning(run)


def test_too_much_frozen(tmp_path, samples, few_steps):
    """A head cannot tell apart clips that the encoder makes the same of."""
    run = trainer(tmp_path, samples, frozen=True, learning_rate=1e-3)
    with torch.no_grad():
        for parameter in run.model.videomae.parameters():
            parameter.zero_()
    with pytest.raises(SanityError, match="It fails at 0.01 and 0.0001 too.*parameters are trained: freeze less"):
        check_learning(run)


def test_weights_that_are_not_finite(tmp_path, samples):
    run = trainer(tmp_path, samples)
    run.model.classifier.weight.data.fill_(torch.nan)
    with pytest.raises(SanityError, match="very first loss is not finite"):
        check_learning(run)


def test_labels_that_are_all_the_same(tmp_path, samples):
    (line,) = check_learning(trainer(tmp_path, samples[:4]))
    assert "But all of these clips have the same label" in line


def test_one_clip_with_two_labels(tmp_path, samples, few_steps):
    twice = [samples[0], VideoRecord(samples[0].path, 1)]
    run = trainer(tmp_path, twice)
    run.train_dataset.load.sampling = ClipSampler(num_frames=4, sampling_rate=2, frame_sampling="dense")
    # Videos of 8 frames and clips that reach over 7: two places, of which both draw one.
    run.train_dataset._generator = lambda index, step=0: torch.Generator().manual_seed(0)
    with pytest.raises(SanityError, match="clips 0 and 1 are identical, but their labels differ"):
        check_learning(run)
