# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Re-encodes one video so that training loads clips from it quickly; `commands/prepare.py` handles whole data sets.

The output is H.264 in mp4, optimised for a reader that seeks to a random position and decodes every fourth frame: short
groups of pictures, B-frames that no other frame refers to (a reader may skip those it does not need), and none of the
tools that are most expensive to decode (CABAC, the deblocking filter, weighted prediction: x264's `tune fastdecode`).
benchmarks/prepare.md has the measurements behind these choices.

Every frame of the source becomes one frame with the same timestamp. Rotation is applied, pixels are made square,
interlaced frames are deinterlaced, and any pixel format becomes 8-bit 4:2:0 of limited range, with the colour matrix of
the source, so that a reader gets the same RGB. High dynamic range is not tone mapped, as in our readers.
Audio and subtitles are dropped.
"""

import errno
import json
import os
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from fractions import Fraction
from itertools import chain
from pathlib import Path

import av
import numpy as np
from av.video.frame import PictureType
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter

from ...models.video_decoding import VideoDecodeError, decoding_errors, open_container, video_stream


B_FRAMES = 3
UNKNOWN_RATE = Fraction(25)  # frames per second, for a source with neither timestamps nor a rate
_DISK_FAILURES = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG)
_LIMITED_RANGE, _SMPTE170M = 1, 6  # AVCOL_RANGE_MPEG, AVCOL_SPC_SMPTE170M
_ACCURATE_ROUNDING = 0x40000  # SWS_ACCURATE_RND, which old releases of PyAV do not define


@dataclass(frozen=True)
class TranscodingOptions:
    """Options for writing videos.

    Attributes:
        short_side: length of the shorter side in pixels, even; smaller videos keep their size.
        keyframe_interval: number of frames from one key frame to the next.
        crf: quality of x264, from 0 (best) to 51.
        max_fps: maximum frames per second; frames of faster videos are dropped. None keeps all frames.

    Raises:
        ValueError: a value is out of range.
    """

    short_side: int = 256
    keyframe_interval: int = 12
    crf: int = 23
    max_fps: float | None = None

    def __post_init__(self):
        if self.short_side < 16 or self.short_side % 2:
            raise ValueError(f"short_side={self.short_side} must be even (H.264) and at least 16.")
        if self.keyframe_interval < 1:
            raise ValueError(f"keyframe_interval={self.keyframe_interval} must be at least 1.")
        if not 0 <= self.crf <= 51:
            raise ValueError(f"crf={self.crf} must be from 0 (best) to 51.")
        if self.max_fps is not None and not self.max_fps > 0:
            raise ValueError(f"max_fps={self.max_fps} must be positive.")


@dataclass(frozen=True)
class PreparedVideo:
    """The length and timing of a written file."""

    frames: int
    seconds: float
    width: int
    height: int


class DiskError(OSError):
    """Raised if the output cannot be stored, for example on a full disk; other videos would fail as well."""


class _BrokenTimestamps(Exception):
    """Raised for a frame without a timestamp, or one that is not later than its predecessor."""


def transcode_video(source: Path, destination: Path, options: TranscodingOptions, name: str) -> PreparedVideo:
    """Writes `destination` (.mp4), which appears only after it is complete and has been verified by a full decode.

    Args:
        source: a video file.
        destination: the file to write; its folder is created if necessary.
        options: the options of the encoder.
        name: name of the source, which is stored in the file together with the size of the source and the options, for
            `find_prepared` to compare.

    Raises:
        FileNotFoundError: there is no such source.
        VideoDecodeError: the source cannot be decoded completely.
        DiskError: the file cannot be stored.
    """
    partial = destination.with_name(destination.name + ".partial")
    note = _note(source, options, name)
    try:
        destination.parent.mkdir(parents=True, exist_ok=True)
        try:
            times = _write(source, partial, options, note, constant_rate=False)
        except _BrokenTimestamps:
            times = _write(source, partial, options, note, constant_rate=True)
        video = _check(partial, times, options)
        os.replace(partial, destination)
        return video
    except VideoDecodeError:
        raise
    # PyAV raises its own OSErrors, ValueErrors and others; x264 refuses some sizes, and filters some formats.
    except (av.FFmpegError, OSError, ValueError, ArithmeticError) as error:
        if getattr(error, "errno", None) in _DISK_FAILURES:
            raise DiskError(f"{destination} cannot be written: {error.strerror}.") from error
        raise VideoDecodeError(f"{source} cannot be transcoded: {type(error).__name__}: {error}") from error
    finally:
        partial.unlink(missing_ok=True)


def find_prepared(source: Path, destination: Path, options: TranscodingOptions, name: str) -> PreparedVideo | None:
    """The finished `destination` if, according to its header, it was made from this source with these options."""
    if not destination.is_file():
        return None
    try:
        with av.open(str(destination)) as container:
            if container.metadata.get("comment") != _note(source, options, name):
                return None
            stream = container.streams.video[0]
            seconds = float(stream.duration * stream.time_base)
            return PreparedVideo(stream.frames, seconds, stream.width, stream.height)
    except av.FFmpegError:
        return None


def _note(source: Path, options: TranscodingOptions, name: str) -> str:
    return json.dumps({"source": name, "bytes": source.stat().st_size, **asdict(options)})


# ------------------------------------------------------------------------------------------------------------ write


def _write(source: Path, partial: Path, options: TranscodingOptions, note: str, *, constant_rate: bool) -> list[float]:
    """Writes the whole file and returns the time of each frame in seconds."""
    with open_container(av, str(source)) as reading:
        stream = _source_stream(reading, source)
        rate = stream.average_rate or UNKNOWN_RATE
        # Timestamps of AVI are guesses (packed B-frames); its frames follow each other at a constant rate.
        constant_rate = constant_rate or reading.format.name == "avi"
        time_base = 1 / Fraction(rate) if constant_rate else Fraction(stream.time_base)
        if time_base.denominator > 10**6:
            time_base = Fraction(1, 90_000)
        frames = _deinterlaced(_decoded(reading, stream, source))
        frames = _timed(frames, time_base if constant_rate else None)
        if options.max_fps:
            frames = _at_most(frames, options.max_fps)
        first = next(frames, None)
        if first is None:
            raise VideoDecodeError(f"{source} has no decodable frame.")
        size = _stored_size(first[1], stream.sample_aspect_ratio, options.short_side)
        converted = _converted(chain([first], frames), size)
        with av.open(str(partial), "w", format="mp4", options={"movflags": "+faststart"}) as writing:
            writing.metadata["comment"] = note
            return _encode(converted, writing, rate, time_base, options)


def _source_stream(container, source: Path) -> av.VideoStream:
    try:
        return video_stream(container)
    except ValueError as error:
        raise VideoDecodeError(f"{source} cannot be decoded: {error}") from error


def _decoded(container, stream, source: Path) -> Iterator:
    try:
        yield from container.decode(stream)
    except decoding_errors() as error:
        raise VideoDecodeError(f"{source} cannot be decoded to its end: {type(error).__name__}: {error}") from error


def _timed(frames: Iterable, step: Fraction | None) -> Iterator[tuple[Fraction, object]]:
    """Yields (seconds since the first frame, frame), by the timestamps of the file or in steps of `step` seconds."""
    start = last = None
    for position, frame in enumerate(frames):
        if step is not None:
            time = position * step
        elif frame.pts is None:
            raise _BrokenTimestamps
        else:
            time = frame.pts * Fraction(frame.time_base)
            start = time if start is None else start
            time -= start
        if last is not None and time <= last:
            raise _BrokenTimestamps
        last = time
        yield time, frame


def _at_most(frames: Iterable[tuple], fps: float) -> Iterator[tuple]:
    """Yields the first frame in each interval of 1 / fps seconds. The tolerance of a tenth of an interval covers
    timestamps rounded to milliseconds; without it, videos with exactly this rate would lose frames."""
    last = None
    for time, frame in frames:
        slot = int(float(time) * fps + 0.1)
        if slot != last:
            yield time, frame
        last = slot


def _encode(frames: Iterable[tuple], writing, rate, time_base: Fraction, options: TranscodingOptions) -> list[float]:
    interval = options.keyframe_interval
    b_frames = B_FRAMES if interval > 1 else 0
    stream, times, last = None, [], -1
    for time, frame in frames:
        if stream is None:
            stream = writing.add_stream("libx264", rate=rate)
            stream.width, stream.height, stream.pix_fmt = frame.width, frame.height, "yuv420p"
            stream.thread_count = 1
            stream.codec_context.time_base = time_base
            stream.codec_context.color_range, stream.codec_context.colorspace = frame.color_range, frame.colorspace
            stream.options = {
                "preset": "veryfast", "tune": "fastdecode", "crf": str(options.crf), "g": str(interval),
                "keyint_min": str(interval), "sc_threshold": "0", "bf": str(b_frames), "a53cc": "0",
                "x264-params": "b-pyramid=none:b-adapt=0",
            }  # fmt: skip
        frame.pts, frame.time_base = round(time / time_base), time_base
        if frame.pts <= last:  # two frames within one tick of the clock
            raise _BrokenTimestamps
        last = frame.pts
        frame.pict_type = PictureType.NONE  # do not inherit the key frames of the source
        frame.duration = 0  # it is in the time base of the source; unknown is better than wrong
        times.append(float(frame.pts * time_base))
        writing.mux(stream.encode(frame))
    writing.mux(stream.encode())
    return times


# ----------------------------------------------------------------------------------------------------------- pixels


def _deinterlaced(frames: Iterable) -> Iterator:
    """Converts each interlaced frame to one progressive frame (bwdif) and passes others on; timestamps are kept."""
    graph, layout, timestamps = None, None, deque()
    for frame in frames:
        if graph is None and not frame.interlaced_frame:
            yield frame
            continue
        if layout != (frame.width, frame.height, frame.format.name):
            yield from _rest(graph, timestamps)
            layout = (frame.width, frame.height, frame.format.name)
            graph = av.filter.Graph()
            source = graph.add_buffer(
                width=frame.width, height=frame.height, format=frame.format, time_base=Fraction(1, 1000)
            )
            filters = graph.add("bwdif", mode="send_frame", deint="interlaced"), graph.add("buffersink")
            graph.link_nodes(source, *filters).configure()
        timestamps.append((frame.pts, frame.time_base))
        frame.pts = len(timestamps)
        graph.push(frame)
        yield from _pulled(graph, timestamps)
    yield from _rest(graph, timestamps)


def _rest(graph, timestamps: deque) -> Iterator:
    if graph is not None:
        graph.push(None)
        yield from _pulled(graph, timestamps)


def _pulled(graph, timestamps: deque) -> Iterator:
    while True:
        try:
            frame = graph.pull()
        except (BlockingIOError, EOFError):  # needs more input, or has returned everything
            return
        frame.pts, frame.time_base = timestamps.popleft()
        yield frame


def _stored_size(frame, pixel_aspect: Fraction | None, short_side: int) -> tuple[int, int]:
    """(width, height) before rotation, with square pixels, even, and with a shorter side of at most `short_side`."""
    aspect = Fraction(pixel_aspect or 1)
    if not Fraction(1, 10) < aspect < 10:  # a broken header, as in `read_frames`
        aspect = Fraction(1)
    width, height = frame.width * max(aspect, 1), frame.height / min(aspect, 1)  # stretch, never shrink
    scale = min(Fraction(1), Fraction(short_side) / min(width, height))
    return max(int(width * scale) // 2 * 2, 2), max(int(height * scale) // 2 * 2, 2)


def _converted(frames: Iterable[tuple], size: tuple[int, int]) -> Iterator[tuple]:
    """Converts frames to yuv420p of `size` (width, height) and rotates them; frames of another size are scaled."""
    reformatter = VideoReformatter()
    for time, frame in frames:
        is_rgb = frame.format.is_rgb or frame.format.has_palette
        quarter_turns = round(frame.rotation / 90) % 4
        converted = reformatter.reformat(
            frame,
            width=size[0],
            height=size[1],
            format="yuv420p",
            dst_colorspace=Colorspace.ITU601 if is_rgb else None,
            dst_color_range=ColorRange.MPEG,
            interpolation=int(Interpolation.BICUBIC) | _ACCURATE_ROUNDING,
        )
        colorspace = _SMPTE170M if is_rgb else frame.colorspace
        if quarter_turns:
            converted = _rotated(converted, quarter_turns)
        converted.color_range, converted.colorspace = _LIMITED_RANGE, colorspace
        yield time, converted


def _rotated(frame, quarter_turns: int) -> av.VideoFrame:
    """Rotates a yuv420p frame counter-clockwise."""
    width, height = frame.width, frame.height
    luma, blue, red = np.split(frame.to_ndarray().reshape(-1), [width * height, width * height * 5 // 4])
    planes = luma.reshape(height, width), blue.reshape(height // 2, -1), red.reshape(height // 2, -1)
    planes = [np.rot90(plane, quarter_turns) for plane in planes]  # (H, W) and twice (H / 2, W / 2)
    stacked = np.concatenate([plane.reshape(-1) for plane in planes]).reshape(-1, planes[0].shape[1])  # (H * 3 / 2, W)
    return av.VideoFrame.from_ndarray(stacked, format="yuv420p")


# ------------------------------------------------------------------------------------------------------------ check


def _check(path: Path, times: list[float], options: TranscodingOptions) -> PreparedVideo:
    """Decodes the written file once, and checks the number of frames, their times and the key frames."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        found = [(float(frame.pts * frame.time_base), frame.key_frame) for frame in container.decode(stream)]
        video = PreparedVideo(len(found), float(stream.duration * stream.time_base), stream.width, stream.height)
    tolerance = 1e-4  # seconds; the clock of the container may differ from that of the encoder
    if len(found) != len(times) or any(abs(a - b) > tolerance for (a, _), b in zip(found, times)):
        raise VideoDecodeError(f"{path} was written incorrectly: it has {len(found)} frames instead of {len(times)}.")
    if not all(found[index][1] for index in range(0, len(found), options.keyframe_interval)):
        raise VideoDecodeError(f"{path} was written incorrectly: a key frame is missing.")
    return video
