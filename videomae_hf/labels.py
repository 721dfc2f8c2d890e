# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""The labels of each `problem_type`: their tensors, the marker of unreadable videos, table cells and metrics.

A new problem type needs a class here, an entry in `LABELS`, a loss in the model, and metrics in
`evaluation/metrics.py`.
"""

from collections.abc import Sequence

import numpy as np
import torch

from .messages import did_you_mean


UNREADABLE = -100  # label of an unreadable video in evaluation; cross entropy ignores it as well


class SingleLabel:
    """One class per video; labels are int64 (N,)."""

    problem_type = "single_label_classification"
    # Metrics of an evaluation, without the prefix eval_ -> whether more is better
    metrics = {"top1": True, "top5": True, "mean_class_accuracy": True, "macro_f1": True, "loss": False}

    def __init__(self, num_labels: int | None = None) -> None:
        self.num_labels = num_labels

    def label(self, record) -> int | torch.Tensor | None:
        """The label of a record, as an item of a batch."""
        return record.label

    def stacked(self, records: Sequence) -> torch.Tensor:
        """The labels of records, as one tensor."""
        return torch.stack([torch.as_tensor(self.label(record)) for record in records])

    def unreadable(self) -> int | torch.Tensor:
        """The label that marks an unreadable video."""
        return UNREADABLE

    def is_readable(self, labels: np.ndarray) -> np.ndarray:
        """bool (N,), False for unreadable videos, of labels as the Trainer gathers them."""
        return ~(labels == UNREADABLE).reshape(len(labels), -1).any(axis=1)

    def placeholder(self) -> dict:
        """Placeholder fields for a record without labels that the model's loss accepts; the loss is meaningless."""
        return {"label": 0}

    def header(self, names: list[str]) -> tuple[list[str], list[str]]:
        """Column names of predictions.csv: those of the labels, and those of the predictions."""
        return ["label"], ["predicted", "probability"]

    def true_cells(self, record, names: list[str]) -> list[str]:
        """Cells with the labels of a record."""
        return [names[record.label]]

    def predicted_cells(self, logits: torch.Tensor, names: list[str]) -> list[str]:
        """Cells with the prediction for logits (num_labels,)."""
        probabilities = logits.softmax(dim=-1)
        best = int(probabilities.argmax())
        return [names[best], f"{probabilities[best]:.4f}"]

    def unreadable_cells(self, names: list[str]) -> list[str]:
        """Cells with the prediction for an unreadable video."""
        return ["unreadable", ""]


class MultiLabel(SingleLabel):
    """Any number of classes per video; labels are float32 (N, num_labels) of 0 and 1."""

    problem_type = "multi_label_classification"
    metrics = {"mean_average_precision": True, "micro_f1": True, "macro_f1": True, "loss": False}

    def label(self, record) -> torch.Tensor:
        labels = torch.zeros(self.num_labels)
        labels[list(record.label)] = 1.0
        return labels

    def unreadable(self) -> torch.Tensor:
        return torch.full((self.num_labels,), float(UNREADABLE))

    def placeholder(self) -> dict:
        return {"label": ()}

    def true_cells(self, record, names: list[str]) -> list[str]:
        return ["|".join(names[label] for label in record.label)]

    def predicted_cells(self, logits: torch.Tensor, names: list[str]) -> list[str]:
        probabilities = logits.sigmoid()
        predicted = (probabilities > 0.5).nonzero().flatten().tolist()
        return [
            "|".join(names[label] for label in predicted),
            "|".join(f"{probabilities[label]:.4f}" for label in predicted),
        ]


class Targets(SingleLabel):
    """Numbers to predict (regression); labels are float32 (N, num_labels)."""

    problem_type = "regression"
    metrics = {"mae": False, "rmse": False, "r2": True, "pearson": True, "loss": False}

    def label(self, record) -> torch.Tensor:
        return torch.tensor(record.targets)

    def unreadable(self) -> torch.Tensor:
        return torch.full((self.num_labels,), torch.nan)  # -100 may be a target

    def is_readable(self, labels: np.ndarray) -> np.ndarray:
        return ~np.isnan(labels).reshape(len(labels), -1).any(axis=1)

    def placeholder(self) -> dict:
        return {"targets": (0.0,) * self.num_labels}

    def header(self, names: list[str]) -> tuple[list[str], list[str]]:
        return names, [f"predicted_{name}" for name in names]

    def true_cells(self, record, names: list[str]) -> list[str]:
        return [f"{value:.6g}" for value in record.targets]

    def predicted_cells(self, logits: torch.Tensor, names: list[str]) -> list[str]:
        return [f"{value:.6g}" for value in logits.tolist()]

    def unreadable_cells(self, names: list[str]) -> list[str]:
        return ["unreadable"] * len(names)


LABELS = {kind.problem_type: kind for kind in (SingleLabel, MultiLabel, Targets)}
_PRETRAINING_METRICS = {"loss": False, "knn_top1": True}


def labels_of(problem_type: str | None, num_labels: int | None = None) -> SingleLabel:
    """The labels of a model's `problem_type`; None, as in a plain configuration, means one label per video."""
    return LABELS[problem_type or SingleLabel.problem_type](num_labels)


def label_of(record, num_labels: int | None = None) -> int | torch.Tensor | None:
    """The label of a record as an item of a batch, by the fields that the record has; None without a label."""
    kind = Targets if record.targets is not None else MultiLabel if isinstance(record.label, tuple) else SingleLabel
    return kind(num_labels).label(record)


def more_is_better(metric: str) -> bool | None:
    """Whether more of a metric, with or without the prefix eval_, is better; None for unknown metrics."""
    every = dict(_PRETRAINING_METRICS)
    for kind in LABELS.values():
        every.update(kind.metrics)
    return every.get(metric.removeprefix("eval_"))


def check_metric(metric: str, problem_type: str | None) -> None:
    """Raises ValueError for a metric that evaluations do not report; `problem_type` None means pretraining."""
    known = _PRETRAINING_METRICS if problem_type is None else LABELS[problem_type].metrics
    if metric.removeprefix("eval_") not in known:
        raise ValueError(
            f"metric_for_best_model={metric!r} is not reported; choose from {', '.join(known)}"
            f"{did_you_mean(metric, known)}"
        )
