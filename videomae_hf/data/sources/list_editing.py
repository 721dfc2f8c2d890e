# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Rewrites a list with other paths or without some of its videos, and leaves everything else in it unchanged."""

import json
import os
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

from ...text_files import parse_json, read_text
from .list_columns import PATHS, column_key, find_roles
from .list_records import ListOptions, ReadList, read_list
from .lists import Row
from .media import VIDEOS, Media
from .records import VideoRecord


def list_every_video(
    source: Path, root: Path | None, media: Media = VIDEOS, video_column: str | None = None
) -> ReadList:
    """The videos of a list of any kind, row by row, with any labels and of all splits.

    Raises:
        ValueError: as in `read_list`.
    """
    try:
        return read_list(source, ListOptions("nothing", root, video_column=video_column, media=media))
    except ValueError:
        # For a path without suffix followed by a name, the end of the path is clear only if a label is expected.
        return read_list(source, ListOptions("label", root, video_column=video_column, media=media))


def edit_list(source: Path, listed: ReadList, new_path: Callable[[VideoRecord], str | None]) -> str:
    """The text of a list with the path of each video replaced.

    Args:
        source: the list.
        listed: the result of `list_every_video` for it.
        new_path: returns the new path of a video; None removes its row, and its own `path` keeps the row unchanged.

    Raises:
        ValueError: a path cannot be found in its row.
    """
    changes = [(row, found.sample, new_path(found.sample)) for row, found in zip(listed.rows, listed.found)]
    text = read_text(source)
    if all(row.lines is not None for row, _, _ in changes):
        return _edit_lines(source, text, changes)
    return _edit_json(source, text, changes)


def _edit_lines(source: Path, text: str, changes: list) -> str:
    lines = text.splitlines(keepends=True)
    for row, sample, new in changes:
        first, end = row.lines
        if new is None:
            lines[first:end] = [""] * (end - first)
        elif new != sample.path:
            joined = "".join(lines[first:end])
            lines[first:end] = [_with_path(source, row, joined, new), *[""] * (end - first - 1)]
    return "".join(lines)


def _with_path(source: Path, row: Row, text: str, new: str) -> str:
    """The lines of a row with its path replaced."""
    if isinstance(row.values, dict) and text.lstrip().startswith("{"):
        entry = parse_json(text, f"{source}, {row.place}")
        return json.dumps(_renamed(entry, new), ensure_ascii=False) + text[len(text.rstrip()) :]
    path = _written_path(row)
    quoted = '"' + path.replace('"', '""') + '"'
    for old, replacement in ((quoted, _quoted(new)), (path, _quoted(new) if _needs_quotes(new, path) else new)):
        position = _cell_position(text, old)
        if position is not None:
            return text[:position] + replacement + text[position + len(old) :]
    raise ValueError(f"{source}, {row.place}: the path {path!r} was not found in the row {text.strip()[:80]!r}.")


def is_absolute(row: Row) -> bool:
    """Whether the path in a row of a list is absolute, or an address."""
    path = _written_path(row)
    return "://" in path or os.path.isabs(os.path.expanduser(path))


def _written_path(row: Row) -> str:
    """The path of a video as its row has it."""
    return row.values[0] if isinstance(row.values, list) else str(row.values[_path_column(row.values)])


def _path_column(values: dict) -> str:
    """The column of a row that is read as the path."""
    return _path_among(tuple(name for name, value in values.items() if value is not None))


@lru_cache
def _path_among(names: tuple[str, ...]) -> str:
    """The column of paths; `id` in files of Something-Something V2."""
    if "id" in names and not any(column_key(name) in PATHS for name in names):
        return "id"
    return find_roles(list(names))[0]["path"]


def _renamed(entry: dict, new: str) -> dict:
    return {**entry, _path_column(entry): new}


def _quoted(path: str) -> str:
    return '"' + path.replace('"', '""') + '"'


def _needs_quotes(new: str, old: str) -> bool:
    """Whether a new name contains a delimiter that the old one did not."""
    return any(mark in new and mark not in old for mark in '\t,;"')


def _cell_position(text: str, cell: str) -> int | None:
    """The position of a cell in the text of its row, between delimiters or the ends of the row."""
    position = text.find(cell)
    while position >= 0:
        before, after = text[:position].strip(" "), text[position + len(cell) :].strip(" ")
        if (not before or before[-1] in "\t,;\ufeff" or text[position - 1] == " ") and (
            not after or after[0] in "\t,;\r\n" or text[position + len(cell)] == " "
        ):
            return position
        position = text.find(cell, position + 1)
    return None


def _edit_json(source: Path, text: str, changes: list) -> str:
    """Edits an array or an object of videos; an ActivityNet file keeps its other content."""
    content = parse_json(text, str(source))
    left_out, renamed = set(), {}  # numbers of removed entries; number -> new path
    for row, sample, new in changes:
        number = int(row.place.removeprefix("entry ")) - 1
        if new is None:
            left_out.add(number)
        elif new != sample.path:
            renamed[number] = new
    if isinstance(content, list):
        entries = [_with_name(entry, renamed.get(number)) for number, entry in enumerate(content)]
        edited = [entry for number, entry in enumerate(entries) if number not in left_out]
    else:
        videos = content["database"] if isinstance(content.get("database"), dict) else content
        entries = [(renamed.get(number, name), entry) for number, (name, entry) in enumerate(videos.items())]
        kept = dict(entry for number, entry in enumerate(entries) if number not in left_out)
        edited = kept if videos is content else {**content, "database": kept}
    return json.dumps(edited, indent=2, ensure_ascii=False) + "\n"


def _with_name(entry: dict | str, path: str | None) -> dict | str:
    if path is None:
        return entry
    return path if isinstance(entry, str) else _renamed(entry, path)
