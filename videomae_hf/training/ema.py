# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Exponential moving average of the weights (V1's --model_ema; Polyak averaging)."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


class WeightAverage:
    """The float32 average of a model's trainable weights over the optimizer steps.

    After step n (from 1) `average += (1 - d) * (weights - average)`, where d is `decay`, but no more than
    `(1 + n) / (10 + n)`, as in TensorFlow's ExponentialMovingAverage.

    Deviation: V1 (timm's ModelEma) has the same d in all steps, which leaves short runs with their first weights: after
    1000 steps of 0.9999 they are still 90 % of the average.
    """

    def __init__(self, decay: float):
        self.decay = decay
        self.weights: dict[str, torch.Tensor] | None = None

    def start(self, model: torch.nn.Module):
        """Begins with the weights as they are."""
        self.weights = {name: weights.detach().float().clone() for name, weights in _trainable(model)}

    @torch.no_grad()
    def update(self, model: torch.nn.Module, step: int):
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
def _copy(source: dict[str, torch.Tensor], model: torch.nn.Module):
    for name, weights in _trainable(model):
        weights.copy_(source[name])


def _trainable(model: torch.nn.Module) -> Iterator[tuple[str, torch.nn.Parameter]]:
    return ((name, weights) for name, weights in model.named_parameters() if weights.requires_grad)
