# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Adapts weights to clips of another shape: position tables for other grids, patch projections for other channels.

This file ships with checkpoints and may import only its siblings.
"""

import math

import torch


def sinusoid_table(num_positions: int, hidden_size: int) -> torch.Tensor:
    """The fixed position table (1, num_positions, hidden_size), float32.

    One-dimensional over the flattened token index, with base 10000, sine on even channels and cosine on odd ones,
    computed in float64 (v1/modeling_finetune.py, get_sinusoid_encoding_table).
    """
    position = torch.arange(num_positions, dtype=torch.float64)[:, None]
    channel = torch.arange(hidden_size, dtype=torch.float64)
    angle = position / 10000 ** (2 * torch.floor(channel / 2) / hidden_size)  # (num_positions, hidden_size)
    return torch.where(channel % 2 == 0, angle.sin(), angle.cos()).float()[None]


def separable_table(grid_size: tuple[int, int, int], hidden_size: int) -> torch.Tensor:
    """A fixed position table (1, L, hidden_size), float32, whose channels each depend on one axis of the grid.

    A quarter of the channels codes the slice, and the rest in equal parts the row and the column. The wavelengths of
    each axis run from 4 to 200 positions, so that neighbours differ clearly whatever the grid. Not official: the
    official table counts tokens in one dimension, and a model has to learn which numbers are neighbours.
    """
    pairs = hidden_size // 2
    in_time = pairs // 4
    in_rows = (pairs - in_time) // 2
    codes = []
    for positions, number in zip(grid_size, (in_time, in_rows, pairs - in_time - in_rows)):
        frequencies = math.pi / 2 * 50 ** -(torch.arange(number, dtype=torch.float64) / max(number, 1))
        angles = torch.arange(positions, dtype=torch.float64)[:, None] * frequencies  # (positions, number)
        codes.append(torch.cat([angles.sin(), angles.cos()], dim=1))
    slices, rows, columns = codes
    table = torch.zeros(*grid_size, hidden_size, dtype=torch.float64)  # an odd channel stays 0
    table[..., : 2 * in_time] = slices[:, None, None]
    table[..., 2 * in_time : 2 * (in_time + in_rows)] = rows[None, :, None]
    table[..., 2 * (in_time + in_rows) : 2 * pairs] = columns
    return table.flatten(0, 2)[None].float()  # (T', H', W', D) -> (1, L, D)


def planar_table(grid_size: tuple[int, int, int], hidden_size: int) -> torch.Tensor:
    """MAE's fixed position table (1, L, hidden_size), float32, over column and row and the same in every slice.

    The quarters of the channels are the sine and cosine of the column, then those of the row: MAE's code names the two
    the other way round, so that its tables, and those of its checkpoints, begin with the column. Computed in float64.

    Args:
        grid_size: (slices, rows, columns).
        hidden_size: a multiple of 4.
    """
    slices, rows, columns = grid_size
    quarter = hidden_size // 4
    frequencies = 10000 ** -(torch.arange(quarter, dtype=torch.float64) / quarter)
    row, column = (torch.arange(size, dtype=torch.float64)[:, None] * frequencies for size in (rows, columns))
    row, column = row[:, None].expand(-1, columns, -1), column.expand(rows, -1, -1)  # (rows, columns, quarter)
    table = torch.cat([column.sin(), column.cos(), row.sin(), row.cos()], dim=-1)
    return table.flatten(0, 1).repeat(slices, 1)[None].float()  # (H', W', D) -> (L, D) -> (1, L, D)


def position_table(config, hidden_size: int, kind: str) -> torch.Tensor:
    """The fixed table of a model: newly computed, or interpolated from `config.position_grid`.

    By default the table is computed for the new grid, as in the official code where that works. Deviation: the official
    interpolation of fixed tables (v2/run_class_finetuning.py) fails or does nothing; ours interpolates. A new table
    counts tokens in one dimension, so that on a wider grid each row begins at another number than in pretraining, which
    finetuning has to unlearn; with interpolation each position keeps its code. Without finetuning the difference is
    small: on the synthetic videos of the demo, a classifier trained at 64 x 64 pixels scores 89.8 % (new) and 90.2 %
    (interpolated) at 96 x 96, and one trained on 8 frames 93.8 % and 94.3 % at 16 frames (600 videos).

    Args:
        config: a `VideoMAEV2Config`.
        hidden_size: width of the table.
        kind: `"sinusoidal"`, `"sinusoidal_2d"` or `"sinusoidal_3d"`.

    Returns:
        (1, num_class_tokens + L, hidden_size), with zeros for the class tokens, as in MAE.
    """
    grid = config.grid_size if config.position_grid is None else tuple(config.position_grid)
    if kind == "sinusoidal_3d":
        table = separable_table(grid, hidden_size)
    elif kind == "sinusoidal_2d":
        table = planar_table(grid, hidden_size)
    else:
        table = sinusoid_table(math.prod(grid), hidden_size)
    table = interpolate_positions(table, grid, config.grid_size)
    return torch.cat([table.new_zeros(1, config.num_class_tokens, hidden_size), table], dim=1)


def interpolate_positions(
    table: torch.Tensor, old_grid: tuple[int, int, int], new_grid: tuple[int, int, int]
) -> torch.Tensor:
    """(1, L, D) on one grid of (slices, rows, columns) -> (1, L', D) on another: bicubic in space, linear in time.

    This is the intention of v2/run_class_finetuning.py for the tables of checkpoints. A table that begins with a row
    for the class token of each slice keeps them: they are interpolated in time only.
    """
    if old_grid == new_grid:
        return table
    class_tokens = table.shape[1] - math.prod(old_grid)
    if class_tokens:
        of_classes, of_patches = table[:, :class_tokens], table[:, class_tokens:]
        of_classes = interpolate_positions(of_classes, (class_tokens, 1, 1), (new_grid[0], 1, 1))
        return torch.cat([of_classes, interpolate_positions(of_patches, old_grid, new_grid)], dim=1)
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
    """Converts the patch projection (D, C, t, h, w), or (D, C, h, w) of an image model, to (D, C', t', h, w).

    The response to a static clip with equal channels does not change: sums over channels and frames are preserved. If
    one tubelet size is a multiple of the other, the order in time is preserved too; otherwise all frames get the mean.

    Args:
        weight: the projection of the checkpoint.
        num_channels: number of channels C' of the model.
        tubelet_size: number of frames t' of the model's tubelets.
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
