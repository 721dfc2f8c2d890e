# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Converts the labels of a source, which are text, to class numbers by one rule for folders, lists, shards and rows."""

import re
from collections.abc import Sequence
from dataclasses import replace

from ...messages import count, did_you_mean, several, shorten
from .list_records import Listed
from .records import VideoRecord


_WHOLE = re.compile(r"0|[1-9]\d{0,18}", re.ASCII)
_GENERIC = re.compile(r"(?:LABEL_)?\d+", re.ASCII)


def class_number(label: str) -> int | None:
    """The number that a label represents; None for a name, including one with leading zeros, as folders may have."""
    return int(label) if _WHOLE.fullmatch(label) else None


def classes_of(labels: set[str], where: str) -> tuple[list[str], list[str]]:
    """The class names of a data set that does not state them, in order, and notes about how they were read.

    Labels that are all numbers are class numbers: the classes are "0" to the largest number, empty ones included, as in
    the official lists. If more than half of these would be empty (years, ids), only the numbers that occur are classes,
    in ascending order. Otherwise labels are names, sorted.

    Raises:
        ValueError: labels cannot be classes: numbers with decimals, -1 among other labels ("no label" in the official
            lists), or names that differ only in case and punctuation.
    """
    numbers = {label: class_number(label) for label in labels}
    if all(number is not None for number in numbers.values()):
        found = sorted(set(numbers.values()))
        if not found or 2 * len(found) > found[-1]:
            return [str(number) for number in range(found[-1] + 1 if found else 0)], []
        note = f"{where}: the labels are {count(len(found), 'number')} from {found[0]} to {found[-1]}, one class each"
        return [str(number) for number in found], [note]
    _refuse_no_classes(labels, where)
    names = sorted(labels)
    _refuse_spellings(names, where)
    among = [label for label, number in numbers.items() if number is not None]
    notes = [f"{where}: labels are names, including the numbers ({shorten(sorted(among), 3)})"] if among else []
    return names, notes


def _refuse_no_classes(labels: set[str], where: str) -> None:
    decimals = [label for label in labels if re.fullmatch(r"[+-]?\d*\.\d+(?:[eE][+-]?\d+)?", label, re.ASCII)]
    decimals = [label for label in decimals if class_number(label) is None]
    if decimals:
        raise ValueError(
            f"{where}: the label {min(decimals)!r} is a number with decimals, not a class; to predict numbers, set "
            f"--problem_type regression."
        )
    if "-1" in labels and labels - {"-1", "1"}:
        raise ValueError(f'{where}: the label -1 means "no label"; remove these videos from a labelled list.')


def _refuse_spellings(names: list[str], where: str) -> None:
    """Raises ValueError for names that differ only in case, spaces, hyphens and underscores."""
    seen = {}
    for name in names:
        key = re.sub(r"[\s_-]+", " ", name.casefold()).strip()
        if key in seen and any(letter.isalpha() for letter in key):
            raise ValueError(
                f"{where}: the classes {seen[key]!r} and {name!r} differ only in spelling; rename one, or list both "
                f"with --class_names."
            )
        seen[key] = name


def numbered(
    found: Sequence[Listed], class_names: list[str], where: str, *, multi_label: bool
) -> tuple[list[VideoRecord], list[str]]:
    """Replaces the labels of samples by class numbers, and returns notes about how they were read.

    A label is the name of its class. If all labels are numbers and the classes have names, a label is the position
    of its class, counted from 0, and a note says so. Classes whose names are numbers, or LABEL_0 and so on, are found
    by these.

    Raises:
        ValueError: a label is not a class, names are mixed with positions, or positions seem to count from 1.
    """
    numbers = {name: number for number, name in enumerate(class_names)}
    labels = {label for _, _, some in found for label in some}
    values = {label: class_number(label) for label in labels if label not in numbers}
    notes = []
    if all(name.removeprefix("LABEL_") == str(number) for number, name in enumerate(class_names)):
        numbers.update({str(number): number for number in range(len(class_names))})
    elif labels and len(values) == len(labels) and None not in values.values() and not _have_numbers(class_names):
        notes = [_read_as_places(set(values.values()), class_names, where)]
        numbers.update({str(number): number for number in range(len(class_names))})
    problems, samples = [], []
    for place, sample, some in found:
        texts = [label if values.get(label) is None else str(values[label]) for label in some]
        unknown = next((label for label, text in zip(some, texts) if text not in numbers), None)
        if unknown is not None:
            hint = did_you_mean(unknown, class_names)
            problems.append(f"{place}{sample.name} has the unknown label {unknown!r}{hint}")
            continue
        chosen = tuple(numbers[text] for text in texts)
        samples.append(replace(sample, label=chosen if multi_label else chosen[0]))
    if problems:
        mixed = not notes and any(value is not None for value in values.values()) and not _have_numbers(class_names)
        text = several(problems) + " (numbers are class numbers only if all labels are numbers)" * mixed
        raise ValueError(f"{where}: {text}{'' if text.endswith('?') else '.'} Known: {shorten(class_names)}.")
    return samples, notes


def _have_numbers(class_names: list[str]) -> bool:
    """Whether the name of any class is a number, so that numbers in labels are names."""
    return any(_GENERIC.fullmatch(name) for name in class_names)


def _read_as_places(values: set[int], class_names: list[str], where: str) -> str:
    """The note about labels that are positions in the list of class names.

    Raises:
        ValueError: the labels go from 1 to the number of classes.
    """
    if min(values) > 0 and max(values) == len(class_names):
        raise ValueError(
            f"{where}: the labels are numbers up to {max(values)}, but the {len(class_names)} classes are counted from "
            f"0, {class_names[0]!r}; subtract 1, or use the names of the classes."
        )
    first = min(values)
    example = f"{first} is {class_names[first]!r}" if first < len(class_names) else f"0 is {class_names[0]!r}"
    return f"{where}: the labels are numbers, read as class numbers counted from 0: {example}"


def refuse_contradictions(found: Sequence[Listed], where: str) -> list[str]:
    """Returns notes about videos that are listed twice.

    Raises:
        ValueError: a video is listed with two different labels.
    """
    labels, problems, repeated = {}, [], 0
    for place, sample, some in found:
        key = (sample.path, sample.segment)
        before = labels.setdefault(key, some)
        if before is some:
            continue
        repeated += 1
        if before != some:
            problems.append(f"{place}{sample.name} is {before[0]!r} and {some[0]!r}")
    if problems:
        raise ValueError(f"{where}: {several(problems)}; a video has one label (multi_label allows several).")
    return [f"{where}: {count(repeated, 'video')} listed twice"] if repeated else []
