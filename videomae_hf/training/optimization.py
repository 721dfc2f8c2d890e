# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""A warmup of stochastic depth, for models so young that dropping whole layers only holds them back.

Exponential moving average of the weights (V1's --model_ema; Polyak averaging).

Parameter groups of the optimizer and the official schedule: v1/optim_factory.py and v1/utils.py."""

import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import nn
from transformers import TrainerCallback

from ..models.layers_videomae_v2 import VideoMAEV2DropPath


class DropPathWarmup(TrainerCallback):
    """Lets the drop path rate of each layer grow linearly from 0 to its own in the first `epochs` of a run.

    The official code has no such schedule. The configuration is not touched: what is saved has the full rate.
    """

    def __init__(self, model: nn.Module, epochs: float) -> None:
        layers = [module for module in model.modules() if isinstance(module, VideoMAEV2DropPath)]
        if not any(layer.rate for layer in layers):
            raise ValueError(f"drop_path_warmup_epochs={epochs} needs a rate to grow to: set drop_path_rate.")
        self.rates, self.epochs = {layer: layer.rate for layer in layers}, epochs

    def on_step_begin(self, args, state, control, **kwargs) -> None:
        part = min(state.epoch / self.epochs, 1.0)
        for layer, rate in self.rates.items():
            layer.rate = part * rate

    def on_train_end(self, args, state, control, **kwargs) -> None:
        for layer, rate in self.rates.items():
            layer.rate = rate


class WeightAverage:
    """The float32 average of a model's trainable weights over the optimizer steps.

    After step n (from 1) `average += (1 - d) * (weights - average)`, where d is `decay`, but no more than
    `(1 + n) / (10 + n)`, as in TensorFlow's ExponentialMovingAverage.

    Deviation: V1 (timm's ModelEma) has the same d in all steps, which leaves short runs with their first weights: after
    1000 steps of 0.9999 they are still 90 % of the average.
    """

    def __init__(self, decay: float) -> None:
        self.decay = decay
        self.weights: dict[str, torch.Tensor] | None = None

    def start(self, model: torch.nn.Module) -> None:
        """Begins with the weights as they are."""
        self.weights = {name: weights.detach().float().clone() for name, weights in _trainable(model)}

    @torch.no_grad()
    def update(self, model: torch.nn.Module, step: int) -> None:
        """To be called after each optimizer step."""
        decay = min(self.decay, (1 + step) / (10 + step))
        for name, weights in _trainable(model):
            self.weights[name].lerp_(weights.float(), 1 - decay)

    @contextmanager
    def applied(self, model: torch.nn.Module) -> Iterator[None]:
        """The model has the average as its weights, in place, and its own again afterwards.

        Before training the weights are their own average.
        """
        if self.weights is None:
            yield
            return
        own = {name: weights.detach().clone() for name, weights in _trainable(model)}
        _copy(self.weights, model)
        try:
            yield
        finally:
            _copy(own, model)


@torch.no_grad()
def _copy(source: dict[str, torch.Tensor], model: torch.nn.Module) -> None:
    for name, weights in _trainable(model):
        weights.copy_(source[name])


def _trainable(model: torch.nn.Module) -> Iterator[tuple[str, torch.nn.Parameter]]:
    return ((name, weights) for name, weights in model.named_parameters() if weights.requires_grad)


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
