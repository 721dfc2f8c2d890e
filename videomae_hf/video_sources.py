# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Names for videos: a file, a URL, bytes, a folder of images, or a segment of any of these."""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np


_ROUNDING = 1e-3  # seconds: Matroska rounds timestamps to milliseconds, so that a third of a second is 0.333


class VideoDecodeError(ValueError):
    """A video that cannot be decoded; the message has its name and the reason."""


@dataclass(frozen=True)
class VideoInfo:
    """Length and timing of a video, from which its frames are sampled.

    Args:
        num_frames: number of frames.
        fps: frames per second on average; None if unknown.
        timestamps: seconds of each frame, from the first one on; None where the file has none that can be trusted, and
            frames are taken to be equally spaced.
    """

    num_frames: int
    fps: float | None = None
    timestamps: Sequence[float] | None = None


@dataclass(frozen=True)
class FrameFolder:
    """A video as a folder of images, one for each frame.

    Args:
        path: the folder.
        template: name of an image by its number, such as `"img_{:05}.jpg"`; None takes all images of the folder in the
            order of the numbers in their names.
        first: number of the first image, with a template.
        num_frames: number of frames; None counts the images that are there.
        fps: frames per second, if known.
    """

    path: str
    template: str | None = None
    first: int = 1
    num_frames: int | None = None
    fps: float | None = None


@dataclass(frozen=True)
class VideoSegment:
    """A part of a video, which takes the place of a whole one: its frames are counted from 0.

    Args:
        source: the video, in any form that `read_frames` takes.
        start, end: seconds from the first frame of the video. The segment has the frames whose timestamp lies in
            [start, end), or, where there is none, the frame on display at `start`. None is the start or end of the
            video, and so is an `end` after it.
        start_frame, end_frame: the same as frame numbers from 0: [start_frame, end_frame).

    Raises:
        ValueError: seconds and frame numbers are mixed, or the end does not come after the start.
    """

    source: "str | Path | bytes | FrameFolder | VideoSegment"
    start: float | None = None
    end: float | None = None
    start_frame: int | None = None
    end_frame: int | None = None

    def __post_init__(self):
        if self._by_frames and (self.start is not None or self.end is not None):
            raise ValueError(f"A segment is given in seconds or in frames, not in both: {self._bounds()}.")
        first, last = (self.start_frame, self.end_frame) if self._by_frames else (self.start, self.end)
        if not 0 <= (first or 0) < (math.inf if last is None else last):  # also where one of them is no number
            raise ValueError(f"A segment starts at 0 or later and ends after its start, unlike {self._bounds()}.")

    def frame_range(self, info: VideoInfo) -> range:
        """The frames of this segment in the whole video that `info` describes.

        Raises:
            VideoDecodeError: the segment starts after the video ends, or is in seconds and no timing is known.
        """
        if self._by_frames:
            first, last = self.start_frame or 0, self.end_frame
            if first >= info.num_frames:
                raise VideoDecodeError(f"it has {info.num_frames} frames, and the segment starts at frame {first}")
            return range(first, info.num_frames if last is None else min(last, info.num_frames))
        if self.start is None and self.end is None:
            return range(info.num_frames)
        timestamps, duration = _timing(info)
        start, end = self.start or 0, math.inf if self.end is None else self.end
        if start >= duration:
            raise VideoDecodeError(f"it has {duration:.6g} seconds, and the segment starts at {start:.6g} seconds")
        first, last = (bisect_left(timestamps, bound - _ROUNDING) for bound in (start, end))
        if first == last:
            first = max(bisect_right(timestamps, start + _ROUNDING) - 1, 0)
        return range(first, max(last, first + 1))

    def info(self, info: VideoInfo) -> VideoInfo:
        """The `VideoInfo` of this segment alone, from that of the whole video."""
        frames = self.frame_range(info)
        timestamps = info.timestamps
        if timestamps is not None:
            timestamps = [time - timestamps[frames.start] for time in timestamps[frames.start : frames.stop]]
        return VideoInfo(len(frames), info.fps, timestamps)

    @property
    def _by_frames(self) -> bool:
        return self.start_frame is not None or self.end_frame is not None

    def _bounds(self) -> str:
        bounds = {name: getattr(self, name) for name in ("start", "end", "start_frame", "end_frame")}
        return ", ".join(f"{name}={bound}" for name, bound in bounds.items() if bound is not None)

    def __str__(self) -> str:
        return f"{source_name(self.source)} [{self._bounds()}]"


VideoSource = str | Path | bytes | FrameFolder | VideoSegment


def source_name(source: VideoSource) -> str:
    """The name of a video in messages."""
    if isinstance(source, bytes):
        return f"<{len(source)} bytes>"
    return str(source.path if isinstance(source, FrameFolder) else source)


def _timing(info: VideoInfo) -> tuple[Sequence[float], float]:
    """Seconds of each frame, and of the end of the last one."""
    if info.timestamps is None:
        if not info.fps:
            raise VideoDecodeError("its frame rate is unknown; give the segment as start_frame and end_frame")
        return np.arange(info.num_frames) / info.fps, info.num_frames / info.fps
    last = info.timestamps[-1]
    # How long the last frame is on display is known from the others alone.
    frame_duration = last / (info.num_frames - 1) if info.num_frames > 1 else 1 / (info.fps or 1)
    return info.timestamps, last + frame_duration
