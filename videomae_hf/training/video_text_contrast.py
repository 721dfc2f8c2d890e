# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""The rows that `video_loss="nce"` compares with: those of all batches of a step, however it is divided."""

import torch
from accelerate import Accelerator

from ..models.modeling_videobert_pretraining import VideoBertForPreTraining
from ..settings.training_arguments import VideoMAETrainingArguments


def contrasts(model: torch.nn.Module) -> bool:
    """Whether a model learns by `video_loss="nce"`."""
    pretrains = isinstance(model, VideoBertForPreTraining)
    return pretrains and model.video_head is not None and model.config.video_loss == "nce"


def check_contrast(model: torch.nn.Module, args: VideoMAETrainingArguments) -> None:
    """Raises ValueError where `add_contrast` could not compute features because no process has the whole backbone."""
    backbone = model.video_bert.backbone
    trains = backbone is not None and not model.config.freeze_backbone
    if contrasts(model) and trains and (args.fsdp or args.deepspeed):
        raise ValueError("video_loss=nce compares with features of other processes, which freeze_backbone=False has to "
                         "compute beside the step, and fsdp and deepspeed shard that backbone; freeze it, leave out "
                         "the sharding, or set --video_loss mse.")  # fmt: skip


def add_contrast(
    batches: list[dict[str, torch.Tensor]], model: VideoBertForPreTraining, accelerator: Accelerator
) -> None:
    """Gives each batch of a step the rows of the others, those of this process and of all others, in place.

    Every process of a step has to call this. Features of a backbone that is trained are computed for it once more,
    without gradients and without dropout.
    """
    if len(batches) * accelerator.num_processes == 1:
        return
    trains = model.training
    model.eval()
    with accelerator.autocast():
        rows = [model.contrast_rows(**batch) for batch in batches]
    model.train(trains)
    features, masks, texts = zip(*rows)
    features = gathered(joined([one.float() for one in features], 0), 0, accelerator)
    masks = gathered(joined([one.long() for one in masks], 0), 0, accelerator).bool()
    texts = gathered(joined(texts, -1), -1, accelerator)
    start = accelerator.process_index * (len(features) // accelerator.num_processes)
    for batch, (own, _, _) in zip(batches, rows):
        others = masks.clone()
        others[start : start + len(own)] = False
        start += len(own)
        batch["contrast"] = (features, others, texts)


def joined(parts: list[torch.Tensor], fill: int) -> torch.Tensor:
    """Tensors (B, L, ..) of different B and L -> one (sum of B, greatest L, ..)."""
    length = max(part.shape[1] for part in parts)
    padding = [part.new_full((len(part), length - part.shape[1], *part.shape[2:]), fill) for part in parts]
    return torch.cat([torch.cat(pair, dim=1) for pair in zip(parts, padding)])


def gathered(rows: torch.Tensor, fill: int, accelerator: Accelerator) -> torch.Tensor:
    """The rows (B, L, ..) of all processes, equally many of each: (processes * greatest B, greatest L, ..)."""
    for dim in (0, 1):
        rows = accelerator.pad_across_processes(rows, dim=dim, pad_index=fill)
    return accelerator.gather(rows)
