# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Videos in tar shards (the WebDataset format) as samples that are read where they lie.

A shard is a plain tar file. Members that follow each other and share a name up to its first dot are one sample: a
video, and `cls` with its class by number or name. An `index.json` beside the shards, as `videomae prepare --shards`
writes it, gives the names of the classes. Only the headers are read at the start. A video is then read from its place
in its shard, so that a set in shards is shuffled, split over processes, resumed and scored like one in files. For
shards on another machine, which are better read from front to back, see `streams.py`.
"""

import glob
import json
import tarfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .sources import VIDEO_SUFFIXES, Sample, SampleList, numbered, shown, sorted_classes


@dataclass(frozen=True)
class TarSample(Sample):
    """A video at `offset` in a tar file, of `size` bytes; `path` is the file's and, behind it, the member's."""

    shard: str = ""
    offset: int = 0
    size: int = 0

    def video(self, template: str | None = None) -> bytes:
        with open(self.shard, "rb") as file:
            file.seek(self.offset)
            content = file.read(self.size)
        if len(content) < self.size:
            raise OSError(f"{self.path} ends early: {len(content)} of {self.size} bytes.")
        return content


class TarSamples(Sequence):
    """Samples of tar files, kept in a few arrays; looking at one reads nothing of the video."""

    def __init__(self, samples: SampleList, shards: list[str], places: np.ndarray):
        self.shards = shards
        self._samples, self._places = samples, places  # int64 (n, 3): shard, offset, size

    @property
    def multi_label(self) -> bool:
        return self._samples.multi_label

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, index: int) -> TarSample:
        if isinstance(index, slice):
            return [self[position] for position in range(*index.indices(len(self)))]
        sample = self._samples[index]
        shard, offset, size = self._places[index].tolist()
        shard = self.shards[shard]
        return TarSample(f"{shard}/{sample.path}", sample.label, shard=shard, offset=offset, size=size)


def is_shards(source) -> bool:
    """Whether this names tar shards: one, a pattern such as "shards/*.tar", or a folder that has some."""
    if not isinstance(source, str | Path):
        return False
    return str(source).endswith(".tar") or any(Path(source).expanduser().glob("*.tar"))


def find_shards(source: str | Path) -> tuple[list[str], dict]:
    """The shards that `source` names, in order, and what the index.json beside them says ({} if there is none)."""
    source = Path(source).expanduser()
    pattern = source / "*.tar" if source.is_dir() else source
    shards = [str(source)] if source.is_file() else sorted(glob.glob(str(pattern)))
    if not shards:
        raise FileNotFoundError(f"No tar shard at {source}.")
    file = Path(shards[0]).parent / "index.json"
    try:
        index = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    except json.JSONDecodeError as error:
        raise ValueError(f"{file} is not valid JSON: {error}") from error
    if not isinstance(index, dict):
        raise ValueError(f"{file} must be a mapping with class_names and shards, as `videomae prepare --shards` makes.")
    return shards, index


def shard_lengths(shards: list[str], index: dict) -> int | None:
    """Videos of these shards as index.json has it; None if it does not have all of them."""
    lengths = {entry["file"]: entry["samples"] for entry in index.get("shards", [])}
    names = [Path(shard).name for shard in shards]
    return sum(lengths[name] for name in names) if all(name in lengths for name in names) else None


def read_shards(
    source: str | Path, class_names: list[str] | None = None, labelled: bool = True
) -> tuple[TarSamples, list[str]]:
    """Lists the videos of tar shards, as `read_samples` does those of a folder.

    Args:
        source: a tar file, a pattern, or a folder of tar files.
        class_names: the classes and their order, as in a trained model; None takes them from index.json or, without
            it, from the labels.
        labelled: False ignores labels and allows samples without.

    Raises:
        FileNotFoundError: no shard. ValueError: one that is no tar file, compressed or cut short; a number of videos
        other than index.json has; samples without a label or with one that is unknown.
    """
    shards, index = find_shards(source)
    with ThreadPoolExecutor(8) as pool:  # to have several answers of a network drive on their way
        listed = list(pool.map(_list_shard, shards))
    found, places, unlabelled = [], [], []
    names = index.get("class_names") or []
    for number, members in enumerate(listed):
        for name, offset, size, label in members:
            if labelled and label is None:
                unlabelled.append(f"{shards[number]}/{name} has no label (a member .cls)")
            elif labelled and label.isdigit() and int(label) < len(names):
                label = names[int(label)]
            found.append(("", Sample(name), [label] if labelled else []))
            places.append((number, offset, size))
    expected = shard_lengths(shards, index)
    if expected is not None and expected != len(found):
        raise ValueError(f"{source} holds {len(found)} videos, and its index.json says {expected}; prepare it again.")
    if not found:
        raise ValueError(f"The {len(shards)} shards of {source} hold no video ({', '.join(VIDEO_SUFFIXES)}).")
    if unlabelled:
        raise ValueError(shown(source, unlabelled))
    places = np.array(places, np.int64)
    if not labelled:
        return TarSamples(SampleList(sample for _, sample, _ in found), shards, places), []
    class_names = class_names or names or sorted_classes({label for _, _, (label,) in found})
    return TarSamples(SampleList(numbered(found, class_names, source, False)), shards, places), class_names


def _list_shard(shard: str) -> list[tuple[str, int, int, str | None]]:
    """(name, offset, size, label) of each video of a shard."""
    try:
        with tarfile.open(shard, "r:") as tar:
            return [entry for members in _by_key(tar) for entry in _sample_of(tar, members)]
    except tarfile.TarError as error:
        raise ValueError(f"{shard} is cut short, compressed or no tar file: {error}.") from error


def _by_key(tar: tarfile.TarFile) -> Iterator[list[tarfile.TarInfo]]:
    """The members of each sample."""
    members, last = [], None
    for member in tar:
        tar.members = []  # tarfile keeps every member it has seen
        if not member.isfile():
            continue
        key = member.name[: member.name.find(".", member.name.rfind("/") + 1)]
        if members and key != last:
            yield members
            members = []
        members.append(member)
        last = key
    if members:
        yield members


def _sample_of(tar: tarfile.TarFile, members: list[tarfile.TarInfo]) -> Iterator[tuple[str, int, int, str | None]]:
    video = next((member for member in members if member.name.lower().endswith(VIDEO_SUFFIXES)), None)
    if video is None:
        return
    label = None
    for member in members:
        if member.name.endswith(".cls"):
            tar.fileobj.seek(member.offset_data)  # tarfile itself seeks before it reads on
            label = tar.fileobj.read(member.size).decode(errors="replace").strip()
    yield video.name, video.offset_data, video.size, label
