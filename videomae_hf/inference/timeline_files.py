# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Reads what `videomae predict --timeline` wrote: the windows in timeline.csv and the segments in segments.json."""

import csv
import io
import math
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from ..text_files import parse_json, read_text
from .predictions import MULTI_LABEL, Head, Prediction, Segment, Timeline


TIMELINE, SEGMENTS = "timeline.csv", "segments.json"


@dataclass(frozen=True, eq=False)
class StoredTimelines:
    """The timelines and segments of several videos by one model.

    Args:
        head: the classes, and whether a window has one of them or several.
        model: the name of the model.
        timelines: the windows of each video, by its name.
        segments: the segments of each video, by its name.
    """

    head: Head
    model: str
    timelines: dict[str, Timeline]
    segments: dict[str, list[Segment]]

    def with_threshold(self, threshold: float) -> "StoredTimelines":
        """The same windows, merged to segments with another threshold, as `Prediction.segments` does."""
        made = {name: Prediction(name, self.head, timeline=one) for name, one in self.timelines.items()}
        return replace(self, segments={name: one.segments(threshold) for name, one in made.items()})


def read_timelines(folder: str | Path) -> StoredTimelines:
    """Reads timeline.csv and segments.json of a folder.

    Videos that are not in segments.json are left out: predict was interrupted in their middle.

    Raises:
        FileNotFoundError: one of the files is missing.
        ValueError: a file is not one of predict, is empty, or has the values of a regression; or the two do not belong
            together.
    """
    folder = Path(folder)
    for name in (TIMELINE, SEGMENTS):
        if not (folder / name).is_file():
            raise FileNotFoundError(
                f"{folder} has no {name}; `videomae predict MODEL VIDEO .. --timeline --output_dir {folder}` writes it."
            )
    segments = _segments(folder / SEGMENTS)
    labels, model, rows = _windows(folder / TIMELINE)
    rows = {name: rows[name] for name in segments if name in rows}
    if not rows:
        raise ValueError(f"{folder / TIMELINE} and {folder / SEGMENTS} have no video in common.")
    unknown = {one.label for name in rows for one in segments[name]} - set(labels)
    if unknown:
        raise ValueError(f"{folder / SEGMENTS} has {min(unknown)!r}, which is no class in {folder / TIMELINE}.")
    values = torch.tensor([row[2:] for some in rows.values() for row in some])  # (N, num_labels)
    if values.min() < 0 or values.max() > 1:
        raise ValueError(f"{folder / TIMELINE} has the values of a regression; timelines of classes are scored.")
    # A softmax sums to 1, up to the six digits that are written.
    kind = MULTI_LABEL if (values.sum(dim=1) - 1).abs().max() > 1e-3 else "single_label_classification"
    head = Head(labels, kind)
    timelines = {name: _timeline(some, head) for name, some in rows.items()}
    return StoredTimelines(head, model, timelines, {name: segments[name] for name in rows})


def _segments(path: Path) -> dict[str, list[Segment]]:
    """The segments of each video. An incomplete last line, of a process that was killed, is left out."""
    found = {}
    for number, line in enumerate(read_text(path).split("\n")[:-1], start=1):
        row = parse_json(line, f"{path}, line {number},")
        try:
            found[row["path"]] = [Segment(**one) for one in row["segments"]]
        except (TypeError, KeyError) as error:
            raise ValueError(f"{path}, line {number}: expected a path and segments, as predict writes them.") from error
    return found


def _windows(path: Path) -> tuple[list[str], str, dict[str, list[list[float]]]]:
    """The classes, the model, and start, end and values of each window, by the name of the video."""
    header, *rows = csv.reader(io.StringIO(read_text(path), newline="")) if path.stat().st_size else [[]]
    if header[:3] != ["path", "start", "end"] or header[-1:] != ["model"] or len(header) < 5:
        raise ValueError(f"{path} is not the timeline.csv of predict: its columns are {', '.join(header)[:80]!r}.")
    found = {}
    for row in rows:
        numbers = list(map(_number, row[1:-1]))
        if len(row) == len(header) and all(map(math.isfinite, numbers)):
            found.setdefault(row[0], []).append(numbers)
        elif row is not rows[-1]:  # the last one may be incomplete
            raise ValueError(f"{path} has a row that predict does not write: {', '.join(row)[:80]!r}.")
    return header[3:-1], rows[0][-1] if rows else "", found


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _timeline(rows: list[list[float]], head: Head) -> Timeline:
    """The timeline of rows of start, end and probabilities."""
    values = torch.tensor(rows, dtype=torch.float64)  # (N, 2 + num_labels)
    probabilities = values[:, 2:]
    logits = probabilities.logit() if head.problem_type == MULTI_LABEL else probabilities.log()
    return Timeline(values[:, 0], values[:, 1], logits, head)
