# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Frames of a video by index, through decord, PyAV or torchcodec.

Frame i is the i-th frame a full decode gives, in presentation order. `read_frames` is the one entry; what it is given
as `indices` may depend on the video (`VideoInfo`), so that a file is opened once to count, sample and decode.

`backend="auto"` is PyAV, which is right on every file, and without it torchcodec, then decord. PyAV seeks to the key
frame before a wanted frame where the packets of the file say which frame is which, and decodes from the start where
they do not (packed B-frames, raw streams, damaged indices).
"""

import importlib
import urllib.request
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from itertools import islice
from pathlib import Path

import numpy as np
import torch


BACKENDS = ("pyav", "torchcodec", "decord")  # the order in which "auto" looks for one
_MODULES = {"pyav": "av", "torchcodec": "torchcodec.decoders", "decord": "decord"}


class VideoDecodeError(ValueError):
    """A video that cannot be decoded; the message has its name and the reason."""


@dataclass(frozen=True)
class VideoInfo:
    """What sampling needs to know of a video: its frames, and how many of them make a second (None: unknown)."""

    num_frames: int
    fps: float | None


def read_frames(
    source: str | Path | bytes, indices: Sequence[int] | Callable[[VideoInfo], Sequence[int]], backend: str = "auto"
) -> torch.Tensor:
    """Decodes some frames of a video.

    Args:
        source: path, http(s) URL, or the bytes of a video file.
        indices: frame indices, in any order and with repeats, or a function that makes them from a `VideoInfo`.
        backend: `"auto"`, `"pyav"`, `"torchcodec"` or `"decord"`.

    Returns:
        uint8 (len(indices), H, W, 3), RGB, rotated as the file says.

    Raises:
        FileNotFoundError: no such file.
        VideoDecodeError: the video is damaged, or has no such frame.
        ImportError: the backend is not installed or does not load.
    """
    name = f"<{len(source)} bytes>" if isinstance(source, bytes) else str(source)
    source = _fetch(source)
    reader = {"pyav": _read_pyav, "torchcodec": _read_torchcodec, "decord": _read_decord}[usable_backend(backend)]

    def checked_indices(info: VideoInfo) -> list[int]:
        if info.num_frames < 1:
            raise VideoDecodeError(f"{name} has no decodable frame.")
        try:
            chosen = [int(index) for index in (indices(info) if callable(indices) else indices)]
        except ValueError as error:  # too short for the sampling asked for, say
            raise VideoDecodeError(f"{name}: {error}") from error
        if not chosen or min(chosen) < 0 or max(chosen) >= info.num_frames:
            raise VideoDecodeError(f"{name} has {info.num_frames} frames; frames {chosen} were asked for.")
        return chosen

    try:
        return reader(source, checked_indices)
    except (VideoDecodeError, MemoryError):
        raise
    # What the three libraries raise for files they cannot read: av its own OSErrors and ValueErrors, torchcodec
    # RuntimeErrors, and each of them now and then one of the others.
    except (OSError, ValueError, RuntimeError, IndexError, TypeError, ArithmeticError) as error:
        raise VideoDecodeError(f"{name} cannot be decoded: {type(error).__name__}: {error}") from error


def usable_backend(backend: str = "auto") -> str:
    """The backend that `backend` means here: itself, or for `"auto"` the first that loads.

    Raises:
        ImportError: it does not load; the message says why.
    """
    if backend != "auto" and backend not in BACKENDS:
        raise ValueError(f"backend={backend!r} is unknown; choose one of auto, {', '.join(BACKENDS)}.")
    reasons = []
    for candidate in BACKENDS if backend == "auto" else (backend,):
        try:
            importlib.import_module(_MODULES[candidate])
            return candidate
        # An installed torchcodec that does not find its FFmpeg or fits another torch raises RuntimeError or OSError.
        except (ImportError, RuntimeError, OSError) as error:
            reasons.append(
                f"{candidate} ({str(error).strip().splitlines()[0] if str(error) else type(error).__name__})"
            )
    raise ImportError(f"No video decoding backend loads here: {', '.join(reasons)}. `pip install av` is enough.")


def _fetch(source) -> str | bytes:
    if isinstance(source, str) and source.startswith(("http://", "https://")):
        with urllib.request.urlopen(source, timeout=60) as response:
            return response.read()
    if isinstance(source, bytes):
        return source
    if not isinstance(source, str | Path):
        raise TypeError(f"source must be a path, a URL or bytes, not {type(source).__name__}.")
    path = Path(source).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"No video file {path}.")
    return str(path)


def _openable(source: str | bytes):
    return BytesIO(source) if isinstance(source, bytes) else source


# ------------------------------------------------------------------------------------------------------------- PyAV


class _IndexNotConfirmed(Exception):
    """Decoding did not give the frames that the packets promised."""


def _read_pyav(source, pick) -> torch.Tensor:
    av = importlib.import_module("av")
    to_rgb = partial(_to_rgb, importlib.import_module("av.video.reformatter").VideoReformatter())
    # `with` always: a container left open deadlocks the DataLoader's forked workers.
    with av.open(_openable(source), metadata_errors="ignore") as container:
        stream = _video_stream(container)
        timestamps, key_timestamps = _packet_index(container, stream)
        fps = float(stream.average_rate) if stream.average_rate else None
        if timestamps is not None:
            wanted = pick(VideoInfo(len(timestamps), fps))
            try:
                frames = _seek_and_decode(container, stream, timestamps, key_timestamps, set(wanted), to_rgb)
                return _in_order(wanted, frames)
            except (_IndexNotConfirmed, av.FFmpegError):
                pass  # a full decode shows what the file really holds
    with av.open(_openable(source), metadata_errors="ignore") as container:
        num_frames = sum(1 for _ in container.decode(_video_stream(container)))
    wanted = pick(VideoInfo(num_frames, fps))
    with av.open(_openable(source), metadata_errors="ignore") as container:
        decoded = islice(container.decode(_video_stream(container)), max(wanted) + 1)
        needed = set(wanted)
        frames = {position: to_rgb(frame) for position, frame in enumerate(decoded) if position in needed}
        return _in_order(wanted, frames)


def _video_stream(container):
    stream = container.streams.best("video")
    if stream is None:
        raise VideoDecodeError(f"{container.name} has no video stream.")
    stream.codec_context.thread_count = 1  # workers are the parallelism; threads of many decoders only get in the way
    return stream


def _packet_index(container, stream) -> tuple[list[int] | None, list[int]]:
    """Timestamps of all frames in presentation order, and those of the key frames, read without decoding.

    None in place of the first where packets do not identify frames: one without a timestamp, two with the same, a
    stream that does not begin with a key frame, and AVI, whose timestamps are guesses (packed B-frames).
    """
    timestamps, key_timestamps = [], []
    if container.format.name == "avi":
        return None, []
    for packet in container.demux(stream):
        if packet.size == 0:  # the flush packet at the end
            continue
        if packet.pts is None or packet.is_corrupt or (not timestamps and not packet.is_keyframe):
            return None, []
        if packet.is_discard:  # cut off by an edit list
            return None, []
        timestamps.append(packet.pts)
        if packet.is_keyframe:
            key_timestamps.append(packet.pts)
    if not timestamps or len(set(timestamps)) < len(timestamps):
        return None, []
    return sorted(timestamps), sorted(key_timestamps)


def _seek_and_decode(container, stream, timestamps, key_timestamps, wanted: set[int], to_rgb) -> dict[int, np.ndarray]:
    """Decodes each group of pictures that holds a wanted frame from its key frame to the last wanted one."""
    frames, remaining = {}, sorted(wanted)
    while remaining:
        container.seek(timestamps[remaining[0]], stream=stream)
        group = bisect_right(key_timestamps, timestamps[remaining[0]])
        before = len(remaining)
        for frame in container.decode(stream):
            if frame.pts is None or frame.pts > timestamps[remaining[0]]:
                raise _IndexNotConfirmed
            if frame.pts == timestamps[remaining[0]]:
                frames[remaining.pop(0)] = to_rgb(frame)
                # In a later group: seeking there skips what lies between.
                if not remaining or bisect_right(key_timestamps, timestamps[remaining[0]]) > group:
                    break
        if len(remaining) == before:
            raise _IndexNotConfirmed
    return frames


def _to_rgb(reformatter, frame) -> np.ndarray:
    """(H, W, 3) uint8, upright: the display matrix of phone videos is applied. One reformatter serves all frames of a
    video; without it each frame would set up its own conversion, which costs more than the conversion."""
    image = reformatter.reformat(frame, format="rgb24").to_ndarray()
    return np.ascontiguousarray(np.rot90(image, k=round(frame.rotation / 90) % 4)) if frame.rotation else image


def _in_order(wanted: list[int], frames: dict[int, np.ndarray]) -> torch.Tensor:
    return torch.from_numpy(np.stack([frames[index] for index in wanted]))


# ------------------------------------------------------------------------------------------------ torchcodec, decord


def _read_torchcodec(source, pick) -> torch.Tensor:
    decoder = importlib.import_module("torchcodec.decoders").VideoDecoder(
        source, dimension_order="NHWC", num_ffmpeg_threads=1, seek_mode="exact"
    )
    wanted = pick(VideoInfo(len(decoder), decoder.metadata.average_fps))
    unique = sorted(set(wanted))
    frames = decoder.get_frames_at(unique).data  # (number of unique frames, H, W, 3)
    return frames[[unique.index(index) for index in wanted]]


def _read_decord(source, pick) -> torch.Tensor:
    decord = importlib.import_module("decord")
    try:
        reader = decord.VideoReader(_openable(source), num_threads=1)
        wanted = pick(VideoInfo(len(reader), reader.get_avg_fps()))
        unique = sorted(set(wanted))
        frames = reader.get_batch(unique).asnumpy()  # (number of unique frames, H, W, 3)
    except decord.DECORDError as error:
        raise RuntimeError(str(error).strip().splitlines()[0]) from error
    return torch.from_numpy(frames[[unique.index(index) for index in wanted]])
