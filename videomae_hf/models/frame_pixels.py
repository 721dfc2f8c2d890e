# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Converts pixels of any depth and number of channels to uint8 (H, W, C), where 0 is black and 255 white.

Pixels are scaled by their depth, never by the values that happen to occur, so that all frames of a data set are scaled
alike. Pixels whose depth implies no range (floats outside 0 to 1, 32-bit integers) are refused. This file ships with
checkpoints and may import only its siblings.
"""

import warnings

import numpy as np
import torch
from PIL import Image


BATCH_BYTES = 64 * 2**20  # upper limit of decoded frames that are processed together, unless it is a single one
_SIXTEEN_BITS = ("I;16", "I;16B", "I;16L", "I;16N")  # Pillow's modes, in each byte order


def image_pixels(image: Image.Image, num_channels: int | None = None) -> np.ndarray:
    """A PIL image of any mode -> uint8 (H, W, num_channels).

    One channel is the luma of PIL's "L", three channels are RGB; transparency is dropped. Any other number must be that
    of the image itself (RGBA, CMYK, LA). None keeps the channels of the image.

    Raises:
        ValueError: the image has another number of channels, or pixels of unknown range; the message gives its mode.
    """
    if image.mode in _SIXTEEN_BITS or image.mode in ("I", "F"):
        pixels = array_pixels(np.asarray(image), f"mode {image.mode}", sixteen_bits=image.mode != "F")[..., None]
    elif num_channels in (1, 3):
        pixels = np.array(image.convert("L" if num_channels == 1 else "RGB"))
    else:
        pixels = np.array(image)
    return fit_channels(pixels if pixels.ndim == 3 else pixels[..., None], num_channels, f"mode {image.mode}")


def array_pixels(array: np.ndarray, kind: str = "", *, sixteen_bits: bool = False) -> np.ndarray:
    """An array of any dtype and shape -> uint8 of the same shape.

    Args:
        array: bool (white is True), uint8, uint16 (white is 65535), floats from 0 to 1, or other integers, 0 to 255.
        kind: a description of the array for error messages; by default its dtype.
        sixteen_bits: treat integers as 16 bits deep, whatever their dtype.

    Raises:
        ValueError: the dtype or the range of values is another.
    """
    kind = kind or f"dtype {array.dtype}"
    if array.dtype == np.uint8:
        return array
    if array.dtype == np.bool_:
        return array.astype(np.uint8) * np.uint8(255)
    if array.dtype.kind not in "iuf" or array.size == 0:
        raise ValueError(f"pixels of {kind} and shape {array.shape}: use uint8, or uint16, or floats from 0 to 1")
    low, high = array.min(), array.max()  # NaN if there is any
    if array.dtype.kind == "f":
        limit, advice = 1, "the range of such floats is unknown: scale them to 0 to 1, or to uint8"
    elif sixteen_bits or (array.dtype.kind == "u" and array.dtype.itemsize == 2):  # in any byte order
        limit, advice = 65535, "only 16 bits have a known range: scale them to 16 bits or 8"
    else:
        limit, advice = 255, "scale them to uint8"
    if not (low >= 0 and high <= limit):
        raise ValueError(f"pixels of {kind} with values from {low} to {high}; {advice}")
    if limit == 65535:
        warn_of_dark_frames(int(high))
        return _EIGHT_OF_SIXTEEN_BITS[array]
    return np.rint(array * array.dtype.type(255)).astype(np.uint8) if limit == 1 else array.astype(np.uint8)


def warn_of_dark_frames(high: int) -> None:
    """Warns once that 16-bit frames come out dark, if `high`, the largest value of some frames, suggests 12 bits."""
    if 0 < high < 4096:
        warnings.warn(
            "16-bit frames are scaled so that 65535 is white, but some have no value above 4095 and come out nearly "
            "black. If all of yours are like this, scale them to the full range.",
            stacklevel=2,
        )


_EIGHT_OF_SIXTEEN_BITS = np.rint(np.arange(65536) / 257).astype(np.uint8)


def fit_channels(frame: np.ndarray, num_channels: int | None, kind: str = "") -> np.ndarray:
    """uint8 (H, W, C) -> (H, W, num_channels): RGB to luma, grey to three equal channels, or unchanged (with None).

    Raises:
        ValueError: the channels cannot be converted, see `check_channels`.
    """
    channels = frame.shape[-1]
    check_channels(channels, num_channels, kind)
    if num_channels in (None, channels):
        return frame
    if num_channels == 1:
        return np.array(Image.fromarray(frame).convert("L"))[..., None]
    return np.repeat(frame, 3, axis=-1)


def check_channels(channels: int, num_channels: int | None, kind: str = "") -> None:
    """Raises ValueError if frames of `channels` channels cannot be converted to `num_channels`."""
    if num_channels not in (None, channels) and {channels, num_channels} != {1, 3}:
        kind = f" ({kind})" if kind else ""
        raise ValueError(f"its frames have {channels} channels{kind}, but num_channels={num_channels} is requested")


def luma(frames: torch.Tensor) -> torch.Tensor:
    """RGB (..., 3, H, W) -> luma (..., 1, H, W), ITU-R 601-2: uint8 in the fixed-point arithmetic of PIL, or floats."""
    if frames.is_floating_point():
        weights = torch.tensor([19595, 38470, 7471], dtype=frames.dtype, device=frames.device) / 65536
        return (frames * weights[:, None, None]).sum(dim=-3, keepdim=True)
    red, green, blue = frames.int().split(1, dim=-3)
    return (red * 19595 + green * 38470 + blue * 7471 + 0x8000 >> 16).byte()


def channels_last(shape: tuple[int, int, int], num_channels: int | None = None) -> bool:
    """Whether a frame of this shape is (H, W, C) and not (C, H, W).

    The channel axis is the one of size `num_channels`, if that is given, or else of size 1 or 3, as in transformers. If
    both axes qualify, it is the first.
    """
    for counts in ((num_channels,), (1, 3)) if num_channels not in (None, 1, 3) else ((1, 3),):
        if shape[0] in counts or shape[2] in counts:
            return shape[0] not in counts
    return shape[2] < shape[0]  # frames have fewer channels than rows or columns
