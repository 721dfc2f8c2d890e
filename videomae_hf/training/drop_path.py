# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""A warmup of stochastic depth, for models so young that dropping whole layers only holds them back."""

from torch import nn
from transformers import TrainerCallback

from ..layers_videomae_v2 import VideoMAEV2DropPath


class DropPathWarmup(TrainerCallback):
    """Lets the drop path rate of each layer grow linearly from 0 to its own in the first `epochs` of a run.

    The official code has no such schedule. The configuration is not touched: what is saved has the full rate.
    """

    def __init__(self, model: nn.Module, epochs: float):
        layers = [module for module in model.modules() if isinstance(module, VideoMAEV2DropPath)]
        if not any(layer.rate for layer in layers):
            raise ValueError(f"drop_path_warmup_epochs={epochs} needs a rate to grow to: set drop_path_rate.")
        self.rates, self.epochs = {layer: layer.rate for layer in layers}, epochs

    def on_step_begin(self, args, state, control, **kwargs):
        part = min(state.epoch / self.epochs, 1.0)
        for layer, rate in self.rates.items():
            layer.rate = part * rate

    def on_train_end(self, args, state, control, **kwargs):
        for layer, rate in self.rates.items():
            layer.rate = rate
