# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Distillation: a student learns from the probabilities, and optionally the features, of a finetuned teacher.

The loss is that of Hinton et al., Distilling the Knowledge in a Neural Network (https://arxiv.org/abs/1503.02531). Both
models get the same augmented and mixed clips, as in Beyer et al., Knowledge distillation: A good teacher is patient and
consistent (https://arxiv.org/abs/2106.05237). VideoMAE V2 released distilled models, but not the code for them.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import torch
from torch import nn
from transformers.utils import ModelOutput

from ..checkpoints.opening import open_checkpoint, stated_normalization
from ..data.videos import stated_classes
from ..messages import shorten
from ..models.configuration_videomae_v2 import VideoMAEV2Config
from ..models.modeling_videomae_v2 import VideoMAEV2ForVideoClassification
from ..settings.groups import DistillationSettings
from ..settings.run import Run
from .classifier_head import head_rows
from .trainer import VideoMAETrainer


def teacher_classes(run: Run) -> list[str]:
    """The classes of a student that is trained without labels: those of `class_names`, or of the teacher."""
    return stated_classes(run) or class_names_of(VideoMAEV2Config.from_pretrained(run.distillation.teacher))


def class_names_of(config: VideoMAEV2Config) -> list[str]:
    """The class names of a configuration, in the order of the labels."""
    return [config.id2label[number] for number in range(config.num_labels)]


class Teacher:
    """A finetuned model that gives the targets of a batch. It is not a part of the student: neither trained nor saved.

    Args:
        model: the finetuned model.
        rows: the teacher's class number for each class of the student; other classes of the teacher are left out.
    """

    def __init__(self, model: VideoMAEV2ForVideoClassification, rows: list[int]) -> None:
        self.model = model.eval().requires_grad_(False)
        self.rows = torch.tensor(rows)

    def to(self, device: torch.device) -> None:
        """Moves the teacher to a device; on a GPU in bfloat16, or float16 if unsupported, enough for targets."""
        if device.type == "cuda":
            self.model.to(torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16)
        self.model.to(device)
        self.rows = self.rows.to(device)

    def __call__(self, pixel_values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits (B, K) for the student's classes and pooled features (B, D), float32, of clips (B, T, C, H, W)."""
        if pixel_values.is_floating_point():
            pixel_values = pixel_values.to(self.model.dtype)
        # Without the student's autocast, because the weights already have the lower precision.
        with torch.inference_mode(), torch.autocast(pixel_values.device.type, enabled=False):
            with pooled_features(self.model) as pooled:
                logits = self.model(pixel_values).logits
        # Autograd does not accept inference tensors, hence the copies.
        return logits[:, self.rows].float().clone(), pooled[0].float().clone()


@contextmanager
def pooled_features(model: nn.Module) -> Iterator[list[torch.Tensor]]:
    """Collects the pooled features (B, D) that each forward pass gives to the classifier, before dropout."""
    collected = []
    handle = model.dropout.register_forward_pre_hook(lambda module, inputs: collected.append(inputs[0]))
    try:
        yield collected
    finally:
        handle.remove()


def load_teacher(
    settings: DistillationSettings, student: VideoMAEV2Config, classes: list[str]
) -> tuple[Teacher | None, list[str]]:
    """Loads the teacher of the settings, if any, for a student of this configuration and these classes.

    The positions of the teacher are interpolated if its clips have another number of frames or another size.

    Returns:
        The teacher, and messages about it.

    Raises:
        ValueError: the teacher has no head or lacks a class of the student, it cannot take the student's clips, or
            settings are out of range.
    """
    if settings.teacher is None:
        return None, []
    _check_settings(settings, student)
    stored = VideoMAEV2Config.from_pretrained(settings.teacher)
    shape = {"num_frames": student.num_frames, "image_size": student.image_size}
    if (stored.num_frames, stored.image_hw) == (student.num_frames, student.image_hw):
        shape = {}
    elif stored.position_embedding_type == "sinusoidal":
        shape["position_grid"] = stored.position_grid or stored.grid_size
    stated = stated_normalization(settings.teacher, stored)
    for name, value in zip(("image_mean", "image_std"), stated):  # mixed clips are normalised for the student
        if value != tuple(getattr(student, name)):
            raise ValueError(
                f"{name}={getattr(student, name)} of the student and {value} of the teacher "
                f"{settings.teacher} differ, but both get the same clips; set --{name} for the student."
            )
    model, messages = open_checkpoint(settings.teacher, VideoMAEV2ForVideoClassification, **shape)
    if model.config.problem_type not in (None, "single_label_classification"):
        raise ValueError(
            f"The teacher {settings.teacher} has problem_type={model.config.problem_type}; distillation needs one "
            f"label per video."
        )
    if not isinstance(model.classifier, nn.Linear) or "classifier" in model.new_parts:
        raise ValueError(f"The teacher {settings.teacher} has no classifier: finetune it first.")
    lines = [
        *messages,
        f"teacher {settings.teacher}: {model.num_parameters():,} parameters, not included in the memory estimate; "
        f"{settings.distillation_weight:g} of the loss at temperature {settings.distillation_temperature:g}",
    ]
    if shape:
        lines.append(f"positions of the teacher interpolated from {stored.grid_size} to {model.config.grid_size}")
    return Teacher(model, teacher_rows(classes, model.config, settings.teacher)), lines


def _check_settings(settings: DistillationSettings, student: VideoMAEV2Config) -> None:
    if not 0 <= settings.distillation_weight <= 1:
        raise ValueError(f"distillation_weight={settings.distillation_weight} must be in [0, 1].")
    if settings.distillation_temperature <= 0:
        raise ValueError(f"distillation_temperature={settings.distillation_temperature} must be positive.")
    if settings.distillation_features < 0:
        raise ValueError(f"distillation_features={settings.distillation_features} must be positive, or 0 for none.")
    if student.problem_type != "single_label_classification":
        raise ValueError(f"teacher needs one label per video, but problem_type is {student.problem_type}.")


def teacher_rows(classes: list[str], teacher: VideoMAEV2Config, name: str) -> list[int]:
    """The teacher's class number for each class of the student, matched by name."""
    rows = head_rows(classes, class_names_of(teacher), teacher.label_mappings)
    if None in rows:
        by_name = head_rows(classes, class_names_of(teacher), teacher.label_mappings, "names")
        missing = [label for label, row in zip(classes, by_name) if row is None]
        raise ValueError(
            f"The teacher {name} of {teacher.num_labels} classes does not know {shorten(missing)}; it must have all of "
            f"the student's classes."
        )
    return rows


def distillation_loss(
    student_logits: torch.Tensor, teacher_logits: torch.Tensor, temperature: float = 1.0
) -> torch.Tensor:
    """Kullback-Leibler divergence of the teacher's from the student's probabilities, in float32, mean over clips.

    It is multiplied by the square of the temperature, so that gradients keep their scale (Hinton et al., section 2).

    Args:
        student_logits, teacher_logits: (B, K).
        temperature: divides the logits of both models.
    """
    student = (student_logits.float() / temperature).log_softmax(dim=-1)
    teacher = (teacher_logits.float() / temperature).log_softmax(dim=-1)
    return nn.functional.kl_div(student, teacher, reduction="batchmean", log_target=True) * temperature**2


def feature_loss(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """Cosine distance of pooled features (B, D_student) and (B, D_teacher), in float32, mean over clips.

    If the widths differ, the teacher's features are projected to the student's width by a fixed random orthogonal
    matrix. It approximately preserves the angles between clips (Johnson and Lindenstrauss), and needs neither training
    nor saving. A learned projection would be discarded after training, and could do part of the student's work.
    """
    if student.shape[-1] != teacher.shape[-1]:
        teacher = teacher @ orthogonal_projection(teacher.shape[-1], student.shape[-1]).to(teacher)
    return (1 - nn.functional.cosine_similarity(student.float(), teacher.float(), dim=-1)).mean()


@cache
def orthogonal_projection(rows: int, columns: int) -> torch.Tensor:
    """float32 (rows, columns) with orthonormal columns, or orthonormal rows if these are fewer; always the same."""
    normal = torch.randn(max(rows, columns), min(rows, columns), generator=torch.Generator().manual_seed(0))
    matrix = torch.linalg.qr(normal)[0]
    return matrix if rows >= columns else matrix.T


class DistillationTrainer(VideoMAETrainer):
    """A `VideoMAETrainer` for distillation.

    The loss is (1 - weight) x the loss of the labels + weight x `distillation_loss`, plus `distillation_features` x
    `feature_loss`. All terms are means over the clips of a micro-batch, so that accumulation and the number of
    processes do not change them. The log has `teacher_agreement`: the fraction of this process's clips since the last
    entry for which student and teacher predict the same class.
    """

    def __init__(self, *args, teacher: Teacher, settings: DistillationSettings, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        if self.args.overfit_check and not settings.needs_labels:
            raise ValueError("overfit_check needs a loss on labels, but distillation_weight=1 uses none; leave it out.")
        self.teacher, self.settings = teacher, settings
        self.remove_callback(self.trivial)
        self.trivial = None  # which knows labels, not the teacher's probabilities
        teacher.to(self.args.device)
        self._agreements = []

    def compute_loss(
        self, model, inputs, return_outputs=False, **kwargs
    ) -> torch.Tensor | tuple[torch.Tensor, ModelOutput]:
        if not model.training:
            return super().compute_loss(model, inputs, return_outputs=return_outputs, **kwargs)
        settings = self.settings
        with pooled_features(self.accelerator.unwrap_model(model)) as pooled:
            if settings.needs_labels:
                loss, outputs = super().compute_loss(model, inputs, return_outputs=True, **kwargs)
            else:
                loss, outputs = 0.0, model(**inputs)
        teacher_logits, teacher_pooled = self.teacher(inputs["pixel_values"])
        taught = distillation_loss(outputs.logits, teacher_logits, settings.distillation_temperature)
        loss = (1 - settings.distillation_weight) * loss + settings.distillation_weight * taught
        if settings.distillation_features:
            loss = loss + settings.distillation_features * feature_loss(pooled[0], teacher_pooled)
        self._agreements.append((outputs.logits.argmax(-1) == teacher_logits.argmax(-1)).float().mean())
        return (loss, outputs) if return_outputs else loss

    def log(self, logs: dict[str, float], *args, **kwargs) -> None:
        if "loss" in logs and self._agreements:
            logs["teacher_agreement"] = round(torch.stack(self._agreements).mean().item(), 4)
            self._agreements = []
        super().log(logs, *args, **kwargs)
