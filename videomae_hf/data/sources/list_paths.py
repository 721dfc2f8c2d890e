# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Finds the file that a path in a list refers to: without a suffix, from Windows, or with accents encoded otherwise."""

import os
from dataclasses import dataclass, field, replace
from pathlib import Path

from ...text_files import normalized
from .lists import URLS
from .media import IMAGES, VIDEOS, Media
from .records import VideoRecord


@dataclass
class PathFinder:
    """Finds files whose names differ slightly from those in a list; each folder is read once.

    Args:
        root: folder that relative paths refer to.
        media: the files that a name without suffix may refer to.
        notes: collects one note for each kind of difference that was found.
    """

    root: Path
    media: Media = VIDEOS
    notes: dict[str, str] = field(default_factory=dict)
    _folders: dict[str, tuple[set[str], dict[str, list[str]]]] = field(default_factory=dict)

    def absolute(self, path: str) -> str:
        """The absolute path or the URL that a path in a list refers to.

        Raises:
            ValueError: the protocol is not http, https or file.
        """
        if path.startswith(URLS):
            return path
        path = path.removeprefix("file://")
        if "://" in path:
            raise ValueError(f"{path!r}: only files and http(s) addresses can be read")
        return str(self.root / Path(path).expanduser())

    def is_there(self, path: str) -> bool:
        """Whether there is a file or folder of this name, or a video of this name with a suffix."""
        folder, name = os.path.split(self.absolute(path))
        names, by_stem = self._read(folder)
        return name in names or name in by_stem

    def find(self, sample: VideoRecord) -> VideoRecord:
        """The sample with its path replaced by that of the existing file, if the two differ.

        A name without a suffix refers to a folder of images or a file of that name, if there is one; otherwise to the
        only video of that name with any suffix; otherwise to the name with .mp4, as in the official lists
        (v1/kinetics.py). A clip of Kinetics is also found under `id_start_end`, already cut.

        Raises:
            ValueError: there are several videos whose names differ only in the suffix.
        """
        path = sample.path
        if path.startswith(URLS):
            return sample
        if "\\" in path and not os.path.exists(path):
            turned = path.replace("\\", "/")
            if os.path.exists(turned):
                self.notes["backslash"] = "backslashes in paths are read as slashes"
                path, sample = turned, replace(sample, path=turned)
        has_suffix = Path(path).suffix.lower() in IMAGES.suffixes
        if has_suffix and path.isascii():
            return self._as_a_video(sample)
        folder, name = os.path.split(path)
        names, by_stem = self._read(folder)
        if name in names:
            return sample if not has_suffix else self._as_a_video(sample)
        if normalized(name) != name or not name.isascii():
            same = [one for one in names if normalized(one) == normalized(name)]
            if len(same) == 1:
                self.notes["accents"] = "accents in paths are encoded differently than in file names"
                return replace(sample, path=os.path.join(folder, same[0]))
        return sample if has_suffix else self._without_suffix(sample, folder, name, by_stem)

    def _without_suffix(
        self, sample: VideoRecord, folder: str, name: str, by_stem: dict[str, list[str]]
    ) -> VideoRecord:
        if sample.start is not None and sample.end is not None:
            cut = by_stem.get(f"{name}_{round(sample.start):06d}_{round(sample.end):06d}", [])
            if len(cut) == 1:
                self.notes["cut"] = "videos are named id_start_end: they are cut already, and are used as a whole"
                return VideoRecord(os.path.join(folder, cut[0]), sample.label, targets=sample.targets)
        found = by_stem.get(name, [])
        if not self.media.images:
            found = [one for one in found if one == name + ".mp4"] or found  # as in the official lists
        if len(found) > 1:
            raise ValueError(f"{sample.path!r} could be {' or '.join(sorted(found))}; add the suffix")
        if found:
            return self._as_a_video(replace(sample, path=os.path.join(folder, found[0])))
        if sample.num_frames is not None or "." in name or self.media.images:
            return sample
        return replace(sample, path=sample.path + ".mp4")

    def _as_a_video(self, sample: VideoRecord) -> VideoRecord:
        """The sample of a video file, without the numbers of images, which do not apply to it."""
        if sample.num_frames is None and sample.first_frame is None:
            return sample
        self.notes["numbers"] = "frame counts are not used for video files"
        return replace(sample, first_frame=None, num_frames=None)

    def _read(self, folder: str) -> tuple[set[str], dict[str, list[str]]]:
        """The names in a folder, and its videos by name without suffix; both empty if the folder does not exist."""
        if folder not in self._folders:
            try:
                names = set(os.listdir(folder))
            except OSError:
                names = set()
            by_stem = {}
            for name in names:
                stem, suffix = os.path.splitext(name)
                if suffix.lower() in self.media.suffixes:
                    by_stem.setdefault(stem, []).append(name)
            self._folders[folder] = names, by_stem
        return self._folders[folder]
