# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Lists of videos with numbers to predict (regression); docs/lists.md has the formats."""

import math
from pathlib import Path

from .folders_and_lists import Reading
from .list_records import read_list
from .records import VideoRecords


def read_targets(
    source: str | Path, names: list[str] | None = None, reading: Reading | None = None
) -> tuple[VideoRecords, list[str]]:
    """Lists the videos of a list and their targets.

    Without a header every column after the path is a target; under a header it is the column of labels, or, where there
    is none, every column of numbers that is nothing else.

    Args:
        source: a list.
        names: of the targets, as in a trained model; picks these columns where there is a header, in this order.
        reading: where relative paths begin, which split; its labels play no part.

    Returns:
        Samples with `targets`, and the names of these: the header's, or target, or target_0, target_1, ...

    Raises:
        FileNotFoundError: no such list. ValueError: no video in it, a value that is no finite number, another number of
        targets than `names` or the first line has.
    """
    source, reading = Path(source).expanduser(), reading or Reading()
    if source.is_dir():
        raise ValueError(f"Regression needs a list with numbers, and {source} is a folder.")
    if not source.is_file():
        raise FileNotFoundError(f"No list of videos at {source}.")
    listed = read_list(source, reading.list_options("targets", names))
    if not listed.found:
        raise ValueError(f"{source} holds no video.")
    return VideoRecords((sample for _, sample, _ in listed.found), listed.notes), listed.names


def target_range(samples: VideoRecords) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each target over the samples; a target that never changes has a deviation of 1."""
    columns = list(zip(*(sample.targets for sample in samples)))
    means = tuple(math.fsum(column) / len(column) for column in columns)
    deviations = tuple(
        math.sqrt(math.fsum((value - mean) ** 2 for value in column) / len(column)) or 1.0
        for column, mean in zip(columns, means)
    )
    return means, deviations


def describe_targets(samples: VideoRecords, names: list[str]) -> list[str]:
    """A line for each target."""
    columns = zip(*(sample.targets for sample in samples))
    means, deviations = target_range(samples)
    return [
        f"target {name}: {min(column):g} to {max(column):g}, mean {mean:g}, standard deviation {deviation:g}"
        for name, column, mean, deviation in zip(names, columns, means, deviations)
    ]
