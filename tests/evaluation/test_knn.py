"""The weighted vote of neighbours, by hand and against scikit-learn."""

import math

import numpy as np
import pytest
import torch

from videomae_hf.evaluation.probes import knn_accuracy, knn_predictions


def directions(*degrees: float) -> torch.Tensor:
    """Unit vectors (N, 2) at these angles."""
    return torch.tensor([[math.cos(math.radians(angle)), math.sin(math.radians(angle))] for angle in degrees])


def test_the_nearest_directions_vote_whatever_the_length():
    train, labels = directions(0, 10, 90, 100), torch.tensor([0, 0, 1, 1])
    found = directions(5, 95, 30, 80) * torch.tensor([[0.1], [7.0], [100.0], [3.0]])
    assert knn_predictions(train, labels, found, k=2).tolist() == [0, 1, 0, 1]
    assert knn_accuracy(train, labels, found, torch.tensor([0, 1, 1, 1]), k=2) == 0.75


@pytest.mark.parametrize(
    ("k", "temperature", "expected"),
    [
        (1, 0.07, 0),
        (3, 1.0, 1),  # exp(0) against exp(cos 20 - 1) + exp(cos 21 - 1) = 1.88
        (3, 0.01, 0),  # against exp(-6.03) + exp(-6.64)
    ],
)
def test_a_near_one_outvotes_two_farther_ones_at_a_low_temperature(k, temperature, expected):
    train, labels = directions(0, 20, -21), torch.tensor([0, 1, 1])
    assert knn_predictions(train, labels, directions(0), k, temperature).tolist() == [expected]


def test_fewer_training_features_than_k_all_vote():
    assert knn_accuracy(directions(0, 90), torch.tensor([0, 1]), directions(1, 89), torch.tensor([0, 1])) == 1.0


def test_more_evaluation_features_than_are_compared_at_a_time(generator):
    train, found = torch.randn(50, 8, generator=generator), torch.randn(3000, 8, generator=generator)
    labels = torch.randint(5, (50,), generator=generator)
    whole = knn_predictions(train, labels, found)
    assert len(whole) == 3000
    assert torch.equal(whole[2000:], knn_predictions(train, labels, found[2000:]))


def test_low_precision_features(generator):
    train, labels = torch.randn(40, 16, generator=generator), torch.arange(40) % 4
    assert knn_accuracy(train.bfloat16(), labels, train.half(), labels, k=1) == 1.0


def test_agrees_with_scikit_learn(generator):
    neighbors = pytest.importorskip("sklearn.neighbors")
    train, found = torch.randn(200, 6, generator=generator), torch.randn(300, 6, generator=generator)
    labels = torch.randint(4, (200,), generator=generator)
    # Its weights are functions of the distance, which is 1 - cosine.
    reference = neighbors.KNeighborsClassifier(
        n_neighbors=20, metric="cosine", weights=lambda distance: np.exp((1 - distance) / 0.07)
    )
    expected = reference.fit(train.numpy(), labels.numpy()).predict(found.numpy())
    assert knn_predictions(train, labels, found).tolist() == expected.tolist()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train_features": torch.zeros(3, 2, 2)}, "train_features"),
        ({"eval_labels": torch.zeros(3, dtype=torch.long)}, "eval_labels"),
        ({"eval_features": torch.zeros(0, 2), "eval_labels": torch.zeros(0, dtype=torch.long)}, "at least 1"),
        ({"eval_features": torch.zeros(2, 3)}, "differ in size: 2 and 3"),
        ({"train_features": torch.full((2, 2), math.nan)}, "not all finite"),
        ({"k": 0}, "k=0"),
        ({"temperature": 0.0}, "temperature=0.0"),
    ],
)
def test_mistakes(change, message):
    good = {
        "train_features": directions(0, 90),
        "train_labels": torch.tensor([0, 1]),
        "eval_features": directions(0, 90),
        "eval_labels": torch.tensor([0, 1]),
    }
    with pytest.raises(ValueError, match=message):
        knn_accuracy(**{**good, **change})
