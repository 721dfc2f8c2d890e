# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""The videos of a data set and their labels: class folders, lists in the official and in other formats.

`read_samples` is the one entry. A folder holds a folder for each class, with videos in it or, in place of each video,
a folder of images. A list has a video a line:

    clip.mp4 3                     path and class, by number or name (V1 and V2; also comma, tab or semicolon)
    clip.mp4 0 -1                  V2's pretraining, of videos
    frames/clip 1 250              V2's pretraining, of image folders: number of the first image, number of images
    frames/clip 250 3              V2's finetuning, of image folders: number of images, class
    path,label                     any columns under a header that names these two
    {"path": .., "label": ..}      JSON lines
"""

import csv
import difflib
import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path

import numpy as np

from ..video_decoding import IMAGE_SUFFIXES, FrameFolder


VIDEO_SUFFIXES = (
    ".3gp", ".asf", ".avi", ".flv", ".gif", ".h264", ".hevc", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg",
    ".mts", ".ogv", ".ts", ".vob", ".webm", ".wmv",
)  # fmt: skip
VIDEO_NAME = re.compile(rf".*(?:{'|'.join(map(re.escape, VIDEO_SUFFIXES))})", re.IGNORECASE)
URLS = ("http://", "https://")
PATH_COLUMNS = ("path", "video", "video_path", "file", "file_name", "filename")
LABEL_COLUMNS = ("label", "labels", "class", "class_name")
_SHOWN_LINES = 5  # of the bad ones, in the message


@dataclass(frozen=True)
class Sample:
    """A video of a data set.

    Args:
        path: of the video or of its folder of images; a name, if `content` is given.
        label: number of its class; a tuple of numbers with several labels a video.
        targets: the numbers to predict, in regression.
        first_frame, num_frames: numbers of the first image and of images, where a list states them for a folder.
        source: which of several sources it is from, see `read_sources`.
        content: the bytes of a video that is no file of its own.
    """

    path: str
    label: int | tuple[int, ...] | None = None
    first_frame: int | None = None
    num_frames: int | None = None
    source: int = 0
    content: bytes | None = field(default=None, repr=False)
    targets: tuple[float, ...] | None = None

    def video(self, template: str | None = None) -> str | bytes | FrameFolder:
        """What `read_frames` takes; `template` names the images of a folder."""
        if self.content is not None:
            return self.content
        if template is None and self.num_frames is None:
            return self.path
        return FrameFolder(self.path, template, 1 if self.first_frame is None else self.first_frame, self.num_frames)


class SampleList(Sequence):
    """Samples, kept in a few arrays.

    As Python objects the samples of a large data set would slowly be copied to each worker process: looking at one
    writes its reference count.
    """

    def __init__(self, samples: Iterable[Sample] = ()):
        paths, labels, numbers, targets = [], [], [], []
        self.multi_label = False
        self._contents = {}  # position: bytes, of samples that are no files; they are in memory anyway
        for sample in samples:
            if sample.content is not None:
                self._contents[len(paths)] = sample.content
            paths.append(sample.path.encode("utf-8", "surrogateescape"))
            self.multi_label |= isinstance(sample.label, tuple)
            labels.append(sample.label if isinstance(sample.label, tuple) else _optional(sample.label))
            if sample.targets is not None:
                targets.append(sample.targets)
            num_frames = -1 if sample.num_frames is None else sample.num_frames
            numbers.append((len(_optional(sample.first_frame)), sample.first_frame or 0, num_frames, sample.source))
        self._paths, self._path_ends = np.frombuffer(b"".join(paths), np.uint8), np.cumsum([0, *map(len, paths)])
        self._labels = np.array([number for label in labels for number in label], np.int32)
        self._label_ends = np.cumsum([0, *map(len, labels)])
        self._numbers = np.array(numbers, np.int32).reshape(-1, 4)
        self._targets = np.array(targets, np.float64) if targets else None  # (N, K), of all samples or of none

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, index: int) -> Sample:
        if isinstance(index, slice):
            return [self[position] for position in range(*index.indices(len(self)))]
        index = range(len(self))[index]  # counts from the end, and raises IndexError
        path = self._paths[self._path_ends[index] : self._path_ends[index + 1]].tobytes()
        labels = tuple(self._labels[self._label_ends[index] : self._label_ends[index + 1]].tolist())
        has_first, first_frame, num_frames, source = self._numbers[index].tolist()
        return Sample(
            path.decode("utf-8", "surrogateescape"),
            labels if self.multi_label else (labels[0] if labels else None),
            first_frame if has_first else None,
            num_frames if num_frames >= 0 else None,
            source,
            self._contents.get(index),
            None if self._targets is None else tuple(self._targets[index].tolist()),
        )


def _optional(value) -> tuple:
    return () if value is None else (value,)


def read_samples(
    source: str | Path,
    class_names: list[str] | None = None,
    root: str | Path | None = None,
    labelled: bool = True,
    multi_label: bool = False,
) -> tuple[SampleList, list[str]]:
    """Lists the videos of a data set.

    Args:
        source: a folder, or a list file in one of the formats above.
        class_names: the classes and their order, as in a trained model; None takes them from the data.
        root: folder of relative paths in a list; None is the folder of the list.
        labelled: False ignores labels (a folder is then searched at any depth) and allows lists without.
        multi_label: a video may have any number of labels, lists only: all columns behind the path, or a column
            `labels` with names separated by `|`, or, with no such column, a column of 0 and 1 for each class.

    Returns:
        Samples, and the class names ([] if not `labelled`).

    Raises:
        FileNotFoundError: no such folder or list. ValueError: no video in it; lines without a label or with one that is
        unknown, of which the first are shown.
    """
    source = Path(source).expanduser()
    if source.is_dir():
        if multi_label:
            raise ValueError(f"multi_label needs a list, and {source} is a folder.")
        found = _list_folder(source, labelled)
    elif source.is_file():
        found = _read_list(source, Path(root).expanduser() if root else source.parent, labelled, multi_label)
    else:
        raise FileNotFoundError(f"No folder or list of videos at {source}.")
    found = list(found)
    if not found:
        wanted = "a folder for each class with videos in it" if labelled else "videos"
        raise ValueError(f"{source} holds no video; expected {wanted} ({', '.join(VIDEO_SUFFIXES)}).")
    if not labelled:
        return SampleList(sample for _, sample, _ in found), []
    class_names = class_names or sorted_classes({label for _, _, labels in found for label in labels})
    if class_names in ([], ["-1"]):  # the latter is what V2's lists for pretraining have in the last column
        raise ValueError(f"{source} names no class of any of its {len(found)} videos.")
    return SampleList(numbered(found, class_names, source, multi_label)), class_names


def read_sources(
    sources: str | list[dict],
    class_names: list[str] | None = None,
    root: str | Path | None = None,
    labelled: bool = True,
    multi_label: bool = False,
) -> tuple[SampleList, list[str], list[dict], list[float]]:
    """Lists one source, or several that are trained on together (V2's hybrid pretraining).

    Args:
        sources: what `read_samples` takes, or a list of mappings with `data` (that), `root`, `weight` (how often an
            epoch has each video, 1 unless given), and how its clips are taken, where it differs: fields of
            `ClipSampling` such as `sampling_rate` and `frame_template`.
        class_names, root, labelled, multi_label: see `read_samples`. Classes of several sources are put together by
            name.

    Returns:
        Samples with their `source`, class names, the differing sampling of each source, and the weights.
    """
    entries = [{"data": sources}] if isinstance(sources, str | Path) else sources
    listed, options, weights = [], [], []
    for number, entry in enumerate(entries):
        if not isinstance(entry, dict) or "data" not in entry:
            raise ValueError(f"Source {number} must be a mapping with `data`, not {entry!r}.")
        rest = dict(entry)
        where, weight = (rest.pop("data"), rest.pop("root", root)), float(rest.pop("weight", 1.0))
        if not weight > 0:
            raise ValueError(f"weight={weight} of {entry['data']} must be positive.")
        listed.append(read_samples(where[0], class_names, where[1], labelled, multi_label))
        options.append(rest)
        weights.append(weight)
    if len(entries) == 1:
        return *listed[0], options, weights
    merged = class_names or (sorted_classes({name for _, names in listed for name in names}) if labelled else [])
    numbers = {name: number for number, name in enumerate(merged)}

    def samples() -> Iterator[Sample]:
        for source, (found, names) in enumerate(listed):
            for sample in found:
                label = sample.label
                if isinstance(label, tuple):
                    label = tuple(numbers[names[one]] for one in label)
                elif label is not None:
                    label = numbers[names[label]]
                yield replace(sample, label=label, source=source)

    return SampleList(samples()), merged, options, weights


def numbered(found: list, class_names: list[str], source: Path, multi_label: bool) -> Iterator[Sample]:
    """The samples with class numbers for names; a class number that is no name stands for itself."""
    numbers = {name: number for number, name in enumerate(class_names)}
    numbers = {**{str(number): number for number in range(len(class_names))}, **numbers}
    problems = []
    for place, sample, labels in found:
        unknown = [label for label in labels if label not in numbers]
        if unknown:
            near = difflib.get_close_matches(unknown[0], class_names, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            problems.append(f"{place}{sample.path} has the unknown label {unknown[0]!r}{hint}")
            continue
        labels = tuple(numbers[label] for label in labels)
        yield replace(sample, label=labels if multi_label else labels[0])
    if problems:
        raise ValueError(shown(source, problems) + f" Known: {shorten(class_names)}.")


def shown(source: Path, problems: list[str]) -> str:
    """The first problems of a list in one message."""
    more = f" ({len(problems) - _SHOWN_LINES} more lines like these)" if len(problems) > _SHOWN_LINES else ""
    return f"{source}: " + "; ".join(problems[:_SHOWN_LINES]) + more


# ---------------------------------------------------------------------------------------------------------- folders


def _list_folder(folder: Path, labelled: bool) -> Iterator[tuple[str, Sample, list[str]]]:
    """(place, sample, labels) of each video, or of each folder of images if there is no video at all."""
    paths = sorted(_files(folder, VIDEO_SUFFIXES))
    if not paths:
        images = _files(folder, IMAGE_SUFFIXES)
        paths = sorted({path.parent for path in images if len(path.relative_to(folder).parts) > 1 + labelled})
    if not labelled:
        yield from (("", Sample(str(path)), []) for path in paths)
        return
    by_class = {}
    for path in paths:
        by_class.setdefault(path.relative_to(folder).parts[0], []).append(path)
    for child in sorted(child.name for child in folder.iterdir() if child.is_dir() and not child.name.startswith(".")):
        if child not in by_class:
            raise ValueError(f"The class folder {folder / child} holds no video ({', '.join(VIDEO_SUFFIXES)}).")
        yield from (("", Sample(str(path)), [child]) for path in by_class[child])


def _files(folder: Path, suffixes: tuple[str, ...]) -> Iterator[Path]:
    """Files at any depth, through links to folders too, but none that is hidden (macOS leaves ._clip.mp4 on disks)."""
    for parent, folders, names in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            if not name.startswith(".") and Path(name).suffix.lower() in suffixes:
                yield Path(parent, name)


# ------------------------------------------------------------------------------------------------------------ lists


def _read_list(source: Path, root: Path, labelled: bool, multi_label: bool) -> list[tuple[str, Sample, list[str]]]:
    """(place, sample, labels) of each line."""
    try:
        text = source.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        if source.suffix.lower() in VIDEO_SUFFIXES:
            raise ValueError(f"{source} is a video; give its folder, or a list.") from error
        names = ", ".join(VIDEO_SUFFIXES)
        raise ValueError(f"{source} is neither a list in UTF-8 nor named as a video ({names}).") from error
    lines = [(number, line.strip()) for number, line in enumerate(text.split("\n"), start=1) if line.strip()]
    if lines and lines[0][1].startswith("{"):
        rows = _read_json(source, lines, labelled, multi_label)
    else:
        rows = _read_columns(source, lines, labelled, multi_label)
    found, problems = [], []
    for number, path, numbers, labels in rows:
        if not path or (labelled and not labels and not multi_label):
            problems.append(f"line {number}: expected a path{' and a label' * labelled}, found {path!r}")
            continue
        sample = Sample(path if path.startswith(URLS) else str(root / path), None, *numbers)
        found.append((f"line {number}: ", sample, labels if labelled else []))
    if problems:
        raise ValueError(shown(source, problems))
    return with_suffix(found)


def with_suffix(found: list) -> list:
    """V1's lists may leave out ".mp4" (v1/kinetics.py); without it a path is meant to be a folder of images."""

    def is_bare(sample: Sample) -> bool:
        return sample.num_frames is None and "." not in Path(sample.path).name and not sample.path.startswith(URLS)

    bare = (sample for _, sample, _ in found if is_bare(sample))
    if any(Path(sample.path).exists() for sample in islice(bare, 20)):  # the first may be missing
        return found
    return [
        (place, replace(sample, path=sample.path + ".mp4") if is_bare(sample) else sample, labels)
        for place, sample, labels in found
    ]


def _read_json(source: Path, lines, labelled: bool, multi_label: bool) -> Iterator[tuple[int, str, tuple, list[str]]]:
    """(line number, path, (first_frame, num_frames), labels) of each line of JSON."""
    for number, line in lines:
        try:
            row = {str(name).lower(): value for name, value in json.loads(line).items()}
        except (json.JSONDecodeError, AttributeError) as error:
            raise ValueError(f"{source}, line {number}: no JSON object: {line[:80]!r}") from error
        path = next((row[name] for name in PATH_COLUMNS if isinstance(row.get(name), str)), None)
        if path is None:
            raise ValueError(f"{source}, line {number}: none of {', '.join(PATH_COLUMNS)} in {line[:80]!r}")
        labels = next((row[name] for name in LABEL_COLUMNS if row.get(name) is not None), [])
        labels = labels if isinstance(labels, list) else [labels]
        if labelled and len(labels) > 1 and not multi_label:
            raise ValueError(f"{source}, line {number}: {len(labels)} labels; set multi_label for more than one.")
        yield number, path, (row.get("first_frame"), row.get("num_frames")), [str(label) for label in labels]


def _read_columns(source: Path, lines, labelled: bool, multi_label: bool) -> Iterator[tuple[int, str, tuple, list]]:
    """(line number, path, (first_frame, num_frames), labels) of each line of columns."""
    delimiter = column_delimiter([line for _, line in lines])
    first = lines[0][1] if lines else ""
    names = [name.strip() for name in (first.split() if delimiter is None else split_columns(first, delimiter))]
    header = [name.lower() for name in names] if not VIDEO_NAME.match(first) else []
    path_column = next((header.index(name) for name in PATH_COLUMNS if name in header), None)
    if path_column is None:
        for number, line in lines:
            row = split_at_spaces(line, labelled, multi_label) if delimiter is None else split_columns(line, delimiter)
            yield number, *_read_row(row, labelled, multi_label)
        return
    label_column = next((header.index(name) for name in LABEL_COLUMNS if name in header), None)
    if labelled and not multi_label and label_column is None:
        raise ValueError(f"{source} has no column {', '.join(LABEL_COLUMNS)}; its header is {first!r}.")
    for number, line in lines[1:]:
        row = split_at_spaces(line, labelled, multi_label) if delimiter is None else split_columns(line, delimiter)
        if delimiter is not None and len(row) > len(names):
            raise ValueError(f"{source}, line {number}: {len(row)} columns, {len(names)} in the header: {line[:80]!r}")
        row = [value.strip() for value in row] + [""] * (len(names) - len(row))
        if label_column is None:  # a column of 0 and 1 for each class
            labels = [name for name, value in zip(names, row) if name != names[path_column] and value == "1"]
        else:
            labels = row[label_column].split("|") if multi_label else [row[label_column]]
        yield number, row[path_column], (None, None), [label.strip() for label in labels if label.strip()]


def _read_row(row: list[str], labelled: bool, multi_label: bool) -> tuple[str, tuple, list[str]]:
    """Path, (first_frame, num_frames) and labels of a line without a header; the official formats among them."""
    path, rest = row[0].strip(), [value.strip() for value in row[1:]]
    is_folder = not VIDEO_NAME.fullmatch(path)
    if is_folder and len(rest) == 2 and rest[0].isdigit() and not multi_label:
        if labelled:  # path, number of images, class
            return path, (None, int(rest[0])), rest[1:]
        if rest[1].isdigit():  # path, number of the first image, number of images
            return path, (int(rest[0]), int(rest[1])), []
    return path, (None, None), [label for label in (rest if multi_label else rest[-1:]) if label]


def column_delimiter(lines: list[str]) -> str | None:
    """What separates the columns of a list; None is spaces.

    The delimiter with which the first line is a header, or the first column holds the name of a video in each of the
    first lines; without such names, that of which each line has as many. A path may hold the other delimiters:
    "a,b.mp4 3" is separated by a space.
    """
    sample = lines[:100]
    names_videos = any(VIDEO_NAME.match(line) for line in sample)
    for delimiter in "\t,;":
        rows = [split_columns(line, delimiter) for line in sample]
        widths = {len(row) for row in rows}
        if names_videos:
            named = sum(len(row) > 1 and bool(VIDEO_NAME.fullmatch(row[0].strip())) for row in rows)
            fits = named >= max(len(rows) - 1, 1)  # the first line may be a header that is not known as one
        else:
            fits = len(widths) == 1
        if widths - {1} and (fits or _has_path(rows[0])):
            return delimiter
    return None


def _has_path(header: list[str]) -> bool:
    return len(header) > 1 and any(name.strip().lower() in PATH_COLUMNS for name in header)


def split_columns(line: str, delimiter: str) -> list[str]:
    return next(csv.reader([line], delimiter=delimiter, skipinitialspace=True))


def split_at_spaces(line: str, labelled: bool, multi_label: bool) -> list[str]:
    """The path, which may have spaces itself, and the columns behind it."""
    if line.startswith('"'):
        return split_columns(line, " ")
    video = re.match(rf"{VIDEO_NAME.pattern}(?=\s|$)", line, re.IGNORECASE)
    if video:
        path, rest = video.group(), line[video.end() :].split()
        if labelled and not multi_label and len(rest) > 1 and not rest[0].lstrip("-").isdigit():
            return [path, " ".join(rest)]
        return [path, *rest]
    numbers = re.search(r"(?:\s+-?\d+)+$", line)  # a folder of images, with one or two numbers
    if numbers:
        return [line[: numbers.start()], *numbers.group().split()]
    if multi_label:
        return line.split()
    return line.rsplit(maxsplit=1) if labelled else [line]


def sorted_classes(labels: set[str]) -> list[str]:
    """Class names in order: by number where all are numbers (0 to the largest one), otherwise by name.

    Numbers with zeros in front, as in the names of folders, are names.
    """
    if all(re.fullmatch("0|[1-9][0-9]*", label) for label in labels):
        return [str(number) for number in range(max(map(int, labels), default=-1) + 1)]
    return sorted(labels)


def shorten(names: list[str], limit: int = 8) -> str:
    return ", ".join(names[:limit]) + (f", .. ({len(names)} in all)" if len(names) > limit else "")
