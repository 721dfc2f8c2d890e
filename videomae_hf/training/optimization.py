# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Optimization: parameter groups, the official learning rate schedule, averaging of the weights, drop path warmup.

Parameter groups and schedule are those of v1/optim_factory.py and v1/utils.py. The exponential moving average of the
weights (Polyak averaging) corresponds to V1's --model_ema. The official code has no warmup of stochastic depth, which
helps models that start from random weights.
"""

import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import nn
from transformers import TrainerCallback

from ..models.layers_videomae_v2 import VideoMAEV2DropPath


_NOT_DECAYED = ("bias", "mask_token", "cls_token", "position_embeddings", "scale", "layer_weights")


class DropPathWarmup(TrainerCallback):
    """Increases the drop path rate of each layer linearly from 0 to its final value over the first `epochs` of a run.

    Deviation: the official code has no such schedule. The configuration does not change, so that saved models have the
    final rate.
    """

    def __init__(self, model: nn.Module, epochs: float) -> None:
        layers = [module for module in model.modules() if isinstance(module, VideoMAEV2DropPath)]
        if not any(layer.rate for layer in layers):
            raise ValueError(f"drop_path_warmup_epochs={epochs} needs a final rate: set drop_path_rate.")
        self.rates, self.epochs = {layer: layer.rate for layer in layers}, epochs

    def on_step_begin(self, args, state, control, **kwargs) -> None:
        part = min(state.epoch / self.epochs, 1.0)
        for layer, rate in self.rates.items():
            layer.rate = part * rate

    def on_train_end(self, args, state, control, **kwargs) -> None:
        for layer, rate in self.rates.items():
            layer.rate = rate


class WeightAverage:
    """The float32 moving average of a model's trainable weights over the optimizer steps.

    After step n (from 1), `average += (1 - d) * (weights - average)`, where d is the smaller of `decay` and
    `(1 + n) / (10 + n)`, as in TensorFlow's ExponentialMovingAverage.

    Deviation: V1 (timm's ModelEma) uses a constant d. The average of a short run then consists mostly of the initial
    weights: after 1000 steps with 0.9999, they still make up 90 % of it.
    """

    def __init__(self, decay: float) -> None:
        self.decay = decay
        self.weights: dict[str, torch.Tensor] | None = None

    def start(self, model: torch.nn.Module) -> None:
        """Initialises the average with the current weights."""
        self.weights = {name: weights.detach().float().clone() for name, weights in _trainable(model)}

    @torch.no_grad()
    def update(self, model: torch.nn.Module, step: int) -> None:
        """Updates the average after optimizer step `step`, counted from 1."""
        decay = min(self.decay, (1 + step) / (10 + step))
        for name, weights in _trainable(model):
            self.weights[name].lerp_(weights.float(), 1 - decay)

    @contextmanager
    def applied(self, model: torch.nn.Module) -> Iterator[None]:
        """Context in which the average replaces the model's weights in place; the weights are restored afterwards.

        Before training, the average is the weights themselves.
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
    model: torch.nn.Module, learning_rate: float, weight_decay: float, layer_decay: float, *, muon: bool = False
) -> list[dict]:
    """Optimizer groups with weight decay as in the official code, and a learning rate for each layer.

    Biases, vectors (norms, layer scale), mask and class tokens and position tables (v1/optim_factory.py), the scale of
    cosine attention (V2) and the weights of mixed encoder layers have no weight decay. Deviation: MAE's pretraining
    (main_pretrain.py) decays its two tokens, its finetuning does not. Layer numbers are 0 for the embeddings, i + 1 for
    encoder block i, and depth + 1 for everything after the encoder (head and decoder). The learning rate of layer n is
    that of the head times `layer_decay ** (depth + 1 - n)`. The group of the head comes first, because the Trainer logs
    the first rate.

    With `muon`, each group has `use_muon`, which is True for the matrices of the blocks; these groups come last.
    """
    depth = model.config.num_hidden_layers
    groups = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        bare = name.rsplit(".", 1)[-1]
        decayed = parameter.ndim > 1 and bare not in _NOT_DECAYED
        distance = depth + 1 - layer_number(name, depth)
        key = (muon and is_block_matrix(name, parameter), distance, not decayed)
        if key not in groups:
            groups[key] = {
                "params": [],
                "lr": learning_rate * layer_decay**distance,
                "weight_decay": weight_decay if decayed else 0.0,
                **({"use_muon": key[0]} if muon else {}),
            }
        groups[key]["params"].append(parameter)
    return [groups[key] for key in sorted(groups)]


def is_block_matrix(name: str, parameter: torch.nn.Parameter) -> bool:
    """Whether a parameter is a matrix of a transformer block, of the encoder, of a decoder or of the classifier."""
    blocks = r"(?:^|\.)(?:layer|decoder_layers|cross_layers|classifier_layers)\.\d+\."
    return parameter.ndim == 2 and re.search(blocks, name) is not None


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

    With W warmup steps, the factor of warmup step k is k / (W - 1): 0 in the first step and 1 in the last, as in the
    first step of the cosine after it. Deviation: runs that set `learning_rate` use the schedules of transformers, where
    the factor is k / W.

    Args:
        optimizer: an optimizer over `parameter_groups`.
        num_warmup_steps: W, 0 for none.
        num_training_steps: number of steps of the run, including warmup.
        lowest: the factor that the cosine would reach one step after the last step.
    """
    factor = partial(_official_factor, num_warmup_steps, num_training_steps, lowest)
    return torch.optim.lr_scheduler.LambdaLR(optimizer, factor)


def _official_factor(num_warmup_steps: int, num_training_steps: int, lowest: float, step: int) -> float:
    if step < num_warmup_steps:
        return step / max(num_warmup_steps - 1, 1)
    progress = (step - num_warmup_steps) / max(num_training_steps - num_warmup_steps, 1)
    return lowest + (1 - lowest) * (1 + math.cos(math.pi * progress)) / 2
