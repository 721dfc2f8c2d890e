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
from ..text_files import write_csv, write_text
from .metrics import ConfusionMatrix, is_readable, target_errors


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


def with_placeholders(samples: Sequence[VideoRecord], config) -> Relabelled:
    """Videos without labels as the model's loss takes them; the loss and the scores mean nothing."""
    if config.problem_type == "regression":
        return Relabelled(samples, targets=(0.0,) * config.num_labels)
    return Relabelled(samples, label=() if config.problem_type == "multi_label_classification" else 0)


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
    regression = problem_type == "regression"
    logits, labels, readable = scored.logits, scored.labels, is_readable(scored.labels, regression)
    metrics = {**scored.metrics, "targets" if regression else "classes": names}
    if labelled and readable.any() and regression:
        metrics["errors"] = dict(zip(names, target_errors(logits[readable], labels[readable])))
    elif labelled and readable.any() and labels.ndim == 1:
        metrics.update(ConfusionMatrix().compute(predictions=logits[readable], references=labels[readable]))
    write_text(folder / "metrics.json", json.dumps(metrics, indent=2))
    outputs = _target_rows if regression else _class_rows
    where, rows = _place_rows(samples), outputs(samples, names, problem_type, torch.from_numpy(logits), readable)
    rows = ([*place, *(truth if labelled else []), *predicted] for place, (truth, predicted) in zip(where, rows))
    write_csv(folder / "predictions.csv", rows)


def _place_rows(samples: Sequence[VideoRecord]) -> Iterator[list]:
    """The header and, for each video, its path and, if some are parts of videos, which part."""
    bounds = ("start", "end", "start_frame", "end_frame")
    bounds = [name for name in bounds if any(getattr(sample, name) is not None for sample in samples)]
    yield ["path", *bounds]
    for sample in samples:
        values = [getattr(sample, name) for name in bounds]
        yield [sample.path, *("" if value is None else f"{value:g}" for value in values)]


def _class_rows(
    samples, classes: list[str], problem_type, logits: torch.Tensor, readable
) -> Iterator[tuple[list, list]]:
    """The header and a row for each video, in two parts: the labels, and what was predicted."""
    yield ["label"], ["predicted", "probability"]
    multi_label = problem_type == "multi_label_classification"
    probabilities = logits.sigmoid() if multi_label else logits.softmax(dim=-1)
    for sample, row, is_known in zip(samples, probabilities, readable):
        labels = sample.label if multi_label else [sample.label]
        predicted = (row > 0.5).nonzero().flatten().tolist() if multi_label else [int(row.argmax())]
        names, shown = ("|".join(classes[label] for label in some) for some in (labels, predicted))
        probability = "|".join(f"{row[label]:.4f}" for label in predicted)
        yield [names], [shown, probability] if is_known else ["unreadable", ""]


def _target_rows(
    samples, names: list[str], problem_type, logits: torch.Tensor, readable
) -> Iterator[tuple[list, list]]:
    yield names, [f"predicted_{name}" for name in names]
    for sample, row, is_known in zip(samples, logits, readable):
        predicted = [f"{value:.6g}" for value in row.tolist()] if is_known else ["unreadable"] * len(names)
        yield [f"{value:.6g}" for value in sample.targets], predicted
