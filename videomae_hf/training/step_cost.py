# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""What a training step of a model costs: its arithmetic, counted on any machine, and its time, measured on this one."""

import time
from contextlib import nullcontext

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from ..models.configuration_videomae_v2 import VideoMAEV2Config
from ..models.masking import token_counts
from ..models.modeling_videomae_v2 import VideoMAEV2ForPreTraining


_QUICK = 0.5  # seconds of a step of one clip below which the whole batch is timed, whose clips then cost less


def example_batch(model: nn.Module, config: VideoMAEV2Config, clips: int, device: str | torch.device) -> dict:
    """A batch of random clips for a pretraining model or a classifier, with its masks or labels."""
    shape = (clips, config.num_frames, config.num_channels, *config.image_hw)
    batch = {"pixel_values": torch.rand(shape, device=device)}
    if not isinstance(model, VideoMAEV2ForPreTraining):
        regression = config.problem_type == "regression"
        several = regression or config.problem_type == "multi_label_classification"
        labels = torch.zeros(clips, config.num_labels) if several else torch.zeros(clips, dtype=torch.long)
        return {**batch, "labels": labels.to(device)}
    visible, decoded = token_counts(config)
    ids = torch.arange(config.sequence_length, device=device).expand(clips, -1)  # (N, L)
    batch["visible_ids"] = ids[:, :visible]
    if config.decoder_mask_ratio:
        batch["decoded_ids"] = ids[:, visible : visible + decoded]
    return batch


def step_macs(model: nn.Module, batch: dict[str, torch.Tensor]) -> float:
    """Multiply-accumulates of the forward and the backward pass of a model whose output has a `loss`.

    Matrix products, convolutions and attention are counted; on the meta device nothing is computed.
    """
    with FlopCounterMode(display=False) as counter:
        model(**batch).loss.backward()
    model.zero_grad(set_to_none=True)
    return counter.get_total_flops() / 2


def seconds_per_clip(model: nn.Module, config: VideoMAEV2Config, batch_size: int) -> float:
    """Measures the forward and backward pass on this machine, on its GPU if there is one, per clip.

    Args:
        model: the model; it is moved to the GPU.
        config: its configuration.
        batch_size: clips of a forward pass in training; a slow model is measured with one clip.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model.to(device).train()
    _timed(model, example_batch(model, config, 1, device))  # warm-up
    seconds = _timed(model, example_batch(model, config, 1, device))
    if batch_size > 1 and seconds < _QUICK:
        seconds = _timed(model, example_batch(model, config, batch_size, device)) / batch_size
    return seconds


def _timed(model: nn.Module, batch: dict[str, torch.Tensor]) -> float:
    on_gpu = batch["pixel_values"].is_cuda
    mixed = on_gpu and torch.cuda.is_bf16_supported(False)
    started = time.perf_counter()
    with torch.autocast("cuda", torch.bfloat16) if mixed else nullcontext():
        loss = model(**batch).loss
    loss.backward()
    if on_gpu:
        torch.cuda.synchronize()
    model.zero_grad(set_to_none=True)
    return time.perf_counter() - started
