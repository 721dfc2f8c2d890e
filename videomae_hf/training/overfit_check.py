# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Can this model, at this learning rate, learn one batch by heart? If not, it will not learn the data set either.

A copy of the model is trained on a few clips that stay the same: no augmentation, no dropout or drop path, no weight
decay, no warmup, the masks of pretraining fixed. The run itself, its weights and its generators, does not notice.
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


CLIPS = 8  # at most; and no more than a device takes in a step
STEPS = 200
CLASSIFIED = 0.5  # with all labels right, the part of its start that the loss must fall below
FITTED = 0.1  # the same for the squared error of regression
RECONSTRUCTED = 0.8  # and for that of pretraining, most of which is detail that takes longer


class SanityError(ValueError):
    """The batch was not learnt."""


@dataclass
class Outcome:
    """What came of training on the batch: losses before each step, and whether it was learnt."""

    losses: list[float]
    learnt: bool
    right: float | None  # part of the labels that are predicted right, None without classes

    def __str__(self) -> str:
        right = "" if self.right is None else f", {self.right:.0%} of the labels right"
        return f"loss {self.losses[0]:.4g} -> {self.losses[-1]:.4g} in {len(self.losses) - 1} steps{right}"


def check_learning(trainer: VideoMAETrainer) -> list[str]:
    """Trains a copy of `trainer.model` on one batch of its training set.

    The first process does it, the others wait for its answer.

    Returns:
        A line to print.

    Raises:
        SanityError: in every process, with what was found; among others whether ten times or a tenth of the learning
            rate would do.
    """
    if trainer.args.fsdp2:
        raise ValueError("sanity trains a copy on one device, and with fsdp2 none has the whole model.")
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
    what = f"sanity check on {len(batch['pixel_values'])} clips: "
    if not any(parameter.requires_grad for parameter in trainer.model.parameters()):
        return False, what + "no parameter is trained, everything is frozen."
    outcome = overfit(trainer, batch)
    hints = _hints_on_labels(batch)
    if outcome.learnt:
        return True, f"{what}{outcome}; it can learn" + "".join(f". But {hint}" for hint in hints)
    return False, f"{what}{outcome}; it did not learn them. " + " ".join([*_hints(trainer, batch, outcome), *hints])


def plain_batch(dataset: VideoDataset | VideoStream, config, num_clips: int) -> dict[str, torch.Tensor]:
    """Clips spread over the training set, or the first ones of a stream, as they are."""
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
    """Trains a copy of the model until it knows the batch, at `factor` times the run's highest learning rate."""
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
        # A checkpoint that knows the classes already may begin with next to no loss.
        return right == 1 and (losses[-1] < CLASSIFIED * losses[0] or losses[-1] < 0.1)
    return losses[-1] < (FITTED if "labels" in batch else RECONSTRUCTED) * losses[0]


def _hints(trainer: VideoMAETrainer, batch: dict[str, torch.Tensor], outcome: Outcome) -> list[str]:
    rate = trainer.args.learning_rate
    if not math.isfinite(outcome.losses[0]):
        return ["The very first loss is not finite: look at the inputs and at the weights."]
    if not math.isfinite(outcome.losses[-1]):
        return [f"The loss is not finite any more: the learning rate of {rate:.2g} is too high."]
    others = {factor: overfit(trainer, batch, factor) for factor in (10.0, 0.1)}
    ends = {factor: other.losses[-1] for factor, other in others.items() if math.isfinite(other.losses[-1])}
    # A rate at which it learns, or else the one at which the loss falls farthest
    best = min(ends, key=lambda factor: (not others[factor].learnt, ends[factor]), default=None)
    if best is not None and (others[best].learnt or ends[best] < 0.9 * outcome.losses[-1]):
        what = "it does" if others[best].learnt else f"the loss gets to {ends[best]:.4g}"
        return [f"At {rate * best:.2g} {what}: the learning rate of {rate:.2g} is too {'low' if best > 1 else 'high'}."]
    hints = [f"Nor does it at {rate * 10:.2g} and {rate / 10:.2g} (the learning rate is {rate:.2g})."]
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
        return ["all of these clips have the same label, which proves little."]
    for one in range(len(clips)):
        for other in range(one):
            if torch.equal(clips[one], clips[other]) and not torch.equal(labels[one], labels[other]):
                return [f"clips {other} and {one} are the same, and their labels differ."]
    return []
