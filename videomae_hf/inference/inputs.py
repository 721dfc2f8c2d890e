# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Finds the videos that a user names: files, folders, lists, addresses, standard input, cameras and growing folders.

Only what the user names is expanded. Names found in a folder, in a list or on standard input are videos and nothing
else: a file called `camera:0` or `-` is a file.
"""

import io
import logging
import os
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch

from ..data.sources.folders_and_lists import Reading, read_samples
from ..data.sources.media import VIDEO_SUFFIXES, VIDEOS, Media
from ..models.frame_files import ARRAY_SUFFIXES, IMAGE_SUFFIXES, first_bytes
from ..models.video_sources import URL_SCHEMES, VideoSource, source_name
from .frame_stream import Camera, camera_named


logger = logging.getLogger(__name__)

STDIN = "-"
_FILE_SUFFIXES = (*VIDEO_SUFFIXES, *ARRAY_SUFFIXES, *IMAGE_SUFFIXES)
_SETTLED_SECONDS = 2.0  # a file whose size has not changed for so long is complete


@dataclass(frozen=True, eq=False)
class Input:
    """A video to work on.

    Args:
        name: its path, address or description, as in results; unique for each file.
        video: the video, as the processor takes it, or a camera.
        place: its path below the folder, or below the root of the list, in which it was found; its file name otherwise.
    """

    name: str
    video: "VideoSource | Camera | np.ndarray | torch.Tensor | list"
    place: str = ""

    @property
    def is_in_memory(self) -> bool:
        """Whether the video is given as frames, rather than as a file to decode."""
        return not isinstance(self.video, VideoSource | Camera)


def input_of(source: Any, number: int = 0) -> Input:
    """The input for one video in any form that the processor takes; frames in memory are called "array 0".

    Raises:
        ValueError: it is of another type, or a batch of videos.
    """
    if isinstance(source, Input):
        return source
    if isinstance(source, VideoSource | Camera):
        camera = camera_named(source) if isinstance(source, str) else None
        return Input(source_name(source), camera or source)
    if isinstance(source, np.ndarray | torch.Tensor) and source.ndim == 4:
        return Input(f"array {number}", source)
    if isinstance(source, list | tuple) and len(source) and not isinstance(source[0], VideoSource):
        return Input(f"array {number}", list(source))
    shape = f" of shape {tuple(source.shape)}" if isinstance(source, np.ndarray | torch.Tensor) else ""
    raise ValueError(
        f"Expected one video (a path, a URL, or frames (T, H, W, C) or (T, C, H, W)), not "
        f"{type(source).__name__}{shape}; predict_many takes several."
    )


def find_inputs(
    sources: Iterable[Any],
    data_root: str | None = None,
    *,
    watch: bool = False,
    first_number: int = 0,
    media: Media = VIDEOS,
    note: Callable[[str], None] = logger.warning,
) -> Iterator[Input]:
    """Yields the videos of all sources, in their order; each is looked at only when its turn comes.

    Args:
        sources: files, folders (searched at any depth, in natural order; a folder of images is one video), lists in any
            format that training accepts, http(s) addresses, `"-"` (paths on standard input, one per line),
            `"camera:0"`, or arrays and tensors.
        data_root: folder that relative paths in lists refer to; by default that of the list.
        watch: then waits for new videos in the folders among the sources, until interrupted.
        first_number: number of the first source, in the names of arrays.
        media: what is found in folders and lists: videos, or images as well, each of its own.
        note: is called with remarks about files that are left out.

    Raises:
        FileNotFoundError: there is no such file or folder.
        ValueError: a folder or list holds no video, or a list cannot be read.
    """
    sources = list(sources)
    folders = [source for source in sources if isinstance(source, str | Path) and Path(source).expanduser().is_dir()]
    if watch and not folders:
        raise ValueError("watch needs a folder among the inputs, in which new videos appear.")
    for number, source in enumerate(sources, first_number):
        if not (watch and source in folders):
            yield from _videos_of(source, number, Reading(root=data_root, labelled=False, media=media), note)
    if watch:
        yield from watch_folders(folders, media=media)


def inputs_of(videos: Iterable[Any], media: Media = VIDEOS) -> Iterator[Input]:
    """The videos of inputs, or of sources as in `find_inputs`, each of which is looked at when its turn comes."""
    for number, video in enumerate([videos] if isinstance(videos, str | Path | bytes) else videos):
        if isinstance(video, Input):
            yield video
        else:
            yield from find_inputs([video], first_number=number, media=media)


def is_endless(sources: Iterable[Any]) -> bool:
    """Whether a source may go on for ever, so that the number of its videos is unknown."""
    return any(isinstance(source, str) and (source == STDIN or camera_named(source)) for source in sources)


def _videos_of(source: Any, number: int, reading: Reading, note: Callable[[str], None]) -> Iterator[Input]:
    if isinstance(source, str) and source == STDIN:
        # Unbuffered: if the program ends while a thread waits for a line, the lock of a buffer would crash it.
        yield from _on_stdin(io.FileIO(sys.stdin.fileno(), closefd=False))
    elif not isinstance(source, str | Path) or str(source).lower().startswith(URL_SCHEMES) or camera_named(str(source)):
        yield input_of(source, number)
    elif "://" in str(source) and not os.path.exists(source):
        raise ValueError(f"{source}: only files and http(s) addresses can be read.")
    else:
        yield from _on_disk(Path(source).expanduser(), reading, note)


def _on_disk(path: Path, reading: Reading, note: Callable[[str], None]) -> Iterator[Input]:
    """The videos of a file, a list or a folder."""
    is_folder = path.is_dir()
    is_clip = is_folder and not reading.media.images and _is_folder_of_images(path)
    if is_clip or (not is_folder and is_video_file(path)):
        yield Input(str(path), str(path), path.name)
        return
    records, _ = read_samples(path, reading=reading)
    for message in records.messages:
        note(message)
    order, root = range(len(records)), path if is_folder else reading.root or path.parent
    if is_folder:
        order = sorted(order, key=lambda index: _natural(records[index].path))
    for index in order:
        record = records[index]
        is_file = record.content is None and not record.path.lower().startswith(URL_SCHEMES)
        below = os.path.relpath(record.path, root) if is_file else record.path
        yield Input(record.name, record.video(), below + record.name.removeprefix(record.path))


def is_video_file(path: Path) -> bool:
    """Whether a file is a video, rather than a list of videos; a missing one counts as a video, which is reported."""
    if path.suffix.lower() in _FILE_SUFFIXES or not path.is_file():
        return True
    return b"\0" in first_bytes(str(path), 4096)


def _is_folder_of_images(path: Path) -> bool:
    """Whether a folder is one video: it holds images, and neither videos nor folders."""
    images = False
    with os.scandir(path) as entries:
        for entry in entries:
            suffix = os.path.splitext(entry.name)[1].lower()
            if entry.name.startswith("."):
                continue
            if suffix in VIDEO_SUFFIXES or entry.is_dir():
                return False
            images |= suffix in IMAGE_SUFFIXES
    return images


def _natural(path: str) -> list:
    """A key that sorts clip_9 before clip_10."""
    return [(0, int(part), part) if part.isdecimal() else (1, 0, part) for part in re.split(r"(\d+)", path) if part]


def _on_stdin(lines: BinaryIO) -> Iterator[Input]:
    """The videos whose paths or addresses are read from standard input, one per line, as they arrive."""
    for line in lines:
        name = os.fsdecode(line.rstrip(b"\n").removesuffix(b"\r"))
        if name:
            yield Input(name, name)


# ----------------------------------------------------------------------------------------------------- growing folders


def watch_folders(
    folders: Iterable[str | Path],
    interval: float = 0.5,
    *,
    media: Media = VIDEOS,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[Input]:
    """Yields each video that is in the folders or appears there, once it is complete; does not end.

    A video is complete once its size and time have not changed for `_SETTLED_SECONDS`. Hidden files, and links to
    folders, are left out.

    Args:
        folders: the folders, searched at any depth.
        interval: seconds between two looks.
        media: the files that are waited for.
        sleep: waits; replaced in tests.
    """
    folders, seen, waiting = list(folders), set(), {}  # path -> (its state, how long it has been unchanged)
    while True:
        present = [
            path for folder in folders for path in _files_below(os.path.expanduser(folder), media) if path not in seen
        ]
        states = {path: state for path in present if (state := _state(path)) is not None}
        for path, state in states.items():
            before, unchanged = waiting.get(path, (None, 0.0))
            waiting[path] = (state, unchanged + interval if state == before else 0.0)
            if waiting[path][1] >= _SETTLED_SECONDS:
                seen.add(path)
                yield Input(path, path)
        waiting = {path: entry for path, entry in waiting.items() if path in states and path not in seen}
        sleep(interval)


def _files_below(folder: str | Path, media: Media) -> Iterator[str]:
    for place, names, files in os.walk(folder):
        names[:] = sorted((name for name in names if not name.startswith(".")), key=_natural)
        for name in sorted(files, key=_natural):
            if not name.startswith(".") and os.path.splitext(name)[1].lower() in media.suffixes:
                yield os.path.join(place, name)


def _state(path: str) -> tuple[int, int] | None:
    """Size and time of a file; None if it is gone or empty."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return (status.st_size, status.st_mtime_ns) if status.st_size else None
