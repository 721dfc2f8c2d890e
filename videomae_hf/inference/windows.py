# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Sliding windows over a video of any length: each frame is decoded once, and the frames of one window are in memory.

A window is a short video of its own, from which the processor samples clips as from any other: window [start, end) of a
file gives the clips of `VideoSegment(file, start, end)`. The last window ends with the video and is as long as the
others. A video that is shorter than a window is one window.
"""

import math
import re
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch

from ..models.image_processing_videomae_v2 import VideoMAEV2ImageProcessor, resize
from ..models.video_sources import VideoDecodeError, VideoInfo
from .frame_stream import USUAL_DURATION, FrameReading, StreamedFrame, frames_in_memory, stream_frames
from .inputs import Input


_ROUNDING = 1e-3  # seconds, as for segments of videos
_KEPT_BYTES = 2**31  # of the frames of one window
_SPAN = re.compile(r"(\d+(?:\.\d*)?|\.\d+)\s*(s|f)?", re.ASCII)


@dataclass(frozen=True)
class Windows:
    """Where windows begin and how long they are.

    Args:
        length, stride: in seconds or in frames. The stride is the distance between the starts of two windows.
        unit: `"s"` or `"f"`.
        to_the_end: add a last window that ends with the video, if the others leave frames out. Without it, all windows
            begin at multiples of the stride; a video that is shorter than a window is one window all the same.

    Raises:
        ValueError: a value is not positive, or a number of frames is not whole.
    """

    length: float
    stride: float
    unit: str = "s"
    to_the_end: bool = True

    def __post_init__(self) -> None:
        for name, value in (("window", self.length), ("stride", self.stride)):
            if not 0 < value < math.inf:
                raise ValueError(f"{name}={value:g} must be positive.")
            if self.unit == "f" and value != int(value):
                raise ValueError(f"{name}={value:g} frames must be a whole number.")

    @classmethod
    def of(
        cls, processor: VideoMAEV2ImageProcessor, window: float | str | None = None, stride: float | str | None = None
    ) -> "Windows":
        """The windows with these settings; by default the span of one clip, and half of it as the stride.

        Args:
            processor: the processor of the model, whose clip gives the default.
            window, stride: a number of seconds (`2.5` or `"2.5s"`), or of frames (`"64f"`).

        Raises:
            ValueError: a value cannot be read, the two have different units, or there is no default because clips are
                spread over whole videos (`frame_sampling="uniform"`).
        """
        length, unit = _parse("window", window) if window is not None else _clip_span(processor)
        if stride is None:
            return cls(length, length / 2 if unit == "s" else max(length // 2, 1), unit)
        step, unit_of_stride = _parse("stride", stride)
        if unit_of_stride != unit:
            given = "" if window is not None else ", the span of a clip of this model,"
            raise ValueError(
                f"stride={stride} and the window of {length:g}{unit}{given} differ in their unit; give both in seconds "
                f"or both in frames, such as window=64f and stride=32f."
            )
        return cls(length, step, unit)


def _parse(name: str, value: float | str) -> tuple[float, str]:
    match = _SPAN.fullmatch(str(value).strip())
    if match is None:
        raise ValueError(f"{name}={value!r} must be a number of seconds, as 2.5, or of frames, as 64f.")
    return float(match[1]), match[2] or "s"


def _clip_span(processor: VideoMAEV2ImageProcessor) -> tuple[float, str]:
    if processor.frame_sampling == "uniform":
        raise ValueError(
            "This model takes clips that are spread over whole videos, so that no window follows from it; give window, "
            "the length of the videos it was trained on, such as 4 seconds."
        )
    if processor.fps is not None:
        return processor.num_frames / processor.fps, "s"
    return float(math.ceil(processor.num_frames * processor.sampling_rate)), "f"


@dataclass(frozen=True, eq=False)
class Window:
    """A window of a video.

    Args:
        start, end: seconds from the first frame of the video; frame numbers, if the video has no timing.
        frames: its frames, each (C, H, W), resized.
        info: number and timing of its frames, for sampling.
        first_frame, end_frame: numbers of its first frame and of the frame after its last one, of those that are read.
    """

    start: float
    end: float
    frames: list[torch.Tensor]
    info: VideoInfo
    first_frame: int
    end_frame: int


def sliding_windows(frames: Iterable[StreamedFrame], windows: Windows, every: int = 1) -> Iterator[Window]:
    """Yields each window as soon as the frame after it has arrived; windows without a frame are left out.

    Args:
        frames: the frames of a video in order; `every` frames apart, as `FrameReading` gives them.
        windows: length and stride. With `every` > 1 they are in frames, and multiples of it.
        every: distance between two frames of the stream.

    Raises:
        VideoDecodeError: the windows are in seconds, but the video has no timing; or the frames of a window do not fit
            into `_KEPT_BYTES`.
    """
    kept, number, covered, last = deque(), 0, -math.inf, None
    late = _ROUNDING if windows.unit == "s" else 0.0
    for last in frames:
        now = _position(last, windows)
        while now >= number * windows.stride + windows.length - late:
            start, number = number * windows.stride, number + 1
            members = [one for one in kept if start - late <= _position(one, windows) < start + windows.length - late]
            if members:
                covered = start + windows.length
                yield _window(members, windows, start, last.seconds)
            else:  # a gap in the timestamps, however long: the next window that does not end before this frame
                number = max(number, math.floor((now + late - windows.length) / windows.stride) + 1)
        kept.append(last)
        while _position(kept[0], windows) < now - windows.length - late:
            kept.popleft()
        if len(kept) * last.pixels.nbytes > _KEPT_BYTES:
            raise VideoDecodeError(
                f"a window has more than {len(kept):,} frames, which is too much; shorten the window"
            )
    if last is None:
        return
    seconds = None if last.seconds is None else last.seconds + _last_duration(kept, windows)
    end = seconds if windows.unit == "s" else last.index + every
    on_grid = number * windows.stride + windows.length <= end + late
    is_wanted = windows.to_the_end or on_grid or covered == -math.inf
    if is_wanted and covered < end - late and number * windows.stride < end:
        start = max(end - windows.length, 0.0)
        members = [one for one in kept if start - late <= _position(one, windows)]
        yield _window(members, windows, start, seconds)


def _position(frame: StreamedFrame, windows: Windows) -> float:
    if windows.unit == "f":
        return frame.index
    if frame.seconds is None:
        raise VideoDecodeError("its frame rate is unknown; give window and stride in frames, such as 64f")
    return frame.seconds


def _last_duration(kept: Sequence[StreamedFrame], windows: Windows) -> float:
    """How long the last frame of the stream is on display, in seconds: as long as the one before it."""
    if len(kept) < 2:
        return USUAL_DURATION
    duration = kept[-1].seconds - kept[-2].seconds
    return min(duration, windows.length) if windows.unit == "s" else duration


def _frame_duration(frame: StreamedFrame) -> float:
    """The average duration of the frames up to this one, in seconds."""
    return frame.seconds / frame.index if frame.index and frame.seconds else USUAL_DURATION


def _window(members: list[StreamedFrame], windows: Windows, start: float, after: float | None) -> Window:
    """The window of these frames; `after` is the time in seconds of the frame after them, or of the end."""
    first, last = members[0], members[-1]
    frames, numbers = [one.pixels for one in members], (first.index, last.index + 1)
    if first.seconds is None:
        return Window(start, start + windows.length, frames, VideoInfo(len(frames)), *numbers)
    info = VideoInfo(len(frames), 1 / _frame_duration(last), [one.seconds - first.seconds for one in members])
    if windows.unit == "f":
        return Window(first.seconds, after, frames, info, *numbers)
    return Window(start, min(start + windows.length, max(after, last.seconds)), frames, info, *numbers)


# -------------------------------------------------------------------------------------------------------------- clips


@dataclass(frozen=True, eq=False)
class WindowClips:
    """A window as the model takes it: clips float32 (views, T, C, H, W), normalised; the rest as in `Window`."""

    start: float
    end: float
    clips: torch.Tensor
    first_frame: int
    end_frame: int


def window_clips(
    video: Input,
    processor: VideoMAEV2ImageProcessor,
    windows: Windows,
    num_clips: int = 1,
    num_crops: int = 1,
    *,
    float_pixels: bool = False,
) -> Iterator[WindowClips]:
    """Yields the views of each window of a video, as the processor prepares them.

    Args:
        video: the video, or a camera.
        processor: samples clips from each window, and resizes, crops and normalises them.
        windows: length and stride.
        num_clips, num_crops: views of each window.
        float_pixels: rescale and resize in float32, instead of rounding to uint8 as PIL does; takes four times the
            memory.

    Raises:
        VideoDecodeError, FileNotFoundError, OSError: the video cannot be decoded, does not exist, or cannot be loaded.
    """
    every = _step(processor, windows)
    reading = FrameReading.of(processor, every)
    frames = frames_in_memory(video.video, reading) if video.is_in_memory else stream_frames(video.video, reading)
    frames = (_resized(frame, processor, float_pixels=float_pixels) for frame in frames)
    try:
        for window in sliding_windows(frames, windows, every):
            clips = _views(window, processor, every, num_clips, num_crops)
            yield WindowClips(window.start, window.end, clips, window.first_frame, window.end_frame)
    except VideoDecodeError as error:
        raise error if video.name in str(error) else VideoDecodeError(f"{video.name}: {error}") from error


def _step(processor: VideoMAEV2ImageProcessor, windows: Windows) -> int:
    """The distance of the frames that windows need: that of the frames of a clip, if all windows begin on this grid."""
    rate = processor.sampling_rate
    plain = processor.frame_sampling == "dense" and processor.fps is None and not processor.official_sampling
    on_grid = windows.unit == "f" and rate == int(rate) and windows.length % rate == windows.stride % rate == 0
    # Without a last window that ends with the video, it matters which frame is the last.
    return int(rate) if plain and on_grid and processor.short_video != "loop" and windows.to_the_end else 1


def _resized(frame: StreamedFrame, processor: VideoMAEV2ImageProcessor, *, float_pixels: bool) -> StreamedFrame:
    pixels = frame.pixels
    if float_pixels:
        pixels = pixels.float() * (processor.rescale_factor if processor.do_rescale else 1)
    if processor.do_resize:
        options = (processor.size, processor.resample)
        pixels = resize(pixels[None], *options, antialias=processor.antialias)[0]
    return frame._replace(pixels=pixels)


def _views(
    window: Window, processor: VideoMAEV2ImageProcessor, every: int, num_clips: int, num_crops: int
) -> torch.Tensor:
    """(views, T, C, H, W): the crops of the first clip first, as the processor returns them."""
    names = ("num_frames", "frame_sampling", "short_video", "official_sampling", "fps")
    options = {name: getattr(processor, name) for name in names}
    # Of the frames in between, which `every` leaves out, no clip has any.
    options |= {"sampling_rate": processor.sampling_rate / every, "num_clips": num_clips, "generator": None}
    try:
        clips = processor.sample_clips(window.info, options)
    except ValueError as error:  # too short for short_video="error"
        raise VideoDecodeError(str(error)) from error
    plain = {"do_sample_frames": False, "do_resize": False, "do_convert_rgb": False, "num_crops": num_crops}
    plain |= {"input_data_format": "channels_first", "return_tensors": "pt"}
    views = []
    for clip in clips:
        frames = torch.stack([window.frames[index] for index in clip])  # (T, C, H, W)
        plain["do_rescale"] = processor.do_rescale and not frames.is_floating_point()
        pixels = processor(frames, **plain).pixel_values  # (1, T, C, H, W) or (1, num_crops, T, C, H, W)
        views.append(pixels if num_crops == 1 else pixels[0])
    return torch.cat(views)
