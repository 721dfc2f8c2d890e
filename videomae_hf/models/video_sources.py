# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""The sources of a video: a file, a URL, bytes, a folder of images, or a segment of any of these.

`fetch` locates the file or downloads the URL; nothing is decoded here. This file ships with checkpoints and may import
only its siblings.
"""

import http.client
import math
import re
import threading
import urllib.request
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


_TEMPLATE = re.compile(r"[^{}]*\{0?(:0?\d{0,2}d?)?\}[^{}]*")
URL_SCHEMES = ("http://", "https://")
MAX_URL_BYTES = 2**30  # downloads are kept in memory
MAX_URL_SECONDS = 300.0  # for the whole download, from resolving the host name to the last byte
_MAX_SILENT_SECONDS = 60.0  # between two parts of a response

_ROUNDING = 1e-3  # seconds; Matroska rounds timestamps to milliseconds, so that a third of a second is 0.333


class VideoDecodeError(ValueError):
    """Raised for a video that cannot be decoded; the message gives its name and the reason."""


@dataclass(frozen=True)
class VideoInfo:
    """Length and timing of a video, from which its frames are sampled.

    Args:
        num_frames: number of frames.
        fps: average frames per second; None if unknown.
        timestamps: time of each frame in seconds, relative to the first frame; None if the file has no reliable
            timestamps, in which case frames are assumed to be equally spaced.
    """

    num_frames: int
    fps: float | None = None
    timestamps: Sequence[float] | None = None


@dataclass(frozen=True)
class FrameFolder:
    """A video stored as a folder of images, one per frame.

    Args:
        path: the folder.
        template: format of the image names, such as `"img_{:05}.jpg"`; None takes all images of the folder, ordered by
            the numbers in their names.
        first: number of the first image, with a template.
        num_frames: number of frames; None counts the existing images.
        fps: frames per second, if known.

    Raises:
        ValueError: the template does not have exactly one placeholder for the number.
    """

    path: str
    template: str | None = None
    first: int = 1
    num_frames: int | None = None
    fps: float | None = None

    def __post_init__(self):
        check_template(self.template)


def check_template(template: str | None) -> None:
    """Raises ValueError unless a template has one placeholder for the number of an image."""
    if template is not None and not _TEMPLATE.fullmatch(template):
        raise ValueError(
            f"frame_template={template!r} needs one placeholder for the number of an image, as in img_{{:05}}.jpg."
        )


@dataclass(frozen=True)
class VideoSegment:
    """A part of a video that is used like a whole video, with frames counted from 0.

    Args:
        source: the video, in any form that `read_frames` accepts.
        start, end: seconds from the first frame of the video. The segment has the frames whose timestamp lies in
            [start, end) or, if there is none, the frame on display at `start`. None means the start or end of the
            video, and so does an `end` beyond it.
        start_frame, end_frame: the same as frame numbers, counted from 0: [start_frame, end_frame).

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
            raise ValueError(f"Give a segment in seconds or in frames, not in both: {self._bounds()}.")
        first, last = (self.start_frame, self.end_frame) if self._by_frames else (self.start, self.end)
        if not 0 <= (first or 0) < (math.inf if last is None else last):  # also true for NaN
            raise ValueError(f"A segment must start at 0 or later and end after its start, not {self._bounds()}.")

    def frame_range(self, info: VideoInfo) -> range:
        """The frames of this segment, as indices in the whole video that `info` describes.

        Raises:
            VideoDecodeError: the segment starts after the end of the video, or is given in seconds although the timing
                of the video is unknown.
        """
        if self._by_frames:
            first, last = self.start_frame or 0, self.end_frame
            if first >= info.num_frames:
                raise VideoDecodeError(f"it has {info.num_frames} frames, but the segment starts at frame {first}")
            return range(first, info.num_frames if last is None else min(last, info.num_frames))
        if self.start is None and self.end is None:
            return range(info.num_frames)
        return self._between(info, self.start or 0, math.inf if self.end is None else self.end)

    @staticmethod
    def _between(info: VideoInfo, start: float, end: float) -> range:
        """The frames whose timestamp lies in [start, end), or the one on display at `start`."""
        duration = _duration(info)
        if start >= duration:
            raise VideoDecodeError(f"it has {duration:.6g} seconds, but the segment starts at {start:.6g} seconds")
        late = min(_ROUNDING, duration / info.num_frames / 4)
        if info.timestamps is not None:
            first, last = (bisect_left(info.timestamps, bound - late) for bound in (start, end))
            shown = max(bisect_right(info.timestamps, start + late) - 1, 0)
        else:
            first, last = (math.ceil((min(bound, duration) - late) * info.fps) for bound in (start, end))
            shown = math.floor((start + late) * info.fps)
        return range(first, last) if first < last else range(shown, shown + 1)

    def info(self, info: VideoInfo) -> VideoInfo:
        """The `VideoInfo` of this segment, from that of the whole video."""
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
        bounds = self._bounds()
        return source_name(self.source) + (f" [{bounds}]" if bounds else "")


VideoSource = str | Path | bytes | FrameFolder | VideoSegment


def source_name(source: VideoSource) -> str:
    """The name of a video in messages."""
    if isinstance(source, bytes):
        return f"<{len(source)} bytes>"
    return str(source.path if isinstance(source, FrameFolder) else source)


def _duration(info: VideoInfo) -> float:
    """Seconds from the first frame to the end of the last one."""
    if info.timestamps is None:
        if not info.fps:
            raise VideoDecodeError("its frame rate is unknown; give the segment as start_frame and end_frame")
        return info.num_frames / info.fps
    last = info.timestamps[-1]
    # The display time of the last frame is estimated from the others.
    return last + (last / (info.num_frames - 1) if info.num_frames > 1 else 1 / (info.fps or 1))


def fetch(source: str | Path | bytes | FrameFolder) -> str | bytes | FrameFolder:
    """The absolute path of a file, its bytes, or the folder of images.

    Raises:
        FileNotFoundError: there is no such file or folder.
        OSError: a URL cannot be loaded, or not within `MAX_URL_BYTES` and `MAX_URL_SECONDS`.
        VideoDecodeError: the file is empty.
    """
    name = source_name(source)
    if isinstance(source, str) and source.lower().startswith(URL_SCHEMES):
        source = _download(source)
    if isinstance(source, bytes):
        return _not_empty(source, len(source), name)
    if not isinstance(source, str | Path | FrameFolder):
        raise TypeError(f"source must be a path, a URL, bytes or a FrameFolder, not {type(source).__name__}.")
    path = Path(source.path if isinstance(source, FrameFolder) else source).expanduser()
    if path.is_dir() and str(source):
        return source if isinstance(source, FrameFolder) else FrameFolder(str(path))
    if isinstance(source, FrameFolder) or not path.is_file():
        raise FileNotFoundError(f"No {'folder of images' if isinstance(source, FrameFolder) else 'video file'} {path}.")
    # Absolute, because FFmpeg would take a relative name with a colon for a protocol and an address.
    return _not_empty(str(path.absolute()), path.stat().st_size, name)


def _not_empty(source: str | bytes, size: int, name: str) -> str | bytes:
    if size == 0:
        raise VideoDecodeError(f"{name} cannot be decoded: it is empty.")
    return source


class _HttpRedirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects to http and https only; urllib would also follow them to ftp."""

    def redirect_request(self, req, fp, code, msg, headers, newurl) -> urllib.request.Request | None:
        if not newurl.lower().startswith(URL_SCHEMES):
            raise OSError(f"it redirects to {newurl}, which is neither http nor https")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _download(url: str) -> bytes:
    """Downloads the body of a URL.

    The download runs in a thread: a server that sends a byte now and then never exceeds the timeout of a socket, not
    even in the headers, so that only the caller can stop waiting.
    """
    outcome, stopped = [], threading.Event()

    def load() -> None:
        try:
            outcome.append(_body(url, stopped))
        except (OSError, ValueError, http.client.HTTPException) as error:
            outcome.append(error)

    thread = threading.Thread(target=load, daemon=True)
    thread.start()
    thread.join(MAX_URL_SECONDS)
    late = thread.is_alive()
    stopped.set()
    if late or not outcome:
        raise OSError(f"{url} could not be fetched within {MAX_URL_SECONDS:g} seconds.")
    if isinstance(outcome[0], Exception):
        raise OSError(f"{url} could not be fetched: {type(outcome[0]).__name__}: {outcome[0]}") from outcome[0]
    return outcome[0]


def _body(url: str, stopped: threading.Event) -> bytes:
    body = bytearray()
    with urllib.request.build_opener(_HttpRedirects).open(url, timeout=_MAX_SILENT_SECONDS) as response:
        length = response.length
        while not stopped.is_set():
            if max(len(body), length or 0) > MAX_URL_BYTES:
                raise OSError(f"it has more than {MAX_URL_BYTES} bytes")
            part = response.read1(2**20)
            if not part:
                break
            body += part
    if length is not None and len(body) < length:
        raise OSError(f"the connection ended after {len(body)} of {length} bytes")
    return bytes(body)
