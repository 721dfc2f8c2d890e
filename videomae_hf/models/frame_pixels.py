# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Depth and channels of frames: pixels of any kind become uint8 (H, W, C), 0 black and 255 white.

Pixels are scaled by their depth, never by the values that happen to occur, so that all frames of a data set are scaled
alike. Where the depth tells no range (floats beyond 0 to 1, integers of 32 bits) they are refused.
"""

import warnings

import numpy as np
import torch
from PIL import Image


BATCH_BYTES = 64 * 2**20  # of decoded frames that are worked on together, where they are more than one
_SIXTEEN_BITS = ("I;16", "I;16B", "I;16L", "I;16N")  # Pillow's modes, in each byte order


def image_pixels(image: Image.Image, num_channels: int | None = None) -> np.ndarray:
    """A PIL image of any mode -> uint8 (H, W, num_channels).

    One channel is the luma of PIL's "L", three are RGB; transparency is dropped. Other numbers of channels are those of
    the image as they are: RGBA, CMYK, LA. None takes those that it has.

    Raises:
        ValueError: another number of channels, or pixels of unknown range; the message has the mode.
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
        kind: what the array is, for the message; its dtype unless given.
        sixteen_bits: integers are of 16 bits whatever their dtype.

    Raises:
        ValueError: another dtype or range.
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
        limit, advice = 1, "the range of other floats is unknown: scale them to 0 to 1, or to uint8"
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


def warn_of_dark_frames(high: int):
    """Says once that frames of 16 bits come out dark, where `high` is the largest value of some."""
    if 0 < high < 4096:
        warnings.warn(
            "Frames of 16 bits are scaled so that 65535 is white, and some have no value above 4095: they come out "
            "nearly black. If all of yours are like this, scale them to the full range.",
            stacklevel=2,
        )


_EIGHT_OF_SIXTEEN_BITS = np.rint(np.arange(65536) / 257).astype(np.uint8)


def fit_channels(frame: np.ndarray, num_channels: int | None, kind: str = "") -> np.ndarray:
    """uint8 (H, W, C) -> (H, W, num_channels): RGB to luma, grey to three equal channels, or as it is (with None).

    Raises:
        ValueError: see `check_channels`.
    """
    channels = frame.shape[-1]
    check_channels(channels, num_channels, kind)
    if num_channels in (None, channels):
        return frame
    if num_channels == 1:
        return np.array(Image.fromarray(frame).convert("L"))[..., None]
    return np.repeat(frame, 3, axis=-1)


def check_channels(channels: int, num_channels: int | None, kind: str = ""):
    """Raises ValueError where frames of so many channels do not make frames of `num_channels`."""
    if num_channels not in (None, channels) and {channels, num_channels} != {1, 3}:
        kind = f" ({kind})" if kind else ""
        raise ValueError(f"its frames have {channels} channels{kind}, and num_channels={num_channels} are asked for")


def luma(frames: torch.Tensor) -> torch.Tensor:
    """RGB (..., 3, H, W) -> grey (..., 1, H, W), ITU-R 601-2: uint8 in the fixed point of PIL, floats as floats."""
    if frames.is_floating_point():
        weights = torch.tensor([19595, 38470, 7471], dtype=frames.dtype, device=frames.device) / 65536
        return (frames * weights[:, None, None]).sum(dim=-3, keepdim=True)
    red, green, blue = frames.int().split(1, dim=-3)
    return (red * 19595 + green * 38470 + blue * 7471 + 0x8000 >> 16).byte()


def channels_last(shape: tuple[int, int, int], num_channels: int | None = None) -> bool:
    """Whether a frame of this shape is (H, W, C) and not (C, H, W).

    Its channels are the axis of 1 or 3, as in transformers, and of other `num_channels` before these; of two such axes
    the first one.
    """
    for counts in ((num_channels,), (1, 3)) if num_channels not in (None, 1, 3) else ((1, 3),):
        if shape[0] in counts or shape[2] in counts:
            return shape[0] not in counts
    return shape[2] < shape[0]  # there are fewer channels than pixels
