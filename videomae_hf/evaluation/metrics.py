# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Metrics of classification as `evaluate.Metric` classes that need no network (`evaluate.load` always asks the Hub)."""

import datasets
import evaluate
import numpy as np

from ..data.video_dataset import UNREADABLE


class _ScoresMetric(evaluate.Metric):
    """A metric of `predictions` (N, num_labels), scores of any scale, and `references` (N,), class numbers."""

    references = datasets.Value("int64")

    def __init__(self, **kwargs):
        super().__init__(keep_in_memory=True, **kwargs)

    def _info(self):
        scores = datasets.Sequence(datasets.Value("float32"))
        return evaluate.MetricInfo(
            description=type(self).__doc__,
            citation="",
            inputs_description=type(self).__base__.__doc__,
            features=datasets.Features({"predictions": scores, "references": self.references}),
        )


class _LabelsMetric(_ScoresMetric):
    """A metric of `predictions` (N, num_labels), logits, and `references` (N, num_labels), 1 for each label of a video
    and 0 for the others."""

    references = datasets.Sequence(datasets.Value("int64"))


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


class MeanAveragePrecision(_LabelsMetric):
    """Average precision of each class that occurs, averaged over these classes: {"mean_average_precision": ..}.

    The mean of the precisions at the places of a class's videos, of all videos ranked by their score for it. Videos of
    equal scores share the last place of them, as in scikit-learn, so that a model that says nothing gains nothing.
    """

    def _compute(self, predictions, references):
        scores, positive = np.asarray(predictions), np.asarray(references) == 1
        occurring = np.flatnonzero(positive.any(axis=0))
        values = [average_precision(scores[:, label], positive[:, label]) for label in occurring]
        return {"mean_average_precision": float(np.mean(values)) if values else 0.0}


class MicroF1(_LabelsMetric):
    """F1 over all videos and labels together; predicted is what has a probability above 1/2: {"micro_f1": ..}."""

    def _compute(self, predictions, references):
        predicted, positive = np.asarray(predictions) > 0, np.asarray(references) == 1
        found = predicted.sum() + positive.sum()
        return {"micro_f1": float(2 * (predicted & positive).sum() / found) if found else 0.0}


def average_precision(scores: np.ndarray, positive: np.ndarray) -> float:
    """Of scores (N,), where `positive` (N,), not all False, are the ones to find."""
    found = np.sort(scores[positive])
    # For each one to find: how many score at least as much, and how many of these are to be found themselves.
    ranks = len(scores) - np.searchsorted(np.sort(scores), found)
    return float(((len(found) - np.searchsorted(found, found)) / ranks).mean())


def confusion_matrix(predictions: np.ndarray, references: np.ndarray) -> np.ndarray:
    """Counts (true class, predicted class) of scores (N, num_labels) and class numbers (N,)."""
    matrix = np.zeros((predictions.shape[1],) * 2, dtype=np.int64)
    np.add.at(matrix, (references, predictions.argmax(axis=1)), 1)
    return matrix


def classification_metrics(prediction) -> dict[str, float]:
    """`compute_metrics` of the Trainer: all of the above for a `transformers.EvalPrediction`, as its labels are one or
    several a video.

    Videos that could not be read carry the label `UNREADABLE`; they count in "unreadable" and nowhere else.
    """
    logits, labels = np.asarray(prediction.predictions), np.asarray(prediction.label_ids)
    readable = is_readable(labels)
    metrics = (MeanAveragePrecision(), MicroF1()) if labels.ndim == 2 else (TopKAccuracy(), MeanClassAccuracy())
    result = {"videos": int(readable.sum()), "unreadable": int((~readable).sum())}
    if readable.any():
        for metric in metrics:
            result.update(metric.compute(predictions=logits[readable], references=labels[readable]))
    return result


def is_readable(labels: np.ndarray) -> np.ndarray:
    """bool (N,) of labels (N,) or (N, num_labels)."""
    return (labels != UNREADABLE).reshape(len(labels), -1).all(axis=1)
