# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Pictures made of tiles: rows of frames with names to their left and titles above their columns."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image, ImageDraw, ImageFont

from ..models.frame_sampling import spread_indices
from ..models.video_decoding import VideoInfo, read_frames


NAMES_WIDTH = 136  # pixels to the left of the rows
SMALLEST_TILE = 72  # pixels; smaller frames are enlarged, so that row names fit and patches can be seen
_BORDER = 2
_LINE_HEIGHT = 14  # of a title, in pixels
_WIDEST = 3  # width / height of a frame in a strip; wider ones are narrowed


def tile_grid(rows: torch.Tensor, smallest_tile: int = SMALLEST_TILE) -> Image.Image:
    """(R, N, C, H, W) in [0, 1] -> a picture of R rows of N tiles, from the first three channels or the first one."""
    channels = 3 if rows.shape[2] >= 3 else 1
    scale = math.ceil(smallest_tile / min(rows.shape[-2:]))
    tiles = rows[:, :, :channels].repeat_interleave(scale, dim=3).repeat_interleave(scale, dim=4)
    tiles = torch.nn.functional.pad(tiles, (_BORDER,) * 4, value=1.0).expand(-1, -1, 3, -1, -1)
    # (R, N, 3, H, W) -> (R, H, N, W, 3) -> (R * H, N * W, 3)
    picture = tiles.permute(0, 3, 1, 4, 2).flatten(2, 3).flatten(0, 1)
    return Image.fromarray((picture * 255).round().byte().numpy())


def named_rows(picture: Image.Image, names: Sequence[str]) -> Image.Image:
    """The picture with a name to the left of each of its rows, which have equal heights."""
    named = Image.new("RGB", (NAMES_WIDTH + picture.width, picture.height), "white")
    named.paste(picture, (NAMES_WIDTH, 0))
    draw, font = ImageDraw.Draw(named), ImageFont.load_default()
    for row, name in enumerate(names):
        draw.text((4, picture.height * row // len(names) + 4), name, fill="black", font=font)
    return named


def titled_columns(picture: Image.Image, titles: Sequence[str], left: int = 0) -> Image.Image:
    """The picture with a title above each of its columns, which have equal widths and begin at `left` pixels."""
    height = _LINE_HEIGHT * max(title.count("\n") + 1 for title in titles) + 4
    titled = Image.new("RGB", (picture.width, picture.height + height), "white")
    titled.paste(picture, (0, height))
    draw, font = ImageDraw.Draw(titled), ImageFont.load_default()
    for column, title in enumerate(titles):
        draw.text((left + (picture.width - left) * column // len(titles) + 3, 2), title, fill="black", font=font)
    return titled


def slot_titles(num_frames: int, tubelet_size: int) -> list[str]:
    """The titles of the time slots of a clip, which are tubelets: "slot 1\\nframes 1-2"."""
    starts = range(0, num_frames, tubelet_size)
    frames = [f"frame {s + 1}" if tubelet_size == 1 else f"frames {s + 1}-{s + tubelet_size}" for s in starts]
    return [f"slot {slot}\n{text}" for slot, text in enumerate(frames, 1)]


def frame_strip(video: Any, number: int, height: int, gap: int = 0) -> Image.Image | None:
    """Frames spread evenly over a video, side by side; None if they cannot be read.

    Args:
        video: the video, as for `read_frames`.
        number: number of frames.
        height: their height in pixels.
        gap: width of the white gap after each frame, in pixels.
    """

    def spread(info: VideoInfo) -> list[int]:
        return spread_indices(info.num_frames, number)

    def shrink(frames: torch.Tensor) -> torch.Tensor:  # uint8 (n, H, W, C)
        size = (height, min(max(round(frames.shape[2] * height / frames.shape[1]), 1), _WIDEST * height))
        frames = frames.permute(0, 3, 1, 2)  # (n, H, W, C) -> (n, C, H, W)
        return torch.nn.functional.interpolate(frames, size, mode="bilinear", antialias=True)

    try:
        frames = read_frames(video, spread, square_pixels=True, transform=shrink)
    except (OSError, ValueError):  # of other channels, or changed since it was listed
        return None
    frames = torch.nn.functional.pad(frames, (0, gap), value=255)
    strip = frames.permute(2, 0, 3, 1).flatten(1, 2)  # (n, C, H, W) -> (H, n, W, C) -> (H, n * W, C)
    return Image.fromarray(strip.contiguous().numpy())
