# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Reads the videos of a data set and their labels from class folders and lists; docs/lists.md has all formats."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from .classes import class_number, classes_of, numbered, refuse_contradictions
from .folders import list_folder
from .list_records import Listed, ListOptions, holds_labels, read_list
from .media import IMAGES, VIDEOS, Media
from .records import VideoRecord, VideoRecords


# The splits that training and evaluation read, in order of preference
TRAINING = ("train",)
EVALUATION = ("validation", "test")


@dataclass(frozen=True)
class Reading:
    """Options for reading sources.

    Args:
        root: folder to which relative paths in lists refer; None is the folder of each list.
        labelled: False ignores labels (folders are then searched at any depth) and accepts lists without labels.
        multi_label: a video may have any number of labels; for lists only.
        split: names of the split to read, in order of preference, if a list has a split column; () reads all rows.
        video_column, label_column: names of these columns in lists, if they are not among the usual ones.
        media: the files that are samples: videos, or images as well.
    """

    root: str | Path | None = None
    labelled: bool = True
    multi_label: bool = False
    split: tuple[str, ...] = ()
    video_column: str | None = None
    label_column: str | None = None
    media: Media = VIDEOS

    @property
    def kind(self) -> str:
        """What is read with each video: "nothing", "label" or "labels"."""
        return "nothing" if not self.labelled else "labels" if self.multi_label else "label"

    def list_options(self, kind: str, known: Sequence[str] | None = None) -> ListOptions:
        """The options for reading a list; `known` are the class names of a trained model."""
        root = Path(self.root).expanduser() if self.root else None
        columns = (self.video_column, self.label_column)
        return ListOptions(kind, root, self.split, *columns, tuple(known or ()), self.media)


def read_samples(
    source: str | Path,
    class_names: list[str] | None = None,
    root: str | Path | None = None,
    *,
    labelled: bool = True,
    multi_label: bool = False,
    reading: Reading | None = None,
) -> tuple[VideoRecords, list[str]]:
    """Lists the videos of a data set.

    Args:
        source: a folder, or a list file.
        class_names: class names in order, as in a trained model; None takes them from the data.
        root, labelled, multi_label: the most used fields of `Reading`.
        reading: all options; replaces `root`, `labelled` and `multi_label`.

    Returns:
        The records, whose `messages` describe how they were read and what was left out, and the class names ([] if not
        `labelled`).

    Raises:
        FileNotFoundError: the folder or list does not exist.
        ValueError: the source has no video, or is invalid or ambiguous; the message names the lines.
    """
    reading = reading or Reading(root, labelled, multi_label)
    return _samples([(Path(source).expanduser(), reading)], class_names)


def read_sources(
    sources: str | list[dict], class_names: list[str] | None = None, reading: Reading | None = None
) -> tuple[VideoRecords, list[str], list[dict], list[float]]:
    """Lists the videos of one source, or of several sources for joint training (V2's hybrid pretraining).

    Args:
        sources: a source as for `read_samples`, or a list of mappings. A mapping has the source as `data`, and
            optionally `root`, `split`, `weight` (how often an epoch has each video, 1 by default) and clip settings of
            this source: fields of `ClipSampler` such as `sampling_rate` and `frame_template`. A source with
            `image_mask_ratio` holds images among videos.
        class_names: see `read_samples`. Classes of several sources are merged by name.
        reading: options for all sources.

    Returns:
        The records with their `source`, the class names, and for each source its clip settings and its weight.
    """
    reading = reading or Reading()
    entries = [{"data": sources}] if isinstance(sources, str | Path) else sources
    places, options, weights = [], [], []
    for number, entry in enumerate(entries):
        if not isinstance(entry, dict) or not isinstance(entry.get("data"), str | Path):
            raise ValueError(f"Source {number} must be a mapping with `data`, not {entry!r}.")
        rest = dict(entry)
        where, weight = Path(rest.pop("data")).expanduser(), rest.pop("weight", 1.0)
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 < weight < float("inf"):
            raise ValueError(f"weight={weight} of {entry['data']} must be a positive number.")
        split = (str(rest.pop("split")),) if "split" in rest else reading.split
        media = IMAGES if rest.get("image_mask_ratio") is not None else reading.media
        places.append((where, replace(reading, root=rest.pop("root", reading.root), split=split, media=media)))
        options.append(rest)
        weights.append(float(weight))
    samples, names = _samples(places, class_names)
    return samples, names, options, weights


def holds_any_label(source: str | Path, reading: Reading) -> bool:
    """Whether a folder has subfolders that may be classes, or a list has a column that may hold labels."""
    source = Path(source).expanduser()
    if source.is_dir():
        return any(child.is_dir() and not child.name.startswith(".") for child in source.iterdir())
    return not source.is_file() or holds_labels(source, reading.list_options("label"))


def _samples(sources: list[tuple[Path, Reading]], class_names: list[str] | None) -> tuple[VideoRecords, list[str]]:
    """The records of all sources, with common class numbers, and the class names."""
    found, notes = [], []
    for number, (source, reading) in enumerate(sources):
        listed, more = _list_source(source, reading, class_names)
        notes += more
        if reading.kind == "label":
            notes += refuse_contradictions(listed, str(source))
        found.append([one._replace(sample=replace(one.sample, source=number)) for one in listed])
    if not sources[0][1].labelled:
        return VideoRecords((one.sample for listed in found for one in listed), notes), []
    if class_names is None:
        class_names, more = _class_names([source for source, _ in sources], found)
        notes += more
    samples = []
    for (source, reading), listed in zip(sources, found):
        some, more = numbered(listed, class_names, str(source), multi_label=reading.multi_label)
        samples, notes = samples + some, notes + more
    return VideoRecords(samples, notes), class_names


def _class_names(sources: list[Path], found: list[list[Listed]]) -> tuple[list[str], list[str]]:
    """The classes of all sources, and messages about them.

    Raises:
        ValueError: there is no label, or one source has numbers and another names.
    """
    labels = [{label for one in listed for label in one.labels} for listed in found]
    every = set().union(*labels)
    if every <= {"-1"}:  # the last column of V2's lists for pretraining
        raise ValueError(f"{sources[0]} names no class for any of its {sum(map(len, found))} videos.")
    are_numbers = [all(class_number(label) is not None for label in some) for some in labels]
    if len(set(are_numbers)) > 1:
        first, second = sources[are_numbers.index(True)], sources[are_numbers.index(False)]
        raise ValueError(f"The labels of {first} are numbers, but those of {second} are names; use names in both.")
    return classes_of(every, ", ".join(map(str, sources)))


def _list_source(source: Path, reading: Reading, class_names: list[str] | None) -> tuple[list[Listed], list[str]]:
    """The videos of a folder or a list, at least one, and messages about them."""
    if source.is_dir():
        if reading.kind == "labels":
            raise ValueError(f"multi_label needs a list, but {source} is a folder.")
        return list_folder(source, labelled=reading.labelled, class_names=class_names or (), media=reading.media)
    if not source.is_file():
        raise FileNotFoundError(f"No folder or list of videos at {source}.")
    listed = read_list(source, reading.list_options(reading.kind, class_names))
    if not listed.found:
        raise ValueError(f"{source} holds no {reading.media.noun}.")
    return listed.found, listed.notes


__all__ = [
    "EVALUATION", "TRAINING", "Reading", "VideoRecord", "VideoRecords", "holds_any_label", "read_samples",
    "read_sources",
]  # fmt: skip
