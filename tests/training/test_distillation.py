"""Distillation: its loss by hand, a teacher that stays as it is, and a student that learns from it alone."""

import json
import math

import pytest
import torch
from helpers.commands import videomae
from helpers.launching import TORCHRUN, succeeded
from helpers.launching import run as run_command
from helpers.runs import run_of
from helpers.shared import TINY, randomize

from videomae_hf import VideoMAEV2Config, VideoMAEV2ForPreTraining, VideoMAEV2ForVideoClassification
from videomae_hf.data.augmentation.mixing import Mixing
from videomae_hf.data.sources.synthetic import synthesise_dataset
from videomae_hf.data.video_dataset import ClipCollator
from videomae_hf.settings.groups import DistillationSettings
from videomae_hf.settings.training_arguments import VideoMAETrainingArguments
from videomae_hf.training.class_weights import set_class_weights
from videomae_hf.training.distillation import (
    DistillationTrainer,
    distillation_loss,
    feature_loss,
    load_teacher,
    orthogonal_projection,
    teacher_classes,
)


CLASSES = ["jump", "run", "swim"]
NAMES = {"id2label": dict(enumerate(CLASSES)), "problem_type": "single_label_classification"}


# --------------------------------------------------------------------------------------------------------------- loss


def test_divergence_and_its_gradient_by_hand():
    student = torch.tensor([[0.0, 0.0], [1.0, -1.0]], requires_grad=True)
    teacher = torch.tensor([[math.log(3), 0.0], [1.0, -1.0]])  # probabilities 3/4 and 1/4; as the student
    loss = distillation_loss(student, teacher)
    assert loss.item() == pytest.approx((0.75 * math.log(1.5) + 0.25 * math.log(0.5)) / 2, abs=1e-6)
    loss.backward()
    # (q - p) / B
    torch.testing.assert_close(student.grad, torch.tensor([[-0.125, 0.125], [0.0, 0.0]]))


def test_temperature_by_hand():
    student = torch.zeros(1, 2, requires_grad=True)
    teacher = torch.tensor([[2 * math.log(3), 0.0]])
    loss = distillation_loss(student, teacher, temperature=2.0)
    assert loss.item() == pytest.approx(4 * (0.75 * math.log(1.5) + 0.25 * math.log(0.5)), abs=1e-6)
    loss.backward()
    torch.testing.assert_close(student.grad, torch.tensor([[-0.5, 0.5]]))  # T (q - p)


def test_the_loss_is_float32_under_autocast():
    logits = torch.randn(4, 10, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", torch.bfloat16):
        loss = distillation_loss(logits.bfloat16(), logits * 1.1)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(distillation_loss(logits.bfloat16().float(), logits * 1.1).item(), abs=1e-7)


def test_features_by_hand():
    student, teacher = torch.tensor([[1.0, 0.0], [0.0, 2.0]]), torch.tensor([[3.0, 0.0], [0.0, -1.0]])
    assert feature_loss(student, teacher).item() == pytest.approx((0 + 2) / 2)
    wide = torch.randn(3, 8, generator=torch.Generator().manual_seed(0))
    assert feature_loss(wide @ orthogonal_projection(8, 2), wide).item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("shape", [(1408, 384), (24, 48)])
def test_projection_keeps_angles(shape):
    projection = orthogonal_projection(*shape)
    assert projection.shape == shape
    gram = projection.T @ projection if shape[0] > shape[1] else projection @ projection.T
    torch.testing.assert_close(gram, torch.eye(min(shape)), rtol=0, atol=1e-5)
    one, other = torch.randn(2, 200, shape[0], generator=torch.Generator().manual_seed(1)).unbind()
    other = one + other  # cosines around 0.7
    before = torch.cosine_similarity(one, other)
    after = torch.cosine_similarity(one @ projection, other @ projection)
    assert (before - after).abs().max() < 0.15


# ------------------------------------------------------------------------------------------------------------ teacher


def save(folder, model_class=VideoMAEV2ForVideoClassification, **fields):
    torch.manual_seed(0)
    model = randomize(model_class(VideoMAEV2Config(**{**TINY, **fields})), std=0.3)
    model.save_pretrained(folder)
    return model.eval()


def student_config(**fields) -> VideoMAEV2Config:
    return VideoMAEV2Config(**{**TINY, **NAMES, **fields})


def clips(number: int, config: VideoMAEV2Config, seed: int = 1) -> torch.Tensor:
    """uint8 (B, T, C, H, W), each clip of its own brightness and noise."""
    generator = torch.Generator().manual_seed(seed)
    shape = (number, config.num_frames, config.num_channels, *config.image_hw)
    level = torch.randint(0, 200, (number, 1, config.num_channels, 1, 1), generator=generator)
    return (level + torch.randint(0, 56, shape, generator=generator)).to(torch.uint8)


def test_teacher_speaks_of_the_students_classes(tmp_path):
    model = save(tmp_path, id2label={0: "fly", 1: "Swim", 2: "run", 3: "jump"})
    teacher, lines = load_teacher(DistillationSettings(teacher=str(tmp_path)), student_config(), CLASSES)
    counted = f"{model.num_parameters():,} parameters, not included in the memory estimate"
    assert lines == [f"teacher {tmp_path}: {counted}; 0.5 of the loss at temperature 1"]
    videos = clips(2, model.config)
    logits, pooled = teacher(videos)
    with torch.no_grad():
        expected = model(videos)
    assert torch.equal(logits, expected.logits[:, [3, 2, 1]]) and pooled.shape == (2, 24)
    torch.testing.assert_close(model.classifier(pooled), expected.logits)
    assert not logits.is_inference() and not any(parameter.requires_grad for parameter in teacher.model.parameters())
    assert teacher_classes(run_of(teacher=str(tmp_path))) == ["fly", "Swim", "run", "jump"]


def test_teacher_of_longer_and_larger_clips_takes_the_students(tmp_path):
    save(tmp_path, num_frames=8, image_size=48, **NAMES)
    teacher, lines = load_teacher(DistillationSettings(teacher=str(tmp_path)), student_config(), CLASSES)
    assert lines[1] == "positions of the teacher interpolated from (4, 6, 6) to (2, 4, 4)"
    assert teacher.model.config.position_grid == (4, 6, 6) and teacher.model.config.grid_size == (2, 4, 4)
    assert teacher(clips(2, student_config()))[0].isfinite().all()


def test_teachers_that_are_refused(tmp_path):
    save(tmp_path / "other", id2label={0: "fly", 1: "run"})
    save(tmp_path / "grey", image_mean=[0.5] * 3, **NAMES)
    save(tmp_path / "good", **NAMES)
    save(tmp_path / "pretrained", VideoMAEV2ForPreTraining, **NAMES)
    several = {"id2label": NAMES["id2label"], "problem_type": "multi_label_classification"}
    save(tmp_path / "several", **several)

    def refused(name: str, message: str, config=None, **settings):
        with pytest.raises(ValueError, match=message):
            distillation = DistillationSettings(teacher=str(tmp_path / name), **settings)
            load_teacher(distillation, config or student_config(), CLASSES)

    refused("other", "of 2 classes does not know jump, swim")
    refused("grey", "image_mean=.* of the student and .0.5, 0.5, 0.5. of the teacher")
    refused("pretrained", "has no classifier: finetune it first")
    refused("several", "has problem_type=multi_label_classification")
    refused(
        "good",
        "teacher needs one label per video, but problem_type is regression",
        student_config(problem_type="regression"),
    )
    refused("good", "distillation_weight=1.5 must be in", distillation_weight=1.5)
    refused("good", "distillation_temperature=0.0 must be positive", distillation_temperature=0.0)
    assert load_teacher(DistillationSettings(), student_config(), CLASSES) == (None, [])


def test_class_weights_need_labels():
    run = run_of(teacher="some", class_weights="balanced", distillation_weight=1.0)
    with pytest.raises(
        ValueError, match="class_weights=balanced needs labels, which distillation_weight=1 does not use"
    ):
        set_class_weights(run, None, None)


# ----------------------------------------------------------------------------------------------------------- training


def distil(folder, teacher_folder, labelled: bool, settings: dict, mixing: bool = False, **arguments):
    """A run of a student that is half as wide as its teacher, on random clips."""
    config = student_config(hidden_size=12, intermediate_size=24, **arguments.pop("config", {}))
    torch.manual_seed(0)
    student = VideoMAEV2ForVideoClassification(config)
    distillation = DistillationSettings(teacher=str(teacher_folder), **settings)
    items = [
        {"pixel_values": clip, "seed": number, **({"labels": number % 3} if labelled else {})}
        for number, clip in enumerate(clips(64, config))
    ]
    items = _Items(items)
    defaults = {"per_device_train_batch_size": 8, "use_cpu": True, "disable_tqdm": True, "logging_steps": 1}
    args = VideoMAETrainingArguments(**{**defaults, "output_dir": str(folder), "save_strategy": "no", **arguments})
    collator = ClipCollator(config, Mixing(3) if mixing else None)
    teacher, _ = load_teacher(distillation, config, CLASSES)
    return DistillationTrainer(
        model=student, args=args, train_dataset=items, data_collator=collator, teacher=teacher, settings=distillation
    )


class _Items(torch.utils.data.Dataset):
    """Copies, as the collator takes the seeds out."""

    def __init__(self, items: list[dict]):
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> dict:
        return dict(self.items[index])


@pytest.fixture(scope="module")
def teacher_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("teacher")
    save(folder, num_hidden_layers=1, **NAMES)
    return folder


def history(run, key: str) -> list[float]:
    return [entry[key] for entry in run.state.log_history if key in entry]


def test_student_learns_from_the_teacher_alone(tmp_path, teacher_folder):
    settings = {"distillation_weight": 1.0, "distillation_features": 0.2}
    run = distil(tmp_path, teacher_folder, False, settings, num_train_epochs=12, learning_rate=5e-3)
    before = {name: value.clone() for name, value in run.teacher.model.state_dict().items()}
    run.train()
    losses, agreements = history(run, "loss"), history(run, "teacher_agreement")
    assert sum(losses[-8:]) < 0.5 * sum(losses[:8])
    assert sum(agreements[-8:]) / 8 > max(0.9, sum(agreements[:8]) / 8 + 0.1)
    # The teacher stays as it was, and outside of the student.
    for name, value in run.teacher.model.state_dict().items():
        assert torch.equal(value, before[name])
    own = {id(parameter) for parameter in run.model.parameters()}
    assert {id(p) for group in run.optimizer.param_groups for p in group["params"]} == own
    run.save_model()
    assert VideoMAEV2ForVideoClassification.from_pretrained(tmp_path).num_parameters() == run.model.num_parameters()


def test_weights_of_the_parts_of_the_loss(tmp_path, teacher_folder):
    def loss(**settings):
        run = distil(tmp_path, teacher_folder, True, settings)
        batch = next(iter(run.get_train_dataloader()))
        run.model.train()
        return run.compute_loss(run.model, batch).item()

    labels, teacher = loss(distillation_weight=0.0), loss(distillation_weight=1.0)
    assert labels == pytest.approx(math.log(3), abs=1e-2) and abs(teacher - labels) > 1e-2
    assert loss(distillation_weight=0.25) == pytest.approx(0.75 * labels + 0.25 * teacher, abs=1e-6)
    features = loss(distillation_weight=1.0, distillation_features=1.0) - teacher
    assert loss(distillation_weight=1.0, distillation_features=0.5) == pytest.approx(teacher + features / 2, abs=1e-6)


def test_evaluation_is_of_the_labels_alone(tmp_path, teacher_folder):
    run = distil(tmp_path, teacher_folder, True, {"distillation_weight": 1.0})
    assert run.evaluate(run.train_dataset)["eval_loss"] == pytest.approx(math.log(3), abs=1e-2)


@pytest.mark.parametrize("labelled", [True, False])
def test_accumulation_equals_one_large_batch(tmp_path, teacher_folder, labelled):
    settings = {"distillation_weight": 0.5 if labelled else 1.0, "distillation_features": 0.5}
    options = {"max_steps": 4, "learning_rate": 1e-3}
    whole = distil(tmp_path, teacher_folder, labelled, settings, **options)
    whole.train()
    options.update(per_device_train_batch_size=2, gradient_accumulation_steps=4)
    parts = distil(tmp_path, teacher_folder, labelled, settings, **options)  # seeds anew, and so has the same order
    parts.train()
    assert history(parts, "loss") == pytest.approx(history(whole, "loss"), abs=1e-5)
    for one, other in zip(whole.model.parameters(), parts.model.parameters()):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_both_see_the_mixed_clips(tmp_path, teacher_folder):
    run = distil(tmp_path, teacher_folder, False, {"distillation_weight": 1.0}, mixing=True, max_steps=1)
    seen = []
    call = run.teacher.__class__.__call__

    class Watched(run.teacher.__class__):
        def __call__(self, pixel_values):
            seen.append(pixel_values)
            return call(self, pixel_values)

    run.teacher.__class__ = Watched
    run.model.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(kwargs["pixel_values"]), with_kwargs=True
    )
    run.train()
    student, teacher = seen
    assert student.dtype == torch.float32 and torch.equal(student, teacher)  # mixed, so that it is float


# ------------------------------------------------------------------------------------------------- the real command


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """16 drawn videos, and a teacher of their classes for clips of another size."""
    folder = tmp_path_factory.mktemp("drawn")
    synthesise_dataset(folder / "videos", videos_per_class=2, size=40, num_frames=8)
    names = sorted(child.name for child in (folder / "videos").iterdir())
    save(folder / "teacher", image_size=48, id2label=dict(enumerate(names)))
    return folder


def arguments_of(drawn, folder, *options) -> list[str]:
    shape = [f"--{name}={value}" for name, value in TINY.items()]
    data = [f"--train_data={drawn / 'videos'}", f"--teacher={drawn / 'teacher'}", "--sampling_rate=1"]
    run = ["--use_cpu=true", "--disable_tqdm=true", "--logging_steps=1", "--learning_rate=1e-3", "--num_train_epochs=2"]
    return ["finetune", *data, *shape, *run, f"--output_dir={folder}", *options]


def log_of(folder) -> list[float]:
    entries = json.loads((folder / "trainer_state.json").read_text())["log_history"]
    return [entry["loss"] for entry in entries if "loss" in entry]


def test_command_without_labels(drawn, tmp_path, capsys):
    """Videos of any folder, mixed, and the teacher's classes; scored on labelled ones."""
    options = ["--distillation_weight=1.0", "--mixup_alpha=0.8", f"--eval_data={drawn / 'videos'}"]
    videomae(*arguments_of(drawn, tmp_path, *options))
    output = capsys.readouterr().out
    assert "1 of the loss at temperature 1" in output
    assert "positions of the teacher interpolated from (2, 6, 6) to (2, 4, 4)" in output
    student = VideoMAEV2ForVideoClassification.from_pretrained(tmp_path)
    assert student.config.id2label[1] == "counter_clockwise" and student.config.image_size == 32
    assert json.loads((tmp_path / "all_results.json").read_text())["eval_videos"] == 16


@pytest.mark.slow
def test_two_processes_equal_one(drawn, tmp_path):
    options = ["--distillation_features=0.5", "--distillation_temperature=2.0"]
    videomae(*arguments_of(drawn, tmp_path / "one", *options))
    both = [*options, "--per_device_train_batch_size=2", "--gradient_accumulation_steps=2"]
    succeeded(run_command(*arguments_of(drawn, tmp_path / "two", *both), launcher=TORCHRUN))
    assert len(log_of(tmp_path / "one")) == 4
    assert log_of(tmp_path / "two") == pytest.approx(log_of(tmp_path / "one"), abs=1e-5)
