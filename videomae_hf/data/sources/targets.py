# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Reads lists of videos with numbers to predict (regression); docs/lists.md describes the formats."""

import math
from pathlib import Path

from .folders_and_lists import Reading
from .list_records import read_list
from .records import VideoRecords


def read_targets(
    source: str | Path, names: list[str] | None = None, reading: Reading | None = None
) -> tuple[VideoRecords, list[str]]:
    """Lists the videos of a list and their targets.

    Without a header, every column after the path is a target. With a header, the target is the column of labels or, if
    there is none, every column of numbers without another role.

    Args:
        source: the list.
        names: the target names of a trained model; with a header, these columns are selected in this order.
        reading: the root of relative paths and the split; its options for labels are not used.

    Returns:
        Samples with `targets`, and the names of the targets: those of the header, or target, or target_0, target_1, ...

    Raises:
        FileNotFoundError: there is no such list.
        ValueError: the list has no video, a value is not a finite number, or the number of targets differs from `names`
            or from the first line.
    """
    source, reading = Path(source).expanduser(), reading or Reading()
    if source.is_dir():
        raise ValueError(f"Regression needs a list with numbers, and {source} is a folder.")
    if not source.is_file():
        raise FileNotFoundError(f"There is no list of videos at {source}.")
    listed = read_list(source, reading.list_options("targets", names))
    if not listed.found:
        raise ValueError(f"{source} has no videos.")
    return VideoRecords((sample for _, sample, _ in listed.found), listed.notes), listed.names


def target_range(samples: VideoRecords) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each target over the samples; the deviation of a constant target is set to 1."""
    columns = list(zip(*(sample.targets for sample in samples)))
    means = tuple(math.fsum(column) / len(column) for column in columns)
    deviations = tuple(
        math.sqrt(math.fsum((value - mean) ** 2 for value in column) / len(column)) or 1.0
        for column, mean in zip(columns, means)
    )
    return means, deviations


def describe_targets(samples: VideoRecords, names: list[str]) -> list[str]:
    """One line about each target."""
    columns = zip(*(sample.targets for sample in samples))
    means, deviations = target_range(samples)
    return [
        f"target {name}: {min(column):g} to {max(column):g}, mean {mean:g}, standard deviation {deviation:g}"
        for name, column, mean, deviation in zip(names, columns, means, deviations)
    ]
