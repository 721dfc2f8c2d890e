# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Lists of videos with numbers to predict (regression).

clip.mp4 0.5 -1.2              every column behind the path is a target (also comma, tab or semicolon)
path,age,weight                columns under a header: all but the path, or `label` where there is one
{"path": .., "label": 0.5}     JSON lines; a list of numbers for several targets
"""

import json
import math
from collections.abc import Iterator
from pathlib import Path

from .sources import (
    LABEL_COLUMNS,
    PATH_COLUMNS,
    URLS,
    VIDEO_NAME,
    Sample,
    SampleList,
    column_delimiter,
    shown,
    split_at_spaces,
    split_columns,
    with_suffix,
)


def read_targets(
    source: str | Path, names: list[str] | None = None, root: str | Path | None = None
) -> tuple[SampleList, list[str]]:
    """Lists the videos of a list and their targets.

    Args:
        source: a list in one of the formats above.
        names: of the targets, as in a trained model; picks these columns where there is a header, in this order.
        root: folder of relative paths; None is the folder of the list.

    Returns:
        Samples with `targets`, and the names of these: the header's, or target, or target_0, target_1, ...

    Raises:
        FileNotFoundError: no such list. ValueError: no video in it, a value that is no finite number, another number of
        targets than `names` or the first line has.
    """
    source = Path(source).expanduser()
    if source.is_dir():
        raise ValueError(f"Regression needs a list with numbers, and {source} is a folder.")
    if not source.is_file():
        raise FileNotFoundError(f"No list of videos at {source}.")
    root = Path(root).expanduser() if root else source.parent
    text = source.read_text(encoding="utf-8-sig")
    lines = [(number, line.strip()) for number, line in enumerate(text.split("\n"), start=1) if line.strip()]
    if not lines:
        raise ValueError(f"{source} holds no video.")
    is_json = lines[0][1].startswith("{")
    header, rows = (None, _read_json(source, lines)) if is_json else _read_columns(source, lines, names)
    rows = list(rows)
    num_targets = len(names or header or rows[0][2]) if rows else 0
    names = names or header or ["target"] * (num_targets == 1) or [f"target_{k}" for k in range(num_targets)]
    found, problems = [], []
    for number, path, values in rows:
        targets = _numbers(values)
        if not path or targets is None or len(targets) != len(names) or not targets:
            problems.append(f"line {number}: expected a path and {len(names)} numbers, found {[path, *values]}")
            continue
        found.append(("", Sample(path if path.startswith(URLS) else str(root / path), targets=targets), []))
    if problems:
        raise ValueError(shown(source, problems))
    if not found:
        raise ValueError(f"{source} holds no video.")
    return SampleList(sample for _, sample, _ in with_suffix(found)), names


def _numbers(values: list) -> tuple[float, ...] | None:
    """None where a value is no finite number."""
    try:
        numbers = tuple(float(value) for value in values)
    except (TypeError, ValueError):
        return None
    return numbers if all(math.isfinite(number) for number in numbers) else None


def _read_json(source: Path, lines) -> Iterator[tuple[int, str, list]]:
    """(line number, path, values) of each line of JSON."""
    for number, line in lines:
        try:
            row = {str(name).lower(): value for name, value in json.loads(line).items()}
        except (json.JSONDecodeError, AttributeError) as error:
            raise ValueError(f"{source}, line {number}: no JSON object: {line[:80]!r}") from error
        path = next((row[name] for name in PATH_COLUMNS if isinstance(row.get(name), str)), "")
        values = next((row[name] for name in LABEL_COLUMNS if row.get(name) is not None), [])
        yield number, path, values if isinstance(values, list) else [values]


def _read_columns(source: Path, lines, names: list[str] | None) -> tuple[list[str] | None, Iterator]:
    """Names of the targets (None without a header), and (line number, path, values) of each line."""
    delimiter = column_delimiter([line for _, line in lines])
    rows = [
        (number, split_at_spaces(line, True, True) if delimiter is None else split_columns(line, delimiter))
        for number, line in lines
    ]
    first = [name.strip() for name in rows[0][1]]
    lower = [name.lower() for name in first]
    path_column = next((lower.index(name) for name in PATH_COLUMNS if name in lower), None)
    if path_column is None or VIDEO_NAME.match(lines[0][1]):
        return None, ((number, row[0].strip(), row[1:]) for number, row in rows)
    label_column = next((lower.index(name) for name in LABEL_COLUMNS if name in lower), None)
    columns = [k for k in range(len(first)) if k != path_column] if label_column is None else [label_column]
    if names is not None:
        missing = [name for name in names if name not in first]
        if missing:
            raise ValueError(f"{source} has no column {missing[0]!r}; its header is {', '.join(first)}.")
        columns = [first.index(name) for name in names]
    values = ((number, row + [""] * (len(first) - len(row))) for number, row in rows[1:])
    return [first[k] for k in columns], (
        (number, row[path_column].strip(), [row[k] for k in columns]) for number, row in values
    )


def target_range(samples: SampleList) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each target over the samples; a target that never changes has a deviation of 1."""
    columns = list(zip(*(sample.targets for sample in samples)))
    means = tuple(sum(column) / len(column) for column in columns)
    deviations = tuple(
        math.sqrt(sum((value - mean) ** 2 for value in column) / len(column)) or 1.0
        for column, mean in zip(columns, means)
    )
    return means, deviations


def describe_targets(samples: SampleList, names: list[str]) -> list[str]:
    """A line for each target."""
    columns = zip(*(sample.targets for sample in samples))
    means, deviations = target_range(samples)
    return [
        f"target {name}: {min(column):g} to {max(column):g}, mean {mean:g}, standard deviation {deviation:g}"
        for name, column, mean, deviation in zip(names, columns, means, deviations)
    ]
