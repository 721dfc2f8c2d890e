# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Augmentation of clips in training: uint8 (T, C, H, W) in and out, one draw for all frames of a clip.

Every function takes the `torch.Generator` it draws from. Deviation from the official code, for all: frames are resized
as tensors with antialiasing, where v1/transforms.py goes through PIL (bilinear, which antialiases) and
v1/video_transforms.py through `interpolate` without it.
"""

import math

import torch


MULTI_SCALE_CROP_SCALES = (1.0, 0.875, 0.75, 0.66)


def random_int(low: int, high: int, generator: torch.Generator) -> int:
    """An integer in [low, high]."""
    return int(torch.randint(low, high + 1, (), generator=generator))


def random_float(low: float, high: float, generator: torch.Generator) -> float:
    return low + (high - low) * float(torch.rand((), generator=generator))


def resized_crop(
    frames: torch.Tensor, top: int, left: int, height: int, width: int, size: tuple[int, int]
) -> torch.Tensor:
    """Cuts (height, width) at (top, left) and resizes to `size`: (T, C, H, W) -> (T, C, *size)."""
    frames = frames[..., top : top + height, left : left + width]
    if (height, width) == tuple(size):
        return frames
    return torch.nn.functional.interpolate(frames, tuple(size), mode="bilinear", antialias=True)


def multi_scale_crop(frames: torch.Tensor, size: tuple[int, int], generator: torch.Generator) -> torch.Tensor:
    """The crop of the official pretraining (v1/transforms.py, GroupMultiScaleCrop).

    Height and width are each the shorter side times one of four scales, at most one step of scale apart, at one of 13
    fixed places: the corners, the centre, the middles of the sides and the quarters.
    """
    height, width = frames.shape[-2:]
    sides = [int(min(height, width) * scale) for scale in MULTI_SCALE_CROP_SCALES]
    # A crop within 3 pixels of the target size takes that size and is not resized.
    heights = [size[0] if abs(side - size[0]) < 3 else side for side in sides]
    widths = [size[1] if abs(side - size[1]) < 3 else side for side in sides]
    pairs = [(h, w) for i, h in enumerate(heights) for j, w in enumerate(widths) if abs(i - j) <= 1]
    crop_height, crop_width = pairs[random_int(0, len(pairs) - 1, generator)]
    crop_height, crop_width = min(crop_height, height), min(crop_width, width)
    step_y, step_x = (height - crop_height) // 4, (width - crop_width) // 4
    steps = [(0, 0), (0, 4), (4, 0), (4, 4), (2, 2), (2, 0), (2, 4), (4, 2), (0, 2), (1, 1), (1, 3), (3, 1), (3, 3)]
    down, right = steps[random_int(0, len(steps) - 1, generator)]
    return resized_crop(frames, down * step_y, right * step_x, crop_height, crop_width, size)


def random_resized_crop(
    frames: torch.Tensor,
    size: tuple[int, int],
    generator: torch.Generator,
    scale: tuple[float, float] = (0.08, 1.0),
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
) -> torch.Tensor:
    """The crop of the official finetuning: a part of the area in `scale`, of an aspect in `ratio` (log-uniform)."""
    height, width = frames.shape[-2:]
    for _ in range(10):
        area = height * width * random_float(*scale, generator)
        aspect = math.exp(random_float(math.log(ratio[0]), math.log(ratio[1]), generator))
        crop_width, crop_height = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < crop_width <= width and 0 < crop_height <= height:
            top = random_int(0, height - crop_height, generator)
            left = random_int(0, width - crop_width, generator)
            return resized_crop(frames, top, left, crop_height, crop_width, size)
    # None of ten fitted: the largest centre crop whose aspect is within bounds.
    crop_width = min(width, round(height * ratio[1]))
    crop_height = min(height, round(width / ratio[0]))
    top, left = (height - crop_height) // 2, (width - crop_width) // 2
    return resized_crop(frames, top, left, crop_height, crop_width, size)


def random_horizontal_flip(frames: torch.Tensor, generator: torch.Generator, probability: float = 0.5) -> torch.Tensor:
    """Mirrors a clip, or not. Not for classes that name a direction (Something-Something V2, left and right)."""
    return frames.flip(-1) if random_float(0, 1, generator) < probability else frames


def normalize(frames: torch.Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> torch.Tensor:
    """uint8 (..., C, H, W) -> float32, scaled to [0, 1] and then normalised for each channel."""
    mean, std = (torch.tensor(values, dtype=torch.float32)[:, None, None] for values in (mean, std))
    return (frames.float() / 255 - mean) / std
