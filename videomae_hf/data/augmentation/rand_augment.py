# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""RandAugment (Cubuk et al., 2019) for clips, as in the official finetuning (v1/rand_augment.py).

Operations are sampled with replacement from 15, and each is applied with probability 0.5. They are sampled once per
clip: all frames get the same operations with the same strength. Image statistics (the extremes of `AutoContrast`, the
histogram of `Equalize`, the mean of `Contrast`) are computed per frame, as in PIL.

The results match those of PIL, which the official code applies frame by frame, within the tolerances in
tests/data/test_rand_augment.py. For clips that are not RGB, `Color` does nothing, and `Contrast` uses the mean of all
channels.
"""

import math
from dataclasses import dataclass

import torch

from .transforms import (
    adjust_brightness,
    adjust_contrast,
    adjust_saturation,
    blend,
    lookup,
    random_float,
    random_int,
)


FILL = 128  # grey, for areas outside a moved frame
MAX_MAGNITUDE = 10.0


@dataclass(frozen=True)
class RandAugment:
    """Samples operations and applies them to a clip. The defaults are those of parts missing in a policy string.

    Args:
        magnitude: strength of the operations, 0 to 10.
        num_ops: number of sampled operations, of which on average half are applied.
        magnitude_std: standard deviation of the Gaussian noise that is added to the magnitude of each operation.
        increasing: a larger magnitude is a stronger change in every operation. Otherwise a larger magnitude makes
            posterize and solarize weaker, and goes from less to more colour, contrast, brightness and sharpness.

    Raises:
        ValueError: a value is out of range.
    """

    magnitude: float = 10
    num_ops: int = 2
    magnitude_std: float = 0.0
    increasing: bool = False

    def __post_init__(self):
        if not 0 <= self.magnitude <= MAX_MAGNITUDE:
            raise ValueError(f"magnitude={self.magnitude} must be in [0, {MAX_MAGNITUDE:g}].")
        if self.num_ops < 1:
            raise ValueError(f"num_ops={self.num_ops} must be at least 1.")
        if self.magnitude_std < 0:
            raise ValueError(f"magnitude_std={self.magnitude_std} must not be negative.")

    @classmethod
    def from_string(cls, policy: str) -> "RandAugment":
        """Reads the official notation, `rand-m7-n4-mstd0.5-inc1`: magnitude, num_ops, magnitude_std, increasing.

        Deviation: `inc0` means off. The official code evaluates `bool("0")`, which is True.

        Raises:
            ValueError: a part is unknown or given twice.
        """
        fields = {"m": "magnitude", "n": "num_ops", "mstd": "magnitude_std", "inc": "increasing"}
        readers = {"m": float, "n": int, "mstd": float, "inc": lambda digits: int(digits) != 0}
        kind, *parts = policy.split("-")
        names = [part.rstrip("0123456789.") for part in parts]
        try:
            options = {fields[name]: readers[name](part.removeprefix(name)) for name, part in zip(names, parts)}
            if kind != "rand" or len(options) < len(parts):
                raise KeyError
        except (KeyError, ValueError):
            raise ValueError(
                f"The policy {policy!r} is invalid; write it like rand-m7-n4-mstd0.5-inc1, with m (magnitude), n "
                f"(operations), mstd (noise of the magnitude) and inc (0 or 1), each at most once."
            ) from None
        return cls(**options)

    def __call__(self, frames: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """uint8 (T, C, H, W) -> the same shape, with newly sampled operations."""
        return apply_operations(frames, self.sample_operations(generator))

    def sample_operations(self, generator: torch.Generator) -> list[tuple[str, float]]:
        """Samples operations and their amounts, see `apply_operation`, independently of the frames."""
        operations = []
        for _ in range(self.num_ops):
            name = OPERATIONS[random_int(0, len(OPERATIONS) - 1, generator)]
            if random_float(0, 1, generator) < 0.5:
                operations.append((name, self.draw_amount(name, generator)))
        return operations

    def draw_amount(self, name: str, generator: torch.Generator) -> float:
        """Samples the amount of an operation: the noisy magnitude in the unit of the operation, with a random sign."""
        magnitude = self.magnitude + self.magnitude_std * float(torch.randn((), generator=generator))
        level = min(max(magnitude, 0.0), MAX_MAGNITUDE) / MAX_MAGNITUDE
        sign = random_int(0, 1, generator) * 2 - 1
        match name:
            case "Rotate":
                return sign * level * 30
            case "ShearX" | "ShearY":
                return sign * level * 0.3
            case "TranslateXRel" | "TranslateYRel":
                # A fraction of width or height. The official code also passes 0.45 of the crop's size in pixels
                # (`translate_const`), for operations that are not among these 15.
                return sign * level * 0.45
            case "Color" | "Contrast" | "Brightness" | "Sharpness":
                return 1 + sign * level * 0.9 if self.increasing else 0.1 + level * 1.8
            case "Posterize":
                return 4 - int(level * 4) if self.increasing else int(level * 4)
            case "Solarize":
                return 256 - int(level * 256) if self.increasing else int(level * 256)
            case "SolarizeAdd":
                return int(level * 110)
        return 0.0  # AutoContrast, Equalize and Invert have no amount


OPERATIONS = (
    "AutoContrast", "Equalize", "Invert", "Rotate", "Posterize", "Solarize", "SolarizeAdd", "Color", "Contrast",
    "Brightness", "Sharpness", "ShearX", "ShearY", "TranslateXRel", "TranslateYRel",
)  # fmt: skip


def apply_operations(frames: torch.Tensor, operations: list[tuple[str, float]]) -> torch.Tensor:
    """Applies the operations of `RandAugment.sample_operations` to uint8 (T, C, H, W).

    Raises:
        ValueError: the frames have another dtype or number of dimensions.
    """
    if frames.dtype != torch.uint8 or frames.ndim != 4:
        raise ValueError(f"frames {frames.dtype} {tuple(frames.shape)} must be uint8 (T, C, H, W) for RandAugment.")
    for name, amount in operations:
        frames = apply_operation(frames, name, amount)
    return frames


def apply_operation(frames: torch.Tensor, name: str, amount: float) -> torch.Tensor:
    """Applies one operation to uint8 (T, C, H, W).

    The unit of `amount` depends on the operation: degrees counter-clockwise (`Rotate`); pixels to the left or up per
    pixel down or right (`ShearX`, `ShearY`); fractions of the width or height, to the left or up (`TranslateXRel`,
    `TranslateYRel`); a factor, where 1 changes nothing (`Color`, `Contrast`, `Brightness`, `Sharpness`); the number of
    bits to keep (`Posterize`); the value from which on pixels are inverted (`Solarize`); the value added to pixels
    below 128 (`SolarizeAdd`).

    Raises:
        ValueError: the operation is unknown.
    """
    height, width = frames.shape[-2:]
    values = torch.arange(256)[None]
    match name:
        case "AutoContrast":
            return auto_contrast(frames)
        case "Equalize":
            return equalize(frames)
        case "Invert":
            return 255 - frames
        case "Posterize":
            return lookup(frames, values & 256 - 2 ** (8 - int(amount)))
        case "Solarize":
            return lookup(frames, torch.where(values < amount, values, 255 - values))
        case "SolarizeAdd":
            return lookup(frames, torch.where(values < 128, values + int(amount), values))
        case "Color":
            return adjust_saturation(frames, amount)
        case "Contrast":
            return adjust_contrast(frames, amount)
        case "Brightness":
            return adjust_brightness(frames, amount)
        case "Sharpness":
            return adjust_sharpness(frames, amount)
        case "Rotate":
            return rotate(frames, amount)
        case "ShearX":
            return affine(frames, (1, amount, 0, 0, 1, 0))
        case "ShearY":
            return affine(frames, (1, 0, 0, amount, 1, 0))
        case "TranslateXRel":
            return affine(frames, (1, 0, amount * width, 0, 1, 0))
        case "TranslateYRel":
            return affine(frames, (1, 0, 0, 0, 1, amount * height))
    raise ValueError(f"Operation {name!r} is unknown; choose one of {', '.join(OPERATIONS)}.")


def auto_contrast(frames: torch.Tensor) -> torch.Tensor:
    """Stretches the values of each channel of each frame to [0, 255]."""
    planes = frames.reshape(-1, frames.shape[-2] * frames.shape[-1])  # (T, C, H, W) -> (T * C, H * W)
    low, high = (extreme.double()[:, None] for extreme in (planes.amin(dim=1), planes.amax(dim=1)))  # (T * C, 1)
    values = torch.arange(256, dtype=torch.float64)
    scale = 255 / (high - low)
    return lookup(frames, torch.where(high > low, values * scale - low * scale, values))


def equalize(frames: torch.Tensor) -> torch.Tensor:
    """Spreads the values of each channel of each frame so that their histogram becomes as flat as possible."""
    planes = frames.reshape(-1, frames.shape[-2] * frames.shape[-1])  # (T, C, H, W) -> (T * C, H * W)
    histograms = torch.stack([torch.bincount(plane, minlength=256) for plane in planes])  # (T * C, 256)
    brightest = histograms.gather(1, planes.amax(dim=1, keepdim=True).long())
    step = (planes.shape[1] - brightest) // 255
    below = histograms.cumsum(dim=1) - histograms
    return lookup(frames, torch.where(step > 0, (step // 2 + below) // step.clamp(min=1), torch.arange(256)))


def adjust_sharpness(frames: torch.Tensor, factor: float) -> torch.Tensor:
    """Sharpens uint8 (T, C, H, W) as PIL.ImageEnhance does: factor 0 is the smoothed clip, 1 the clip itself."""
    return torch.stack([blend(_smooth(frame), frame, factor) for frame in frames])


def _smooth(frame: torch.Tensor) -> torch.Tensor:
    """uint8 (C, H, W): the mean of 3x3 pixels, where the middle one counts five times; the border is unchanged."""
    pixels = frame.short()
    column = pixels[:, :-2] + pixels[:, 1:-1] + pixels[:, 2:]  # (C, H - 2, W)
    total = column[..., :-2] + column[..., 1:-1] + column[..., 2:] + 4 * pixels[:, 1:-1, 1:-1]
    smoothed = frame.clone()
    smoothed[:, 1:-1, 1:-1] = (total.float() / 13).round_().byte()
    return smoothed


def rotate(frames: torch.Tensor, degrees: float) -> torch.Tensor:
    """Rotates uint8 (T, C, H, W) counter-clockwise about the centre; the size does not change."""
    height, width = frames.shape[-2:]
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    shift_x = (width - cos * width + sin * height) / 2
    shift_y = (height - sin * width - cos * height) / 2
    return affine(frames, (cos, -sin, shift_x, sin, cos, shift_y))


def affine(frames: torch.Tensor, matrix: tuple[float, ...]) -> torch.Tensor:
    """Applies the same affine transform to all frames, bicubic; areas outside the frame are `FILL`.

    Args:
        frames: uint8 (T, C, H, W).
        matrix: (a, b, c, d, e, f); the pixel at (x, y) is taken from (a x + b y + c, d x + e y + f). The centre of the
            first pixel is at (0.5, 0.5).

    Returns:
        uint8 (T, C, H, W).
    """
    height, width = frames.shape[-2:]
    # (T, C, H, W) -> (T * C, H * W) -> (H * W, T * C)
    pixels = frames.flatten(0, 1).flatten(1).t().to(torch.float32, memory_format=torch.contiguous_format)
    moved = torch.empty(len(pixels[0]), len(pixels), dtype=torch.uint8)  # (T * C, H * W)
    rows_at_once = max(_PIXELS_AT_ONCE // width, 1)
    for top in range(0, height, rows_at_once):
        bottom = min(top + rows_at_once, height)
        _move_rows(pixels, (height, width), matrix, (top, bottom), moved[:, top * width : bottom * width])
    return moved.view(frames.shape)  # (T * C, H * W) -> (T, C, H, W)


_PIXELS_AT_ONCE = 2**16


def _move_rows(
    pixels: torch.Tensor,
    size: tuple[int, int],
    matrix: tuple[float, ...],
    top_bottom: tuple[int, int],
    moved: torch.Tensor,
) -> None:
    """Fills `moved` (T * C, N), which holds some rows of the result, from pixels (H * W, T * C)."""
    height, width = size
    a, b, c, d, e, f = matrix
    y = torch.arange(*top_bottom, dtype=torch.float64)[:, None] + 0.5
    x = torch.arange(width, dtype=torch.float64) + 0.5
    source_x, source_y = (a * x + b * y + c).flatten(), (d * x + e * y + f).flatten()  # (rows, W) -> (N,)
    columns, column_weights = _cubic_taps(source_x, width)  # (4 or 1, N)
    rows, row_weights = _cubic_taps(source_y, height)
    for start in range(0, len(source_x), 2048):  # intermediate results of a part fit into the cache
        part = slice(start, start + 2048)
        # (4, 1, N) and (4, N) -> (4, 4, N) -> (16, N) -> (N, 16)
        places = (rows[:, None, part] * width + columns[:, part]).flatten(0, 1).t().contiguous()
        weights = (row_weights[:, None, part] * column_weights[:, part]).flatten(0, 1).t().contiguous()
        # A pixel is the same weighted sum of 16 pixels in all frames and channels (of 4 if the move is along one axis).
        # `embedding_bag` computes this sum, (N, T * C), faster than `grid_sample`, which also uses another kernel.
        sums = torch.nn.functional.embedding_bag(places, pixels, per_sample_weights=weights, mode="sum")
        # Values are truncated as in PIL, except that rounding errors below a whole number are ignored.
        moved[:, part] = sums.add_(1e-3).clamp_(0, 255).byte().t()
    outside = (source_x < 0) | (source_x >= width) | (source_y < 0) | (source_y >= height)
    moved.masked_fill_(outside, FILL)


def _cubic_taps(position: torch.Tensor, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Positions (N,) on an axis -> the four pixels around each, int32, and their weights, float32, both (4, N).

    Cubic convolution (Keys, 1981) with a = -1, as in `PIL.Image.transform`; `grid_sample` uses a = -0.75. If every
    position is the centre of a pixel, only these pixels are returned: (1, N).
    """
    first = (position - 0.5).floor()
    t = (position - 0.5 - first).float()
    weights = torch.stack([-t + 2 * t**2 - t**3, 1 - 2 * t**2 + t**3, t + t**2 - t**3, t**3 - t**2])
    taps = first.int() + torch.arange(-1, 3, dtype=torch.int32)[:, None]
    used = slice(None) if t.any() else slice(1, 2)
    return taps[used].clamp(0, size - 1), weights[used]
