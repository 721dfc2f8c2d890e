# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Metrics of classification as `evaluate.Metric` classes that need no network (`evaluate.load` always asks the Hub)."""

import datasets
import evaluate
import numpy as np

from .data import UNREADABLE


_FEATURES = datasets.Features(
    {"predictions": datasets.Sequence(datasets.Value("float32")), "references": datasets.Value("int64")}
)


class _ScoresMetric(evaluate.Metric):
    """A metric of `predictions` (N, num_labels), scores of any scale, and `references` (N,), class numbers."""

    def __init__(self, **kwargs):
        super().__init__(keep_in_memory=True, **kwargs)

    def _info(self):
        return evaluate.MetricInfo(
            description=type(self).__doc__, citation="", inputs_description=_ScoresMetric.__doc__, features=_FEATURES
        )


class TopKAccuracy(_ScoresMetric):
    """Part of the videos whose class is among the k with the highest scores: {"top1": .., "top5": ..}."""

    def _compute(self, predictions, references, topk=(1, 5)):
        scores, references = np.asarray(predictions), np.asarray(references)
        # The number of classes that score higher; of equal scores the lower class number goes first.
        own = scores[np.arange(len(references)), references][:, None]
        before = np.arange(scores.shape[1])[None] < references[:, None]
        rank = ((scores > own) | ((scores == own) & before)).sum(axis=1)
        return {f"top{k}": float((rank < k).mean()) for k in topk}


class MeanClassAccuracy(_ScoresMetric):
    """Top-1 accuracy of each class that occurs, averaged over these classes: {"mean_class_accuracy": ..}."""

    def _compute(self, predictions, references):
        correct = np.asarray(predictions).argmax(axis=1) == np.asarray(references)
        classes = np.unique(references)
        return {"mean_class_accuracy": float(np.mean([correct[references == label].mean() for label in classes]))}


def confusion_matrix(predictions: np.ndarray, references: np.ndarray) -> np.ndarray:
    """Counts (true class, predicted class) of scores (N, num_labels) and class numbers (N,)."""
    matrix = np.zeros((predictions.shape[1],) * 2, dtype=np.int64)
    np.add.at(matrix, (references, predictions.argmax(axis=1)), 1)
    return matrix


def classification_metrics(prediction) -> dict[str, float]:
    """`compute_metrics` of the Trainer: all of the above for a `transformers.EvalPrediction`.

    Videos that could not be read carry the label `UNREADABLE`; they count in "unreadable" and nowhere else.
    """
    logits, labels = np.asarray(prediction.predictions), np.asarray(prediction.label_ids)
    readable = labels != UNREADABLE
    result = {"videos": int(readable.sum()), "unreadable": int((~readable).sum())}
    if readable.any():
        for metric in (TopKAccuracy(), MeanClassAccuracy()):
            result.update(metric.compute(predictions=logits[readable], references=labels[readable]))
    return result
