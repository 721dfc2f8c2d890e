# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Metrics of classification and regression as `evaluate.Metric` classes, without network access.

`evaluate.load` would always ask the Hub. Several processes can each add their part, as usual with evaluate:
`TopKAccuracy(num_process=2, process_id=rank, experiment_id="run")`; `compute` returns the result in process 0 and None
in the others. The Trainer has already gathered logits and labels, without the videos that pad the last batch.
"""

from collections.abc import Callable

import datasets
import evaluate
import numpy as np

from ..labels import labels_of


class _ScoresMetric(evaluate.Metric):
    """A metric of `predictions` (N, num_labels), scores on any scale, and `references` (N,), class numbers."""

    references = datasets.Value("int64")

    def __init__(self, **kwargs) -> None:
        # Several processes exchange results through files, a single process does not need them.
        super().__init__(**{"keep_in_memory": kwargs.get("num_process", 1) == 1, **kwargs})

    def _info(self) -> evaluate.MetricInfo:
        scores = datasets.Sequence(datasets.Value("float32"))
        return evaluate.MetricInfo(
            description=type(self).__doc__,
            citation="",
            inputs_description=type(self).__base__.__doc__,
            features=datasets.Features({"predictions": scores, "references": self.references}),
        )


class _LabelsMetric(_ScoresMetric):
    """A metric of `predictions` (N, num_labels), logits, and `references` (N, num_labels), 0 or 1 for each label."""

    references = datasets.Sequence(datasets.Value("int64"))


class TopKAccuracy(_ScoresMetric):
    """Fraction of videos whose class is among the k with the highest scores: {"top1": .., "top5": ..}.

    `topk` is (1, 5) by default, and (1,) for up to five classes, where the top 5 would include all of them.
    """

    def _compute(self, predictions, references, topk=None) -> dict[str, float]:
        scores, references = np.asarray(predictions), np.asarray(references)
        topk = topk or ((1, 5) if scores.shape[1] > 5 else (1,))
        # The number of classes ranked higher; with equal scores, the lower class number is ranked higher.
        own = scores[np.arange(len(references)), references][:, None]
        before = np.arange(scores.shape[1])[None] < references[:, None]
        rank = ((scores > own) | ((scores == own) & before)).sum(axis=1)
        return {f"top{k}": float((rank < k).mean()) for k in topk}


class MeanClassAccuracy(_ScoresMetric):
    """Top-1 accuracy of each class that occurs, averaged over these classes: {"mean_class_accuracy": ..}."""

    def _compute(self, predictions, references) -> dict[str, float]:
        correct = np.asarray(predictions).argmax(axis=1) == np.asarray(references)
        classes = np.unique(references)
        return {"mean_class_accuracy": float(np.mean([correct[references == label].mean() for label in classes]))}


class MeanAveragePrecision(_LabelsMetric):
    """Average precision of each class that occurs, averaged over these classes: {"mean_average_precision": ..}.

    The average precision of a class is the mean of the precisions at the ranks of its videos, with all videos ranked by
    their score for the class. Videos with equal scores share the lowest of their ranks, as in scikit-learn, so that a
    constant prediction gains nothing.
    """

    def _compute(self, predictions, references) -> dict[str, float]:
        return {"mean_average_precision": mean_average_precision(np.asarray(predictions), np.asarray(references))}


class Majority(_ScoresMetric):
    """Top-1 accuracy of always predicting the most frequent class of these videos: {"majority": ..}."""

    def _compute(self, predictions, references) -> dict[str, float]:
        return {"majority": float(np.unique(references, return_counts=True)[1].max() / len(references))}


class F1(_ScoresMetric):
    """F1 of each class that occurs or is predicted, averaged over these: {"macro_f1": ..}.

    The F1 over all videos together equals the top-1 accuracy, because each video has one class and one prediction.
    """

    def _compute(self, predictions, references) -> dict[str, float]:
        matrix = confusion_matrix(np.asarray(predictions), np.asarray(references))
        found = matrix.sum(axis=0) + matrix.sum(axis=1)
        return {"macro_f1": float((2 * matrix.diagonal()[found > 0] / found[found > 0]).mean())}


class MultiLabelF1(_LabelsMetric):
    """F1 over all videos and labels together, and of each label, averaged: {"micro_f1": .., "macro_f1": ..}.

    A label is predicted if its probability is above 1/2. A label that neither occurs nor is predicted has an F1 of 0,
    as in scikit-learn.
    """

    def _compute(self, predictions, references) -> dict[str, float]:
        predicted, positive = np.asarray(predictions) > 0, np.asarray(references) == 1
        right, found = (predicted & positive).sum(axis=0), predicted.sum(axis=0) + positive.sum(axis=0)
        return {
            "micro_f1": float(2 * right.sum() / max(found.sum(), 1)),
            "macro_f1": float((2 * right / np.maximum(found, 1)).mean()),
        }


class ConfusionMatrix(_ScoresMetric):
    """Counts by true class (rows) and predicted class (columns): {"confusion_matrix": a list of lists}."""

    def _compute(self, predictions, references) -> dict[str, list[list[int]]]:
        return {"confusion_matrix": confusion_matrix(np.asarray(predictions), np.asarray(references)).tolist()}


class RegressionErrors(_ScoresMetric):
    """{"mae", "rmse", "r2", "pearson"} of `predictions` and `references` (N, num_labels), each averaged over targets.

    r2 is 1 minus the ratio of squared error to variance; it is 0 for a model that always predicts the mean. For a
    constant target, r2 and pearson are undefined, and reported as 0.
    """

    references = datasets.Sequence(datasets.Value("float64"))

    def _compute(self, predictions, references) -> dict[str, float]:
        columns = target_errors(np.asarray(predictions), np.asarray(references))
        return {name: float(np.mean([column[name] for column in columns])) for name in columns[0]}


def target_errors(predictions: np.ndarray, references: np.ndarray) -> list[dict[str, float]]:
    """mae, rmse, r2 and pearson of each column of predictions and references (N, num_labels)."""
    columns = []
    for predicted, true in zip(predictions.astype(np.float64).T, references.astype(np.float64).T):
        error, spread = predicted - true, np.square(true - true.mean()).sum()
        covariance = ((predicted - predicted.mean()) * (true - true.mean())).sum()
        spreads = np.sqrt(np.square(predicted - predicted.mean()).sum() * spread)
        columns.append(
            {
                "mae": float(np.abs(error).mean()),
                "rmse": float(np.sqrt(np.square(error).mean())),
                "r2": float(1 - np.square(error).sum() / spread) if spread > 0 else 0.0,
                "pearson": float(covariance / spreads) if spreads > 0 else 0.0,
            }
        )
    return columns


def mean_average_precision(scores: np.ndarray, labels: np.ndarray) -> float:
    """The average precision of each class that occurs, averaged; scores and labels of 0 and 1, (N, num_labels) each."""
    positive = labels == 1
    occurring = np.flatnonzero(positive.any(axis=0))
    values = [average_precision(scores[:, label], positive[:, label]) for label in occurring]
    return float(np.mean(values)) if values else 0.0


def average_precision(scores: np.ndarray, positive: np.ndarray) -> float:
    """Average precision of scores (N,) for the videos in `positive`, bool (N,), of which at least one is True."""
    found = np.sort(scores[positive])
    # For each positive video: the number of videos that score at least as high, and the positive ones among them.
    ranks = len(scores) - np.searchsorted(np.sort(scores), found)
    return float(((len(found) - np.searchsorted(found, found)) / ranks).mean())


def confusion_matrix(predictions: np.ndarray, references: np.ndarray) -> np.ndarray:
    """Counts (true class, predicted class) of scores (N, num_labels) and class numbers (N,)."""
    matrix = np.zeros((predictions.shape[1],) * 2, dtype=np.int64)
    np.add.at(matrix, (references, predictions.argmax(axis=1)), 1)
    return matrix


def classification_metrics(prediction) -> dict[str, float]:
    """`compute_metrics` of the Trainer for classification: the metrics of a `transformers.EvalPrediction`.

    The shape of its labels determines whether videos have one or several labels. Unreadable videos have the label
    `UNREADABLE`; they count only in "unreadable".
    """
    several = np.ndim(prediction.label_ids) == 2
    metrics = (MeanAveragePrecision, MultiLabelF1) if several else (TopKAccuracy, Majority, MeanClassAccuracy, F1)
    return _scores(metrics, prediction, labels_of("multi_label_classification" if several else None))


def regression_metrics(prediction) -> dict[str, float]:
    """`compute_metrics` of the Trainer for regression; labels are (N, num_labels), NaN for unreadable videos."""
    return _scores((RegressionErrors,), prediction, labels_of("regression"))


def metrics_of(problem_type: str | None) -> Callable[..., dict[str, float]]:
    """The `compute_metrics` function for a model's `problem_type`."""
    return regression_metrics if problem_type == "regression" else classification_metrics


def _scores(metrics, prediction, kind) -> dict[str, float]:
    logits, labels = np.asarray(prediction.predictions), np.asarray(prediction.label_ids)
    readable = kind.is_readable(labels)
    result = {"videos": int(readable.sum()), "unreadable": int((~readable).sum())}
    if readable.any():
        for metric in metrics:
            result.update(metric().compute(predictions=logits[readable], references=labels[readable]))
    return result
