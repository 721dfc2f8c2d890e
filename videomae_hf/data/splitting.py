# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Groups of videos, and the division of videos among training, validation and test with no group in two parts."""

import re
from collections import Counter
from collections.abc import Hashable, Sequence
from pathlib import Path

import torch

from ..messages import did_you_mean, several
from ..settings.groups import DataSettings
from .sources.list_editing import list_every_video
from .sources.list_records import ReadList
from .sources.media import VIDEOS, Media
from .sources.records import VideoRecord


def named_groups(
    records: Sequence[VideoRecord], source: object, data: DataSettings, media: Media = VIDEOS
) -> list[str] | None:
    """The group of each video by `group_column` or `group_pattern`; None if neither is set.

    Args:
        records: the videos.
        source: the list that they were read from; anything else has no columns.
        data: the settings.
        media: what the records are.

    Raises:
        ValueError: both are set, the source has no such column, or a video has no group.
    """
    if data.group_column and data.group_pattern:
        raise ValueError("group_column and group_pattern exclude each other; set one of them.")
    if data.group_pattern:
        return groups_by_pattern([record.path for record in records], data.group_pattern)
    if not data.group_column:
        return None
    path = Path(source).expanduser() if isinstance(source, str | Path) else None
    if path is None or not path.is_file():
        raise ValueError(f"group_column={data.group_column!r} needs a list of videos, and {source} is none.")
    root = Path(data.data_root).expanduser() if data.data_root else None
    listed = list_every_video(path, root, media, data.video_column_name)
    values = groups_by_column(path, listed, data.group_column)
    of_video = {(one.sample.path, one.sample.segment): value for one, value in zip(listed.found, values)}
    unknown = [record.name for record in records if (record.path, record.segment) not in of_video]
    if unknown:
        raise ValueError(f"group_column={data.group_column!r}: {path} does not list {several(unknown)}")
    return [of_video[record.path, record.segment] for record in records]


def columns_of(listed: ReadList) -> list[str]:
    """The names of the columns of a list, [] without a header."""
    return list(dict.fromkeys(name for row in listed.rows if isinstance(row.values, dict) for name in row.values))


def groups_by_column(path: Path, listed: ReadList, column: str) -> list[str]:
    """The values of a column of a list that was read from `path`.

    Raises:
        ValueError: there is no such column, or it is empty in some row.
    """
    columns = columns_of(listed)
    if column not in columns:
        known = f"the columns are {', '.join(columns)}" if columns else "the list has no header"
        raise ValueError(f"group_column={column!r}: {known}{did_you_mean(column, columns)}.")
    values = [str(row.values.get(column) or "").strip() for row in listed.rows]
    if "" in values:
        place = listed.rows[values.index("")].place
        raise ValueError(f"{path}, {place}: the column {column!r} is empty; every video needs a group.")
    return values


def groups_by_pattern(paths: Sequence[str], pattern: str) -> list[str]:
    """The group of each path: what the parentheses of a regular expression match, or else its whole match.

    >>> groups_by_pattern(["a/seq1_x.mp4", "b/seq1_y.mp4"], r"seq(\\d+)")
    ['1', '1']

    Raises:
        ValueError: the pattern is invalid, or matches nothing in some path.
    """
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise ValueError(f"group_pattern={pattern!r} is no regular expression: {error}.") from error
    matches = [compiled.search(path) for path in paths]
    missing = [path for path, match in zip(paths, matches) if match is None]
    if missing:
        raise ValueError(
            f"group_pattern={pattern!r} matches nothing in {len(missing)} of {len(paths)} paths: {several(missing)}"
        )
    return ["|".join(part or "" for part in match.groups()) if match.groups() else match[0] for match in matches]


def joined_groups(groups: Sequence[Hashable], pairs: Sequence[tuple[int, int]]) -> list[int]:
    """The number of the group of each video after groups with a pair of videos in common are joined.

    Args:
        groups: the group of each video.
        pairs: positions of two videos that must stay together.

    Returns:
        Numbers from 0, in the order of first appearance.
    """
    first_of = {}
    parent = [first_of.setdefault(group, place) for place, group in enumerate(groups)]

    def root(place: int) -> int:
        while parent[place] != place:
            parent[place] = parent[parent[place]]
            place = parent[place]
        return place

    for one, other in pairs:
        low, high = sorted((root(one), root(other)))
        parent[high] = low
    numbers = {}
    return [numbers.setdefault(root(place), len(numbers)) for place in range(len(groups))]


def divide(
    groups: Sequence[int],
    labels: Sequence[tuple[Hashable, ...]],
    fractions: Sequence[float],
    generator: torch.Generator,
) -> list[int]:
    """Assigns whole groups to parts, so that each part has its fraction of every class as nearly as groups allow.

    The largest groups come first, and equal ones in random order. Each goes to the part where it reduces the squared
    differences between the videos of each class that a part has and should have the most; a class counts by its size.
    A class with enough groups then has one in every part, however few its videos are.

    Args:
        groups: the group of each video.
        labels: the classes of each video; an empty tuple for one without.
        fractions: the fraction of the videos of each part; their sum is 1.
        generator: source of randomness.

    Returns:
        The part of each video.

    Raises:
        ValueError: there are fewer groups than parts.
    """
    names = {label: column for column, label in enumerate(dict.fromkeys(label for some in labels for label in some))}
    numbers = {group: row for row, group in enumerate(dict.fromkeys(groups))}
    if len(numbers) < len(fractions):
        raise ValueError(f"{len(numbers)} groups cannot be divided into {len(fractions)} parts.")
    counts = torch.zeros(len(numbers), len(names) + 1, dtype=torch.float64)  # the last column counts videos
    for group, some in zip(groups, labels):
        for column in (*(names[label] for label in some), -1):
            counts[numbers[group], column] += 1
    totals = counts.sum(dim=0)
    lacking = torch.tensor(fractions, dtype=torch.float64)[:, None] * totals  # (parts, columns)
    order = torch.randperm(len(counts), generator=generator)
    order = order[counts[order, -1].argsort(descending=True, stable=True)]
    parts = [0] * len(counts)
    for row in order.tolist():
        # (lacking - count)^2 - lacking^2 = count^2 - 2 count lacking, of which the first term is the same in all parts
        parts[row] = int((counts[row] * lacking / totals).sum(dim=1).argmax())
        lacking[parts[row]] -= counts[row]
    _fill_parts(parts, counts[:, :-1] > 0, len(fractions))
    return [parts[numbers[group]] for group in groups]


def _fill_parts(parts: list[int], has: torch.Tensor, num_parts: int) -> None:
    """Moves a group of a class, where a part has none of it, from the part that has most of its groups.

    Args:
        parts: the part of each group; changed in place.
        has: bool (groups, classes).
        num_parts: number of parts.
    """
    for members in (column.nonzero()[:, 0].tolist() for column in has.T):
        for part in range(num_parts):
            held = Counter(parts[row] for row in members)
            fullest, number = held.most_common(1)[0]
            if part in held or number < 2:
                continue
            # The smallest set of classes, so that others change little
            moved = min((row for row in members if parts[row] == fullest), key=lambda row: int(has[row].sum()))
            parts[moved] = part


def balance_table(parts: Sequence[str], of_video: Sequence[int], groups: Sequence[int], labels: Sequence[tuple]) -> str:
    """Text: the videos of each class, and the videos and groups, in each part."""
    classes = sorted({label for some in labels for label in some}, key=str)
    counts = [Counter(label for some, k in zip(labels, of_video) if k == part for label in some)
              for part in range(len(parts))]  # fmt: skip
    rows = [(str(label), *(count[label] for count in counts)) for label in classes]
    rows.append(("videos", *(sum(k == part for k in of_video) for part in range(len(parts)))))
    rows.append(("groups", *(len({group for group, k in zip(groups, of_video) if k == part})
                             for part in range(len(parts)))))  # fmt: skip
    table = [("", *parts), *rows]
    widths = [max(len(str(row[column])) for row in table) for column in range(len(parts) + 1)]
    return "\n".join(
        "  ".join(str(cell).ljust(width) if column == 0 else str(cell).rjust(width)
                  for column, (cell, width) in enumerate(zip(row, widths))).rstrip()
        for row in table
    )  # fmt: skip
