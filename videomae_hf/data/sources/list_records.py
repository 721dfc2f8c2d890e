# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Converts the rows of a list to videos: every column is used, reported as unused, or refused."""

import math
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

from ...messages import count, several, shorten
from ...text_files import normalized
from .list_columns import choose_split, find_roles
from .list_paths import PathFinder
from .lists import FILE_NAME, URLS, VIDEO_NAME, Row, Table, read_table
from .media import VIDEOS, Media, describe_kinds
from .records import VideoRecord


_MOST_IMAGES = 10**8  # per folder; a larger number is a mistake, and would take forever to enumerate
_SEPARATORS = "|;,"
_ITEM = r"""(?:'[^']*'|"[^"]*"|-?\d+(?:\.\d*)?|True|False|true|false)"""
_LIST = re.compile(rf"\[\s*(?:{_ITEM}(?:\s*,\s*{_ITEM})*)?\s*\]", re.DOTALL)  # as written by JSON or Python
_WHOLE = re.compile(r"(0|[1-9]\d{0,18})\.0*", re.ASCII)
_TRUE, _FALSE = ("1", "1.0", "true"), ("0", "0.0", "false")


class Listed(NamedTuple):
    """A video as listed by a source: its place ("line 3: "), the video, and the names of its labels."""

    place: str
    sample: VideoRecord
    labels: list[str]


@dataclass(frozen=True)
class ListOptions:
    """Options for reading a list.

    Args:
        kind: expected content of a row besides the path: "nothing", "label", "labels" (any number) or "targets".
        root: folder that relative paths refer to; None is the folder of the list.
        split: names of the wanted split, in order of preference; () reads all rows.
        video_column, label_column: names of these columns, if they are not the usual ones.
        known: class names or target names of a trained model; a label that is one of them is never split.
        media: the files that names without suffix refer to, and that a column of paths names.
    """

    kind: str = "label"
    root: Path | None = None
    split: tuple[str, ...] = ()
    video_column: str | None = None
    label_column: str | None = None
    known: tuple[str, ...] = ()
    media: Media = VIDEOS


@dataclass
class ReadList:
    """The videos of a list, and the rows that they come from.

    Args:
        found: the videos, in order.
        notes: notes about how the list was read.
        names: names of the targets, for regression.
        rows: the rows of all videos, including other splits; as many as `found` if all splits are read and no rows are
            combined.
    """

    found: list[Listed]
    notes: list[str]
    names: list[str] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)


def read_list(source: Path, options: ListOptions) -> ReadList:
    """Reads a list of videos in any of the formats of docs/lists.md.

    Raises:
        ValueError: a row or column is invalid or ambiguous; the message gives the lines.
    """
    return _Reading(source, options, read_table(source, options.kind)).result()


def holds_labels(source: Path, options: ListOptions) -> bool:
    """Whether a list has a column that could hold labels: any column except those that identify the video."""
    table = read_table(source, "label")
    for row in table.rows:
        if isinstance(row.values, list):
            if len(row.values) > 1:
                return True
        else:
            roles, others = find_roles(list(row.values), options.video_column, options.label_column)
            if "label" in roles or others:
                return True
    return False


class _Reading:
    """The state of reading one list: its rows in order, and facts and problems collected from all of them."""

    def __init__(self, source: Path, options: ListOptions, table: Table) -> None:
        self.source, self.options, self.table = source, options, table
        self.finder = PathFinder(options.root or source.parent, options.media)
        self.problems: list[str] = []
        self.unused: dict[str, None] = {}  # names of columns, in order
        self.notes: list[str] = []
        self.roles: dict[tuple, tuple[dict[str, str], list[str]]] = {}
        self.target_names: list[str] = []

    def result(self) -> ReadList:
        rows = [(row.place, *self._by_role(row)) for row in self.table.rows]
        rows = self._of_the_split(rows)
        self.extra = self._extra_columns(rows)
        self.separator = self._separator(rows) if self.options.kind == "labels" else None
        found = [self._listed(place, values, [more.get(name) for name in self.extra]) for place, values, more in rows]
        if self.problems:
            raise ValueError(f"{self.source}: {several(self.problems)}")
        found = list(filter(None, found))
        if self.options.kind == "labels":
            found = self._put_together(found)
        if self.unused:
            self.notes.append(f"{self.source}: columns not used: {shorten(list(self.unused))}")
        self.notes += [f"{self.source}: {note}" for note in self.finder.notes.values()]
        if self.options.media.images:
            self.notes += describe_kinds(self.source, (_suffix(one.sample.path) for one in found))
        return ReadList(found, self.notes, self.target_names, self.table.rows)

    # ------------------------------------------------------------------------------------------- columns

    def _by_role(self, row: Row) -> tuple[dict, dict]:
        """Values by role, and those of the other columns by name."""
        if isinstance(row.values, list):
            return self._by_position(row.place, row.values), {}
        names = tuple(name for name, value in row.values.items() if value is not None or self.table.columns)
        if names not in self.roles:
            options = self.options
            targets = [name for name in names if options.kind == "targets" and name in options.known]
            try:
                label_column = options.label_column if options.kind != "nothing" else None
                others = [name for name in names if name not in targets]
                roles, others = find_roles(others, options.video_column, label_column)
            except ValueError as error:
                where = f"{self.source}" if self.table.columns else f"{self.source}, {row.place}"
                raise ValueError(f"{where}: {error}") from error
            self.roles[names] = roles, others + targets
        roles, others = self.roles[names]
        values = {role: row.values[name] for role, name in roles.items()}
        self._refuse_other_paths(row, str(values["path"]), others)
        return values, {name: row.values[name] for name in others}

    def _refuse_other_paths(self, row: Row, path: str, others: list[str]) -> None:
        """Raises ValueError if the path is not the name of a video while an unused column has one."""
        if FILE_NAME.fullmatch(path.strip()) or path.startswith(URLS) or self.options.video_column:
            return
        named = [name for name in others if isinstance(row.values[name], str)]
        pattern = FILE_NAME if self.options.media.images else VIDEO_NAME  # next to a video, an image is its preview
        other = next((name for name in named if pattern.fullmatch(row.values[name].strip())), None)
        if other is not None:
            raise ValueError(
                f"{self.source}, {row.place}: the path is {path!r:.60}, but {other} has the name of a video; choose "
                f"the column with --video_column_name."
            )

    def _by_position(self, place: str, cells: list[str]) -> dict:
        """The values of a row without a header: the official forms, or a path with its label, labels or targets."""
        path, *rest = cells
        kind, numbers = self.options.kind, [_whole(cell) for cell in rest]
        is_folder = not FILE_NAME.fullmatch(path) and not path.startswith(URLS)
        if kind == "targets" or (kind == "labels" and len(rest) != 1):
            if kind == "labels" and any("|" in cell for cell in rest):
                self.problems.append(f"{place}: labels both in columns and separated by |: {cells!r:.80}; use only one")
            return {"path": path, "label": rest}
        if kind == "nothing":
            if is_folder and len(rest) >= 2 and None not in numbers[:2] and numbers[1] >= 0:
                return {"path": path, "first_frame": rest[0], "num_frames": rest[1]}
            if is_folder and " " in path and not self.finder.is_there(path):
                self.problems.append(
                    f"{place}: {path!r:.80} does not exist; if it is a path and a label, separate them by a comma"
                )
            return {"path": path}
        if len(rest) == 2 and numbers[0] is not None and is_folder:  # number of images, class
            return {"path": path, "num_frames": rest[0], "label": rest[1]}
        if len(rest) == 2 and None not in numbers:
            values = {"path": path, "label": rest[1]}
            self.unused["the second of three, read as numbers of frames"] = None
            return values
        if len(rest) > 1:
            self.problems.append(
                f"{place}: {len(cells)} columns, {cells!r:.80}; without a header a row has a path and a label (quote "
                f"a label that contains the delimiter)"
            )
        return {"path": path, "label": rest[0] if rest else None}

    def _of_the_split(self, rows: list[tuple[str, dict, dict]]) -> list[tuple[str, dict, dict]]:
        """The rows of the wanted split; rows without a split are reported as problems."""
        if not self.options.split or not any("split" in values for _, values, _ in rows):
            return rows
        splits = [str(values.get("split") or "").strip() for _, values, _ in rows]
        missing = [f"{place}: no split" for (place, _, _), split in zip(rows, splits) if not split]
        if missing:
            raise ValueError(f"{self.source}: {several(missing)}")
        present = list(dict.fromkeys(splits))
        try:
            chosen = choose_split(present, self.options.split)
        except ValueError as error:
            raise ValueError(f"{self.source}: {error}") from error
        others = [f"{splits.count(split)} of {split!r}" for split in present if split != chosen]
        left_out = f"; left out: {', '.join(others)}" if others else ""
        self.notes.append(f"{self.source}: {count(splits.count(chosen), 'row')} of the split {chosen!r}{left_out}")
        return [row for row, split in zip(rows, splits) if split == chosen]

    def _extra_columns(self, rows: list[tuple[str, dict, dict]]) -> list[str]:
        """The columns without a role that hold labels (0 and 1, one column per class) or targets."""
        names = list(dict.fromkeys(name for _, _, others in rows for name in others))
        has_label = any("label" in values for _, values, _ in rows)
        kind, chosen = self.options.kind, []
        if kind == "targets" and self.options.known and (self.table.columns or set(self.options.known) <= set(names)):
            chosen = self.target_names = self._known_targets(names)
        elif kind in ("labels", "targets") and not has_label:
            chosen = [name for name in names if self._holds(name, rows, kind)]
            self.target_names = list(chosen)
        elif kind == "targets" and self.table.columns:
            self.target_names = [next(iter(self.roles.values()))[0]["label"]]
        if kind == "label" and rows and not has_label:
            found = ", ".join(self.table.columns or names) or "the path alone"
            raise ValueError(f"{self.source} has no column of labels; it has {found} (set --label_column_name).")
        for name in names:
            if name not in chosen:
                self.unused[name] = None
        return chosen

    def _known_targets(self, names: list[str]) -> list[str]:
        """The columns with the targets of a trained model, in its order."""
        missing = [name for name in self.options.known if name not in names]
        if missing:
            raise ValueError(
                f"{self.source} has no column {missing[0]!r}; its header is {', '.join(self.table.columns)}."
            )
        return list(self.options.known)

    def _holds(self, name: str, rows: list[tuple[str, dict, dict]], kind: str) -> bool:
        """Whether a column holds 0 and 1, or numbers; other values in a column that mostly does are problems."""
        fits = _as_target if kind == "targets" else _as_flag
        wrong = [(place, others.get(name)) for place, _, others in rows if fits(others.get(name)) is None]
        if not wrong:
            return True
        if 2 * len(wrong) > len(rows):
            return False
        wanted = "a number" if kind == "targets" else "0 or 1 (True or False)"
        self.problems += [f"{place}: {name} is {value!r:.40}, not {wanted}" for place, value in wrong]
        return False

    # ---------------------------------------------------------------------------------------------- rows

    def _listed(self, place: str, values: dict, extra: list) -> Listed | None:
        """The video of a row; None if the row has a problem."""
        try:
            sample = self._sample(values)
            if self.options.kind == "targets":
                sample, labels = replace(sample, targets=self._targets(values, extra)), []
            else:
                labels = self._labels(values, extra, sample.path)
            return Listed(f"{place}: ", self.finder.find(sample), labels)
        except ValueError as error:
            self.problems.append(f"{place}: {error}")
            return None

    def _sample(self, values: dict) -> VideoRecord:
        path = values["path"]
        if not isinstance(path, str | int) or isinstance(path, bool) or not str(path).strip():
            wanted = {"label": " and a label", "labels": " and labels", "targets": " and numbers"}
            raise ValueError(f"expected a path{wanted.get(self.options.kind, '')}, found {path!r:.80}")
        path = str(path).strip()
        try:
            path.encode("utf-8", "surrogateescape")
        except UnicodeEncodeError:
            raise ValueError(f"the path {path!r:.80} is not a valid file name") from None
        segment = segment_of(values)
        numbers = {}
        for name, lowest in (("first_frame", 0), ("num_frames", 1)):
            if not _is_empty(values.get(name)):
                numbers[name] = _count(values[name], name, lowest)
        return VideoRecord(self.finder.absolute(path), **numbers, **segment)

    def _labels(self, values: dict, flags: list, path: str) -> list[str]:
        kind = self.options.kind
        if kind == "nothing":
            return []
        if flags:  # columns of 0 and 1, one per class
            return [normalized(name) for name, value in zip(self.extra, flags) if _as_flag(value)]
        labels = cell_labels(values.get("label"), self.options.known, self.separator if kind == "labels" else None)
        if kind == "label" and len(labels) != 1:
            if labels:
                raise ValueError(f"{len(labels)} labels, {shorten(labels)}; set multi_label for more than one")
            raise ValueError(f"expected a path and a label, found {values['path']!r:.80}")
        for label in labels:
            held = [mark for mark in _SEPARATORS if mark in label and mark != self.separator]
            if kind == "label":
                held = [mark for mark in held if mark == "|"]
            elif label.startswith("[") and label.endswith("]"):
                held = ["[ ]"]
            if held and label not in self.options.known and not isinstance(values.get("label"), list):
                way_out = "set multi_label" if kind == "label" else "write the labels as a JSON list"
                raise ValueError(f"the label {label!r:.80} contains {held[0]!r}, which separates labels; {way_out}")
        return labels

    def _targets(self, values: dict, extra: list) -> tuple[float, ...]:
        found = extra or values.get("label")
        found = found if isinstance(found, list) else [found]
        numbers = [_as_target(value) for value in found]
        if not self.target_names:
            names = list(self.options.known)
            generic = ["target"] if len(found) == 1 else [f"target_{number}" for number in range(len(found))]
            self.target_names = names or generic
        if None in numbers or len(numbers) != len(self.target_names) or not numbers:
            raise ValueError(
                f"expected a path and {len(self.target_names)} numbers, found {[values['path'], *found]!r:.120}"
            )
        return tuple(numbers)

    # ------------------------------------------------------------------------------------- several labels

    def _separator(self, rows: list[tuple[str, dict, dict]]) -> str | None:
        """The separator of labels within a cell of this list: the first of | ; , that any cell contains."""
        cells = [values.get("label") for _, values, _ in rows]
        known = set(self.options.known)
        cells = [cell for cell in cells if isinstance(cell, str) and cell not in known and not _LIST.fullmatch(cell)]
        return next((mark for mark in _SEPARATORS if any(mark in cell for cell in cells)), None)

    def _put_together(self, found: list[Listed]) -> list[Listed]:
        """Combines the rows of a video, each with one of its labels."""
        merged = {}
        for listed in found:
            key = (listed.sample.path, listed.sample.segment)
            if key in merged:
                labels = merged[key].labels
                labels += [label for label in listed.labels if label not in labels]
            else:
                merged[key] = listed._replace(labels=list(dict.fromkeys(listed.labels)))
        if len(merged) < len(found):
            self.notes.append(f"{self.source}: {len(found)} rows of {count(len(merged), 'video')}, combined")
        return list(merged.values())


# -------------------------------------------------------------------------------------------------------------- cells


def _suffix(path: str) -> str:
    """The suffix of a file or of the file that an address names."""
    return os.path.splitext(path.split("?")[0] if path.startswith(URLS) else path)[1]


def _is_empty(value) -> bool:
    return value is None or (isinstance(value, str) and not value.strip()) or value != value or _is_nan_text(value)


def _is_nan_text(value) -> bool:
    return isinstance(value, str) and value.strip() in ("nan", "NaN", "<NA>")


def _whole(text: str) -> int | None:
    return int(text) if re.fullmatch(r"-?\d{1,18}", text, re.ASCII) else None


def _count(value, name: str, lowest: int) -> int:
    """A whole number of frames; pandas writes 25 as 25.0 in a column with missing values."""
    number = _as_target(value)
    if number is None or not number.is_integer() or not lowest <= number <= _MOST_IMAGES:
        raise ValueError(f"{name} is {value!r:.40}, not a whole number from {lowest} to {_MOST_IMAGES:,}")
    return int(number)


def _as_target(value) -> float | None:
    """A finite number, or None."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) and "_" not in str(value) else None


def _as_flag(value) -> bool | None:
    """0, 1, True or False, as written by people and pandas; None for anything else."""
    if not isinstance(value, bool | int | float | str):
        return None
    text = str(value).strip().lower()
    return True if text in _TRUE else False if text in _FALSE else None


def segment_of(values: dict) -> dict[str, float | int]:
    """The bounds of a part of a video, by the field names of `VideoRecord`.

    Raises:
        ValueError: a bound is not a time or frame number, or the end is not after the start.
    """
    seconds = {name: _seconds(values[name], name) for name in ("start", "end") if not _is_empty(values.get(name))}
    if seconds:
        bounds = seconds
    else:
        names = [name for name in ("start_frame", "end_frame") if not _is_empty(values.get(name))]
        bounds = {name: _count(values[name], name, 0) for name in names}
    if len(bounds) == 2:
        start, end = bounds.values()
        if end <= start:
            raise ValueError(f"the end, {end:g}, is not after the start, {start:g}")
    return bounds


def _seconds(value, name: str) -> float:
    """Seconds, from a number or from h:mm:ss or m:ss with decimals.

    Raises:
        ValueError: the value is neither, or is negative.
    """
    number = _as_target(value)
    if number is None and isinstance(value, str):
        found = re.fullmatch(r"(?:(\d{1,4}):)?(\d{1,4}):(\d{1,2}(?:[.,]\d*)?)", value.strip(), re.ASCII)
        if found:
            hours, minutes, seconds = found.groups()
            number = int(hours or 0) * 3600 + int(minutes) * 60 + float(seconds.replace(",", "."))
    if number is None or number < 0:
        raise ValueError(f"{name} is {value!r:.40}, neither seconds from 0 nor h:mm:ss (leave it empty for no bound)")
    return number


def cell_labels(value, known: Iterable[str] = (), separator: str | None = None) -> list[str]:
    """The labels of a cell as text; whole numbers are written without decimals.

    Args:
        value: a text, a number, or a list of these.
        known: class names, which are never split.
        separator: separator of labels in a text; None means a single label.

    Raises:
        ValueError: a label is an object.
    """
    if isinstance(value, list):
        return [text for one in value for text in cell_labels(one, known, None)]
    if isinstance(value, dict):
        raise ValueError(f"the label {value!r:.80} is an object; it must be a text or a number")
    if _is_empty(value):
        return []
    text = normalized(str(value))
    if text in known:
        return [text]
    if _LIST.fullmatch(text):
        return [text for item in re.findall(_ITEM, text) for text in cell_labels(item.strip("'\""), known, None)]
    parts = text.split(separator) if separator else [text]
    return [label_text(part) for part in parts if part.strip()]


def label_text(text: str) -> str:
    """A label in the form in which labels are compared: 3 for 3.0, which pandas writes if values are missing."""
    text = normalized(text)
    whole = _WHOLE.fullmatch(text)
    return whole[1] if whole else text
