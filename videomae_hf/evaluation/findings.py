# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""The numbers of a report: report.json, from predictions alone. Nothing here reads a video or runs a model."""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from ..data.sources.records import VideoRecord
from ..labels import labels_of
from .confidence import Interval, calibration, class_probabilities, mean_interval, probabilities_of, score_interval
from .metrics import confusion_matrix, mean_average_precision
from .perturbations import PERTURBATIONS, PLAIN
from .shortcuts import SHORTCUTS, ShortcutResult


_MOST_RANKED = 1_000_000  # scores of a set whose mean average precision is resampled
MARGIN = 0.05  # a smaller difference of accuracy counts as none


@dataclass(frozen=True)
class Measure:
    """The score that a report is about.

    Args:
        key: its name in files.
        title: its name for people.
        value: called with logits and labels; the score.
        per_video: the same for a score that is the mean of a value of each video: returns these values (N,).
        more_is_better: whether a larger score is better.
        is_rate: whether the score lies between 0 and 1.
    """

    key: str
    title: str
    value: Callable[[np.ndarray, np.ndarray], float]
    per_video: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None
    more_is_better: bool = True
    is_rate: bool = True

    def interval(self, logits: np.ndarray, labels: np.ndarray, units: Sequence[Hashable]) -> Interval | None:
        """The 95 % interval of the score."""
        if self.per_video is not None:
            return mean_interval(self.per_video(logits, labels), units, (0.0, 1.0) if self.is_rate else None)
        if logits.size > _MOST_RANKED:
            return None
        return score_interval(lambda places: self.value(logits[places], labels[places]), units)

    def loss(
        self, logits: np.ndarray, other: np.ndarray, labels: np.ndarray, units: Sequence[Hashable]
    ) -> tuple[float, Interval | None]:
        """By how much `other` is worse than `logits` on the same videos, and the 95 % interval of that."""
        sign = 1 if self.more_is_better else -1
        value = sign * (self.value(logits, labels) - self.value(other, labels))
        if self.per_video is not None:
            values = sign * (self.per_video(logits, labels) - self.per_video(other, labels))
            return value, mean_interval(values, units, (-1.0, 1.0) if self.is_rate else None)
        if logits.size > _MOST_RANKED:
            return value, None

        def difference(places: np.ndarray) -> float:
            return self.value(logits[places], labels[places]) - self.value(other[places], labels[places])

        return value, score_interval(difference, units)


def _right(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    return (logits.argmax(axis=1) == labels).astype(np.float64)


def _errors(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    return np.abs(logits.astype(np.float64) - labels).mean(axis=1)


MEASURES = {
    "single_label_classification": Measure(
        "top1", "top-1 accuracy", lambda logits, labels: float(_right(logits, labels).mean()), _right
    ),
    "multi_label_classification": Measure(
        "mean_average_precision", "mean average precision", mean_average_precision
    ),
    "regression": Measure(
        "mae", "mean absolute error", lambda logits, labels: float(_errors(logits, labels).mean()), _errors,
        more_is_better=False, is_rate=False,
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Predicted:
    """The predictions that a report is about.

    Args:
        records: the videos.
        names: names of the classes or of the targets.
        problem_type: problem type of the model.
        logits: (N, num_labels) by the name of the change of the clips; `PLAIN` must be there.
        labels: labels in the form that the model takes, with markers for unreadable videos.
        groups: the group of each video, such as its recording; None if none are named.
        views: the views of a video, as text.
    """

    records: Sequence[VideoRecord]
    names: list[str]
    problem_type: str | None
    logits: dict[str, np.ndarray]
    labels: np.ndarray
    groups: Sequence[str] | None = None
    views: str = "1 clip x 1 crop"

    @property
    def kind(self) -> str:
        return labels_of(self.problem_type).problem_type

    @property
    def measure(self) -> Measure:
        return MEASURES[self.kind]

    @cached_property
    def units(self) -> list[str]:
        """The unit of each video that is resampled as a whole: its group, or else its file."""
        return list(self.groups) if self.groups is not None else [record.path for record in self.records]

    def readable(self) -> "Predicted":
        """The videos that could be read."""
        mask = labels_of(self.problem_type).is_readable(self.labels)
        places = np.flatnonzero(mask).tolist()
        return replace(
            self,
            records=_Chosen(self.records, places),
            logits={name: logits[mask] for name, logits in self.logits.items()},
            labels=self.labels[mask],
            groups=None if self.groups is None else [self.groups[place] for place in places],
        )


class _Chosen(Sequence):
    """Some of the records of a sequence, which are read when they are asked for: they may hold whole videos."""

    def __init__(self, records: Sequence[VideoRecord], places: list[int]) -> None:
        self.records, self.places = records, places

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> VideoRecord:
        return self.records[self.places[index]]


@dataclass
class Context:
    """What is known about a report besides predictions.

    Args:
        checkpoint: the model.
        shortcuts: results by name.
        remarks: sentences about the data, such as that the best checkpoint was chosen by them.
        left_out: parts of the report that are missing, each with the reason or the command that adds it.
    """

    checkpoint: str = ""
    shortcuts: dict[str, ShortcutResult] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)


def find(all_predicted: Predicted, context: Context) -> dict[str, Any]:
    """The content of report.json, apart from its conclusions and examples.

    Args:
        all_predicted: predictions of all videos; unreadable ones are counted.
        context: everything else.

    Raises:
        ValueError: no video could be read.
    """
    predicted = all_predicted.readable()
    if not predicted.records:
        raise ValueError("None of the evaluation videos can be read; there is nothing to report.")
    measure, logits, labels, units = predicted.measure, predicted.logits[PLAIN], predicted.labels, predicted.units
    found = {
        "checkpoint": context.checkpoint,
        "problem_type": predicted.kind,
        "targets" if predicted.kind == "regression" else "classes": predicted.names,
        "videos": len(predicted.records),
        "unreadable": len(all_predicted.records) - len(predicted.records),
        "views": predicted.views,
        "metric": measure.key,
        "score": {"value": measure.value(logits, labels), "interval": measure.interval(logits, labels, units)},
        "interval_by": "video" if predicted.groups is None else "group",
        "units": len(set(units)),
        "baselines": _baselines(predicted),
        "perturbed": _perturbed(predicted),
        "remarks": context.remarks,
        "left_out": context.left_out,
    }
    if predicted.kind == "single_label_classification":
        found["shortcuts"] = _shortcuts(all_predicted, context.shortcuts)
        found["per_class"] = _per_class(predicted)
        found["confusion_matrix"] = confusion_matrix(logits, labels).tolist()
        found["calibration"] = calibration(logits, labels)
        gap = class_probabilities(logits).max(axis=1) - _right(logits, labels)
        found["calibration"]["gap_interval"] = mean_interval(gap, units, (-1.0, 1.0))  # of confidence minus accuracy
    if predicted.groups is not None:
        found["per_group"] = _per_group(predicted)
    return found


def _compared(predicted: Predicted, other: np.ndarray) -> dict[str, Any]:
    """Score of `other`, logits for the same videos, and by how much the model is better than it."""
    measure, labels, units = predicted.measure, predicted.labels, predicted.units
    ahead, interval = measure.loss(predicted.logits[PLAIN], other, labels, units)
    return {"value": measure.value(other, labels), "ahead": ahead, "ahead_interval": interval}


def _baselines(predicted: Predicted) -> dict[str, Any]:
    """The scores of predictions that look at no video."""
    labels, number = predicted.labels, len(predicted.names)
    if predicted.kind == "regression":
        constant = np.broadcast_to(np.median(labels, axis=0), labels.shape)
        return {"constant": {"title": "always the median of these videos", **_compared(predicted, constant)}}
    if predicted.kind == "multi_label_classification":
        constant = np.zeros(labels.shape)
        return {"constant": {"title": "the same scores for every video", **_compared(predicted, constant)}}
    majority = int(np.bincount(labels, minlength=number).argmax())
    always = _one_hot(np.full(len(labels), majority), number)
    found = {
        "chance": {"title": f"chance (1 of {number} classes)", "value": 1 / number},
        "majority": {"title": "always the most frequent class", "class": predicted.names[majority],
                     **_compared(predicted, always)},
    }  # fmt: skip
    if predicted.groups is not None and len(set(predicted.groups)) < len(labels):
        of_group = _one_hot(_majority_of_the_others(predicted.groups, labels, number), number)
        title = "the most frequent class of the other videos of its group"
        known = {"title": title, **_compared(predicted, of_group)}
        if known["value"] > found["majority"]["value"]:  # otherwise the group says nothing about the class
            found["group"] = known
    return found


def _majority_of_the_others(groups: Sequence[str], labels: np.ndarray, number: int) -> np.ndarray:
    """int64 (N,): for each video the most frequent class of the other videos of its group, or else of all videos."""
    every = np.bincount(labels, minlength=number)
    counts = {}
    for group, label in zip(groups, labels):
        counts.setdefault(group, np.zeros(number, dtype=np.int64))[label] += 1
    chosen = []
    for group, label in zip(groups, labels):
        others = counts[group].copy()
        others[label] -= 1
        chosen.append((others if others.any() else every).argmax())
    return np.array(chosen)


def _perturbed(predicted: Predicted) -> dict[str, Any]:
    """Score and loss of each change of the clips."""
    measure, labels, units, found = predicted.measure, predicted.labels, predicted.units, {}
    for name, logits in predicted.logits.items():
        if name == PLAIN:
            continue
        loss, interval = measure.loss(predicted.logits[PLAIN], logits, labels, units)
        found[name] = {"title": PERTURBATIONS[name].title, "value": measure.value(logits, labels),
                       "interval": measure.interval(logits, labels, units), "loss": loss,
                       "loss_interval": interval}  # fmt: skip
        if predicted.kind == "single_label_classification":
            found[name]["confusion_matrix"] = confusion_matrix(logits, labels).tolist()
    return found


def _shortcuts(predicted: Predicted, results: dict[str, ShortcutResult]) -> dict[str, Any]:
    """Scores of the shortcut classifiers, over the videos that have their features.

    `over_majority` is the interval of what they gain over the most frequent class, and `where_wrong` the accuracy of
    the model on the videos that they get wrong: a model that uses nothing else is wrong there too.
    """
    found, number = {}, len(predicted.names)
    for name in SHORTCUTS:
        result = results.get(name)
        if result is None:
            continue
        base = {"title": result.title, "train_videos": result.train_videos, "train_unreadable": result.train_unreadable}
        if result.problem:
            found[name] = {**base, "problem": result.problem}
            continue
        known = labels_of(predicted.problem_type).is_readable(predicted.labels) & (result.predicted >= 0)
        labels, guesses = predicted.labels[known], result.predicted[known]
        units = [unit for unit, keep in zip(predicted.units, known) if keep]
        right = (guesses == labels).astype(np.float64)
        model = _right(predicted.logits[PLAIN][known], labels)
        majority = (labels == np.bincount(labels, minlength=number).argmax()).astype(np.float64)
        wrong = right == 0
        found[name] = {
            **base,
            "videos": int(known.sum()),
            "value": float(right.mean()),
            "interval": mean_interval(right, units, (0.0, 1.0)),
            "over_majority": float((right - majority).mean()),
            "over_majority_interval": mean_interval(right - majority, units, (-1.0, 1.0)),
            "ahead": float((model - right).mean()),
            "ahead_interval": mean_interval(model - right, units, (-1.0, 1.0)),
            "where_wrong": _part(model[wrong], [unit for unit, keep in zip(units, wrong) if keep]),
        }
    return found


def _part(right: np.ndarray, units: Sequence[Hashable]) -> dict[str, Any]:
    """Number of videos, accuracy and its interval, for a part of the videos."""
    value = float(right.mean()) if len(right) else None
    return {"videos": len(right), "value": value, "interval": mean_interval(right, units, (0.0, 1.0))}


def _per_class(predicted: Predicted) -> list[dict[str, Any]]:
    """For each class: its videos, how many of them are recognised (recall), and how many predictions are right."""
    labels, guesses = predicted.labels, predicted.logits[PLAIN].argmax(axis=1)
    right, rows = (labels == guesses).astype(np.float64), []
    for number, name in enumerate(predicted.names):
        own, said = labels == number, guesses == number
        units = [unit for unit, keep in zip(predicted.units, own) if keep]
        precision = float(right[said].mean()) if said.any() else None
        rows.append({"class": name, **_part(right[own], units), "predicted": int(said.sum()), "precision": precision})
    return rows


def _per_group(predicted: Predicted) -> list[dict[str, Any]]:
    """For each group: its videos, its score and, for classes, its own majority; the largest groups first."""
    groups, measure, rows = np.array(predicted.groups, dtype=object), predicted.measure, []
    for group in dict.fromkeys(predicted.groups):
        own = groups == group
        logits, labels = predicted.logits[PLAIN][own], predicted.labels[own]
        row = {"group": group, "videos": int(own.sum()), "value": measure.value(logits, labels),
               "interval": measure.interval(logits, labels, list(range(len(labels))))}  # fmt: skip
        if predicted.kind == "single_label_classification":
            row["majority"] = float(np.bincount(labels).max() / len(labels))
        rows.append(row)
    return sorted(rows, key=lambda row: -row["videos"])


def error_sizes(predicted: Predicted) -> np.ndarray:
    """(N,): how wrong each prediction is, by which examples are chosen; below 0 if it is right."""
    logits, labels = predicted.logits[PLAIN], predicted.labels
    if predicted.kind == "regression":
        return _errors(logits / np.maximum(labels.std(axis=0), 1e-9), labels / np.maximum(labels.std(axis=0), 1e-9))
    if predicted.kind == "multi_label_classification":
        probabilities = probabilities_of(logits, predicted.problem_type)
        return np.abs(probabilities - labels).max(axis=1) - 0.5
    confidence = class_probabilities(logits).max(axis=1)
    return np.where(_right(logits, labels) == 1, -confidence, confidence)


def _one_hot(classes: np.ndarray, number: int) -> np.ndarray:
    return np.eye(number)[classes]
