"""Metrics against scikit-learn, of regression, and of several processes."""

import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from transformers import EvalPrediction

from videomae_hf.data.sources.folders_and_lists import VideoRecord
from videomae_hf.evaluation.metrics import (
    F1,
    ConfusionMatrix,
    MeanAveragePrecision,
    MeanClassAccuracy,
    MultiLabelF1,
    RegressionErrors,
    TopKAccuracy,
    regression_metrics,
)
from videomae_hf.evaluation.predictions import Scored, write_predictions


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_macro_f1_by_hand():
    # predicted 0, 0, 2, 1 for 0, 1, 2, 2: F1 of 2/3, 0 and 2/3
    scores = np.eye(3)[[0, 0, 2, 1]]
    assert F1().compute(predictions=scores, references=[0, 1, 2, 2]) == {"macro_f1": pytest.approx(4 / 9)}


def test_confusion_matrix_by_hand():
    result = ConfusionMatrix().compute(predictions=np.eye(3)[[0, 0, 2, 1]], references=[0, 1, 2, 2])
    assert result == {"confusion_matrix": [[1, 0, 0], [1, 0, 0], [0, 1, 1]]}


def test_regression_errors_by_hand():
    predictions, references = [[1.0, 5], [2, 5], [3, 5], [6, 5]], [[2.0, 3], [2, 3], [4, 3], [4, 3]]
    result = RegressionErrors().compute(predictions=predictions, references=references)
    # First column: errors -1, 0, -1, 2 around a mean of 3 with a spread of 4; covariance 5, spreads 14 and 4.
    # The second never changes: errors of 2, r2 and pearson not defined.
    assert result == {
        "mae": pytest.approx((1 + 2) / 2),
        "rmse": pytest.approx((1.5**0.5 + 2) / 2),
        "r2": pytest.approx((1 - 6 / 4) / 2),
        "pearson": pytest.approx(6 / (14 * 4) ** 0.5 / 2),
    }


def test_regression_metrics_leave_out_what_could_not_be_read():
    """-100 is a target like any other."""
    labels = np.array([[-100.0], [np.nan], [2.0]], dtype=np.float32)
    result = regression_metrics(EvalPrediction(predictions=np.array([[-99.0], [7], [2]]), label_ids=labels))
    assert (result["videos"], result["unreadable"], result["mae"]) == (2, 1, 0.5)


def test_classes_agree_with_scikit_learn(rng):
    reference = pytest.importorskip("sklearn.metrics")
    scores, labels = rng.normal(size=(400, 7)), rng.integers(0, 7, 400)
    scores[np.arange(400), labels] += 1
    predicted = scores.argmax(axis=1)
    options = {"predictions": scores, "references": labels}
    assert TopKAccuracy().compute(**options, topk=(1, 3)) == {
        "top1": pytest.approx(reference.accuracy_score(labels, predicted)),
        "top3": pytest.approx(reference.top_k_accuracy_score(labels, scores, k=3)),
    }
    expected = reference.balanced_accuracy_score(labels, predicted)
    assert MeanClassAccuracy().compute(**options) == {"mean_class_accuracy": pytest.approx(expected)}
    expected = reference.f1_score(labels, predicted, average="macro")
    assert F1().compute(**options) == {"macro_f1": pytest.approx(expected)}
    expected = reference.confusion_matrix(labels, predicted).tolist()
    assert ConfusionMatrix().compute(**options) == {"confusion_matrix": expected}


def test_macro_f1_of_classes_that_do_not_occur_agrees_with_scikit_learn(rng):
    """Class 4 is only predicted, class 5 only true, class 6 neither."""
    reference = pytest.importorskip("sklearn.metrics")
    labels, predicted = rng.choice([0, 1, 2, 3, 5], 60), rng.integers(0, 5, 60)
    expected = reference.f1_score(labels, predicted, average="macro", zero_division=0)
    assert F1().compute(predictions=np.eye(7)[predicted], references=labels) == {"macro_f1": pytest.approx(expected)}


def test_several_labels_agree_with_scikit_learn(rng):
    reference = pytest.importorskip("sklearn.metrics")
    labels = rng.integers(0, 2, (300, 5))
    scores = np.round(rng.normal(size=(300, 5)) + labels, 1)  # with ties
    expected = reference.average_precision_score(labels, scores, average="macro")
    result = MeanAveragePrecision().compute(predictions=scores, references=labels)
    assert result == {"mean_average_precision": pytest.approx(expected)}
    assert MultiLabelF1().compute(predictions=scores, references=labels) == {
        f"{average}_f1": pytest.approx(reference.f1_score(labels, scores > 0, average=average))
        for average in ("micro", "macro")
    }


def test_regression_agrees_with_scikit_learn(rng):
    reference = pytest.importorskip("sklearn.metrics")
    true = rng.normal(5, 3, (200, 2))
    predicted = (true + rng.normal(size=(200, 2))).astype(np.float32).astype(np.float64)
    result = RegressionErrors().compute(predictions=predicted, references=true)
    assert result["mae"] == pytest.approx(reference.mean_absolute_error(true, predicted))
    assert result["rmse"] == pytest.approx(reference.root_mean_squared_error(true, predicted))
    assert result["r2"] == pytest.approx(reference.r2_score(true, predicted))
    pearson = [np.corrcoef(true[:, k], predicted[:, k])[0, 1] for k in range(2)]
    assert result["pearson"] == pytest.approx(np.mean(pearson))


def test_two_processes_with_unequal_parts(tmp_path):
    """evaluate's own way over a shared folder, here in two threads: every video counts once."""
    scores, labels = np.eye(3)[[0, 0, 2, 1, 2]], np.array([0, 1, 2, 2, 2])
    parts = [slice(0, 3), slice(3, 5)]

    def part(rank: int):
        metric = TopKAccuracy(num_process=2, process_id=rank, experiment_id="e", cache_dir=str(tmp_path), timeout=60)
        metric.add_batch(predictions=scores[parts[rank]], references=labels[parts[rank]])
        return metric.compute(topk=(1,))

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(part, range(2))) == [{"top1": 3 / 5}, None]


def test_files_of_a_regression(tmp_path):
    samples = [
        VideoRecord("a.mp4", targets=(1.0, 10.0)),
        VideoRecord("b.mp4", targets=(3.0, 20.0)),
        VideoRecord("c.mp4", targets=(5.0, 6.0)),
    ]
    labels = np.array([[1, 10], [3, 20], [np.nan, np.nan]])
    logits = np.array([[1.5, 10], [3, 21], [0, 0]], dtype=np.float32)
    write_predictions(tmp_path, samples, ["age", "weight"], "regression", Scored(logits, labels, {"eval_mae": 0.375}))
    assert (tmp_path / "predictions.csv").read_text().splitlines() == [
        "path,age,weight,predicted_age,predicted_weight",
        "a.mp4,1,10,1.5,10",
        "b.mp4,3,20,3,21",
        "c.mp4,5,6,unreadable,unreadable",
    ]
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["targets"] == ["age", "weight"] and metrics["eval_mae"] == 0.375
    assert (metrics["errors"]["age"]["mae"], metrics["errors"]["weight"]["mae"]) == (0.25, 0.5)


def test_files_of_classes(tmp_path):
    samples = [VideoRecord("a.mp4", 0), VideoRecord("b.mp4", 1), VideoRecord("c.mp4", 1)]
    logits = np.log(np.array([[0.75, 0.25], [0.5, 0.5], [0.9, 0.1]], dtype=np.float32))
    write_predictions(tmp_path, samples, ["run", "jump"], None, Scored(logits, np.array([0, 1, -100]), {}))
    assert (tmp_path / "predictions.csv").read_text().splitlines() == [
        "path,label,predicted,probability,correct,probability_run,probability_jump",
        "a.mp4,run,run,0.7500,1,0.7500,0.2500",
        "b.mp4,jump,run,0.5000,0,0.5000,0.5000",
        "c.mp4,jump,unreadable,,,,",
    ]
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics == {"classes": ["run", "jump"], "confusion_matrix": [[1, 0], [1, 0]]}


def test_files_of_classes_with_groups_or_several_labels(tmp_path):
    samples = [VideoRecord("a.mp4", (0,)), VideoRecord("b.mp4", (0, 1))]
    logits = np.log(np.array([[3, 1 / 3], [9, 1 / 9]], dtype=np.float32))  # probabilities 0.75, 0.25, 0.9 and 0.1
    scored = Scored(logits, np.array([[1.0, 0.0], [1.0, 1.0]]), {})
    kind = "multi_label_classification"
    write_predictions(tmp_path, samples, ["run", "jump"], kind, scored, groups=["one", "two"])
    assert (tmp_path / "predictions.csv").read_text().splitlines() == [
        "path,group,label,predicted,probability,correct,probability_run,probability_jump",
        "a.mp4,one,run,run,0.7500,1,0.7500,0.2500",
        "b.mp4,two,run|jump,run,0.9000,0,0.9000,0.1000",
    ]
