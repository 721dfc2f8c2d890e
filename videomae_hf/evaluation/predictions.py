# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Writes metrics.json and predictions.csv of a scored model.

Deviation: videos are identified by their paths. The official test (v1/engine_for_finetuning.py) collects the views of a
video by its file stem, and mixes up videos with equal names.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ..data.sources.records import Relabelled, VideoRecord
from ..labels import labels_of
from ..text_files import write_csv, write_text
from .confidence import probabilities_of
from .metrics import ConfusionMatrix, target_errors


@dataclass(frozen=True)
class Scored:
    """The predictions of a model for N videos.

    Args:
        logits: (N, num_labels).
        labels: (N,) or (N, num_labels), in the form that the model takes, with markers for unreadable videos.
        metrics: the metrics for metrics.json.
    """

    logits: np.ndarray
    labels: np.ndarray
    metrics: dict


def with_placeholders(records: Sequence[VideoRecord], config) -> Relabelled:
    """Unlabelled videos with placeholder labels that the model's loss accepts; loss and scores are meaningless."""
    return Relabelled(records, **labels_of(config.problem_type, config.num_labels).placeholder())


def counts_alone(metrics: dict) -> dict:
    """The metrics that do not depend on labels."""
    kept = ("videos", "unreadable", "runtime", "samples_per_second", "steps_per_second")
    return {name: value for name, value in metrics.items() if name.removeprefix("eval_") in kept}


def write_predictions(
    folder: Path,
    samples: Sequence[VideoRecord],
    names: list[str],
    problem_type: str | None,
    scored: Scored,
    *,
    labelled: bool = True,
    groups: Sequence[str] | None = None,
) -> None:
    """Writes metrics.json and predictions.csv; docs/evaluate.md has the columns.

    Args:
        folder: folder to write to; created if it does not exist.
        samples: the records of the videos, in the order of `scored`.
        names: names of the classes or of the targets.
        problem_type: problem type of the model.
        scored: predictions and metrics; metrics.json also has the confusion matrix (one label per video) or the errors
            of each target.
        labelled: False leaves out everything that depends on labels, and the columns of every class.
        groups: the group of each video, if known.
    """
    folder.mkdir(parents=True, exist_ok=True)
    kind, logits, labels = labels_of(problem_type, len(names)), scored.logits, scored.labels
    readable, regression = kind.is_readable(labels), problem_type == "regression"
    metrics = {**scored.metrics, "targets" if regression else "classes": names}
    if labelled and readable.any() and regression:
        metrics["errors"] = dict(zip(names, target_errors(logits[readable], labels[readable])))
    elif labelled and readable.any() and labels.ndim == 1:
        metrics.update(ConfusionMatrix().compute(predictions=logits[readable], references=labels[readable]))
    write_text(folder / "metrics.json", json.dumps(metrics, indent=2))
    true, predicted = kind.header(names)
    rows = [[*(true if labelled else []), *predicted]]
    for record, row, is_known in zip(samples, torch.from_numpy(logits), readable):
        true = kind.true_cells(record, names) if labelled else []
        rows.append([*true, *(kind.predicted_cells(row, names) if is_known else kind.unreadable_cells(names))])
    columns = [_place_rows(samples), rows]
    if labelled and not regression:
        columns.append(_class_rows(scored, names, problem_type, readable))
    if groups is not None:
        columns.insert(1, [["group"], *([group] for group in groups)])
    write_csv(folder / "predictions.csv", ([cell for part in parts for cell in part] for parts in zip(*columns)))


def _class_rows(scored: Scored, names: list[str], problem_type: str | None, readable: np.ndarray) -> Iterator[list]:
    """The header and, for each video, whether all of its labels are right, and the probability of each class."""
    yield ["correct", *(f"probability_{name}" for name in names)]
    probabilities = probabilities_of(scored.logits, problem_type)
    several = scored.labels.ndim == 2
    for row, label, is_known in zip(probabilities, scored.labels, readable):
        if not is_known:
            yield [""] * (len(names) + 1)
            continue
        right = ((row > 0.5) == (label == 1)).all() if several else row.argmax() == label
        yield [int(right), *(f"{value:.4f}" for value in row)]


def _place_rows(samples: Sequence[VideoRecord]) -> Iterator[list]:
    """The header and, for each video, its path, with columns for the bounds of parts of videos, if there are any."""
    bounds = ("start", "end", "start_frame", "end_frame")
    bounds = [name for name in bounds if any(getattr(record, name) is not None for record in samples)]
    yield ["path", *bounds]
    for record in samples:
        values = [getattr(record, name) for name in bounds]
        yield [record.path, *("" if value is None else f"{value:g}" for value in values)]
