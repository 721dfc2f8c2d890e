# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Lists the videos in tar shards (the WebDataset format), which are then read in place.

A shard is a plain tar file. The label of a video `clip.mp4` is in the member `clip.cls` (a number or a name),
`clip.json` (with a column of labels as in a list, and optionally a part of the video), or `clip.txt`; if no video has
such a member, the label is the name of the class folder in the shard. For a model of single images, members such as
`clip.jpg` are samples as well. Names may contain dots. An `index.json` next to
the shards, as written by `videomae prepare --shards`, gives the class names. At first only the headers are read. Each
video is then read from its position in its shard, so that shards are shuffled, split over processes, resumed and
evaluated like separate files. For sequential reading of shards, see `video_stream.py`.
"""

import glob
import os
import tarfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np

from ...messages import several
from ...models.frame_files import IMAGE_SUFFIXES
from ...text_files import normalized, parse_json, read_json
from .classes import class_number, classes_of, numbered
from .list_columns import find_roles
from .list_records import Listed, cell_labels, label_text, segment_of
from .media import VIDEOS, Media, describe_kinds, images_for_videos
from .records import RecordsOnAccess, VideoRecord, VideoRecords


_LABEL_SUFFIXES = (".cls", ".json", ".txt")  # in order of preference
SEGMENT_COLUMNS = ("start", "end", "start_frame", "end_frame")
_MOST_BYTES = 2**20  # of a member with a label; a larger member is something else


@dataclass(frozen=True)
class TarRecord(VideoRecord):
    """A video of `size` bytes at `offset` in a tar file; `path` is the path of the file, followed by the member's."""

    shard: str = ""
    offset: int = 0
    size: int = 0

    def whole_video(self, template: str | None) -> bytes:
        with open(self.shard, "rb") as file:
            file.seek(self.offset)
            content = file.read(self.size)
        if len(content) < self.size:
            raise OSError(f"{self.path} ends early: {len(content)} of {self.size} bytes.")
        return content


class TarRecords(RecordsOnAccess):
    """The videos of tar files, stored in a few arrays."""

    def __init__(self, records: VideoRecords, shards: list[str], places: np.ndarray) -> None:
        super().__init__(records)
        self.shards, self._places = shards, places  # int64 (n, 3): shard, offset, size

    def located(self, index: int, record: VideoRecord) -> TarRecord:
        shard, offset, size = self._places[index].tolist()
        shard = self.shards[shard]
        fields = {**vars(record), "path": f"{shard}/{record.path}"}
        return TarRecord(**fields, shard=shard, offset=offset, size=size)


@dataclass(frozen=True)
class TarVideo:
    """A video in a shard and its position; `label` is None if no member has it."""

    sample: VideoRecord
    offset: int
    size: int
    label: str | None = None


@dataclass
class Shard:
    """The content of a tar file: its videos, and the number of unused members by suffix."""

    videos: list[TarVideo]
    unused: Counter = field(default_factory=Counter)


def is_shards(source) -> bool:
    """Whether a source consists of tar shards: one file, a pattern such as "shards/*.tar", or a folder with some."""
    if not isinstance(source, str | Path):
        return False
    return str(source).endswith(".tar") or any(Path(source).expanduser().glob("*.tar"))


def find_shards(source: str | Path) -> tuple[list[str], dict]:
    """The shards that `source` refers to, in order, and the content of the index.json next to them ({} without one).

    Raises:
        FileNotFoundError: there is no shard.
        ValueError: index.json has another form.
    """
    source = Path(source).expanduser()
    pattern = source / "*.tar" if source.is_dir() else source
    shards = [str(source)] if source.is_file() else sorted(glob.glob(str(pattern)))
    if not shards:
        raise FileNotFoundError(f"There is no tar shard at {source}.")
    file = Path(shards[0]).parent / "index.json"
    index = read_json(file) if file.is_file() else {}
    if not isinstance(index, dict) or not _fits(index):
        raise ValueError(f"{file} must map class_names and shards, as written by `videomae prepare --shards`.")
    return shards, index


def _fits(index: dict) -> bool:
    names, shards = index.get("class_names") or [], index.get("shards") or []
    return (
        isinstance(names, list)
        and all(isinstance(name, str) for name in names)
        and isinstance(shards, list)
        and all(isinstance(one, dict) and isinstance(one.get("file"), str) for one in shards)
        and all(isinstance(one.get("samples"), int) and one["samples"] >= 0 for one in shards)
    )


def shard_lengths(shards: list[str], index: dict) -> int | None:
    """The number of videos in these shards according to index.json; None if it does not list all of them."""
    lengths = {entry["file"]: entry["samples"] for entry in index.get("shards", [])}
    names = [Path(shard).name for shard in shards]
    return sum(lengths[name] for name in names) if all(name in lengths for name in names) else None


def read_shards(
    source: str | Path, class_names: list[str] | None = None, *, labelled: bool = True, media: Media = VIDEOS
) -> tuple[TarRecords, list[str]]:
    """Lists the videos of tar shards, as `read_samples` does for a folder.

    Args:
        source: a tar file, a pattern, or a folder of tar files.
        class_names: the classes in order, as in a trained model; None takes them from index.json or, without it, from
            the labels.
        labelled: False ignores labels and accepts videos without one.
        media: the members that are samples.

    Raises:
        FileNotFoundError: there is no shard.
        ValueError: a shard is not a tar file, or is compressed or cut short; the number of videos differs from
            index.json; or a label is missing or unknown.
    """
    shards, index = find_shards(source)
    with ThreadPoolExecutor(8) as pool:  # hides the latency of network drives
        read = list(pool.map(partial(list_shard, labelled=labelled, media=media), shards))
    videos = [(number, video) for number, shard in enumerate(read) for video in shard.videos]
    expected = shard_lengths(shards, index)
    if expected is not None and expected != len(videos):
        raise ValueError(f"{source} holds {len(videos)} videos, but its index.json says {expected}; prepare it again.")
    unused = sum((shard.unused for shard in read), Counter())
    if not videos:
        images = sum(unused[suffix] for suffix in unused if suffix.lower() in IMAGE_SUFFIXES)
        if images:
            raise ValueError(images_for_videos(source, images))
        raise ValueError(f"The {len(shards)} shards of {source} hold no {media.noun}s ({media.expected}).")
    places = np.array([(number, video.offset, video.size) for number, video in videos], np.int64)
    notes = [f"{source}: members not used: {', '.join(f'{n} {suffix}' for suffix, n in unused.items())}"] * bool(unused)
    if media.images:
        notes += describe_kinds(source, (os.path.splitext(video.sample.path)[1] for _, video in videos))
    if not labelled:
        return TarRecords(VideoRecords((video.sample for _, video in videos), notes), shards, places), []
    labels = labels_of([video for _, video in videos], index)
    missing = [f"{shards[n]}/{video.sample.path}" for (n, video), label in zip(videos, labels) if label is None]
    if missing:
        hint = "a member .cls, .json or .txt, or a class folder"
        raise ValueError(f"{source}: videos without a label ({hint}): {several(missing)}")
    found = [Listed("", video.sample, [label]) for (_, video), label in zip(videos, labels)]
    if class_names is None:
        class_names = index.get("class_names")
    if not class_names:
        class_names, more = classes_of(set(labels), str(source))
        notes += more
    samples, more = numbered(found, class_names, str(source), multi_label=False)
    return TarRecords(VideoRecords(samples, notes + more), shards, places), class_names


def labels_of(videos: Sequence[TarVideo], index: dict) -> list[str | None]:
    """The label of each video; a number is an index into the class names of index.json."""
    names = index.get("class_names") or []
    labels = [video.label for video in videos]
    if all(label is None for label in labels):
        labels = _class_folders([video.sample.path for video in videos])
    numbers = [None if label is None else class_number(label) for label in labels]
    return [
        names[number] if number is not None and number < len(names) else label for label, number in zip(labels, numbers)
    ]


def _class_folders(paths: Sequence[str]) -> list[str | None]:
    """The class folder of each path: the first folder in which the paths differ, or else the last one."""
    folders = [path.removeprefix("./").split("/")[:-1] for path in paths]
    common = os.path.commonprefix(folders) if folders else []
    if any(len(parts) == len(common) for parts in folders):
        common = common[:-1]
    return [normalized(parts[len(common)]) if len(parts) > len(common) else None for parts in folders]


def list_shard(shard: str, *, labelled: bool = True, media: Media = VIDEOS) -> Shard:
    """The samples of a shard, in order; without labels, whose texts may then be anything, if not `labelled`."""
    try:
        with tarfile.open(shard, "r:") as tar:
            return _listed(tar, shard, _LABEL_SUFFIXES if labelled else (".json",), media)
    except tarfile.TarError as error:
        raise ValueError(f"{shard} is cut short, compressed or not a tar file: {error}.") from error


def _listed(tar: tarfile.TarFile, shard: str, beside: Sequence[str], media: Media) -> Shard:
    """The samples of an open shard; `beside` are the suffixes of the members that say more about them."""
    videos, labels, unused = [], {}, Counter()
    for member in tar:
        tar.members = []  # otherwise tarfile keeps every member in memory
        if member.isdir():
            continue
        stem, suffix = os.path.splitext(member.name)
        if suffix.lower() in media.suffixes and member.isfile() and not member.issparse():
            videos.append(member)
        elif suffix.lower() in beside and member.isfile() and member.size <= _MOST_BYTES:
            tar.fileobj.seek(member.offset_data)  # tarfile seeks itself before it continues
            labels.setdefault(stem, {})[suffix.lower()] = tar.fileobj.read(member.size)
        elif suffix.lower() not in set(_LABEL_SUFFIXES) - set(beside) and not os.path.basename(member.name).startswith(
            "."
        ):
            unused[suffix or "without suffix"] += 1
    return Shard([_with_label(video, videos, labels, shard) for video in videos], unused)


def _with_label(member: tarfile.TarInfo, videos: Sequence, labels: dict[str, dict], shard: str) -> TarVideo:
    """A video with the label and the segment from the members that share its name.

    `clip.left.mp4` belongs to `clip.left.cls` or, as in WebDataset, where names end at the first dot, to `clip.cls`,
    if it is the only video with that name.
    """
    stem = os.path.splitext(member.name)[0]
    folder, base = os.path.split(stem)
    beside = labels.get(stem)
    if beside is None:
        key = os.path.join(folder, base.split(".")[0])
        beside = labels.get(key, {})
        if beside and sum(os.path.splitext(video.name)[0].startswith(key + ".") for video in videos) > 1:
            raise ValueError(
                f"{shard}: {key} has one label and several videos, including {member.name}; give each its own label."
            )
    texts = {suffix: content.decode(errors="replace") for suffix, content in beside.items()}
    sample, label = VideoRecord(member.name), None
    if ".json" in texts:
        where = f"{shard}/{stem}.json"
        sample, label = _of_json(sample, parse_json(texts[".json"], where), where)
    label = label_text(texts.get(".cls", "")) or label or label_text(texts.get(".txt", "")) or None
    if label is not None and ("\n" in label or len(label) > 1000):
        raise ValueError(f"{shard}/{stem}: the label {label[:40]!r}.. is a text of several lines, not a class.")
    return TarVideo(sample, member.offset_data, member.size, label)


def _of_json(sample: VideoRecord, content, where: str) -> tuple[VideoRecord, str | None]:
    """The sample, restricted to the part of the video that the JSON gives, and its label, if there is one."""
    if not isinstance(content, dict):
        return sample, None
    try:
        roles, _ = find_roles([*content, "path"] if "path" not in content else list(content))
        values = {role: content[name] for role, name in roles.items() if name in content}
        labels = cell_labels(values.get("label"))
        sample = replace(sample, **segment_of(values))
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error
    if len(labels) > 1:
        raise ValueError(f"{where}: {len(labels)} labels; shards have one per video.")
    return sample, labels[0] if labels else None


def stream_shard_rows(shards: Iterable[str], index: dict, *, labelled: bool, media: Media = VIDEOS) -> Iterator[dict]:
    """Yields the rows of shards, read sequentially: `video` (bytes and path) and the text of its `label`."""
    for shard in shards:
        videos = list_shard(shard, labelled=labelled, media=media).videos
        labels = labels_of(videos, index) if labelled else [None] * len(videos)
        with open(shard, "rb") as file:
            for video, label in zip(videos, labels):
                file.seek(video.offset)
                value = {"bytes": file.read(video.size), "path": f"{shard}/{video.sample.path}"}
                bounds = dict(zip(SEGMENT_COLUMNS, video.sample.segment))
                yield {"video": value, "label": label, **bounds}
