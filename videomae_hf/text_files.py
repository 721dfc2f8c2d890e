# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Reads and writes small text files: lists, class names and mappings from users, and tables and records for them.

`whole_file` writes files of any kind, whole or not at all.
"""

import codecs
import csv
import io
import json
import os
import unicodedata
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml


# First bytes of other files passed as text files -> kind of file, and what to do instead
_NO_TEXT = {
    b"PAR1": "an Apache Parquet file; give its folder as --dataset_name",
    b"ARROW1": "an Arrow file; give its folder as --dataset_name",
    b"PK\3\4": "a zip archive or an Excel sheet; unpack it and give the folder, or export it as CSV UTF-8",
    b"\x1f\x8b": "compressed by gzip; decompress it",
    b"SQLite format 3": "an SQLite database; export the table as CSV",
    b"\xd0\xcf\x11\xe0": "an Excel sheet; export it as CSV UTF-8",
}
_ENCODINGS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}


@contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """Yields the path of a temporary file beside `path`, which replaces `path` at the end, unless an error was raised.

    Processes on one machine may write the same file at the same time; one of them wins.
    """
    partial = Path(f"{path}.{os.getpid()}.partial")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    """Writes a UTF-8 file, whole or not at all; undecodable bytes, as in names from old zip files, are escaped.

    Raises:
        OSError: the file cannot be written; the message names it.
    """
    try:
        with whole_file(path) as partial:
            partial.write_text(text, encoding="utf-8", errors="backslashreplace", newline="")
    except OSError as error:
        raise OSError(error.errno, f"cannot be written: {error.strerror}", str(path)) from error


def write_csv(path: str | Path, rows: Iterable[Iterable]) -> None:
    """Writes rows to a CSV file, like `write_text`."""
    write_text(path, "".join(map(csv_line, rows)))


def csv_line(row: Iterable) -> str:
    """A row of a CSV file, which ends in a newline; a cell with a line break of any kind is quoted.

    Before Python 3.13, the csv module quotes those characters alone that end its own lines.
    """
    text = io.StringIO()
    csv.writer(text, lineterminator="\r\n").writerow(row)
    return text.getvalue().removesuffix("\r\n") + "\n"


def escaped(name: str) -> str:
    """A name as it is in files: undecodable bytes are escaped."""
    return name.encode("utf-8", "backslashreplace").decode()


def read_text(path: str | Path) -> str:
    """The text of a file in UTF-8, or in UTF-16 with a byte order mark, as Excel writes it.

    Raises:
        ValueError: the file has another encoding (the message names the first undecodable line), or is not text.
    """
    content = Path(path).read_bytes()
    kind = next((kind for start, kind in _NO_TEXT.items() if content.startswith(start)), None)
    if kind is not None:
        raise ValueError(f"{path} is {kind}.")
    encoding = next((name for mark, name in _ENCODINGS.items() if content.startswith(mark)), "utf-8")
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise ValueError(
            f"{path} is not a text file in UTF-8 (line {line}); save it as UTF-8 (in Excel: CSV UTF-8)."
        ) from error


def read_json(path: str | Path) -> Any:
    """The content of a JSON file.

    Raises:
        ValueError: the file is not JSON, or a key occurs twice in an object; the message names the file.
    """
    return parse_json(read_text(path), str(path))


def parse_json(text: str, where: str) -> Any:
    """The content of JSON text; raises ValueError like `read_json`, with `where` in the message."""
    try:
        return json.loads(text, object_pairs_hook=_without_repeats)
    except (json.JSONDecodeError, _RepeatedKey) as error:
        raise ValueError(f"{where} is not valid JSON: {error}") from error
    except RecursionError as error:
        raise ValueError(f"{where} is nested too deeply.") from error


def read_yaml(path: str | Path) -> dict:
    """The mapping in a YAML file.

    Raises:
        ValueError: the file is not YAML, or not a mapping; the message names the file.
    """
    try:
        content = yaml.safe_load(read_text(path))
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from error
    except RecursionError as error:
        raise ValueError(f"{path} is nested too deeply.") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} must be a mapping of keys to values.")
    return content


class _RepeatedKey(ValueError):
    pass


def _without_repeats(pairs: list[tuple]) -> dict:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        repeated = next(name for name in found if names.count(name) > 1)
        raise _RepeatedKey(f"the key {repeated!r} occurs twice")
    return found


def normalized(text: str) -> str:
    """Text in the form in which labels and class names are compared: Unicode NFC, without surrounding spaces."""
    return unicodedata.normalize("NFC", text).strip()


def read_class_names(path: str | Path) -> list[str]:
    """Reads class names in order: a text file with one per line, a JSON list, or a JSON object of numbers and names.

    An object may map numbers to names (`{"0": "run"}`) or names to numbers (`{"run": 0}`, as labels.json of
    Something-Something V2).

    Raises:
        ValueError: there is no name, a name occurs twice, or the numbers are not 0 to K - 1.
    """
    text = read_text(path)
    if text.lstrip()[:1] in ("[", "{"):
        names = _names_in_json(parse_json(text, str(path)), path)
    else:
        names = [normalized(line) for line in text.splitlines() if line.strip()]
    if not names:
        raise ValueError(f"{path} has no class name.")
    repeated = next((name for name in names if names.count(name) > 1), None) if len(set(names)) < len(names) else None
    if repeated is not None:
        raise ValueError(f"{path} has the class name {repeated!r} twice.")
    return names


def _names_in_json(content, path: str | Path) -> list[str]:
    if isinstance(content, list) and all(isinstance(name, str | int) for name in content):
        return [normalized(str(name)) for name in content]
    if isinstance(content, dict):
        for pairs in (content.items(), ((name, number) for number, name in content.items())):
            numbered = {int(number): name for number, name in pairs if _is_number(number)}
            if len(numbered) == len(content) and sorted(numbered) == list(range(len(numbered))):
                return [normalized(str(numbered[number])) for number in range(len(numbered))]
    raise ValueError(f"{path} must be a JSON list of class names, or an object of names and numbers from 0 on.")


def _is_number(value) -> bool:
    if isinstance(value, bool):
        return False
    return isinstance(value, int) or (isinstance(value, str) and value.isascii() and value.isdigit())
