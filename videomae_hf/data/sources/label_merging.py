# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Merges several labelled data sets: equivalent classes become one, and a video in several sets is kept once.

K710 is made from Kinetics-400, 600 and 700 in this way (VideoMAE V2, section 3.3; UniFormerV2, section 4). The mappings
from each data set to the merged classes are kept, so that the rows of a head trained on all of them can be gathered for
one.
"""

import csv
import difflib
import json
import os
import re
import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from ...text_files import read_json, write_text
from .classes import classes_of
from .records import VideoRecord


# Criteria for two files being the same video. The official K710 uses the YouTube id, the first part of Kinetics' names.
VIDEO_KEYS: dict[str, Callable[[str], str]] = {
    "path": os.path.realpath,
    "name": lambda path: Path(path).stem,
    "youtube": lambda path: Path(path).stem[:11],
}
_LOOKS_ALIKE = 0.85  # similarity ratio of difflib


def normalized_name(name: str) -> str:
    """A class name in a form that ignores spelling: case, punctuation, underscores and the encoding of accents."""
    name = unicodedata.normalize("NFKC", name).casefold()
    return " ".join(re.sub(r"[\W_]+", " ", re.sub(r"['’]", "", name)).split())


def are_numbers(names: list[str]) -> bool:
    """Whether the names of classes are only their numbers, as in the official lists and in a config without names."""
    return all(name.removeprefix("LABEL_") == str(number) for number, name in enumerate(names))


def read_aliases(path: str | Path) -> dict[str, str]:
    """Reads lines `merged name,other spelling,..` (csv) into a mapping from normalised spellings to merged names.

    Raises:
        ValueError: a line has a single name, or a spelling belongs to two merged names.
    """
    aliases = {}
    with open(path, newline="", encoding="utf-8-sig") as file:
        for number, row in enumerate(csv.reader(file, skipinitialspace=True), start=1):
            names = [name.strip() for name in row if name.strip()]
            if len(names) == 1:
                raise ValueError(
                    f"{path}, line {number}: {names[0]!r} has no other spelling; write merged name,other spelling."
                )
            for name in names:
                known = aliases.setdefault(normalized_name(name), names[0])
                if known != names[0]:
                    raise ValueError(f"{path}, line {number}: {name!r} is merged into {known!r} and {names[0]!r}.")
    return aliases


@dataclass
class MergedClasses:
    """The merged classes of several sources.

    Args:
        names: names of the merged classes, in the order of `classes_of`.
        mappings: source -> its class names, in its order -> number of the merged class.
        lines: lines to print about merged, new and similar classes.
    """

    names: list[str]
    mappings: dict[str, dict[str, int]]
    lines: list[str]


def merge_classes(sources: dict[str, list[str]], aliases: dict[str, str] | None = None) -> MergedClasses:
    """Merges classes with the same normalised name; the spelling of the first source becomes the merged name.

    Args:
        sources: name of a source -> its class names.
        aliases: the result of `read_aliases`, for names that differ in more than spelling.

    Raises:
        ValueError: classes have no names, or two classes of one source would be merged without an alias for it.
    """
    aliases = aliases or {}
    names, spellings = {}, {}  # key -> merged name; key -> source -> its names
    for source, classes in sources.items():
        if are_numbers(classes):
            raise ValueError(f"The classes of {source} are numbers, which cannot be matched; give their names.")
        for name in classes:
            merged = aliases.get(normalized_name(name))
            key = normalized_name(merged or name)
            names.setdefault(key, merged or name)
            same = spellings.setdefault(key, {}).setdefault(source, [])
            if same and merged is None:
                raise ValueError(
                    f"{same[0]!r} and {name!r} of {source} would become one class; rename one of them, or list both "
                    f"in the alias file if that is intended."
                )
            same.append(name)
    ordered, _ = classes_of(set(names.values()), "the merged classes")
    numbers = {key: ordered.index(name) for key, name in names.items()}
    mappings = {source: {} for source in sources}
    for key, by_source in spellings.items():
        for source, spelled in by_source.items():
            mappings[source].update(dict.fromkeys(spelled, numbers[key]))
    mappings = {source: {name: mappings[source][name] for name in classes} for source, classes in sources.items()}
    lines = _describe_sources(sources, names, spellings) + _describe_spellings(names, spellings)
    found = {normalized_name(name) for classes in sources.values() for name in classes}
    unused = [alias for alias, name in aliases.items() if alias not in found and alias != normalized_name(name)]
    return MergedClasses(ordered, mappings, lines + [f"alias not found in any source: {alias!r}" for alias in unused])


def _describe_sources(sources: dict, names: dict[str, str], spellings: dict) -> list[str]:
    """One line per source, and one for each new class that is similar to a class of an earlier source."""
    lines, alike, known = [], [], {}
    for source, classes in sources.items():
        new = [key for key in names if source in spellings[key] and key not in known]
        lines.append(f"{source}: {len(classes)} classes, {len(new)} of them new")
        elsewhere = [key for key in known if source not in spellings[key]]
        for key in new:
            for near in difflib.get_close_matches(key, elsewhere, n=2, cutoff=_LOOKS_ALIKE):
                alike.append(f"similar, not merged: {names[near]!r} and {names[key]!r} ({source})")
        known.update(dict.fromkeys(new))
    return [*lines, f"{len(names)} classes in total", *alike]


def _describe_spellings(names: dict[str, str], spellings: dict) -> list[str]:
    """One line for each class with several spellings, and one for each class that only one source has."""
    merged, alone = [], []
    for key, by_source in spellings.items():
        if len({name for spelled in by_source.values() for name in spelled}) > 1:
            shown = [f"{name!r} ({source})" for source, spelled in by_source.items() for name in spelled]
            merged.append(f"merged into {names[key]!r}: {', '.join(shown)}")
        if len(by_source) == 1 and len(spellings) > 1:
            alone.append(f"only in {next(iter(by_source))}: {names[key]!r}")
    return merged + alone


def merge_videos(
    sources: dict[str, tuple[Iterable[VideoRecord], list[str]]],
    merged: MergedClasses,
    video_key: str = "path",
    held_out: Iterable[str] = (),
) -> tuple[list[dict], list[str]]:
    """The rows of one list of all sources; a video that several sources have is listed for the first one.

    Args:
        sources: name of a source -> its samples and class names.
        merged: the result of `merge_classes` for these sources.
        video_key: the criterion for two files being the same video, one of `VIDEO_KEYS`.
        held_out: paths of videos that must not be in the list, such as those of all validation sets.

    Returns:
        Rows with path, label, source and, for folders of images, their numbers; and lines about videos left out.
    """
    key_of = VIDEO_KEYS[video_key]
    kept_out = {key_of(path) for path in held_out}
    owners, rows, lines = {}, [], []  # key -> source, label
    differing = []
    for source, (samples, classes) in sources.items():
        repeated = leaked = 0
        for sample in samples:
            label = merged.names[merged.mappings[source][classes[sample.label]]]
            key = key_of(sample.path)
            owner, known_label = owners.setdefault((key, sample.first_frame, *sample.segment), (source, label))
            if key in kept_out:
                leaked += 1
            elif owner != source:
                repeated += 1
                if known_label != label:
                    differing.append(f"{sample.path} is {known_label!r} in {owner} and {label!r} in {source}")
            else:
                rows.append(_row(sample, label, source))
        lines.append(f"{source}: {len(samples)} videos, {repeated} in an earlier source, {leaked} held out")
    if differing:
        lines.append(f"{len(differing)} videos have two labels, of which the first is kept; {differing[0]}")
    return rows, lines + _name_warning(rows, video_key)


def _row(sample: VideoRecord, label: str, source: str) -> dict:
    path = sample.path if "://" in sample.path else os.path.abspath(sample.path)
    numbers = {"first_frame": sample.first_frame, "num_frames": sample.num_frames}
    numbers |= dict(zip(("start", "end", "start_frame", "end_frame"), sample.segment))
    numbers = {name: number for name, number in numbers.items() if number is not None}
    return {"path": path, "label": label, **numbers, "source": source}


def _name_warning(rows: list[dict], video_key: str) -> list[str]:
    """A warning if several sources have files of the same name, while only equal paths count as the same video."""
    if video_key != "path":
        return []
    owners, shared = {}, set()
    for row in rows:
        name = Path(row["path"]).stem
        if owners.setdefault(name, row["source"]) != row["source"]:
            shared.add(name)
    if not shared:
        return []
    return [f"{len(shared)} file names are in several sources ({min(shared)}, ..): if they are the same videos, set "
            f"--same_video name, or youtube for Kinetics"]  # fmt: skip


def write_list(path: Path, rows: list[dict]) -> None:
    """Writes the rows as JSON lines, which `read_samples` reads."""
    write_text(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def write_mappings(path: Path, merged: MergedClasses) -> None:
    content = {"classes": merged.names, "label_mappings": merged.mappings}
    write_text(path, json.dumps(content, indent=1, ensure_ascii=False))


def read_mappings(path: str | Path) -> tuple[list[str], dict[str, dict[str, int]]]:
    """The merged class names, and source -> its class names -> number of the merged class."""
    content = read_json(path)
    try:
        return content["classes"], content["label_mappings"]
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path} is not a label_mappings.json written by videomae merge-labels.") from error
