# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""The features of the segments of a video, by any model of this package.

Each segment is encoded by itself. One pass over the whole video would let neighbours see what a masked segment shows.
This file ships with checkpoints and may import only its siblings.
"""

import math

import torch
from torch import nn

from .modeling_videomae_v2 import VideoMAEV2Model


def segment_features(
    backbone: VideoMAEV2Model,
    pixel_values: torch.Tensor,
    video_mask: torch.Tensor | None = None,
    tokens_per_segment: int = 1,
    batch_size: int | None = None,
) -> torch.Tensor:
    """Encodes the segments of videos, one by one.

    Args:
        backbone: an encoder. A model of clips takes a whole segment; a model of one frame (MAE, ViT) takes its frames
            one by one, whose features are averaged.
        pixel_values: (B, S, T, C, H, W), normalised floats or uint8.
        video_mask: bool (B, S), False for padding, which is not encoded and has the feature 0; None encodes all.
        tokens_per_segment: 1 for `pooled_features`, or a square number P of places: the patches are averaged over time,
            and over the part of the frame that belongs to each place.
        batch_size: number of segments that go through the backbone at once; None is all of them.

    Returns:
        (B, S, P, F), with places row by row.

    Raises:
        ValueError: the shapes of pixels, mask and model do not fit each other.
    """
    if pixel_values.ndim != 6:
        raise ValueError(
            f"pixel_values of segments need (videos, segments, frames, channels, height, width), not "
            f"{tuple(pixel_values.shape)}."
        )
    config, frames = backbone.config, pixel_values.shape[2]
    if config.num_frames not in (1, frames):
        raise ValueError(f"The segments have {frames} frames, but the backbone takes num_frames={config.num_frames}.")
    if video_mask is None:
        video_mask = torch.ones(pixel_values.shape[:2], dtype=torch.bool, device=pixel_values.device)
    segments = pixel_values[video_mask]  # (B, S, T, C, H, W) -> (N, T, C, H, W), without padding
    parts = segments.split(batch_size or max(len(segments), 1)) if len(segments) else ()
    found = [_places(backbone, part, tokens_per_segment) for part in parts]
    dtype = found[0].dtype if found else backbone.dtype
    shape = (*video_mask.shape, tokens_per_segment, config.hidden_size)
    features = torch.zeros(shape, dtype=dtype, device=pixel_values.device)
    return features.masked_scatter(video_mask[..., None, None], torch.cat(found)) if found else features


def _places(backbone: VideoMAEV2Model, segments: torch.Tensor, tokens_per_segment: int) -> torch.Tensor:
    """(N, T, C, H, W) -> (N, P, F)."""
    frames, config = segments.shape[1], backbone.config
    if config.num_frames != frames:
        segments = segments.flatten(0, 1)[:, None]  # (N, T, C, H, W) -> (N * T, 1, C, H, W)
    tokens = backbone(segments).last_hidden_state  # (N or N * T, K + L, F)
    if tokens_per_segment == 1:
        places = backbone.pooled_features(tokens)[:, None]  # (.., 1, F)
    else:
        places = pooled_places(backbone.patch_tokens(tokens), config.grid_size, tokens_per_segment)
    if config.num_frames != frames:
        places = places.unflatten(0, (-1, frames)).mean(dim=1)  # (N * T, P, F) -> (N, P, F)
    return places


def pooled_places(tokens: torch.Tensor, grid_size: tuple[int, int, int], tokens_per_segment: int) -> torch.Tensor:
    """The patches of clips, averaged over time and over a square grid of places.

    Args:
        tokens: (N, L, F), in the order slice, row, column.
        grid_size: (slices, rows, columns).
        tokens_per_segment: P, a square number of at most rows * columns.

    Returns:
        (N, P, F).

    Raises:
        ValueError: P is no square number, or larger than the grid.
    """
    side = math.isqrt(tokens_per_segment)
    if side * side != tokens_per_segment or side > min(grid_size[1:]):
        raise ValueError(
            f"tokens_per_segment={tokens_per_segment} must be a square number, of at most {min(grid_size[1:])} rows."
        )
    # (N, L, F) -> (N, T', H', W', F) -> (N, H', W', F) -> (N, F, H', W')
    maps = tokens.unflatten(1, grid_size).mean(dim=1).permute(0, 3, 1, 2)
    return nn.functional.adaptive_avg_pool2d(maps, side).flatten(2).transpose(1, 2)  # (N, F, side, side) -> (N, P, F)
