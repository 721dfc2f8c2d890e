# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Checks that the model can overfit a single batch at the run's learning rate. If not, it cannot learn the data either.

A copy of the model is trained on a few fixed clips: without augmentation, dropout, drop path, weight decay and warmup,
and with fixed masks in pretraining. The weights and random generators of the run itself do not change.
"""

import copy
import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import islice

import torch
from accelerate.utils import broadcast_object_list

from ..data.clips import FinetuneTransform
from ..data.video_dataset import ClipCollator, VideoDataset
from ..data.video_stream import VideoStream
from .optimization import parameter_groups
from .trainer import VideoMAETrainer


CLIPS = 8  # at most, and no more than the batch of a device
STEPS = 200
CLASSIFIED = 0.5  # fraction of its initial value that the loss must fall below, with all labels predicted correctly
FITTED = 0.1  # the same for the squared error of regression
RECONSTRUCTED = 0.8  # the same for pretraining, where most of the loss is detail that takes longer


class SanityError(ValueError):
    """The model did not overfit the batch."""


@dataclass
class Outcome:
    """The result of training on the batch: the loss before each step, and whether the model overfits the batch."""

    losses: list[float]
    learnt: bool
    right: float | None  # fraction of labels predicted correctly; None without classes

    def __str__(self) -> str:
        right = "" if self.right is None else f", {self.right:.0%} of the labels right"
        return f"loss {self.losses[0]:.4g} -> {self.losses[-1]:.4g} in {len(self.losses) - 1} steps{right}"


def check_learning(trainer: VideoMAETrainer) -> list[str]:
    """Trains a copy of `trainer.model` on a single batch of its training set.

    The first process trains; the others wait for the result.

    Returns:
        A message to print.

    Raises:
        SanityError: the model does not overfit the batch. Raised in every process; the message has the findings, such
            as whether ten times or a tenth of the learning rate works.
    """
    if trainer.args.fsdp2:
        raise ValueError("overfit_check trains a copy on one device, but with fsdp2 no device has the whole model.")
    answer = [None]
    if trainer.is_world_process_zero():
        cuda = [trainer.args.device] if trainer.args.device.type == "cuda" else []
        with torch.random.fork_rng(cuda):
            answer = [_answer(trainer)]
    learnt, message = broadcast_object_list(answer)[0]
    if not learnt:
        raise SanityError(message)
    return [message]


def _answer(trainer: VideoMAETrainer) -> tuple[bool, str]:
    batch = plain_batch(trainer.train_dataset, trainer.model.config, min(trainer.args.train_batch_size, CLIPS))
    batch = {name: values.to(trainer.args.device) for name, values in batch.items()}
    what = f"overfit check on {len(batch['pixel_values'])} clips: "
    if not any(parameter.requires_grad for parameter in trainer.model.parameters()):
        return False, what + "all parameters are frozen, so that nothing is trained."
    outcome = overfit(trainer, batch)
    hints = _hints_on_labels(batch)
    if outcome.learnt:
        return True, f"{what}{outcome}; passed" + "".join(f". But {hint}" for hint in hints)
    return False, f"{what}{outcome}; not overfitted. " + " ".join([*_hints(trainer, batch, outcome), *hints])


def plain_batch(dataset: VideoDataset | VideoStream, config, num_clips: int) -> dict[str, torch.Tensor]:
    """A batch of clips without augmentation, spread over the training set, or the first clips of a stream."""
    dataset = copy.copy(dataset)
    plain = {"num_sample": 1}
    if isinstance(dataset.load, FinetuneTransform):
        plain |= {"crop_scale": (1.0, 1.0), "horizontal_flip": False, "rand_augment": None}
        plain |= {"color_jitter": 0.0, "grayscale": 0.0}
    dataset.load = replace(dataset.load, **plain)
    if isinstance(dataset, VideoStream):
        items: Iterable = islice((item for item in dataset if item is not None), num_clips)
    else:
        num_clips = min(num_clips, len(dataset))
        items = (dataset[index * len(dataset) // num_clips] for index in range(num_clips))
    return ClipCollator(config)(list(items))


def overfit(trainer: VideoMAETrainer, batch: dict[str, torch.Tensor], factor: float = 1.0) -> Outcome:
    """Trains a copy of the model until it overfits the batch, at `factor` times the run's peak learning rate."""
    args = trainer.args
    model = copy.deepcopy(trainer.model).eval()
    groups = parameter_groups(model, args.learning_rate * factor, 0.0, args.layer_decay)
    optimizer = torch.optim.AdamW(groups, betas=(args.adam_beta1, args.adam_beta2), eps=args.adam_epsilon)
    losses = []
    for step in range(STEPS + 1):
        with trainer.compute_loss_context_manager():
            outputs = model(**batch)
        losses.append(outputs.loss.item())
        right = _part_right(outputs.logits, batch.get("labels"))
        if not math.isfinite(losses[-1]):
            return Outcome(losses, False, right)
        if _is_learnt(losses, right, batch):
            return Outcome(losses, True, right)
        if step < STEPS:
            optimizer.zero_grad()
            outputs.loss.backward()
            if args.max_grad_norm > 0:
                torch.nn.utils.clip_grad_norm_(model.parameters(), args.max_grad_norm)
            optimizer.step()
    return Outcome(losses, False, right)


def _part_right(logits: torch.Tensor, labels: torch.Tensor | None) -> float | None:
    if labels is None or (labels.is_floating_point() and not _is_multi_label(labels)):
        return None
    predicted = (logits > 0) == (labels > 0.5) if labels.is_floating_point() else logits.argmax(dim=-1) == labels
    return predicted.float().mean().item()


def _is_multi_label(labels: torch.Tensor) -> bool:
    return bool(((labels == 0) | (labels == 1)).all())


def _is_learnt(losses: list[float], right: float | None, batch: dict[str, torch.Tensor]) -> bool:
    if right is not None:
        # The initial loss of a checkpoint trained on these classes may already be close to 0.
        return right == 1 and (losses[-1] < CLASSIFIED * losses[0] or losses[-1] < 0.1)
    return losses[-1] < (FITTED if "labels" in batch else RECONSTRUCTED) * losses[0]


def _hints(trainer: VideoMAETrainer, batch: dict[str, torch.Tensor], outcome: Outcome) -> list[str]:
    rate = trainer.args.learning_rate
    if not math.isfinite(outcome.losses[0]):
        return ["The very first loss is not finite: check the inputs and the weights."]
    if not math.isfinite(outcome.losses[-1]):
        return [f"The loss becomes non-finite: the learning rate of {rate:.2g} is too high."]
    others = {factor: overfit(trainer, batch, factor) for factor in (10.0, 0.1)}
    ends = {factor: other.losses[-1] for factor, other in others.items() if math.isfinite(other.losses[-1])}
    # A rate at which the model overfits the batch, or else the rate with the lowest final loss
    best = min(ends, key=lambda factor: (not others[factor].learnt, ends[factor]), default=None)
    if best is not None and (others[best].learnt or ends[best] < 0.9 * outcome.losses[-1]):
        what = "it overfits" if others[best].learnt else f"the loss falls to {ends[best]:.4g}"
        return [f"At {rate * best:.2g} {what}: the learning rate of {rate:.2g} is too {'low' if best > 1 else 'high'}."]
    hints = [f"It fails at {rate * 10:.2g} and {rate / 10:.2g} too (the learning rate is {rate:.2g})."]
    trained = sum(parameter.numel() for parameter in trainer.model.parameters() if parameter.requires_grad)
    total = sum(parameter.numel() for parameter in trainer.model.parameters())
    if trained < total:
        hints.append(f"Only {trained:,} of {total:,} parameters are trained: freeze less.")
    return hints


def _hints_on_labels(batch: dict[str, torch.Tensor]) -> list[str]:
    labels, clips = batch.get("labels"), batch["pixel_values"]
    if labels is None or len(labels) < 2:
        return []
    if (labels == labels[0]).all():
        return ["all of these clips have the same label, so that the check proves little."]
    for one in range(len(clips)):
        for other in range(one):
            if torch.equal(clips[one], clips[other]) and not torch.equal(labels[one], labels[other]):
                return [f"clips {other} and {one} are identical, but their labels differ."]
    return []
