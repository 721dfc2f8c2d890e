# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Reads frames of a video by index, through PyAV, torchcodec or decord, or from images and arrays.

Frame i is the i-th frame of a full decode, in presentation order. `read_frames` is the only entry point; its `indices`
may depend on the video (`VideoInfo`), so that a file is opened only once to count, sample and decode.

`backend="auto"` is PyAV, which is correct on every tested file, or without it torchcodec, then decord
(benchmarks/decoding.md has scores and times). If the packets of a file identify its frames (MP4, MOV, Matroska, WebM,
FLV, AVI without B-frames), PyAV seeks to the key frame before a wanted frame; otherwise (other AVI, MPEG, raw streams,
damaged files) it decodes from the start.

All input is opened as video containers only. By default, FFmpeg would treat text as a playlist and open the files,
addresses and network ports in it. PyAV is given a list of the formats that it may open (`FORMATS`) and no protocol but
files; torchcodec and decord have no such option, and get only bytes that begin like a container (other_decoders.py).

This file ships with checkpoints and may import only its siblings; the decoders are loaded with `importlib`, because
transformers refuses checkpoint code with an ordinary import of a package that is not installed.
"""

import importlib
import sys
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from functools import partial
from io import BytesIO
from itertools import islice, pairwise
from typing import Any, NamedTuple

import numpy as np
import torch

from .frame_files import IMAGE_SUFFIXES, check_size, damaged_file_errors, image_paths, reader_of
from .frame_pixels import BATCH_BYTES, fit_channels
from .other_decoders import read_decord, read_torchcodec
from .video_sources import (
    FrameFolder,
    VideoDecodeError,
    VideoInfo,
    VideoSegment,
    VideoSource,
    check_template,
    fetch,
    source_name,
)


__all__ = [
    "BACKENDS", "FORMATS", "IMAGE_SUFFIXES", "MAX_PIXELS", "FrameFolder", "VideoDecodeError", "VideoInfo",
    "VideoSegment", "check_template", "decoding_errors", "image_paths", "naming_errors", "open_container",
    "read_frames", "rgb_converter", "stretched", "usable_backend", "video_stream",
]  # fmt: skip

# Names of FFmpeg's demuxers for video files, none of which opens other files or addresses
FORMATS = (
    "amv", "asf", "asf_o", "av1", "avi", "cavsvideo", "dirac", "dv", "flv", "gif", "h261", "h263", "h264", "hevc",
    "ivf", "jpeg_pipe", "kux", "live_flv", "m4v", "matroska", "mjpeg", "mov", "mpeg", "mpegts", "mpegvideo", "mxf",
    "nsv", "nut", "obu", "ogg", "rm", "vc1", "vc1test", "vvc", "wtv", "yuv4mpegpipe",
)  # fmt: skip
MAX_PIXELS = 8192 * 4320  # per frame: 8K in cinema and television; 8000 x 8000 is more

# (index, uint8 (H, W, C), width / height of a pixel)
Decoded = Iterator[tuple[int, np.ndarray, float | None]]


def read_frames(
    source: VideoSource,
    indices: Sequence[int] | Callable[[VideoInfo], Sequence[int]],
    backend: str = "auto",
    *,
    square_pixels: bool = False,
    transform: Callable[[torch.Tensor], torch.Tensor] | None = None,
    num_channels: int = 3,
    max_pixels: int | None = MAX_PIXELS,
) -> torch.Tensor:
    """Decodes selected frames of a video.

    Args:
        source: path or http(s) URL of a video, its bytes, a folder of images (a path or a `FrameFolder`), or a
            `VideoSegment` of any of these, whose frames `indices` counts from its start. Arrays (.npy, .npz) and
            multi-page images (TIFF, animated PNG and WebP) are videos too, see `frame_files.py`.
        indices: frame indices, in any order and with repeats, or a function that returns them for a `VideoInfo`.
        backend: `"auto"`, `"pyav"`, `"torchcodec"` or `"decord"`.
        square_pixels: stretch frames with non-square pixels to their display width; False returns them as stored.
            decord does not report the shape of pixels and always returns frames as stored.
        transform: maps frames, uint8 (n, H, W, num_channels), to a tensor (n, ...), each frame independently. It is
            called on a few frames at a time during decoding, so that large frames that are resized are never in memory
            all at once. Its exceptions are passed on unchanged.
        num_channels: 3 for RGB, 1 for luma (as PIL's "L"). Other numbers only for files that have them: images with
            transparency, and arrays.
        max_pixels: refuse frames with more pixels, before decoding if the header gives their size; None accepts any.

    Returns:
        uint8 (len(indices), H, W, num_channels), rotated as the file says, or the result of `transform`.

    Raises:
        FileNotFoundError: there is no such file.
        VideoDecodeError: the video is damaged, lacks a requested frame, has frames of several sizes or of more than
            `max_pixels`, or has another number of channels.
        OSError: a URL cannot be loaded, see `fetch`.
        ImportError: the backend is not installed, or does not load.
    """
    _check_backend(backend)
    name, segments = source_name(source), []
    while isinstance(source, VideoSegment):
        segments.insert(0, source)
        source = source.source
    source = fetch(source)
    clip = _Clip(name, transform, square_pixels=square_pixels)

    def pick(info: VideoInfo) -> list[int]:
        wanted = _wanted_frames(name, info, segments, indices)
        clip.start(wanted)
        return wanted

    decoded = _decode(source, pick, backend, num_channels, max_pixels)
    with closing(naming_errors(name, decoded)) as frames:
        for index, frame, pixel_aspect_ratio in frames:
            clip.add(index, frame, pixel_aspect_ratio)
    return clip.finish()


def _wanted_frames(name: str, info: VideoInfo, segments: list[VideoSegment], indices) -> list[int]:
    """The wanted indices, counted in the whole video that `info` describes."""
    if info.num_frames < 1:
        raise VideoDecodeError(f"{name} has no decodable frame.")
    start = 0
    try:
        for segment in segments:
            start, info = start + segment.frame_range(info).start, segment.info(info)
        chosen = [int(index) for index in (indices(info) if callable(indices) else indices)]
    except ValueError as error:  # for example, too short for the requested sampling
        raise VideoDecodeError(f"{name}: {error}") from error
    if not chosen or min(chosen) < 0 or max(chosen) >= info.num_frames:
        raise VideoDecodeError(f"{name} has {info.num_frames} frames, but frames {chosen} were requested.")
    return [start + index for index in chosen]


def _decode(source, pick, backend: str, num_channels: int, max_pixels: int | None) -> Decoded:
    """Yields each wanted frame once. If a reader finds its index to be wrong, it calls `pick` again and starts over."""
    read_file = reader_of(source)
    if read_file is not None:
        for index, frame in read_file(source, pick, num_channels, max_pixels):
            yield index, frame, None
        return
    read_video = BACKENDS[usable_backend(backend)].read
    for index, frame, pixel_aspect_ratio in read_video(source, pick, max_pixels):
        yield index, fit_channels(frame, num_channels), pixel_aspect_ratio


def naming_errors(name: str, decoded: Iterator) -> Iterator:
    """Passes frames on; errors of the decoding libraries become `VideoDecodeError`s that name the video."""
    try:
        yield from decoded
    except (VideoDecodeError, ImportError):
        raise
    except decoding_errors() as error:
        reason = getattr(error, "strerror", None) or error  # PyAV's own text repeats the name
        raise VideoDecodeError(f"{name} cannot be decoded: {type(error).__name__}: {reason}") from error


class _Clip:
    """Collects frames in the requested order as they arrive, and transforms a few at a time."""

    def __init__(self, name: str, transform: Callable | None, *, square_pixels: bool) -> None:
        self.name, self.transform, self.square_pixels = name, transform, square_pixels

    def start(self, wanted: list[int]) -> None:
        self.length, self.places = len(wanted), defaultdict(list)
        for place, index in enumerate(wanted):
            self.places[index].append(place)
        self.waiting, self.missing = [], set(wanted)
        self.shape, self.pixel_aspect_ratio, self.frames = None, None, None

    def add(self, index: int, frame: np.ndarray, pixel_aspect_ratio: float | None) -> None:
        if self.shape is None:
            self.shape, self.pixel_aspect_ratio = frame.shape, pixel_aspect_ratio
        if frame.shape != self.shape:
            sizes = " and ".join(f"{width} x {height}" for height, width, _ in (self.shape, frame.shape))
            raise VideoDecodeError(f"{self.name} cannot be decoded: its frames differ in shape, {sizes}.")
        self.waiting.append((index, frame))
        if self.transform is None or (len(self.waiting) + 1) * frame.nbytes > BATCH_BYTES:
            self._place_waiting()

    def finish(self) -> torch.Tensor:
        if self.waiting:
            self._place_waiting()
        if self.missing:  # a file that changed while it was read
            raise VideoDecodeError(f"{self.name} cannot be decoded: frames {sorted(self.missing)[:5]} are missing.")
        return self.frames

    def _place_waiting(self) -> None:
        indices, frames = zip(*self.waiting)
        self.waiting = []
        frames = torch.from_numpy(np.stack(frames) if len(frames) > 1 else frames[0][None])  # (n, H, W, C)
        if self.square_pixels:
            frames = stretched(frames, self.pixel_aspect_ratio)
        if self.transform is not None:
            frames = self.transform(frames)
        if self.frames is None:
            self.frames = frames.new_empty((self.length, *frames.shape[1:]))
        for index, frame in zip(indices, frames):
            for place in self.places[index]:
                self.frames[place] = frame
        self.missing -= set(indices)


def usable_backend(backend: str = "auto") -> str:
    """The backend that is used for `backend` on this machine: itself, or for `"auto"` the first that loads.

    Raises:
        ValueError: the name is unknown.
        ImportError: the backend does not load; the message says why.
    """
    _check_backend(backend)
    reasons = []
    for candidate in BACKENDS if backend == "auto" else (backend,):
        try:
            importlib.import_module(BACKENDS[candidate].module)
            return candidate
        # torchcodec raises RuntimeError or OSError if it does not find FFmpeg, or was built for another torch.
        except (ImportError, RuntimeError, OSError) as error:
            reasons.append(
                f"{candidate} ({str(error).strip().splitlines()[0] if str(error) else type(error).__name__})"
            )
    raise ImportError(f"No video decoding backend can be loaded: {', '.join(reasons)}. `pip install av` is enough.")


def _check_backend(backend: str) -> None:
    if backend not in ("auto", *BACKENDS):
        raise ValueError(f"backend={backend!r} is unknown; choose one of auto, {', '.join(BACKENDS)}.")


def decoding_errors() -> tuple[type[Exception], ...]:
    """The exceptions that the decoding libraries raise for files that they cannot read.

    PyAV raises its own OSErrors and ValueErrors, some plain FFmpegErrors, and MemoryError if a damaged header asks for
    too much memory; torchcodec raises RuntimeErrors; and each of them occasionally one of the others.
    """
    ffmpeg_error = getattr(sys.modules.get("av"), "FFmpegError", OSError)
    return (*damaged_file_errors(), ffmpeg_error)


def stretched(frames: torch.Tensor, pixel_aspect_ratio: float | None) -> torch.Tensor:
    """(N, H, W, 3) with pixels of this width / height -> (N, H, W', 3) with square ones."""
    width = round(frames.shape[2] * (pixel_aspect_ratio or 1.0))
    # Ratios such as 0:1 or 1:1000 come from broken headers.
    if width == frames.shape[2] or not 0.1 < pixel_aspect_ratio < 10:
        return frames
    frames = frames.permute(0, 3, 1, 2)  # (N, H, W, 3) -> (N, 3, H, W)
    frames = torch.nn.functional.interpolate(frames, (frames.shape[2], width), mode="bilinear", antialias=True)
    return frames.permute(0, 2, 3, 1)  # -> (N, H, W', 3)


# ------------------------------------------------------------------------------------------------------------- PyAV

# Containers that store the time of each packet and whether it is a key frame, and that seek by these times. In other
# containers FFmpeg guesses some of it: AVI (packed B-frames), MPEG program and transport streams, ASF, MXF, WTV, raw.
_FORMATS_TO_SEEK_IN = ("mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "flv")
# Codecs in which skipping unreferenced frames does not change any other frame, bit for bit
_CODECS_WITH_SKIPPABLE_FRAMES = ("h264", "mpeg1video", "mpeg2video", "mpeg4")
_KEPT_BYTES = 128 * 2**20  # of decoded frames, kept while a file is decoded to count its frames


class _IndexNotConfirmed(Exception):
    """Decoding did not give the frames that the packets promised."""


def _read_pyav(source, pick, max_pixels: int | None) -> Decoded:
    av = importlib.import_module("av")
    to_rgb = rgb_converter(av, max_pixels)
    # Always in a `with` block: a container left open deadlocks the forked workers of the DataLoader.
    with open_container(av, source) as container:
        stream = video_stream(container, max_pixels)
        timestamps, keys = _packet_index(container, stream)
        if timestamps:
            seconds = _seconds(timestamps, stream.time_base)
            wanted = pick(VideoInfo(len(timestamps), _fps(stream, seconds), seconds))
            try:
                for index, frame in _seek_and_decode(container, stream, timestamps, keys, wanted):
                    yield index, *to_rgb(stream, frame)
                return
            except (_IndexNotConfirmed, av.FFmpegError):
                pass  # a full decode shows which frames the file really holds
    yield from _decode_from_the_start(av, source, pick, to_rgb, max_pixels)


def open_container(av, source: str | bytes) -> Any:
    """Opens a file or bytes in one of `FORMATS`; nothing but the file itself is opened.

    Raises:
        ValueError: the format is another one.
    """
    options = {"format_whitelist": ",".join(FORMATS), "protocol_whitelist": "file"}
    # A video with a title in an unknown encoding is still readable; since PyAV 19 it raises no error anyway.
    more = {"metadata_errors": "ignore"} if _release(av) < 19 else {}
    try:
        return av.open(BytesIO(source) if isinstance(source, bytes) else source, container_options=options, **more)
    except av.ArgumentError as error:  # raised by FFmpeg for formats that are not in the list
        raise ValueError("it is not a video, or its format is not supported") from error


def _release(av) -> int:
    return int(av.__version__.split(".")[0])


def video_stream(container, max_pixels: int | None = None) -> Any:
    """The best video stream of a container, set up for decoding on one thread.

    Raises:
        ValueError: there is no video stream, or according to its header frames have more than `max_pixels`.
    """
    stream = container.streams.best("video")
    if stream is None or stream.disposition.value & 0x400:  # an attached picture, such as the cover of an album
        raise ValueError("it has no video stream")
    decoder = stream.codec_context
    if decoder is None:
        raise ValueError("there is no decoder for its video stream")
    decoder.thread_count = 1  # the workers of the data loader run in parallel already
    if max_pixels is not None:
        check_size(decoder.width, decoder.height, max_pixels)
        decoder.options = {"max_pixels": str(max_pixels)}  # for sizes that are not in the header
    return stream


def _fps(stream, seconds: list[float] | None) -> float | None:
    """The average frame rate in the header, unless the timestamps contradict it (FLV may claim 1000)."""
    fps = float(stream.average_rate) if stream.average_rate else None
    measured = (len(seconds) - 1) / seconds[-1] if seconds and seconds[-1] > 0 else None
    if measured and not (fps and 0.5 < fps / measured < 2):
        return measured
    return fps


def _seconds(timestamps: list[int], time_base) -> list[float]:
    scale = float(time_base)
    return [(timestamp - timestamps[0]) * scale for timestamp in timestamps]


def _packet_index(container, stream) -> tuple[list[int] | None, list[int]]:
    """Timestamps of all frames in presentation order, and those of the key frames, read without decoding.

    The first result is None if the packets do not identify the frames: a packet has no timestamp, or two have the same;
    frames precede the first key frame; a key frame precedes a frame that was coded before it; or timestamps follow the
    order of decoding although that may differ from the order of presentation (B-frames remuxed from AVI). Packets do
    not reveal whether others are missing; in that case a decoder may return fewer or differently concealed frames.
    """
    timestamps, keys, latest = [], [], float("-inf")
    if container.format.name not in _FORMATS_TO_SEEK_IN:
        # AVI numbers packets in decoding order, which is the order of the frames if there are no B-frames.
        if container.format.name != "avi" or stream.codec_context.has_b_frames:
            return None, []
    codec = stream.codec_context.name
    for packet in container.demux(stream):
        if packet.size == 0:  # the flush packet at the end
            continue
        if packet.pts is None or packet.is_corrupt or packet.is_discard:  # discarded: cut off by an edit list
            return None, []
        # Packed B-frames leave empty packets of a few bytes.
        if codec == "mpeg4" and packet.size < 20:
            return None, []
        if _is_hidden(codec, memoryview(packet)):
            continue
        if packet.is_keyframe:
            if packet.pts <= latest:  # for example, videos concatenated without new timestamps
                return None, []
            keys.append(packet.pts)
        # Decoders drop frames that refer to frames before the first key frame of a cut video.
        if not keys or packet.pts < keys[0]:
            return None, []
        timestamps.append(packet.pts)
        latest = max(latest, packet.pts)
    ordered = sorted(timestamps)
    if len(set(timestamps)) < len(timestamps) or (stream.codec_context.has_b_frames and timestamps == ordered):
        return None, []
    if codec == "h264" and "4:4:4" in (stream.codec_context.profile or ""):
        # For 4:4:4 video by old x264 releases, FFmpeg reproduces a bug of the encoder, which it detects by a message in
        # the first key frame and forgets when seeking: from other key frames colours would be wrong.
        keys = keys[:1]
    return ordered, keys


def _is_hidden(codec: str, packet: memoryview) -> bool:
    """Whether this packet of VP8 or VP9 holds a frame that is only a reference and never shown: the show_frame bit of
    its header (RFC 6386, 9.1; VP9 bitstream specification, 7.2). In VP9 such frames mostly share a packet with one that
    is shown."""
    if codec == "vp8":
        return not packet[0] >> 4 & 1
    if codec != "vp9" or packet[-1] >> 5 == 0b110:  # the marker of a packet with several frames
        return False
    header = packet[0] >> (packet[0] >> 4 & 3 != 3)  # profile 3 has one bit more
    return not header & 0b101  # neither show_existing_frame nor show_frame


def _seek_and_decode(
    container, stream, timestamps: list[int], keys: list[int], wanted: list[int]
) -> Iterator[tuple[int, object]]:
    """Yields (index, av.VideoFrame): decodes each group of pictures with wanted frames, up to the last of these."""
    groups, missing = {}, set(wanted)  # timestamp of the key frame -> {timestamp: index} of the wanted frames
    for index in sorted(missing):
        key = keys[bisect_right(keys, timestamps[index]) - 1]
        groups.setdefault(key, {})[timestamps[index]] = index
    for key, group in groups.items():
        last = key - 1
        for frame in _decode_group(container, stream, key, group):
            if frame.pts is None or frame.pts < key:  # refers to the previous group; decoders drop most of these
                continue
            refers = frame.pict_type in (2, 3)  # P and B frames need others; some files call all frames key frames
            # How a decoder conceals damaged parts depends on everything that it decoded before.
            if frame.is_corrupt or frame.pts <= last or (frame.pts == key and refers):
                raise _IndexNotConfirmed
            last = frame.pts
            if frame.pts in group:
                missing.discard(group[frame.pts])
                yield group[frame.pts], frame
    if missing:
        raise _IndexNotConfirmed


def _decode_group(container, stream, key: int, group: dict[int, int]) -> Iterator[tuple]:
    """Decodes frames from the key frame on, until all timestamps in `group` have been decoded.

    Frames that are neither wanted nor referenced are skipped if the codec marks them. The decoder is flushed after the
    last wanted packet: waiting for it to return the frame would decode more packets.
    """
    decoder = stream.codec_context
    skips = decoder.name in _CODECS_WITH_SKIPPABLE_FRAMES
    container.seek(key, stream=stream)
    missing, started = set(group), False
    for packet in container.demux(stream):
        if packet.size == 0:
            break
        if not started and (packet.pts is None or packet.pts > key):
            raise _IndexNotConfirmed  # the seek skipped the key frame
        started = started or packet.pts == key
        if not started:
            continue
        decoder.skip_frame = "NONREF" if skips and packet.pts not in missing else "DEFAULT"
        missing.discard(packet.pts)
        yield from packet.decode()
        if not missing:
            break
    yield from decoder.decode(None)
    decoder.flush_buffers()


def _decode_from_the_start(av, source, pick, to_rgb, max_pixels: int | None) -> Decoded:
    """Decodes the whole file to count its frames, and decodes it again if they do not fit into `_KEPT_BYTES`."""
    kept, kept_bytes, timestamps = [], 0, []
    with open_container(av, source) as container:
        stream = video_stream(container, max_pixels)
        for frame in container.decode(stream):
            timestamps.append(frame.pts)
            kept_bytes += sum(plane.buffer_size for plane in frame.planes)
            if kept_bytes > _KEPT_BYTES:
                kept.clear()
            else:
                kept.append(frame)
        ordered = None not in timestamps and all(first < second for first, second in pairwise(timestamps))
        seconds = _seconds(timestamps, stream.time_base) if ordered and timestamps else None
        wanted = set(pick(VideoInfo(len(timestamps), _fps(stream, seconds), seconds)))
        if kept_bytes <= _KEPT_BYTES:
            for index in sorted(wanted):
                yield index, *to_rgb(stream, kept[index])
            return
    with open_container(av, source) as container:
        stream = video_stream(container, max_pixels)
        for index, frame in enumerate(islice(container.decode(stream), max(wanted) + 1)):
            if index in wanted:
                yield index, *to_rgb(stream, frame)


def rgb_converter(av, max_pixels: int | None) -> Callable[..., tuple[np.ndarray, float | None]]:
    """A function from a stream and one of its frames to uint8 (H, W, 3), upright, and the width / height of a pixel."""
    reformatter = importlib.import_module("av.video.reformatter").VideoReformatter()
    # Since PyAV 17, colours are converted on all cores by default.
    return partial(_to_rgb, reformatter, {"threads": 1} if _release(av) >= 17 else {}, max_pixels)


def _to_rgb(reformatter, options: dict, max_pixels: int | None, stream, frame) -> tuple[np.ndarray, float | None]:
    """An av.VideoFrame -> (H, W, 3) uint8, upright, and the width / height of its pixels.

    The display matrix (rotation of phone videos) is applied. One reformatter serves all frames of a video; without it
    each frame would set up its own conversion, which costs more than the conversion itself.
    """
    check_size(frame.width, frame.height, max_pixels)
    image = reformatter.reformat(frame, format="rgb24", **options).to_ndarray()
    turns = round(frame.rotation / 90) % 4 if frame.rotation else 0
    if turns:
        image = np.ascontiguousarray(np.rot90(image, k=turns))
    ratio = float(stream.sample_aspect_ratio or 0) or None
    return image, 1 / ratio if ratio and turns % 2 else ratio


class Backend(NamedTuple):
    """A library that decodes videos.

    Args:
        module: the module whose import shows whether it works on this machine.
        read: called with (source, pick, max_pixels); yields (index, uint8 frame (H, W, C), pixel aspect ratio).
    """

    module: str
    read: Callable[..., Decoded]


# In the order in which "auto" looks for one. A new decoder is a function in other_decoders.py and an entry here.
BACKENDS = {
    "pyav": Backend("av", _read_pyav),
    "torchcodec": Backend("torchcodec.decoders", read_torchcodec),
    "decord": Backend("decord", read_decord),
}
