# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Reads a video of any length, or a camera, from front to back: each frame is decoded once, and one is in memory.

`read_frames` decodes the frames of a few clips by index. Here all frames pass by, in presentation order.
"""

import importlib
import queue
import re
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch

from ..models.frame_arrays import stack_frames
from ..models.frame_files import reader_of
from ..models.frame_pixels import fit_channels
from ..models.image_processing_videomae_v2 import VideoMAEV2ImageProcessor
from ..models.video_decoding import (
    BACKENDS,
    MAX_PIXELS,
    VideoDecodeError,
    VideoInfo,
    VideoSegment,
    naming_errors,
    open_container,
    rgb_converter,
    stretched,
    usable_backend,
    video_stream,
)
from ..models.video_sources import VideoSource, fetch, source_name


_ROUNDING = 1e-3  # seconds; containers round timestamps to milliseconds
USUAL_DURATION = 0.04  # seconds of a frame, if neither timestamps nor the header give them
# Of PyAV's input formats for cameras: (format, name of device number N)
_CAMERAS = {"linux": ("v4l2", "/dev/video{}"), "darwin": ("avfoundation", "{}"), "win32": ("dshow", "video={}")}
_CAMERA = re.compile(r"camera:(.+)", re.DOTALL)


class StreamedFrame(NamedTuple):
    """A frame of a stream.

    Args:
        index: its number in the video, from 0.
        seconds: its time from the first frame; None if the video has no timing.
        pixels: uint8 (C, H, W).
    """

    index: int
    seconds: float | None
    pixels: torch.Tensor


@dataclass(frozen=True)
class Camera:
    """A camera of this machine: its number or, on Windows, its name."""

    device: str

    def __str__(self) -> str:
        return f"camera:{self.device}"


def camera_named(name: str) -> Camera | None:
    """The camera that `camera:0` names; None for other names."""
    match = _CAMERA.fullmatch(name)
    return Camera(match[1]) if match else None


@dataclass(frozen=True)
class FrameReading:
    """How frames are read; the fields are those of `read_frames`. `every` keeps each n-th frame only."""

    backend: str = "auto"
    square_pixels: bool = False
    num_channels: int = 3
    max_pixels: int | None = MAX_PIXELS
    every: int = 1

    @classmethod
    def of(cls, processor: VideoMAEV2ImageProcessor, every: int = 1) -> "FrameReading":
        """The reading of a processor."""
        options = ("video_backend", "square_pixels", "num_channels", "max_pixels")
        return cls(*(getattr(processor, name) for name in options), every)


def stream_frames(source: VideoSource | Camera, reading: FrameReading) -> Iterator[StreamedFrame]:
    """Yields the frames of a video in presentation order, upright and with the processor's number of channels.

    Args:
        source: a video in any form that `read_frames` accepts, or a camera, whose stream does not end.
        reading: how frames are read.

    Raises:
        VideoDecodeError: the video is damaged (after the frames before the damage), holds no frame, or has frames of
            several shapes.
        FileNotFoundError, OSError, ImportError: as in `read_frames`.
    """
    name, shape = source_name(source), None
    with closing(naming_errors(name, _decoded(_fetched(source), reading))) as frames:
        for index, seconds, frame, pixel_aspect_ratio in frames:
            shape = shape or frame.shape
            if frame.shape != shape:
                sizes = " and ".join(f"{width} x {height}" for height, width, _ in (shape, frame.shape))
                raise VideoDecodeError(f"{name} cannot be decoded: its frames differ in shape, {sizes}.")
            pixels = torch.from_numpy(frame)[None]  # (1, H, W, C)
            if reading.square_pixels:
                pixels = stretched(pixels, pixel_aspect_ratio)
            yield StreamedFrame(index, seconds, pixels[0].permute(2, 0, 1))  # (1, H, W, C) -> (C, H, W)
    if shape is None:
        raise VideoDecodeError(f"{name} has no decodable frame.")


def frames_in_memory(video, reading: FrameReading) -> Iterator[StreamedFrame]:
    """The frames of an array, a tensor or a list of frames, which have no timing; see `stack_frames`."""
    options = {"num_channels": reading.num_channels, "input_data_format": None, "do_convert_rgb": None}
    frames = stack_frames(video, {**options, "do_rescale": True, "rescale_factor": 1 / 255})
    for index in range(0, len(frames), reading.every):
        yield StreamedFrame(index, None, frames[index])


# (index, seconds, uint8 (H, W, C), width / height of a pixel)
_Decoded = Iterator[tuple[int, float | None, np.ndarray, float | None]]


def _fetched(source: VideoSource | Camera) -> VideoSource | Camera:
    """The source with the path or the bytes that `fetch` finds."""
    if isinstance(source, VideoSegment):
        return replace(source, source=_fetched(source.source))
    return source if isinstance(source, Camera) else fetch(source)


def _decoded(source: VideoSource | Camera, reading: FrameReading) -> _Decoded:
    if isinstance(source, Camera):
        yield from latest(_from_camera(source, reading))
    elif isinstance(source, VideoSegment):
        yield from _of_segment(source, reading)
    else:
        yield from _of_file(source, reading)


def _of_file(source, reading: FrameReading) -> _Decoded:
    read_file = reader_of(source)
    if read_file is None and usable_backend(reading.backend) == "pyav":
        av = importlib.import_module("av")
        with open_container(av, source) as container:
            yield from _of_container(av, container, reading)
        return
    info = VideoInfo(0)

    def pick(found: VideoInfo) -> range:
        nonlocal info
        info = found
        return range(0, found.num_frames, reading.every)

    if read_file is not None:
        frames = ((*pair, None) for pair in read_file(source, pick, reading.num_channels, reading.max_pixels))
    else:
        frames = BACKENDS[usable_backend(reading.backend)].read(source, pick, reading.max_pixels)
    for index, frame, pixel_aspect_ratio in frames:
        if info.timestamps is not None:
            seconds = info.timestamps[index]
        else:
            seconds = index / info.fps if info.fps else None
        yield index, seconds, fit_channels(frame, reading.num_channels), pixel_aspect_ratio


def _of_container(av, container, reading: FrameReading) -> _Decoded:
    """The frames of an open container; those that `every` leaves out are decoded, but not converted."""
    stream, to_rgb = video_stream(container, reading.max_pixels), rgb_converter(av, reading.max_pixels)
    clock = _Clock(stream)
    for index, frame in enumerate(container.decode(stream)):
        seconds = clock.seconds(frame.pts)
        if index % reading.every == 0:
            pixels, pixel_aspect_ratio = to_rgb(stream, frame)
            yield index, seconds, fit_channels(pixels, reading.num_channels), pixel_aspect_ratio


class _Clock:
    """The time of each frame from the first one. It never stops or runs backwards: where a file has no timestamps, or
    they start over (joined recordings), the frame rate in the header continues it."""

    def __init__(self, stream) -> None:
        self.scale = float(stream.time_base) if stream.time_base else None
        rate = float(stream.average_rate) if stream.average_rate else 0.0
        self.duration = 1 / rate if rate > 0 else USUAL_DURATION
        self.last = self.offset = None

    def seconds(self, pts: int | None) -> float:
        shown = None if pts is None or self.scale is None else pts * self.scale
        if self.last is None:
            now = 0.0
        elif shown is not None and self.offset is not None and shown - self.offset > self.last:
            now = shown - self.offset
        else:
            now = self.last + self.duration
        if shown is not None:
            self.offset = shown - now
        self.last = now
        return now


def _of_segment(segment: VideoSegment, reading: FrameReading) -> _Decoded:
    """The frames of a segment, counted from its start; those before it are decoded as well."""
    by_frames = segment.start_frame is not None or segment.end_frame is not None
    first, last = (segment.start_frame, segment.end_frame) if by_frames else (segment.start, segment.end)
    first, last = first or 0, float("inf") if last is None else last
    late, start, count = (0 if by_frames else _ROUNDING), None, 0
    whole = FrameReading(reading.backend, False, reading.num_channels, reading.max_pixels)
    for index, seconds, frame, pixel_aspect_ratio in _decoded(segment.source, whole):
        position = index if by_frames else seconds
        if position is None:
            name = source_name(segment)
            raise VideoDecodeError(f"{name}: its frame rate is unknown; give the segment as start_frame and end_frame")
        if position >= last - late:
            break
        if position < first - late:
            continue
        start = seconds if count == 0 else start
        if count % reading.every == 0:
            yield count, None if seconds is None else seconds - start, frame, pixel_aspect_ratio
        count += 1


# ------------------------------------------------------------------------------------------------------------ cameras


def _from_camera(camera: Camera, reading: FrameReading) -> _Decoded:
    """The frames of a camera, through PyAV."""
    av = importlib.import_module("av")
    kind, device = _CAMERAS.get(sys.platform, _CAMERAS["linux"])
    try:
        container = av.open(device.format(camera.device), format=kind)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        place = f"{kind}, {device.format(camera.device)}"
        raise VideoDecodeError(f"{camera} cannot be opened ({place}): {reason}") from error
    with container:
        yield from _of_container(av, container, reading)


def latest(frames: Iterable[tuple], limit: int = 64) -> Iterator[tuple]:
    """The items of an endless source, read in a thread: if they are used too slowly, the oldest ones are dropped.

    The thread is never blocked, so that a camera shows the present however slow the model is.
    """
    waiting, stopped = queue.Queue(limit), threading.Event()

    def read() -> None:
        try:
            with closing(iter(frames)) as items:
                for item in items:
                    if stopped.is_set():
                        return
                    if waiting.full():
                        try:
                            waiting.get_nowait()
                        except queue.Empty:
                            pass
                    waiting.put(item)
            waiting.put(None)
        except BaseException as error:  # raised again in the reading thread
            waiting.put(error)

    threading.Thread(target=read, daemon=True).start()
    try:
        while (item := waiting.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stopped.set()
