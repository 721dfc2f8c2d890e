# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Files of results that grow by one video at a time: CSV, or JSON with one object per line.

A run that was interrupted continues: it reads which videos a file holds. An incomplete last record, of a process that
was killed while writing, is removed. Names with commas and newlines are quoted, and undecodable bytes are escaped, as
in all files of this package.
"""

import csv
import io
import json
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..messages import count
from ..text_files import csv_line, escaped, parse_json, read_text, write_csv
from .inputs import Input
from .predictions import REGRESSION, Prediction


class ResultFile:
    """A CSV or JSON file of results.

    Args:
        path: the file; created by the first record, continued if it exists.
        columns: the columns of a CSV file, of which the first is `path`; None is a JSON file, with one object per line.
        model: the model, whose name each record has under `model`; None leaves it out.

    Attributes:
        done: names of the videos in the file, escaped as they are in it.

    Raises:
        ValueError: the file has other columns, is of another model, or is not such a file.
        OSError: the file cannot be read or written.
    """

    def __init__(self, path: str | Path, columns: Sequence[str] | None = None, model: str | None = None) -> None:
        self.path, self.model = Path(path), None if model is None else escaped(model)
        self.columns = None if columns is None else [escaped(name) for name in columns]
        if self.columns is not None and self.model is not None:
            self.columns.append("model")
        if not self.path.absolute().parent.is_dir():
            raise FileNotFoundError(f"{path} cannot be written: there is no folder {self.path.absolute().parent}.")
        self.done: set[str] = set()
        if self.path.exists():
            self._continue()

    def holds(self, name: str) -> bool:
        """Whether the file has a record of this video."""
        return escaped(name) in self.done

    def add(self, name: str, rows: Iterable[dict | list]) -> None:
        """Appends the rows of a video, dictionaries or cells after the path; they are in the file when this returns."""
        more = [] if self.model is None else [self.model]
        if self.columns is None:
            rows = ({"path": name, **row} | ({"model": self.model} if more else {}) for row in rows)
            text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        else:
            is_new = not self.path.exists() or not self.path.stat().st_size
            header = [self.columns] if is_new else []
            text = "".join(map(csv_line, [*header, *([name, *row, *more] for row in rows)]))
        try:
            with open(self.path, "ab") as file:
                file.write(text.encode("utf-8", "backslashreplace"))
        except OSError as error:
            raise OSError(error.errno, f"cannot be written: {error.strerror}", str(self.path)) from error
        self.done.add(escaped(name))

    def keep(self, names: set[str]) -> None:
        """Removes the records of all other videos from a CSV file."""
        if self.done <= names:
            return
        rows = list(csv.reader(io.StringIO(read_text(self.path), newline="")))
        write_csv(self.path, [rows[0], *(row for row in rows[1:] if row[0] in names)])
        self.done &= names

    def _continue(self) -> None:
        content = self.path.read_bytes()
        length = _complete_records(content, quoted=self.columns is not None)
        try:
            text = content[:length].decode()
        except UnicodeDecodeError as error:
            raise ValueError(
                f"{self.path} is not a file of this command: it is not UTF-8; give another one."
            ) from error
        torn, first = content[length:], (b'{"path": ' if self.columns is None else csv_line(self.columns).encode())
        self._read_json(text) if self.columns is None else self._read_csv(text)
        # Only what this class began to write is removed.
        if torn and (self.columns is None or not text) and not (torn.startswith(first) or first.startswith(torn)):
            raise ValueError(f"{self.path} is not a file of this command; give another.")
        if torn:
            os.truncate(self.path, length)

    def _read_csv(self, text: str) -> None:
        rows = csv.reader(io.StringIO(text, newline=""))
        header = next(rows, None)
        if header is not None and header != self.columns:
            raise ValueError(
                f"{self.path} has the columns {', '.join(header)[:200]}, but this command writes "
                f"{', '.join(self.columns)[:200]}; give another file."
            )
        for row in rows:
            if len(row) != len(self.columns):
                raise ValueError(
                    f"{self.path} has a row of {len(row)} cells instead of {len(self.columns)}: {row!r:.80}"
                )
            self._check_model(row[-1])
            self.done.add(row[0])

    def _read_json(self, text: str) -> None:
        for number, line in enumerate(text.split("\n")[:-1], start=1):
            row = parse_json(line, f"{self.path}, line {number},")
            if not isinstance(row, dict) or not isinstance(row.get("path"), str):
                raise ValueError(f"{self.path}, line {number}: expected an object with a path; give another file.")
            self._check_model(row.get("model"))
            self.done.add(escaped(row["path"]))

    def _check_model(self, found: object) -> None:
        if self.model is not None and found != self.model:
            raise ValueError(f"{self.path} has predictions of {found}, not of {self.model}; give another file.")


@dataclass(frozen=True)
class Results:
    """The files in which predictions are stored, as many as were asked for.

    Args:
        tables: files with a record for each video.
        timeline: a CSV file with the windows of all videos.
        segments: a JSON file with the segments of all videos; a video in it is complete.
        top_k, threshold: see `Prediction`.
    """

    tables: list[ResultFile]
    timeline: ResultFile | None = None
    segments: ResultFile | None = None
    top_k: int = 5
    threshold: float = 0.5

    def __post_init__(self) -> None:
        if self.timeline is not None:  # windows of videos that an earlier run did not finish
            self.timeline.keep(self.segments.done)

    @property
    def files(self) -> list[ResultFile]:
        return [*self.tables, *(file for file in (self.timeline, self.segments) if file is not None)]

    def hold(self, name: str) -> bool:
        """Whether all files hold a video; False without files."""
        return bool(self.files) and all(file.holds(name) for file in self.files)

    def remaining(
        self, inputs: Iterable[Input], *, endless: bool, note: Callable[[str], None]
    ) -> tuple[Iterable[Input], int | None]:
        """The inputs that the files do not hold yet, and their number; of endless ones, None.

        Args:
            inputs: the videos.
            endless: whether there may always be another one.
            note: is called with a remark about those that are skipped.
        """
        files = " and ".join(str(file.path) for file in self.files)
        if endless:
            if any(file.done for file in self.files):
                note(f"videos that are already in {files} are skipped")
            return (one for one in inputs if not self.hold(one.name)), None
        every = list(inputs)
        left = [one for one in every if not self.hold(one.name)]
        if len(left) < len(every):
            note(f"{count(len(every) - len(left), 'video')} of {len(every)} skipped: already in {files}")
        return left, len(left)

    def add(self, prediction: Prediction) -> None:
        """Adds a prediction to the files that do not hold it yet."""
        for file in self.tables:
            if not file.holds(prediction.name):
                as_json = file.columns is None
                row = prediction.to_dict(self.top_k, self.threshold) if as_json else prediction.cells(self.threshold)
                file.add(prediction.name, [row])
        if self.timeline is not None and not self.timeline.holds(prediction.name):
            self.timeline.add(prediction.name, prediction.timeline.rows())
            has_classes = prediction.head.problem_type != REGRESSION
            segments = prediction.segments(self.threshold) if has_classes else []
            self.segments.add(prediction.name, [{"segments": [segment._asdict() for segment in segments]}])


def refuse_older(files: Iterable[ResultFile], model: str | Path) -> None:
    """Raises ValueError for files that were written before the weights of a model: those of an earlier training."""
    folder = Path(model)
    found = [*folder.glob("*.safetensors"), *folder.glob("*model*.bin")] if folder.is_dir() else []
    weights = [path.stat().st_mtime for path in found]
    for file in files:
        if file.done and weights and file.path.stat().st_mtime < max(weights):
            raise ValueError(
                f"{file.path} is older than the weights in {model}, which may be of another training; give another "
                f"file, or `touch` this one if its predictions are by these weights."
            )


def _complete_records(content: bytes, *, quoted: bool) -> int:
    """Where the last complete record ends, in bytes; in CSV, newlines between quotation marks end none."""
    place = complete = 0
    inside = False
    for line in io.BytesIO(content):
        place += len(line)
        inside ^= quoted and line.count(b'"') % 2 == 1
        if line.endswith(b"\n") and not inside:
            complete = place
    return complete
