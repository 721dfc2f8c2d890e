# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""A picture of a long video: thumbnails, the probabilities of the top classes over time, and the segments."""

import hashlib
import importlib.util
import re
from pathlib import Path
from typing import BinaryIO

import torch

from ..messages import printable
from ..models.image_processing_videomae_v2 import VideoMAEV2ImageProcessor
from ..models.video_decoding import VideoInfo, read_frames
from ..models.video_sources import VideoSource
from .predictions import REGRESSION, Prediction


_THUMBNAILS = 8
_THUMBNAIL_HEIGHT = 120
_CLASSES = 6  # with a line of their own


def check_matplotlib() -> None:
    """Raises ImportError if pictures cannot be made."""
    if importlib.util.find_spec("matplotlib") is None:
        raise ImportError("Pictures need matplotlib, which is not installed: pip install 'videomae_hf[demo]'.")


def thumbnails(video: VideoSource, processor: VideoMAEV2ImageProcessor) -> torch.Tensor:
    """Frames spread evenly over a video: uint8 (N, H, W, 3)."""

    def indices(info: VideoInfo) -> list[int]:
        return [int((place + 0.5) * info.num_frames / _THUMBNAILS) for place in range(_THUMBNAILS)]

    def shrink(frames: torch.Tensor) -> torch.Tensor:  # (n, H, W, 3)
        height, width = frames.shape[1:3]
        size = (_THUMBNAIL_HEIGHT, max(round(width * _THUMBNAIL_HEIGHT / height), 1))
        frames = frames.permute(0, 3, 1, 2)  # (n, H, W, 3) -> (n, 3, H, W)
        frames = torch.nn.functional.interpolate(frames, size, mode="bilinear", antialias=True)
        return frames.permute(0, 2, 3, 1)  # (n, 3, H, W) -> (n, H, W, 3)

    options = {name: getattr(processor, name) for name in ("num_channels", "max_pixels")}
    frames = read_frames(video, indices, processor.video_backend, square_pixels=True, transform=shrink, **options)
    return frames if frames.shape[-1] == 3 else frames[..., :1].expand(*frames.shape[:-1], 3)


def picture_path(folder: Path, name: str) -> Path:
    """A new file for the picture of a video: its stem, or that with a digest of its name, if such a file exists."""
    path = folder / f"{file_stem(name)}.png"
    return folder / f"{file_stem(name, unique=True)}.png" if path.exists() else path


def file_stem(name: str, *, unique: bool = False) -> str:
    """A harmless stem for files about a video: that of its name; if it must be unique, with a digest of the name."""
    stem = re.sub(r"[^\w.-]+", "_", Path(name).stem).strip("._")[:80] or "video"
    if not unique:
        return stem
    digest = hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()
    return f"{stem}-{digest[:8]}"


def save_timeline_picture(
    prediction: Prediction, frames: torch.Tensor, path: Path | BinaryIO, threshold: float = 0.5
) -> None:
    """Writes a picture of a prediction with a timeline.

    Args:
        prediction: the prediction.
        frames: thumbnails, uint8 (N, H, W, 3), evenly spaced in time.
        path: the file, .png, or an open one.
        threshold: probability of the segments that are shown.
    """
    from matplotlib.figure import Figure  # part of the extra "demo"

    timeline, is_regression = prediction.timeline, prediction.head.problem_type == REGRESSION
    figure = Figure(figsize=(11, 5), layout="constrained")
    top, below = figure.subplots(2, 1, height_ratios=(1, 2.4))
    start, end = float(timeline.starts[0]), float(timeline.ends[-1])
    if frames.shape[2] > 1.3 * frames.shape[1]:  # fewer wide ones, so that none is squeezed
        frames = frames[::2]
    frames = torch.nn.functional.pad(frames, (0, 0, 1, 1), value=255)  # a white line between two frames
    # The frames side by side, (N, H, W, 3) -> (H, N, W, 3) -> (H, N * W, 3), above the times that they are of
    strip = frames.transpose(0, 1).flatten(1, 2).numpy()
    top.imshow(strip, extent=(start, end, 0, 1), aspect="auto")
    top.set_axis_off()
    top.set_title(_shown(prediction.name), fontsize=10, parse_math=False)
    values = timeline.probabilities  # (N, num_labels)
    shown = range(len(prediction.head.labels)) if is_regression else values.amax(dim=0).topk(
        min(_CLASSES, values.shape[1])).indices.tolist()  # fmt: skip
    lines = {}
    for number in list(shown)[:_CLASSES]:
        label = prediction.head.labels[number]
        (lines[label],) = below.plot(timeline.times, values[:, number], marker="." if len(values) < 60 else None)
    below.set(xlim=(start, end), xlabel="seconds", ylabel="value" if is_regression else "probability")
    if not is_regression:
        below.set_ylim(-0.07, 1.02)
        for segment in prediction.segments(threshold):
            if segment.label in lines:
                bounds = [segment.start, segment.end]
                below.plot(bounds, [-0.04, -0.04], lw=7, color=lines[segment.label].get_color(), solid_capstyle="butt")
    legend = below.legend(lines.values(), map(_shown, lines), loc="center left", bbox_to_anchor=(1, 0.5))
    for text in legend.get_texts():  # verbatim: a $ must not start a formula
        text.set_parse_math(False)
    figure.savefig(path, dpi=110)


def _shown(name: str) -> str:
    return printable(name if len(name) <= 90 else f"..{name[-88:]}")
