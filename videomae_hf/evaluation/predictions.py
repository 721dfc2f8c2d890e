# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""metrics.json and predictions.csv of a scored model."""

import csv
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from ..data.sources import Sample
from .metrics import ConfusionMatrix, is_readable, target_errors


def write_predictions(
    folder: Path,
    samples: Sequence[Sample],
    names: list[str],
    problem_type: str | None,
    logits: np.ndarray,
    labels: np.ndarray,
    metrics: dict,
):
    """Writes both files.

    Args:
        folder: is made where it does not exist.
        samples: the videos, in the order of `logits`.
        names: of the classes, or of the targets.
        problem_type: of the model.
        logits: (N, num_labels). labels: (N,) or (N, num_labels), as the model takes them.
        metrics: for metrics.json, which adds the confusion matrix (one label a video) or the errors of each target.
    """
    folder.mkdir(parents=True, exist_ok=True)
    regression = problem_type == "regression"
    readable = is_readable(labels, regression)
    metrics = {**metrics, "targets" if regression else "classes": names}
    if regression and readable.any():
        metrics["errors"] = dict(zip(names, target_errors(logits[readable], labels[readable])))
    elif labels.ndim == 1 and readable.any():
        metrics.update(ConfusionMatrix().compute(predictions=logits[readable], references=labels[readable]))
    (folder / "metrics.json").write_text(json.dumps(metrics, indent=2), encoding="utf-8")
    rows = _target_rows if regression else _class_rows
    with open(folder / "predictions.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows(samples, names, problem_type, torch.from_numpy(logits), readable))


def _class_rows(samples, classes: list[str], problem_type, logits: torch.Tensor, readable) -> Iterator[list]:
    yield ["path", "label", "predicted", "probability"]
    multi_label = problem_type == "multi_label_classification"
    probabilities = logits.sigmoid() if multi_label else logits.softmax(dim=-1)
    for sample, row, is_known in zip(samples, probabilities, readable):
        labels = sample.label if multi_label else [sample.label]
        predicted = (row > 0.5).nonzero().flatten().tolist() if multi_label else [int(row.argmax())]
        names, shown = ("|".join(classes[label] for label in some) for some in (labels, predicted))
        probability = "|".join(f"{row[label]:.4f}" for label in predicted)
        yield [sample.path, names, *((shown, probability) if is_known else ("unreadable", ""))]


def _target_rows(samples, names: list[str], problem_type, logits: torch.Tensor, readable) -> Iterator[list]:
    yield ["path", *names, *(f"predicted_{name}" for name in names)]
    for sample, row, is_known in zip(samples, logits, readable):
        predicted = [f"{value:.6g}" for value in row.tolist()] if is_known else ["unreadable"] * len(names)
        yield [sample.path, *(f"{value:.6g}" for value in sample.targets), *predicted]
