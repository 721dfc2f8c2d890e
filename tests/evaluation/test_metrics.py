"""Metrics by hand, without the network."""

import socket

import numpy as np
import pytest
from transformers import EvalPrediction

from videomae_hf.evaluation.metrics import (
    MeanAveragePrecision,
    MeanClassAccuracy,
    MultiLabelF1,
    TopKAccuracy,
    average_precision,
    classification_metrics,
    confusion_matrix,
)
from videomae_hf.labels import UNREADABLE, labels_of


SCORES = np.array(
    [
        [0.6, 0.3, 0.1],
        [0.5, 0.4, 0.1],
        [0.1, 0.2, 0.7],
        [0.2, 0.5, 0.3],
    ]
)


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    def refuse(*arguments):
        raise AssertionError(f"a metric asked the network: {arguments}")

    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.mark.parametrize(
    ("references", "topk", "expected"),
    [
        ([0, 0, 2, 1], (1, 2), {"top1": 1.0, "top2": 1.0}),
        ([0, 1, 2, 2], (1, 2), {"top1": 0.5, "top2": 1.0}),
        ([2, 2, 0, 0], (1, 2, 3), {"top1": 0.0, "top2": 0.0, "top3": 1.0}),
        ([1, 2, 2, 0], (1, 2), {"top1": 0.25, "top2": 0.5}),
        ([2, 2, 0, 0], (5,), {"top5": 1.0}),  # more than there are classes
    ],
)
def test_top_k(references, topk, expected):
    assert TopKAccuracy().compute(predictions=SCORES, references=references, topk=topk) == expected


def test_top_1_and_5_by_default():
    scores = np.arange(10.0)[None]
    results = [TopKAccuracy().compute(predictions=scores, references=[label]) for label in (9, 5, 4)]
    assert results == [{"top1": 1.0, "top5": 1.0}, {"top1": 0.0, "top5": 1.0}, {"top1": 0.0, "top5": 0.0}]


@pytest.mark.parametrize(("label", "rank"), [(0, 3), (1, 1), (2, 4), (3, 2)])
def test_of_equal_scores_the_lower_class_number_goes_first(label, rank):
    result = TopKAccuracy().compute(predictions=[[1.0, 2.0, 1.0, 2.0]], references=[label], topk=(1, 2, 3, 4))
    assert result == {f"top{k}": float(rank <= k) for k in (1, 2, 3, 4)}


def test_a_model_that_says_nothing_is_not_right():
    """Every class scores the same: ties must not count for all of them."""
    result = TopKAccuracy().compute(predictions=np.zeros((4, 4)), references=[0, 1, 2, 3], topk=(1, 2))
    assert result == {"top1": 0.25, "top2": 0.5}


@pytest.mark.parametrize(
    ("references", "expected"),
    [
        ([0, 0, 2, 1], 1.0),
        ([0, 1, 2, 2], (1 + 0 + 1 / 2) / 3),
        ([0, 0, 0, 2], (2 / 3 + 0) / 2),  # class 1 does not occur
        ([1, 1, 1, 1], 0.25),
    ],
)
def test_mean_class_accuracy(references, expected):
    result = MeanClassAccuracy().compute(predictions=SCORES, references=references)
    assert result == {"mean_class_accuracy": pytest.approx(expected)}


def test_metrics_can_be_filled_batch_by_batch():
    metric = TopKAccuracy()
    metric.add_batch(predictions=SCORES[:3], references=[0, 1, 2])
    metric.add_batch(predictions=SCORES[3:], references=[2])
    assert metric.compute(topk=(1,)) == {"top1": 0.5}


def test_confusion_matrix():
    matrix = confusion_matrix(SCORES, np.array([0, 1, 2, 2]))
    assert matrix.tolist() == [[1, 0, 0], [1, 0, 0], [0, 1, 1]]  # rows are the true classes
    assert confusion_matrix(np.zeros((0, 2)), np.array([], dtype=int)).tolist() == [[0, 0], [0, 0]]


def test_classification_metrics_leave_out_what_could_not_be_read():
    labels = np.array([0, 1, UNREADABLE, 2])
    assert classification_metrics(EvalPrediction(predictions=SCORES, label_ids=labels)) == {
        "videos": 3,
        "unreadable": 1,
        "top1": pytest.approx(1 / 3),  # no top5 of three classes
        "majority": pytest.approx(1 / 3),
        "mean_class_accuracy": pytest.approx(1 / 3),
        "macro_f1": pytest.approx(2 / 9),  # class 0: 2/3, predicted twice and right once; the others 0
    }


def test_classification_metrics_of_nothing_readable():
    labels = np.full(4, UNREADABLE)
    result = classification_metrics(EvalPrediction(predictions=SCORES, label_ids=labels))
    assert result == {"videos": 0, "unreadable": 4}


# ----------------------------------------------------------------------------------------------- several labels a video

LOGITS = np.array([[0.9, -2, -3], [0.8, 5, -1], [-0.7, 1, -4], [-1.5, 0.5, -2]])
LABELS = np.array([[1, 0, 0], [0, 0, 0], [1, 0, 0], [0, 1, 0]])


@pytest.mark.parametrize(
    ("scores", "positive", "expected"),
    [
        ([0.9, 0.8, 0.7, 0.6], [1, 0, 1, 0], (1 / 1 + 2 / 3) / 2),
        ([0.9, 0.8, 0.7, 0.6], [0, 0, 0, 1], 1 / 4),
        ([0.6, 0.7, 0.8, 0.9], [0, 0, 0, 1], 1.0),
        ([0.1, 0.4, 0.35, 0.8], [0, 0, 1, 1], 0.8333333333333333),  # the example of scikit-learn's documentation
        ([0, 0, 0, 0], [1, 0, 0, 0], 1 / 4),  # ties share the last place
        ([2, 1, 1, 1, 0], [1, 1, 0, 1, 0], (1 / 1 + 3 / 4 + 3 / 4) / 3),
        ([3, 1, 2], [1, 1, 1], 1.0),
    ],
)
def test_average_precision(scores, positive, expected):
    assert average_precision(np.array(scores), np.array(positive, dtype=bool)) == pytest.approx(expected)


def test_mean_average_precision_is_over_the_classes_that_occur():
    result = MeanAveragePrecision().compute(predictions=LOGITS, references=LABELS)
    assert result == {"mean_average_precision": pytest.approx((5 / 6 + 1 / 3) / 2)}
    assert MeanAveragePrecision().compute(predictions=LOGITS, references=LABELS * 0) == {"mean_average_precision": 0.0}


@pytest.mark.parametrize(
    ("logits", "references", "micro", "macro"),
    [
        (
            LOGITS,
            LABELS,
            2 * 2 / (5 + 3),
            (2 / 4 + 2 / 4 + 0) / 3,
        ),  # two of five predicted are right, one of three labels is missed
        # four right, one too many, one missed
        ([[1, -1, 2], [-1, -1, 3], [2, 1, -1]], [[1, 0, 1], [0, 1, 1], [0, 1, 0]], 0.8, (2 / 3 + 2 / 3 + 1) / 3),
        ([[-1.0, -1], [-1, -1]], [[1, 0], [0, 1]], 0.0, 0.0),
        ([[-1.0, -1]], [[0, 0]], 0.0, 0.0),
        ([[0.1, -0.1]], [[1, 0]], 1.0, 0.5),
    ],
)
def test_f1_of_several_labels(logits, references, micro, macro):
    result = MultiLabelF1().compute(predictions=logits, references=references)
    assert result == {"micro_f1": pytest.approx(micro), "macro_f1": pytest.approx(macro)}


def test_classification_metrics_of_several_labels_leave_out_what_could_not_be_read():
    labels = np.insert(LABELS.astype(np.float32), 2, UNREADABLE, axis=0)
    logits = np.insert(LOGITS, 2, 9.0, axis=0)
    assert labels_of("multi_label_classification").is_readable(labels).tolist() == [True, True, False, True, True]
    assert classification_metrics(EvalPrediction(predictions=logits, label_ids=labels)) == {
        "videos": 4,
        "unreadable": 1,
        "mean_average_precision": pytest.approx(7 / 12),
        "micro_f1": pytest.approx(0.5),
        "macro_f1": pytest.approx(1 / 3),
    }
    nothing = EvalPrediction(predictions=LOGITS, label_ids=np.full((4, 3), UNREADABLE, dtype=np.float32))
    assert classification_metrics(nothing) == {"videos": 0, "unreadable": 4}
