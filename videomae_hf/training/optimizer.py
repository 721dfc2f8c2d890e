# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Parameter groups of the optimizer and the official schedule: v1/optim_factory.py and v1/utils.py."""

import math
import re
from functools import partial

import torch


def parameter_groups(
    model: torch.nn.Module, learning_rate: float, weight_decay: float, layer_decay: float
) -> list[dict]:
    """Optimizer groups: weight decay as in the official code, and a learning rate for each layer.

    No decay for biases, vectors (norms, layer scale), the mask token and position tables (v1/optim_factory.py), nor
    for the scale of cosine attention (V2). Layers are numbered 0 for the embeddings, i + 1 for block i, and
    depth + 1 for all behind, head and decoder; the rate of layer n is that of the head times
    `layer_decay ** (depth + 1 - n)`. The head comes first: its rate is the one the Trainer logs.
    """
    depth = model.config.num_hidden_layers
    groups = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        bare = name.rsplit(".", 1)[-1]
        decayed = parameter.ndim > 1 and bare not in ("bias", "mask_token", "position_embeddings", "scale")
        distance = depth + 1 - layer_number(name, depth)
        key = (distance, not decayed)
        if key not in groups:
            groups[key] = {
                "params": [],
                "lr": learning_rate * layer_decay**distance,
                "weight_decay": weight_decay if decayed else 0.0,
            }
        groups[key]["params"].append(parameter)
    return [groups[key] for key in sorted(groups)]


def layer_number(name: str, depth: int) -> int:
    """0 for the embeddings, i + 1 for block i of the encoder, depth + 1 for everything else."""
    if "embeddings." in name and "decoder" not in name:
        return 0
    block = re.search(r"(?:^|\.)encoder\.layer\.(\d+)\.", name)
    return int(block.group(1)) + 1 if block else depth + 1


def official_schedule(
    optimizer: torch.optim.Optimizer, num_warmup_steps: int, num_training_steps: int, lowest: float
) -> torch.optim.lr_scheduler.LambdaLR:
    """The official warmup and cosine, step by step (v1/utils.py, `cosine_scheduler`), as a factor of each group's rate.

    With W steps of warmup, step k of them has k / (W - 1): the first has 0 and the last the whole rate, as does the
    first of the cosine after it. Deviation: runs with a `learning_rate` of their own have transformers' schedules,
    where step k has k / W.

    Args:
        optimizer: of `parameter_groups`.
        num_warmup_steps: W, 0 for none.
        num_training_steps: of the run, warmup included.
        lowest: part of the rate that the cosine would have one step after the last one.
    """
    factor = partial(_official_factor, num_warmup_steps, num_training_steps, lowest)
    return torch.optim.lr_scheduler.LambdaLR(optimizer, factor)


def _official_factor(num_warmup_steps: int, num_training_steps: int, lowest: float, step: int) -> float:
    if step < num_warmup_steps:
        return step / max(num_warmup_steps - 1, 1)
    progress = (step - num_warmup_steps) / max(num_training_steps - num_warmup_steps, 1)
    return lowest + (1 - lowest) * (1 + math.cos(math.pi * progress)) / 2
