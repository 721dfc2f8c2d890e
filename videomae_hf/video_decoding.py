# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Frames of a video by index, through decord, PyAV or torchcodec, or from a folder of images.

Frame i is the i-th frame a full decode gives, in presentation order. `read_frames` is the one entry; what it is given
as `indices` may depend on the video (`VideoInfo`), so that a file is opened once to count, sample and decode.

`backend="auto"` is PyAV, which is right on every file, and without it torchcodec, then decord (benchmarks/decoding.md
has the scores and the times). PyAV seeks to the key frame before a wanted frame where the packets of the file say which
frame is which (MP4, MOV, Matroska, WebM, FLV, AVI without B-frames), and decodes from the start where they do not
(other AVI, MPEG, raw streams, damaged files).
"""

import http.client
import importlib
import re
import sys
import urllib.request
from bisect import bisect_right
from collections.abc import Callable, Sequence
from functools import partial
from io import BytesIO
from itertools import islice, pairwise
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError

from .video_sources import FrameFolder, VideoDecodeError, VideoInfo, VideoSegment, VideoSource, source_name


BACKENDS = ("pyav", "torchcodec", "decord")  # the order in which "auto" looks for one
_MODULES = {"pyav": "av", "torchcodec": "torchcodec.decoders", "decord": "decord"}
IMAGE_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")


def read_frames(
    source: VideoSource,
    indices: Sequence[int] | Callable[[VideoInfo], Sequence[int]],
    backend: str = "auto",
    square_pixels: bool = False,
) -> torch.Tensor:
    """Decodes some frames of a video.

    Args:
        source: path or http(s) URL of a video, its bytes, a folder of images (a path or a `FrameFolder`), or a
            `VideoSegment` of any of these, of which only the segment exists for `indices`.
        indices: frame indices, in any order and with repeats, or a function that makes them from a `VideoInfo`.
        backend: `"auto"`, `"pyav"`, `"torchcodec"` or `"decord"`.
        square_pixels: stretch frames whose pixels are not square to the width they are meant to be shown at; False
            gives them as stored. decord does not tell the shape of pixels and always gives frames as stored.

    Returns:
        uint8 (len(indices), H, W, 3), RGB, rotated as the file says.

    Raises:
        FileNotFoundError: no such file.
        VideoDecodeError: the video is damaged, or has no such frame.
        ImportError: the backend is not installed or does not load.
    """
    name, segments = source_name(source), []
    while isinstance(source, VideoSegment):
        segments.insert(0, source)
        source = source.source
    source = _fetch(source)
    if isinstance(source, FrameFolder):
        reader = _read_images
    else:
        reader = {"pyav": _read_pyav, "torchcodec": _read_torchcodec, "decord": _read_decord}[usable_backend(backend)]

    def checked_indices(info: VideoInfo) -> list[int]:
        if info.num_frames < 1:
            raise VideoDecodeError(f"{name} has no decodable frame.")
        start = 0
        try:
            for segment in segments:
                start, info = start + segment.frame_range(info).start, segment.info(info)
            chosen = [int(index) for index in (indices(info) if callable(indices) else indices)]
        except ValueError as error:  # too short for the sampling asked for, say
            raise VideoDecodeError(f"{name}: {error}") from error
        if not chosen or min(chosen) < 0 or max(chosen) >= info.num_frames:
            raise VideoDecodeError(f"{name} has {info.num_frames} frames; frames {chosen} were asked for.")
        return [start + index for index in chosen]

    try:
        frames, pixel_aspect_ratio = reader(source, checked_indices)
    except (VideoDecodeError, MemoryError):
        raise
    except decoding_errors() as error:
        reason = getattr(error, "strerror", None) or error  # PyAV's own text repeats the name
        raise VideoDecodeError(f"{name} cannot be decoded: {type(error).__name__}: {reason}") from error
    return _stretched(frames, pixel_aspect_ratio) if square_pixels else frames


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


def decoding_errors() -> tuple[type[Exception], ...]:
    """What the three libraries raise for files they cannot read.

    av its own OSErrors and ValueErrors, and some that are FFmpegErrors only; torchcodec RuntimeErrors; and each of them
    now and then one of the others.
    """
    ffmpeg_error = getattr(sys.modules.get("av"), "FFmpegError", OSError)
    return OSError, ValueError, RuntimeError, IndexError, TypeError, ArithmeticError, ffmpeg_error


def _fetch(source) -> str | bytes | FrameFolder:
    if isinstance(source, str) and source.startswith(("http://", "https://")):
        try:
            with urllib.request.urlopen(source, timeout=60) as response:
                return response.read()
        except http.client.HTTPException as error:  # the connection ended early; other failures are OSErrors
            raise OSError(f"{source} could not be fetched: {type(error).__name__}: {error}") from error
    if isinstance(source, bytes):
        return source
    if not isinstance(source, str | Path | FrameFolder):
        raise TypeError(f"source must be a path, a URL, bytes or a FrameFolder, not {type(source).__name__}.")
    path = Path(source.path if isinstance(source, FrameFolder) else source).expanduser()
    if path.is_dir() and str(source):
        return source if isinstance(source, FrameFolder) else FrameFolder(str(path))
    if isinstance(source, FrameFolder) or not path.is_file():
        raise FileNotFoundError(f"No {'folder of images' if isinstance(source, FrameFolder) else 'video file'} {path}.")
    return str(path.absolute())  # a relative name with a colon in it would be taken for a protocol and an address


def _openable(source: str | bytes):
    return BytesIO(source) if isinstance(source, bytes) else source


def _stretched(frames: torch.Tensor, pixel_aspect_ratio: float | None) -> torch.Tensor:
    """(N, H, W, 3) with pixels of this width / height -> (N, H, W', 3) with square ones."""
    width = round(frames.shape[2] * (pixel_aspect_ratio or 1.0))
    # Headers with ratios such as 0:1 or 1:1000 are broken ones.
    if width == frames.shape[2] or not 0.1 < pixel_aspect_ratio < 10:
        return frames
    frames = frames.permute(0, 3, 1, 2)  # (N, H, W, 3) -> (N, 3, H, W)
    frames = torch.nn.functional.interpolate(frames, (frames.shape[2], width), mode="bilinear", antialias=True)
    return frames.permute(0, 2, 3, 1)  # -> (N, H, W', 3)


def _in_order(wanted: list[int], frames: dict[int, np.ndarray]) -> torch.Tensor:
    return torch.from_numpy(np.stack([frames[index] for index in wanted]))


# ------------------------------------------------------------------------------------------------------------- PyAV

# Containers that hold the time of each packet and whether it is a key frame, and that seek by these times. In the
# others some of it is guessed: AVI (packed B-frames), MPEG program and transport streams, ASF, MXF, WTV, raw streams.
_FORMATS_TO_SEEK_IN = ("mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "flv")
# Codecs whose frames that no other frame refers to may be left out without changing any other, bit for bit.
_CODECS_WITH_SKIPPABLE_FRAMES = ("h264", "mpeg1video", "mpeg2video", "mpeg4")
_KEPT_BYTES = 128 * 2**20  # of decoded frames, while a file whose frames must be counted by decoding is read


class _IndexNotConfirmed(Exception):
    """Decoding did not give the frames that the packets promised."""


def _read_pyav(source, pick) -> tuple[torch.Tensor, float | None]:
    av = importlib.import_module("av")
    reformatter = importlib.import_module("av.video.reformatter").VideoReformatter()
    # Since PyAV 17 colours are converted on all cores, unless one says otherwise.
    to_rgb = partial(_to_rgb, reformatter, {"threads": 1} if _release(av) >= 17 else {})
    # `with` always: a container left open deadlocks the DataLoader's forked workers.
    with open_container(av, source) as container:
        stream = video_stream(container)
        timestamps, keys = _packet_index(container, stream)
        if timestamps:
            seconds = _seconds(timestamps, stream.time_base)
            wanted = pick(VideoInfo(len(timestamps), _fps(stream, seconds), seconds))
            try:
                frames = _seek_and_decode(container, stream, timestamps, keys, wanted, to_rgb)
                return _in_order(wanted, frames), _pixel_aspect_ratio(stream, frames)
            except (_IndexNotConfirmed, av.FFmpegError):
                pass  # a full decode shows what the file really holds
    return _decode_from_the_start(av, source, pick, to_rgb)


def open_container(av, source: str | bytes):
    # Titles in unknown encodings are no reason to refuse a video; since PyAV 19 they are none anyway.
    options = {"metadata_errors": "ignore"} if _release(av) < 19 else {}
    return av.open(_openable(source), **options)


def _release(av) -> int:
    return int(av.__version__.split(".")[0])


def video_stream(container):
    """The best video stream, to be decoded on one thread; raises ValueError if there is none."""
    stream = container.streams.best("video")
    if stream is None or stream.disposition.value & 0x400:  # attached picture: the cover of a piece of music
        raise ValueError("no video stream")
    if stream.codec_context is None:
        raise ValueError("no decoder for its video stream")
    stream.codec_context.thread_count = 1  # workers are the parallelism; threads of many decoders only get in the way
    return stream


def _fps(stream, seconds: list[float] | None) -> float | None:
    """The average rate of the header, unless the timestamps say that it is nonsense (1000 in FLV)."""
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

    None in place of the first where packets do not identify frames: one without a timestamp or two with the same,
    frames that would come before the first key frame, key frames that do not come after all that was coded before them,
    and timestamps in the order of decoding where that may not be the order of the frames (B-frames remuxed from AVI).
    What no packet tells is whether others are missing: then a decoder may give fewer frames, or other repairs of them.
    """
    timestamps, keys, latest = [], [], float("-inf")
    if container.format.name not in _FORMATS_TO_SEEK_IN:
        # AVI numbers packets as they are decoded, which is the order of the frames where there are no B-frames.
        if container.format.name != "avi" or stream.codec_context.has_b_frames:
            return None, []
    codec = stream.codec_context.name
    for packet in container.demux(stream):
        if packet.size == 0:  # the flush packet at the end
            continue
        if packet.pts is None or packet.is_corrupt or packet.is_discard:  # discarded: cut off by an edit list
            return None, []
        # Packed B-frames leave packets that hold nothing, of a few bytes.
        if codec == "mpeg4" and packet.size < 20:
            return None, []
        if _is_hidden(codec, memoryview(packet)):
            continue
        if packet.is_keyframe:
            if packet.pts <= latest:  # videos joined without new times, say
                return None, []
            keys.append(packet.pts)
        # Decoders drop frames that refer to what came before the first key frame of a cut video.
        if not keys or packet.pts < keys[0]:
            return None, []
        timestamps.append(packet.pts)
        latest = max(latest, packet.pts)
    ordered = sorted(timestamps)
    if len(set(timestamps)) < len(timestamps) or (stream.codec_context.has_b_frames and timestamps == ordered):
        return None, []
    if codec == "h264" and "4:4:4" in (stream.codec_context.profile or ""):
        # FFmpeg decodes 4:4:4 by old x264 releases with the fault they were made with, which it knows from a message
        # in the first key frame and forgets when seeking: other key frames would give wrong colours.
        keys = keys[:1]
    return ordered, keys


def _is_hidden(codec: str, packet: memoryview) -> bool:
    """Whether VP8 or VP9 keeps a frame in this packet that is only referred to: the show_frame bit of its header (RFC
    6386, 9.1; VP9 bitstream specification, 7.2). In VP9 such frames mostly share a packet with one that is shown."""
    if codec == "vp8":
        return not packet[0] >> 4 & 1
    if codec != "vp9" or packet[-1] >> 5 == 0b110:  # the marker of a packet of more than one frame
        return False
    header = packet[0] >> (packet[0] >> 4 & 3 != 3)  # profile 3 has one bit more
    return not header & 0b101  # neither show_existing_frame nor show_frame


def _seek_and_decode(container, stream, timestamps: list[int], keys: list[int], wanted: list[int], to_rgb) -> dict:
    """{index: RGB frame}: decodes each group of pictures that holds wanted frames, up to the last of them."""
    groups = {}  # timestamp of the key frame -> {timestamp: index} of the wanted frames
    for index in sorted(set(wanted)):
        key = keys[bisect_right(keys, timestamps[index]) - 1]
        groups.setdefault(key, {})[timestamps[index]] = index
    frames = {}
    for key, group in groups.items():
        last = key - 1
        for frame in _decode_group(container, stream, key, group):
            if frame.pts is None or frame.pts < key:  # refers to the group before; decoders drop most of these
                continue
            refers = frame.pict_type in (2, 3)  # P and B frames need others; some files call all frames key frames
            # What a decoder makes up for damaged parts depends on all that it decoded before.
            if frame.is_corrupt or frame.pts <= last or (frame.pts == key and refers):
                raise _IndexNotConfirmed
            last = frame.pts
            if frame.pts in group:
                frames[group[frame.pts]] = to_rgb(frame)
    if len(frames) < len(set(wanted)):
        raise _IndexNotConfirmed
    return frames


def _decode_group(container, stream, key: int, group: dict[int, int]):
    """Frames from the key frame on, until those with a timestamp in `group` have come.

    Frames that are neither wanted nor referred to by others are not decoded where the codec says which these are. The
    decoder is emptied after the last wanted packet: waiting for it to give the frame would decode more of them.
    """
    decoder = stream.codec_context
    skips = decoder.name in _CODECS_WITH_SKIPPABLE_FRAMES
    container.seek(key, stream=stream)
    missing, started = set(group), False
    for packet in container.demux(stream):
        if packet.size == 0:
            break
        if not started and (packet.pts is None or packet.pts > key):
            raise _IndexNotConfirmed  # the seek went past the key frame
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


def _decode_from_the_start(av, source, pick, to_rgb) -> tuple[torch.Tensor, float | None]:
    """Decodes everything to know what there is, once, or again where the frames do not all fit in memory meanwhile."""
    kept, kept_bytes, timestamps = [], 0, []
    with open_container(av, source) as container:
        stream = video_stream(container)
        for frame in container.decode(stream):
            timestamps.append(frame.pts)
            kept_bytes += sum(plane.buffer_size for plane in frame.planes)
            if kept_bytes > _KEPT_BYTES:
                kept.clear()
            else:
                kept.append(frame)
        ordered = None not in timestamps and all(first < second for first, second in pairwise(timestamps))
        seconds = _seconds(timestamps, stream.time_base) if ordered and timestamps else None
        wanted = pick(VideoInfo(len(timestamps), _fps(stream, seconds), seconds))
        if kept_bytes <= _KEPT_BYTES:
            frames = {index: to_rgb(kept[index]) for index in set(wanted)}
            return _in_order(wanted, frames), _pixel_aspect_ratio(stream, frames)
    with open_container(av, source) as container:
        stream = video_stream(container)
        decoded = islice(container.decode(stream), max(wanted) + 1)
        needed = set(wanted)
        frames = {position: to_rgb(frame) for position, frame in enumerate(decoded) if position in needed}
        return _in_order(wanted, frames), _pixel_aspect_ratio(stream, frames)


def _pixel_aspect_ratio(stream, frames: dict[int, np.ndarray]) -> float | None:
    """Width / height of a pixel of the upright frames."""
    ratio = float(stream.sample_aspect_ratio or 0)
    height, width, _ = next(iter(frames.values())).shape
    turned = (height, width) == (stream.width, stream.height) and height != width
    return (1 / ratio if turned else ratio) if ratio else None


def _to_rgb(reformatter, options: dict, frame) -> np.ndarray:
    """(H, W, 3) uint8, upright: the display matrix of phone videos is applied. One reformatter serves all frames of a
    video; without it each frame would set up its own conversion, which costs more than the conversion."""
    image = reformatter.reformat(frame, format="rgb24", **options).to_ndarray()
    return np.ascontiguousarray(np.rot90(image, k=round(frame.rotation / 90) % 4)) if frame.rotation else image


# ------------------------------------------------------------------------------------------------ torchcodec, decord


def _read_torchcodec(source, pick) -> tuple[torch.Tensor, float | None]:
    decoder = importlib.import_module("torchcodec.decoders").VideoDecoder(
        source, dimension_order="NHWC", num_ffmpeg_threads=1, seek_mode="exact"
    )
    metadata = decoder.metadata
    wanted = pick(VideoInfo(len(decoder), metadata.average_fps))
    unique = sorted(set(wanted))
    frames = decoder.get_frames_at(unique).data  # (number of unique frames, H, W, 3)
    ratio = getattr(metadata, "pixel_aspect_ratio", None)  # since 0.8
    return frames[[unique.index(index) for index in wanted]], float(ratio) if ratio else None


def _read_decord(source, pick) -> tuple[torch.Tensor, None]:
    decord = importlib.import_module("decord")
    try:
        reader = decord.VideoReader(_openable(source), num_threads=1)
        timestamps = reader.get_frame_timestamp(list(range(len(reader))))[:, 0]  # (N, 2), begin and end -> (N,)
        ordered = len(timestamps) and bool((np.diff(timestamps) > 0).all())
        seconds = (timestamps - timestamps[0]).tolist() if ordered else None
        wanted = pick(VideoInfo(len(reader), reader.get_avg_fps(), seconds))
        unique = sorted(set(wanted))
        frames = reader.get_batch(unique).asnumpy()  # (number of unique frames, H, W, 3)
    except decord.DECORDError as error:
        raise RuntimeError(str(error).strip().splitlines()[0]) from error
    return torch.from_numpy(frames[[unique.index(index) for index in wanted]]), None


# ---------------------------------------------------------------------------------------------------- image folders


def _read_images(folder: FrameFolder, pick) -> tuple[torch.Tensor, None]:
    paths = image_paths(folder)
    if not paths:
        wanted_names = folder.template or ", ".join(IMAGE_SUFFIXES)
        raise VideoDecodeError(f"{folder.path} holds no image ({wanted_names}).")
    wanted = pick(VideoInfo(len(paths), folder.fps))
    images = {}
    for index in set(wanted):
        try:
            with Image.open(paths[index]) as image:
                images[index] = np.asarray(image.convert("RGB"))
        except (OSError, UnidentifiedImageError) as error:
            raise VideoDecodeError(f"{paths[index]} cannot be read: {error}") from error
    shapes = {image.shape for image in images.values()}
    if len(shapes) > 1:
        raise VideoDecodeError(f"{folder.path} has images of different sizes: {sorted(shapes)}.")
    return _in_order(wanted, images), None


def image_paths(folder: FrameFolder) -> list[Path]:
    """The images of a folder in the order of the frames; those that a template and a number promise may be missing."""
    if folder.template is None:
        found = (path for path in Path(folder.path).iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)
        found = (path for path in found if not path.name.startswith("."))  # macOS leaves ._1.jpg on disks
        # img_9 comes before img_10
        paths = sorted(found, key=lambda path: [int(part) if part.isdigit() else part for part in _numbers_apart(path)])
        return paths if folder.num_frames is None else paths[: folder.num_frames]
    paths = []
    while folder.num_frames is None or len(paths) < folder.num_frames:
        path = Path(folder.path, folder.template.format(folder.first + len(paths)))
        if folder.num_frames is None and not path.is_file():
            break
        paths.append(path)
    return paths


def _numbers_apart(path: Path) -> list[str]:
    return re.split(r"(\d+)", path.name)
