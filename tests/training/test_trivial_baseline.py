"""The loss of a finetuning beside that of one prediction for every video, and the line where nothing is learned.

The baseline of pretraining is in tests/evaluation/test_trivial_predictors.py.
"""

import math
import re

import numpy as np
import pytest
import torch
from helpers.commands import videomae
from helpers.shared import TINY
from transformers import TrainerControl, TrainerState, TrainingArguments

from videomae_hf import VideoMAEV2Config, VideoMAEV2ForVideoClassification
from videomae_hf.data.augmentation.mixing import Mixing
from videomae_hf.data.sources.records import VideoRecord
from videomae_hf.data.sources.synthetic import write_video
from videomae_hf.data.video_dataset import ClipCollator, VideoDataset
from videomae_hf.settings.training_arguments import VideoMAETrainingArguments
from videomae_hf.training.planning import DataWaitCallback
from videomae_hf.training.trainer import VideoMAETrainer
from videomae_hf.training.trivial_baseline import LabelBaseline


def baseline_of(*batches: torch.Tensor, weights: list[float] | None = None, **fields) -> LabelBaseline:
    model = VideoMAEV2ForVideoClassification(VideoMAEV2Config(**{**TINY, "num_labels": 2, **fields}))
    if weights is not None:
        model.class_weights = torch.tensor(weights)
    baseline = LabelBaseline(model)
    for labels in batches:
        baseline.add_trained({"labels": labels})
    return baseline


def smallest_loss(model: VideoMAEV2ForVideoClassification, labels: torch.Tensor) -> float:
    """The training loss of the best constant logits, found by descent."""
    model.train()
    logits = torch.zeros(model.config.num_labels, requires_grad=True)
    optimizer = torch.optim.LBFGS([logits], max_iter=200, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = model._classification_loss(logits.expand(len(labels), -1), labels)
        loss.backward()
        return loss

    optimizer.step(closure)
    return closure().item()


def test_classes():
    assert baseline_of(torch.tensor([0, 1]), torch.tensor([1, 0])).constant_loss() == pytest.approx(math.log(2))
    frequencies = baseline_of(torch.tensor([0, 0]), torch.tensor([0, 1]))  # 3/4 and 1/4
    assert frequencies.constant_loss() == pytest.approx(0.562335, abs=1e-6)
    assert baseline_of(torch.arange(710), num_labels=710).constant_loss() == pytest.approx(math.log(710))


@pytest.mark.parametrize(
    ("problem_type", "labels"),
    [
        ("single_label_classification", torch.tensor([0, 0, 2, 1, 0])),
        ("single_label_classification", torch.tensor([[0.9, 0.1, 0.0], [0.2, 0.5, 0.3]])),  # mixed
        ("multi_label_classification", torch.tensor([[1.0, 0, 1], [0, 0, 1], [1, 1, 1], [0, 0, 1]])),
    ],
)
@pytest.mark.parametrize("weights", [None, [0.5, 2.0, 1.0]])
def test_no_constant_prediction_is_better(problem_type, labels, weights):
    baseline = baseline_of(labels, weights=weights, num_labels=3, problem_type=problem_type)
    assert baseline.constant_loss() == pytest.approx(smallest_loss(baseline.model, labels), abs=1e-4)


def test_frequencies_of_the_training_videos(tmp_path):
    """Known before the first step, whatever this process has seen; smoothing moves them."""
    model = VideoMAEV2ForVideoClassification(VideoMAEV2Config(**{**TINY, "num_labels": 2}))
    records = [VideoRecord(str(number), int(number == 0)) for number in range(4)]
    dataset = VideoDataset(records, lambda record, generator: {})
    arguments = VideoMAETrainingArguments(str(tmp_path), use_cpu=True)
    for smoothing, expected in ((0.0, 0.562335), (1.0, math.log(2))):
        collator = ClipCollator(model.config, Mixing(2, 0, 0, label_smoothing=smoothing))
        trainer = VideoMAETrainer(model=model, args=arguments, train_dataset=dataset, data_collator=collator)
        trainer.trivial.add_trained({"labels": torch.tensor([1])})
        assert trainer.trivial.constant_loss() == pytest.approx(expected, abs=1e-6)


def test_regression():
    fields = {"problem_type": "regression", "target_mean": (1.0, 0.0), "target_std": (2.0, 1.0)}
    labels = torch.tensor([[1.0, 4.0], [5.0, math.nan], [3.0, 6.0]])  # normalised: 0, 2, 1 and 4, 6
    baseline = baseline_of(labels, **fields)
    assert baseline.constant_loss() == pytest.approx((2 + 2) / 5)
    assert baseline.constant_loss() == pytest.approx(smallest_loss(baseline.model, labels), abs=1e-5)


def test_batches_without_labels_have_no_entry():
    assert baseline_of().training_entries({}, 1.0, 1.0) == {}


@pytest.mark.parametrize(("explained", "said"), [(0.0, True), (0.3, False)])
def test_a_run_that_learns_nothing_says_so(explained, said, capsys):
    baseline, state = baseline_of(torch.tensor([0, 1])), TrainerState(max_steps=100, global_step=100)
    args = TrainingArguments("unused", learning_rate=1e-7, use_cpu=True)
    for _ in range(5):
        baseline.on_log(args, state, TrainerControl(), logs={"explained": explained})
    line = (
        f"explained = {100 * explained:.1f} % at step 100 of 100: the loss is no lower than that of one prediction for "
        f"every video (0.693): nothing was learned about the labels. To be checked, the likeliest reason first: the "
        f"learning rate (1e-07 at its peak), the number of steps, labels that do not belong to their videos, frozen "
        f"parts (100 % of the parameters are trained)."
    )
    assert (line in capsys.readouterr().out) == said


@pytest.fixture(scope="module")
def dark_and_bright(tmp_path_factory):
    """Two classes of three and one videos that any model can tell apart."""
    folder, rng = tmp_path_factory.mktemp("videos"), np.random.default_rng(0)
    for name, lowest, number in (("dark", 0, 3), ("bright", 180, 1)):
        (folder / name).mkdir()
        for video in range(number):
            frames = rng.integers(lowest, lowest + 70, (8, 32, 32, 3), dtype=np.uint8)
            write_video(folder / name / f"{video}.mp4", frames)
    return folder


@pytest.mark.parametrize(("learning_rate", "said"), [(1e-7, True), (3e-3, False)])
def test_finetune_says_whether_it_learns(tmp_path, capsys, dark_and_bright, learning_rate, said):
    options = {
        **TINY, "train_data": dark_and_bright, "eval_data": dark_and_bright, "output_dir": tmp_path,
        "learning_rate": learning_rate, "max_steps": 100, "logging_steps": 5, "per_device_train_batch_size": 4,
        "use_cpu": "true", "disable_tqdm": "true", "save_strategy": "no", "sampling_rate": 1,
    }  # fmt: skip
    videomae("finetune", *(f"--{name}={value}" for name, value in options.items()))
    output = capsys.readouterr().out
    assert output.count("nothing was learned about the labels") == 2 * said  # after a quarter, and at the end
    assert re.findall(r"'trivial': '?([\d.]+)", output) == ["0.5623"] * 20  # of 3/4 and 1/4, from the first entry
    assert re.search(r"eval_majority *= *0\.75", output)


@pytest.mark.parametrize(
    ("waits", "said"), [([0.9, 0.5, 0.4, 0.3], True), ([0.9, 0.1, 0.1, 0.1, 0.1], False), ([0.9, 0.9, 0.9], False)]
)
def test_a_run_that_waits_for_its_videos_says_so_once(waits, said, capsys):
    callback, args = DataWaitCallback(), TrainingArguments("unused", dataloader_num_workers=2, use_cpu=True)
    for wait in [*waits, *waits] if said else waits:
        callback.on_log(args, TrainerState(), TrainerControl(), logs={"loss": 1.0, "data_wait": wait})
    callback.on_log(args, TrainerState(), TrainerControl(), logs={"eval_loss": 1.0})
    output = capsys.readouterr().out
    assert output.count("Raise --dataloader_num_workers (now 2; this machine has ") == said
    assert ("data_wait = 0.40: " in output) == said  # the first entry includes the start
