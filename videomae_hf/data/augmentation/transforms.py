# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Augmentation of clips for training: uint8 (T, C, H, W) in and out, sampled once for all frames of a clip.

Clips are on the CPU. Every random function takes the `torch.Generator` it samples from. Frames are RGB; operations that
need three channels (saturation, hue, grayscale) leave a clip with another number of channels unchanged. The official
finetuning applies `rand_augment.py`, `random_resized_crop`, `random_horizontal_flip`, `normalize` and `random_erasing`
in this order, and `mixing.py` to the batch. No official recipe uses `color_jitter` or `random_grayscale`.

The decoder returns a clip a few frames at a time. Random values are therefore sampled first, by separate functions
(`multi_scale_box`, `random_resized_box`, `sample_color_jitter`), and then applied to the frames as they arrive.

Crops are resized as tensors, bilinear, or bicubic for images as in MAE's code. The official pretraining resizes with
PIL (v1/transforms.py), which antialiases; the official finetuning uses `interpolate` without antialiasing
(v1/video_transforms.py), which is `antialias=False` here.
"""

import math
import re

import torch

from ...models.frame_pixels import luma


Box = tuple[int, int, int, int]  # top, left, height, width
MULTI_SCALE_CROP_SCALES = (1.0, 0.875, 0.75, 0.66)
MAE_CROP_SCALE = (0.2, 1.0)  # of its pretraining
INTERPOLATIONS = ("bilinear", "bicubic")


def check_crops(scale: tuple[float, ...], ratio: tuple[float, ...], interpolation: str) -> None:
    """Raises ValueError unless these are the areas, aspects and interpolation of random resized crops."""
    for name, values, most in (("crop_scale", scale, 1.0), ("crop_ratio", ratio, math.inf)):
        if len(values) != 2 or not 0 < values[0] <= values[1] <= most:
            limit = " up to 1" if most == 1 else ""
            raise ValueError(f"{name}={list(values)} must be two positive numbers{limit}, the smaller one first.")
    if interpolation not in INTERPOLATIONS:
        raise ValueError(f"interpolation={interpolation!r} is unknown; choose one of {', '.join(INTERPOLATIONS)}.")


# --------------------------------------------------------------------------------------------------- crops and flips


def random_int(low: int, high: int, generator: torch.Generator) -> int:
    """A random integer in [low, high]."""
    return int(torch.randint(low, high + 1, (), generator=generator))


def random_float(low: float, high: float, generator: torch.Generator) -> float:
    return low + (high - low) * float(torch.rand((), generator=generator))


def cropped(frames: torch.Tensor, top: int, left: int, height: int, width: int) -> torch.Tensor:
    """Crops (height, width) at (top, left): (T, C, H, W) -> (T, C, height, width).

    A box may extend beyond the edges of the frames; the area outside is black.
    """
    over = (-left, left + width - frames.shape[-1], -top, top + height - frames.shape[-2])  # left, right, above, below
    frames = frames[..., max(top, 0) : top + height, max(left, 0) : left + width]
    return torch.nn.functional.pad(frames, [max(pixels, 0) for pixels in over]) if max(over) > 0 else frames


def resized(
    frames: torch.Tensor, size: tuple[int, int], *, antialias: bool = True, interpolation: str = "bilinear"
) -> torch.Tensor:
    """Resizes with one of `INTERPOLATIONS`: (T, C, H, W) -> (T, C, *size)."""
    if frames.shape[-2:] == tuple(size):
        return frames
    return torch.nn.functional.interpolate(frames, tuple(size), mode=interpolation, antialias=antialias)


def resized_crop(
    frames: torch.Tensor,
    top: int,
    left: int,
    height: int,
    width: int,
    size: tuple[int, int],
    *,
    antialias: bool = True,
) -> torch.Tensor:
    """Crops a box, see `cropped`, and resizes it, bilinear: (T, C, H, W) -> (T, C, *size)."""
    return resized(cropped(frames, top, left, height, width), size, antialias=antialias)


def multi_scale_crop(frames: torch.Tensor, size: tuple[int, int], generator: torch.Generator) -> torch.Tensor:
    """The crop of the official pretraining, at a random `multi_scale_box`."""
    return resized_crop(frames, *multi_scale_box(*frames.shape[-2:], size, generator), size)


def multi_scale_box(height: int, width: int, size: tuple[int, int], generator: torch.Generator) -> Box:
    """A random box in frames (height, width), to be resized to `size` (v1/transforms.py, GroupMultiScaleCrop).

    Height and width of the box are each the shorter side times one of four scales, which differ by at most one step.
    The box is at one of 13 fixed positions: the corners, the centre, the middles of the sides and the quarters.
    """
    sides = [int(min(height, width) * scale) for scale in MULTI_SCALE_CROP_SCALES]
    # A crop within 3 pixels of the target size gets exactly that size and is not resized. In frames that are one or two
    # pixels smaller than the target, it extends beyond the edges, which PIL, and thus the official code, fills with
    # black.
    heights = [size[0] if abs(side - size[0]) < 3 else side for side in sides]
    widths = [size[1] if abs(side - size[1]) < 3 else side for side in sides]
    pairs = [(h, w) for i, h in enumerate(heights) for j, w in enumerate(widths) if abs(i - j) <= 1]
    crop_height, crop_width = pairs[random_int(0, len(pairs) - 1, generator)]
    step_y, step_x = (height - crop_height) // 4, (width - crop_width) // 4
    steps = [(0, 0), (0, 4), (4, 0), (4, 4), (2, 2), (2, 0), (2, 4), (4, 2), (0, 2), (1, 1), (1, 3), (3, 1), (3, 3)]
    down, right = steps[random_int(0, len(steps) - 1, generator)]
    return down * step_y, right * step_x, crop_height, crop_width


def random_resized_crop(
    frames: torch.Tensor,
    size: tuple[int, int],
    generator: torch.Generator,
    scale: tuple[float, float] = (0.08, 1.0),
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
) -> torch.Tensor:
    """The crop of the official finetuning, at a `random_resized_box`."""
    return resized_crop(frames, *random_resized_box(*frames.shape[-2:], generator, scale, ratio), size)


def random_resized_box(
    height: int,
    width: int,
    generator: torch.Generator,
    scale: tuple[float, float] = (0.08, 1.0),
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
) -> Box:
    """A random box in frames (height, width), with its fraction of the area in `scale` and its aspect in `ratio`.

    The area is uniform, the aspect (width / height) log-uniform.
    """
    for _ in range(10):
        area = height * width * random_float(*scale, generator)
        aspect = math.exp(random_float(math.log(ratio[0]), math.log(ratio[1]), generator))
        crop_width, crop_height = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < crop_width <= width and 0 < crop_height <= height:
            top = random_int(0, height - crop_height, generator)
            left = random_int(0, width - crop_width, generator)
            return top, left, crop_height, crop_width
    # None of ten attempts fits: use the largest centre crop whose aspect is within bounds.
    crop_width = min(width, round(height * ratio[1]))
    crop_height = min(height, round(width / ratio[0]))
    return (height - crop_height) // 2, (width - crop_width) // 2, crop_height, crop_width


def random_horizontal_flip(frames: torch.Tensor, generator: torch.Generator, probability: float = 0.5) -> torch.Tensor:
    """Mirrors a clip with this probability. Unsuitable for classes that name a direction, see `direction_sensitive`."""
    return frames.flip(-1) if random_float(0, 1, generator) < probability else frames


def direction_sensitive(class_names: list[str]) -> list[str]:
    """The classes that mirroring may turn into other ones: those with a word such as left or right in their name.

    >>> direction_sensitive(["turn_left", "TurnRight", "bright light", "leftover"])
    ['turn_left', 'TurnRight']
    """
    directions = {"left", "right", "clockwise", "counterclockwise", "anticlockwise"}
    # Words end at any character that is not a letter, and before a capital that follows a small letter.
    words = {name: re.findall(r"[A-Z]?[a-z]+|[A-Z]+", name) for name in class_names}
    return [name for name in class_names if directions & {word.lower() for word in words[name]}]


# ------------------------------------------------------------------------------------------------------------ colours


def lookup(frames: torch.Tensor, tables: torch.Tensor) -> torch.Tensor:
    """Replaces every value of uint8 frames by its entry in a table.

    Args:
        frames: (T, C, H, W).
        tables: one table for all frames (1, 256), one per frame (T, 256), or one per channel of each frame
            (T * C, 256); values are clipped to [0, 255] and truncated.

    Returns:
        uint8 (T, C, H, W).
    """
    tables = tables.clamp(0, 255).byte().numpy()
    parts = frames.reshape(len(tables), -1).numpy()
    # `bytes.translate` takes a quarter of the time of indexing, which would convert every pixel to a 32-bit integer.
    replaced = bytearray().join(part.tobytes().translate(table.tobytes()) for part, table in zip(parts, tables))
    return torch.frombuffer(replaced, dtype=torch.uint8).view(frames.shape)


def blend(start: torch.Tensor, frames: torch.Tensor, factor: float) -> torch.Tensor:
    """uint8 `start + factor * (frames - start)`, clipped and truncated: factor 0 is `start`, 1 is `frames`."""
    start = start.float()
    return frames.float().sub_(start).mul_(factor).add_(start).clamp_(0, 255).byte()


def adjust_brightness(frames: torch.Tensor, factor: float) -> torch.Tensor:
    """Factor 0 is black, 1 the clip itself; as in PIL.ImageEnhance, like the next two functions."""
    return lookup(frames, factor * torch.arange(256.0)[None])


def adjust_contrast(frames: torch.Tensor, factor: float) -> torch.Tensor:
    """Factor 0 is the mean grey of each frame (the mean of all channels if there are not three), 1 the clip itself."""
    greys = [luma(frame) if len(frame) == 3 else frame for frame in frames]
    means = torch.stack([grey.float().mean(dtype=torch.float64) for grey in greys])[:, None]  # (T, 1)
    means = (means + 0.5).floor().float()
    return lookup(frames, means + factor * (torch.arange(256.0) - means))


def adjust_saturation(frames: torch.Tensor, factor: float) -> torch.Tensor:
    """Factor 0 is the grey clip, 1 the clip itself."""
    if frames.shape[1] != 3:
        return frames
    # Frame by frame, here and below, so that intermediate results fit into the cache.
    return torch.stack([blend(luma(frame), frame, factor) for frame in frames])


def adjust_hue(frames: torch.Tensor, turn: float) -> torch.Tensor:
    """Rotates the hue, in turns of the colour circle: 0 and 1 are the clip itself, 1/3 makes red green."""
    if frames.shape[1] != 3:
        return frames
    return torch.stack([_turn_hue(frame.float(), turn) for frame in frames])


def _turn_hue(frame: torch.Tensor, turn: float) -> torch.Tensor:
    """float (3, H, W) in [0, 255] -> uint8, through hue, saturation and value."""
    value, brightest = frame.max(dim=0)
    chroma = value - frame.amin(dim=0)
    red, green, blue = frame / chroma.clamp(min=1)  # grey has chroma 0 and no hue
    # In sixths of the circle, from the channel that is largest: red at 0, green at 2, blue at 4.
    hue = torch.stack([green - blue, blue - red + 2, red - green + 4]).gather(0, brightest[None]) + 6 * turn
    distance = (hue + torch.tensor([5.0, 3.0, 1.0])[:, None, None]) % 6  # (3, H, W)
    return (value - chroma * torch.minimum(distance, 4 - distance).clamp_(0, 1)).round_().byte()


def color_jitter(
    frames: torch.Tensor,
    generator: torch.Generator,
    brightness: float = 0.0,
    contrast: float = 0.0,
    saturation: float = 0.0,
    hue: float = 0.0,
) -> torch.Tensor:
    """Changes the colours of a clip, uint8 (T, C, H, W), at random; see `sample_color_jitter`."""
    return adjust_colors(frames, sample_color_jitter(generator, brightness, contrast, saturation, hue))


def sample_color_jitter(
    generator: torch.Generator,
    brightness: float = 0.0,
    contrast: float = 0.0,
    saturation: float = 0.0,
    hue: float = 0.0,
) -> list[tuple[str, float]]:
    """Samples adjustments and their amounts, in random order, like torchvision's ColorJitter.

    Args:
        generator: random generator.
        brightness, contrast, saturation: the factor is uniform in [max(0, 1 - value), 1 + value]; 0 disables it.
        hue: the rotation is uniform in [-hue, hue] turns of the colour circle, at most 0.5; 0 disables it.

    Raises:
        ValueError: a value is negative, or hue above 0.5.
    """
    strengths = {"brightness": brightness, "contrast": contrast, "saturation": saturation, "hue": hue}
    for name, strength in strengths.items():
        if strength < 0 or (name == "hue" and strength > 0.5):
            raise ValueError(f"{name}={strength} must be {'in [0, 0.5]' if name == 'hue' else 'at least 0'}.")
    bounds = [(max(0.0, 1 - strength), 1 + strength) for strength in (brightness, contrast, saturation)]
    amounts = [random_float(*bound, generator) for bound in [*bounds, (-hue, hue)]]
    order = torch.randperm(4, generator=generator).tolist()
    names = list(strengths)
    return [(names[number], amounts[number]) for number in order if strengths[names[number]]]


def adjust_colors(frames: torch.Tensor, adjustments: list[tuple[str, float]]) -> torch.Tensor:
    """Applies the adjustments of `sample_color_jitter` to uint8 (T, C, H, W)."""
    for name, amount in adjustments:
        match name:
            case "brightness":
                frames = adjust_brightness(frames, amount)
            case "contrast":
                frames = adjust_contrast(frames, amount)
            case "saturation":
                frames = adjust_saturation(frames, amount)
            case "hue":
                frames = adjust_hue(frames, amount)
    return frames


def random_grayscale(frames: torch.Tensor, generator: torch.Generator, probability: float = 0.1) -> torch.Tensor:
    """Converts a clip to grey with this probability; it keeps its three channels."""
    return adjust_saturation(frames, 0.0) if random_float(0, 1, generator) < probability else frames


# --------------------------------------------------------------------------------------------------------- normalised


def normalize(frames: torch.Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> torch.Tensor:
    """uint8 (..., C, H, W) -> float32, scaled to [0, 1] and then normalised per channel."""
    mean, std = (torch.tensor(values, dtype=torch.float32)[:, None, None] for values in (mean, std))
    return frames.to(torch.float32, copy=True).div_(255).sub_(mean).div_(std)


def random_erasing(
    frames: torch.Tensor,
    generator: torch.Generator,
    probability: float = 0.25,
    area: tuple[float, float] = (0.02, 1 / 3),
    aspect: tuple[float, float] = (0.3, 1 / 0.3),
) -> torch.Tensor:
    """Replaces a random box by noise, the same box in all frames (v1/random_erasing.py, mode "pixel").

    Args:
        frames: float (T, C, H, W), normalised, so that noise of variance 1 resembles the clip.
        generator: random generator.
        probability: probability that a box is erased.
        area: bounds of the area of the box, as a fraction of the frame.
        aspect: bounds of height / width of the box, which is log-uniform.

    Returns:
        A new clip, or `frames` itself if nothing is erased.

    Raises:
        ValueError: the frames are not floats.
    """
    if not frames.is_floating_point():
        raise ValueError(f"frames of {frames.dtype}: random_erasing needs normalised clips; call normalize first.")
    if random_float(0, 1, generator) >= probability:
        return frames
    frame_height, frame_width = frames.shape[-2:]
    for _ in range(100):  # attempts, until a box is smaller than the frame in both directions
        box_area = frame_height * frame_width * random_float(*area, generator)
        ratio = math.exp(random_float(math.log(aspect[0]), math.log(aspect[1]), generator))
        height, width = round(math.sqrt(box_area * ratio)), round(math.sqrt(box_area / ratio))
        if height < frame_height and width < frame_width:
            top = random_int(0, frame_height - height, generator)
            left = random_int(0, frame_width - width, generator)
            frames = frames.clone()
            box = frames[..., top : top + height, left : left + width]
            box.copy_(torch.randn(box.shape, generator=generator))
            return frames
    return frames
