# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Weights for clips of another shape: positions of another grid, patch projections of other channels and tubelets."""

import math

import torch


def sinusoid_table(num_positions: int, hidden_size: int) -> torch.Tensor:
    """Fixed position table (1, num_positions, hidden_size), float32.

    One-dimensional over the flattened token index, base 10000, sine on even channels and cosine on odd ones, computed
    in float64 (v1/modeling_finetune.py, get_sinusoid_encoding_table).
    """
    position = torch.arange(num_positions, dtype=torch.float64)[:, None]
    channel = torch.arange(hidden_size, dtype=torch.float64)
    angle = position / 10000 ** (2 * torch.floor(channel / 2) / hidden_size)  # (num_positions, hidden_size)
    return torch.where(channel % 2 == 0, angle.sin(), angle.cos()).float()[None]


def position_table(config, hidden_size: int) -> torch.Tensor:
    """The fixed table (1, L, hidden_size) of a model: fresh, or interpolated from `config.position_grid`.

    Fresh is the default and what the official code does where it works. Deviation: its interpolation of fixed tables
    (v2/run_class_finetuning.py) fails or does nothing; ours interpolates. A fresh table counts tokens in one dimension:
    on a wider grid each row begins at another number than in pretraining, which finetuning has to unlearn;
    interpolated, each place keeps its code. Before any finetuning that is worth little: on the drawn videos of the demo
    a classifier of 64 x 64 pixels scores 89.8 % fresh and 90.2 % interpolated at 96 x 96, one of 8 frames 93.8 % and
    94.3 % at 16 (600 videos).
    """
    if config.position_grid is None:
        return sinusoid_table(config.sequence_length, hidden_size)
    table = sinusoid_table(math.prod(config.position_grid), hidden_size)
    return interpolate_positions(table, tuple(config.position_grid), config.grid_size)


def interpolate_positions(
    table: torch.Tensor, old_grid: tuple[int, int, int], new_grid: tuple[int, int, int]
) -> torch.Tensor:
    """(1, L, D) on one grid of (slices, rows, columns) -> (1, L', D) on another: bicubic in space, linear in time.

    As v2/run_class_finetuning.py means to do for tables of checkpoints.
    """
    if old_grid == new_grid:
        return table
    positions = table.float().unflatten(1, old_grid)[0].permute(0, 3, 1, 2)  # (1, L, D) -> (T', D, H', W')
    if old_grid[1:] != new_grid[1:]:
        positions = torch.nn.functional.interpolate(positions, new_grid[1:], mode="bicubic", align_corners=False)
    if old_grid[0] != new_grid[0]:
        in_time = positions.permute(1, 2, 3, 0).flatten(1, 2)  # (T', D, H', W') -> (D, H' * W', T')
        in_time = torch.nn.functional.interpolate(in_time, new_grid[0], mode="linear", align_corners=False)
        positions = in_time.unflatten(1, new_grid[1:]).permute(3, 0, 1, 2)  # -> (T'', D, H', W')
    # (T', D, H', W') -> (T', H', W', D) -> (1, L', D)
    return positions.permute(0, 2, 3, 1).flatten(0, 2)[None].to(table.dtype)


def resize_projection(weight: torch.Tensor, num_channels: int, tubelet_size: int) -> torch.Tensor:
    """The patch projection (D, C, t, h, w), or (D, C, h, w) of an image model, for other channels and tubelets.

    The response to a static clip whose channels are equal stays exactly what it was: sums over channels and frames are
    kept. Where one tubelet is a multiple of the other the order in time is kept too; otherwise frames share the mean.
    """
    if weight.ndim == 4:
        weight = weight[:, :, None]  # (D, C, h, w) -> (D, C, 1, h, w)
    if weight.shape[1] != num_channels:
        weight = weight.sum(dim=1, keepdim=True).expand(-1, num_channels, -1, -1, -1) / num_channels
    frames = weight.shape[2]
    if tubelet_size % frames == 0:
        repeats = tubelet_size // frames
        return weight.repeat_interleave(repeats, dim=2) / repeats
    if frames % tubelet_size == 0:
        return weight.unflatten(2, (tubelet_size, -1)).sum(dim=3)  # (D, C, t', t / t', h, w) -> (D, C, t', h, w)
    return weight.sum(dim=2, keepdim=True).expand(-1, -1, tubelet_size, -1, -1) / tubelet_size
