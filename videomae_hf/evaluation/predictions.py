# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""metrics.json and predictions.csv of a scored model.

Deviation: a video is its path. The official test (v1/engine_for_finetuning.py) collects the views of a video by the
stem of its file, and mixes videos of equal names.
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
from .metrics import ConfusionMatrix, target_errors


@dataclass(frozen=True)
class Scored:
    """What a model said of some videos.

    Args:
        logits: (N, num_labels).
        labels: (N,) or (N, num_labels), as the model takes them; those of unreadable videos say so.
        metrics: for metrics.json.
    """

    logits: np.ndarray
    labels: np.ndarray
    metrics: dict


def with_placeholders(records: Sequence[VideoRecord], config) -> Relabelled:
    """Videos without labels as the model's loss takes them; the loss and the scores mean nothing."""
    return Relabelled(records, **labels_of(config.problem_type, config.num_labels).placeholder())


def counts_alone(metrics: dict) -> dict:
    """Of metrics, those that do not come from labels."""
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
) -> None:
    """Writes both files.

    Args:
        folder: is made where it does not exist.
        samples: the videos, in the order of `scored`.
        names: of the classes, or of the targets.
        problem_type: of the model.
        scored: metrics.json adds to its metrics the confusion matrix (one label a video) or the errors of each target.
        labelled: False leaves out all that comes from labels.
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
    write_csv(folder / "predictions.csv", ([*place, *row] for place, row in zip(_place_rows(samples), rows)))


def _place_rows(samples: Sequence[VideoRecord]) -> Iterator[list]:
    """The header and, for each video, its path and, if some are parts of videos, which part."""
    bounds = ("start", "end", "start_frame", "end_frame")
    bounds = [name for name in bounds if any(getattr(sample, name) is not None for sample in samples)]
    yield ["path", *bounds]
    for sample in samples:
        values = [getattr(sample, name) for name in bounds]
        yield [sample.path, *("" if value is None else f"{value:g}" for value in values)]
