# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Parses the text of a list of videos into rows: JSON in several forms, and columns with or without a header.

`list_columns.py` describes the columns. A row maps column names to values; in a list without a header it is a list of
values by position.
"""

import csv
import io
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from ...text_files import parse_json, read_text
from .list_columns import COLUMNS, PATHS, column_key
from .media import IMAGES, VIDEO_SUFFIXES


# A list may name videos, images or both, whatever the model reads.
_SUFFIX = "|".join(map(re.escape, IMAGES.suffixes))
FILE_NAME = re.compile(rf".*(?:{_SUFFIX})", re.IGNORECASE | re.DOTALL)
VIDEO_NAME = re.compile(rf".*(?:{'|'.join(map(re.escape, VIDEO_SUFFIXES))})", re.IGNORECASE | re.DOTALL)
_NAMES_FILE = re.compile(rf"(?:{_SUFFIX})(?=$|[\s,;\"'?])", re.IGNORECASE)
_QUOTED = re.compile(r'(?:^|\s)"(?:[^"]|"")*"(?=\s|$)')
_PATH_IN_LINE = re.compile(rf".*(?:{_SUFFIX})(?=\s|$)", re.IGNORECASE)
URLS = ("http://", "https://")
_LOOKED_AT = 100  # number of lines examined to find the delimiter
_KNOWN = frozenset(name for column in COLUMNS.values() for name in column.names)
_NUMBER = re.compile(r"-?\d+(?:\.\d*)?(?:[eE][+-]?\d+)?", re.ASCII)


@dataclass(frozen=True)
class Row:
    """A row of a list.

    Args:
        place: "line 3" or "entry 3", for messages.
        values: the values by column name; a plain list if there is no header.
        lines: the lines of the row in the file, (first, last + 1) counted from 0; None in JSON that is a single value.
    """

    place: str
    values: dict | list[str]
    lines: tuple[int, int] | None = None


@dataclass(frozen=True)
class Table:
    """The rows of a list; `columns` has the names of the header, in order, or is None in JSON or without a header."""

    rows: list[Row]
    columns: list[str] | None = None


def read_table(path: Path, kind: str) -> Table:
    """Reads a list.

    Args:
        path: the file.
        kind: expected content of a row besides the path: "nothing", "label", "labels" or "targets". It decides how
            lines are split at spaces if there is no header.

    Raises:
        ValueError: the file is not UTF-8, is JSON of another form, has a comment or a header with unknown names, or a
            row has another number of columns than the header.
    """
    if FILE_NAME.fullmatch(path.name):
        kind = "a video" if VIDEO_NAME.fullmatch(path.name) else "an image"
        raise ValueError(f"{path} is {kind}; give its folder, or a list.")
    text = read_text(path).replace("\r\n", "\n").replace("\r", "\n")
    if "\0" in text:
        raise ValueError(f"{path} is not a list of videos: it contains null bytes.")
    if text.lstrip()[:1] == "{" or _is_json_array(text):
        return Table(list(_json_rows(path, text)))
    return _read_columns(path, text, kind)


# --------------------------------------------------------------------------------------------------------------- JSON


def _is_json_array(text: str) -> bool:
    """Whether a text that begins with a bracket is JSON; a path may begin with one, too."""
    if re.match(r'\s*\[\s*[\[{"\]]', text):
        return True
    return re.fullmatch(r"\s*\[.*\]\s*", text, re.DOTALL) is not None and _is_json(text)


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (json.JSONDecodeError, RecursionError):
        return False
    return True


def _json_rows(path: Path, text: str) -> Iterator[Row]:
    """The rows of JSON lines, an array, an object of videos, or an annotation file in the format of ActivityNet."""
    lines = [(number, line.strip()) for number, line in enumerate(text.split("\n"), start=1) if line.strip()]
    if len(lines) > 1 and lines[0][1].startswith("{") and lines[0][1].endswith("}"):
        for number, line in lines:
            for row in _rows_of(parse_json(line, f"{path}, line {number}"), path, f"line {number}"):
                yield replace(row, lines=(number - 1, number))
        return
    content = parse_json(text, str(path))
    if isinstance(content, dict) and isinstance(content.get("database"), dict):
        content = content["database"]
    elif isinstance(content, dict) and (not content or any(column_key(name) in PATHS for name in content)):
        for row in _rows_of(content, path, f"line {lines[0][0]}"):  # a single video
            yield replace(row, lines=(lines[0][0] - 1, lines[-1][0]))
        return
    if isinstance(content, dict):
        _refuse_other_objects(path, content)
    entries = list(content.items()) if isinstance(content, dict) else [(None, entry) for entry in content]
    for number, (video, entry) in enumerate(entries, start=1):
        if video is not None:
            entry = {"path": video, **entry} if isinstance(entry, dict) else {"path": video, "label": entry}
        yield from _rows_of(entry, path, f"entry {number}")


def _refuse_other_objects(path: Path, content: dict) -> None:
    """Raises ValueError for an object that is a single video with an unknown path name, rather than a map of labels."""
    values = [value for value in content.values() if isinstance(value, str)]
    if any(column_key(name) in {*_KNOWN, "id"} for name in content) or any(
        FILE_NAME.fullmatch(value) for value in values
    ):
        raise ValueError(
            f"{path}: no path among {', '.join(list(content)[:8])}; an object must have one of "
            f"{', '.join(COLUMNS['path'].names)}, or map paths to labels."
        )


def _rows_of(entry, path: Path, place: str) -> Iterator[Row]:
    """The row of an object, or one row for each of its `annotations`."""
    if isinstance(entry, str):
        entry = {"path": entry}
    if not isinstance(entry, dict):
        raise ValueError(f"{path}, {place}: expected an object with a path, found {str(entry)[:80]!r}.")
    annotations = entry.get("annotations")
    if isinstance(annotations, dict):
        annotations = [annotations]
    if not isinstance(annotations, list) or not all(isinstance(one, dict) for one in annotations):
        yield Row(place, _with_segment(entry, path, place))
        return
    shared = {name: value for name, value in entry.items() if name != "annotations"}
    for annotation in annotations:
        yield Row(place, _with_segment({**shared, **annotation}, path, place))


def _with_segment(entry: dict, path: Path, place: str) -> dict:
    """Splits `segment: [start, end]` into two columns, and finds path and class in files of Something-Something V2."""
    entry = dict(entry)
    if set(entry) <= {"id", "label", "template", "placeholders"} and "id" in entry:  # as in Something-Something V2
        entry["path"] = entry.pop("id")
    if "segment" in entry:
        bounds = entry.pop("segment")
        if not isinstance(bounds, list) or len(bounds) != 2:
            raise ValueError(f"{path}, {place}: segment={bounds!r} must be [start, end] in seconds.")
        entry["start"], entry["end"] = bounds
    if isinstance(entry.get("template"), str) and "placeholders" in entry:
        # "Holding [something]" is the class "Holding something"; `label` is the caption of this video only.
        entry["label"] = entry.pop("template").replace("[", "").replace("]", "")
        entry.pop("placeholders")
    return entry


# ------------------------------------------------------------------------------------------------------------ columns


def _read_columns(path: Path, text: str, kind: str) -> Table:
    marked = re.match(r"sep=(.)\n", text)  # some Excel files declare their delimiter like this
    if marked:
        text = "\n" + text[marked.end() :]
    try:
        delimiter = marked[1] if marked else column_delimiter([line for line in text.split("\n") if line.strip()])
    except ValueError as error:
        raise ValueError(f"{path}: {error}.") from error
    lines = list(_split_lines(path, text, delimiter, kind))
    if not lines:
        return Table([])
    _refuse_comments(path, lines)
    columns = _header(path, lines, delimiter)
    if columns is None:
        _refuse_unclear(path, lines, delimiter)
        return Table([Row(f"line {number}", cells, _extent(number, line)) for number, line, cells in lines])
    rows, names_files = [], any(_NAMES_FILE.search(line) for _, line, _ in lines)
    for number, line, cells in lines[1:]:
        if delimiter is None:
            cells = _split_below_header(line, columns, has_suffixes=names_files)
        if len(cells) > len(columns):
            raise ValueError(
                f"{path}, line {number}: {len(cells)} columns, {len(columns)} in the header: {line[:80]!r}"
            )
        cells = cells + [""] * (len(columns) - len(cells))
        rows.append(Row(f"line {number}", dict(zip(columns, cells)), _extent(number, line)))
    return Table(rows, columns)


def _extent(number: int, line: str) -> tuple[int, int]:
    return number - 1, number + line.count("\n")


def _split_lines(path: Path, text: str, delimiter: str | None, kind: str) -> Iterator[tuple[int, str, list[str]]]:
    """Yields (line number, text, cells) for each row that is not blank; cells are [] if the path has no clear end."""
    if delimiter is None:
        lines = [(number, line) for number, line in enumerate(text.split("\n"), start=1) if line.strip()]
        names_files = any(_NAMES_FILE.search(line) for _, line in lines)
        numbered = all(_NUMBER.fullmatch(line.split()[-1]) for _, line in lines)
        for number, line in lines:
            # A space before or after may be an empty cell.
            unclear = line[0].isspace() or (line[-1].isspace() and not _PATH_IN_LINE.match(line))
            cells = [] if unclear else split_at_spaces(line.strip(), kind, has_suffixes=names_files and not numbered)
            yield number, line, cells
        return
    all_lines, before = text.split("\n"), 0
    spaced = re.sub(rf'" +(?={re.escape(delimiter)})', '"', text)  # spaces after the closing quote
    reader = csv.reader(io.StringIO(spaced, newline=""), delimiter=delimiter, skipinitialspace=True, strict=True)
    try:
        for cells in reader:
            line, number = "\n".join(all_lines[before : reader.line_num]).strip(), before + 1
            before = reader.line_num
            if any(cell.strip() for cell in cells):
                yield number, line, [cell.strip() for cell in cells]
    except csv.Error as error:
        raise ValueError(f"{path}, line {before + 1}: {error}; are its quotes closed?") from error


def _refuse_comments(path: Path, lines: list[tuple[int, str, list[str]]]) -> None:
    for number, line, cells in lines:
        if line.startswith("#") and (line[1:2].isspace() or not FILE_NAME.fullmatch("".join(cells[:1]))):
            raise ValueError(f"{path}, line {number}: lists cannot have comments; remove the line {line[:80]!r}.")


def _refuse_unclear(path: Path, lines: list[tuple[int, str, list[str]]], delimiter: str | None) -> None:
    """Raises ValueError if the end of a path is unclear, or if the path is not the first column."""
    for number, line, cells in lines:
        if not cells:
            raise ValueError(
                f"{path}, line {number}: the end of the path is unclear in {line[:80]!r}; separate the columns by "
                f"commas."
            )
        if delimiter is None or FILE_NAME.fullmatch(cells[0]) or cells[0].startswith(URLS):
            continue
        if " " in cells[0] and not line.startswith('"'):
            raise ValueError(
                f"{path}, line {number}: the columns of {line[:80]!r} could be separated by spaces or by "
                f"{delimiter!r}; quote the path, or add a header."
            )
        if any(FILE_NAME.fullmatch(cell) for cell in cells[1:]):
            raise ValueError(
                f"{path}, line {number}: {line[:80]!r} has the video after another column; without a header the path "
                f"comes first (quote a path that contains {delimiter!r})."
            )


def _header(path: Path, lines: list[tuple[int, str, list[str]]], delimiter: str | None) -> list[str] | None:
    """The names of the columns, or None if the first line is a video.

    Raises:
        ValueError: no name is that of a column of paths, or a name occurs twice.
    """
    first = lines[0][1].strip()
    cells = lines[0][2] if delimiter is not None or first.startswith('"') else first.split()
    if any(FILE_NAME.fullmatch(cell) or _NUMBER.fullmatch(cell) or "/" in cell for cell in cells):
        return None
    keys = [column_key(cell) for cell in cells]
    known = [key in _KNOWN for key in keys]
    below = lines[1 : 1 + _LOOKED_AT]
    names_files = any(_NAMES_FILE.search(line) for _, line, _ in below)
    if not set(keys) & PATHS:
        if (len(keys) > 1 and any(known)) or any(FILE_NAME.fullmatch(cell) for _, _, row in below for cell in row):
            raise ValueError(
                f"{path}: the first line, {first[:80]!r}, names no column of paths. A header has one of "
                f"{', '.join(COLUMNS['path'].names)} and, for labels, one of {', '.join(COLUMNS['label'].names)}; set "
                f"other names with --video_column_name and --label_column_name."
            )
        return None
    if delimiter is None and not all(known):
        is_sure = any("_" in key or "path" in key for key in set(keys) & PATHS)
        if not names_files and sum(known) < 2 and not is_sure:
            return None  # "my clip" may be a folder of images in a list without a header
        if names_files and keys[0] not in PATHS:
            raise ValueError(
                f"{path}: the first line, {first[:80]!r}, could be a header or a folder of images; separate the "
                f"columns of a list by commas."
            )
    if delimiter is None and len(cells) > 2:
        raise ValueError(
            f"{path}: the header {first[:80]!r} has {len(cells)} columns; separate more than two by commas, tabs or "
            f"semicolons, as a path or a label may contain spaces."
        )
    repeated = next((cell for cell, key in zip(cells, keys) if key and keys.count(key) > 1), None)
    if repeated is not None:
        raise ValueError(f"{path}: the header has the column {repeated!r} twice.")
    # An unnamed first column is the index written by pandas.
    return [cell if cell else f"column {number}" for number, cell in enumerate(cells, start=1)]


def column_delimiter(lines: list[str]) -> str | None:
    """The delimiter of the columns of a list; None means spaces.

    It is the delimiter with which the first line is a header, or with which the first column is the name of a video in
    each of the first lines; without such names, the delimiter that each line has equally often. A path may contain the
    other delimiters: "a,b.mp4 3" is separated by a space.

    Raises:
        ValueError: two delimiters are possible, in a list without names of videos.
    """
    if not lines:
        return None
    looked_at, found = lines[:_LOOKED_AT], []
    names_files = any(_NAMES_FILE.search(line) for line in looked_at)
    for delimiter in "\t,;":
        rows = [_cells(line, delimiter) for line in looked_at]
        widths = {len(row) for row in rows}
        if names_files:
            # The first line may be a header that is not known as one, and a video may have no suffix.
            fits = _num_files(rows, 0) >= max(len(rows) - 1, 1)
            fits |= len(widths) == 1 and any(2 * _num_files(rows, column) >= len(rows) for column in range(max(widths)))
        else:
            fits = len(widths) == 1
        names = {column_key(cell) for cell in rows[0]}
        is_header = len(rows[0]) > 1 and (names & PATHS or (names & _KNOWN and len(widths) == 1))
        if widths - {1} and (fits or is_header):
            found.append(delimiter)
    if len(found) > 1 and not names_files:
        raise ValueError(f"its columns could be separated by {found[0]!r} or by {found[1]!r}; quote the cells")
    return found[0] if found else None


def _num_files(rows: list[list[str]], column: int) -> int:
    """The number of rows with several cells whose cell in this column is the name of a video."""
    return sum(len(row) > 1 and bool(FILE_NAME.fullmatch(row[column].strip())) for row in rows)


def _cells(line: str, delimiter: str) -> list[str]:
    try:
        return next(csv.reader([line], delimiter=delimiter, skipinitialspace=True), [])
    except csv.Error:  # a field is too long; the line is refused when it is read
        return [line]


def split_at_spaces(line: str, kind: str, *, has_suffixes: bool) -> list[str]:
    """The path, which may contain spaces, and the columns after it; [] if the end of the path is unclear.

    Args:
        line: the line, without surrounding spaces.
        kind: see `read_table`.
        has_suffixes: whether other lines of the list have the suffix of a video, so that this one may have words after
            the path.
    """
    if _QUOTED.search(line):
        return [cell for cell in _cells(line, " ") if cell]
    video = _PATH_IN_LINE.match(line)
    if video:
        path, rest = video.group(), line[video.end() :].split()
        if kind == "label" and len(rest) > 1 and not _NUMBER.fullmatch(rest[0]):
            return [path, " ".join(rest)]
        return [path, *rest]
    if not line.startswith(URLS) and re.search(r"[,;\t]", line):
        return []
    words = line.split()
    numbers = 0  # trailing numbers of a folder of images
    while numbers < min(3, len(words) - 1) and _NUMBER.fullmatch(words[-1 - numbers]):
        numbers += 1
    if kind in ("labels", "targets"):
        return words
    if numbers > 1 or (numbers == 1 and (len(words) == 2 or not has_suffixes)):
        return [line.rsplit(maxsplit=numbers)[0], *words[-numbers:]]
    if len(words) <= 2 and kind == "label":
        return words
    return [line] if kind == "nothing" and (len(words) == 1 or not has_suffixes) else []


def _split_below_header(line: str, columns: list[str], *, has_suffixes: bool) -> list[str]:
    """The cells of a line below a header of one or two columns, separated by spaces, which the path may also contain.

    Returns:
        A number of cells other than `len(columns)` if the end of one is unclear.
    """
    if line[0].isspace():  # may be an empty cell
        return [line, "", ""]
    line = line.strip()
    if _QUOTED.search(line):
        return [cell for cell in _cells(line, " ") if cell]
    if len(columns) == 1:
        return [line]
    video = _PATH_IN_LINE.match(line)
    if video and column_key(columns[0]) in PATHS:
        return [video.group(), line[video.end() :].strip()]
    return line.split() if video or not has_suffixes else [line, "", ""]
