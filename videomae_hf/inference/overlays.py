# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Pictures of maps over tokens: the frames of each time slot, tinted where the map is high."""

import numpy as np
import torch
from PIL import Image

from ..evaluation.strips import NAMES_WIDTH, named_rows, slot_titles, tile_grid, titled_columns
from ..models.configuration_videomae_v2 import VideoMAEV2Config


# From low to high: black, violet, red, orange, pale yellow, as the colour map "inferno" has them
_COLORS = np.array([(0, 0, 4), (87, 16, 110), (188, 55, 84), (249, 142, 9), (252, 255, 164)]) / 255
_STRONGEST = 0.75  # share of the colour where the map is highest


def overlay_picture(frames: torch.Tensor, maps: dict[str, torch.Tensor], config: VideoMAEV2Config) -> Image.Image:
    """The frames of a clip in a row, and below them a row for each map; a column is a time slot.

    All slots of a map share one scale, whose ends are written beside it as multiples of the mean over the clip. Between
    the centres of tokens the map is interpolated.

    Args:
        frames: (T, C, H, W) in [0, 1].
        maps: name of a row -> (T', H', W'), not negative.
        config: configuration of the model.

    Returns:
        The picture. A column shows the first frame of its slot.
    """
    shown = frames[:: config.tubelet_size]  # (T, C, H, W) -> (T', C, H, W)
    shown = shown[:, :3] if shown.shape[1] >= 3 else shown[:, :1].expand(-1, 3, -1, -1)
    rows = torch.stack([shown, *(tinted(shown, values) for values in maps.values())])  # (R, T', 3, H, W)
    names = ["frames", *(f"{name}\n{_scale(values)}" for name, values in maps.items())]
    titles = slot_titles(config.num_frames, config.tubelet_size)
    return titled_columns(named_rows(tile_grid(rows), names), titles, left=NAMES_WIDTH)


def tinted(frames: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """Grey frames with the colours of a map: (T', 3, H, W) in [0, 1] and (T', H', W') -> (T', 3, H, W).

    Where the map is lowest the grey frame is unchanged, and where it is highest the colour is strongest.
    """
    low, high = values.min(), values.max()
    heat = (values - low) / (high - low).clamp(min=torch.finfo(values.dtype).tiny)
    heat = torch.nn.functional.interpolate(heat[:, None], frames.shape[-2:], mode="bilinear")  # (T', 1, H, W)
    anchors = np.linspace(0, 1, len(_COLORS))
    channels = [np.interp(heat[:, 0].numpy(), anchors, _COLORS[:, channel]) for channel in range(3)]
    colors = torch.from_numpy(np.stack(channels, axis=1)).float()  # 3 x (T', H, W) -> (T', 3, H, W)
    grey = frames.mean(dim=1, keepdim=True)
    return torch.lerp(grey.expand_as(colors), colors, _STRONGEST * heat)


def _scale(values: torch.Tensor) -> str:
    low, high = (float(value / values.mean()) for value in (values.min(), values.max()))
    return f"{low:.2g} to {high:.2g} x the mean"
