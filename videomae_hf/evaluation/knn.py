# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""k nearest neighbours on frozen features: the cheapest answer to "has the encoder learnt anything?"."""

import torch


_ROWS = 1024  # evaluation features compared at a time, which bounds the memory to 1024 x N similarities


def knn_accuracy(
    train_features: torch.Tensor,
    train_labels: torch.Tensor,
    eval_features: torch.Tensor,
    eval_labels: torch.Tensor,
    k: int = 20,
    temperature: float = 0.07,
) -> float:
    """Top-1 accuracy of a weighted vote of the k most similar training features.

    Similarity s is the cosine; a neighbour's vote for its class weighs exp(s / temperature). The rule and the defaults
    are those of Wu et al. (2018, https://arxiv.org/abs/1805.01978) as DINO evaluates them, with k = 20.

    Args:
        train_features: (N, D), of any scale and float type.
        train_labels: int64 (N,).
        eval_features: (M, D).
        eval_labels: int64 (M,).
        k: neighbours that vote; with fewer training features all of them do.
        temperature: small lets the nearest ones decide, large makes the votes equal.

    Returns:
        Part of the evaluation features whose class wins, in [0, 1].

    Raises:
        ValueError: shapes do not fit, nothing is given, features are not finite, or k or temperature is not positive.
    """
    _check(train_features, train_labels, eval_features, eval_labels, k, temperature)
    predicted = knn_predictions(train_features, train_labels, eval_features, k, temperature)
    return (predicted == eval_labels.to(predicted.device)).float().mean().item()


def knn_predictions(
    train_features: torch.Tensor,
    train_labels: torch.Tensor,
    eval_features: torch.Tensor,
    k: int = 20,
    temperature: float = 0.07,
) -> torch.Tensor:
    """int64 (M,): the class that each of eval_features (M, D) gets; of equal votes the lower number."""
    num_classes = int(train_labels.max()) + 1
    return knn_votes(train_features, train_labels, eval_features, num_classes, k, temperature).argmax(dim=1)


def knn_votes(
    train_features: torch.Tensor,
    train_labels: torch.Tensor,
    eval_features: torch.Tensor,
    num_classes: int,
    k: int = 20,
    temperature: float = 0.07,
) -> torch.Tensor:
    """float32 (M, num_classes): the share of the votes that each class gets."""
    train = torch.nn.functional.normalize(train_features.float(), dim=1)
    labels, k = train_labels.to(train.device), min(k, len(train))
    votes = []
    for rows in eval_features.to(train.device).split(_ROWS):
        similarity = torch.nn.functional.normalize(rows.float(), dim=1) @ train.T  # (rows, N)
        nearest, neighbours = similarity.topk(k, dim=1)  # (rows, k)
        weights = (nearest / temperature).softmax(dim=1)
        votes.append(weights.new_zeros(len(rows), num_classes).scatter_add_(1, labels[neighbours], weights))
    return torch.cat(votes)


def _check(train_features, train_labels, eval_features, eval_labels, k: int, temperature: float):
    for name, features, labels in (("train", train_features, train_labels), ("eval", eval_features, eval_labels)):
        if features.ndim != 2 or labels.shape != features.shape[:1] or len(features) == 0:
            raise ValueError(
                f"{name}_features {tuple(features.shape)} and {name}_labels {tuple(labels.shape)} must be (N, D) and "
                f"(N,), with N at least 1."
            )
        if not features.isfinite().all():
            raise ValueError(f"{name}_features are not all finite: the encoder gave NaN or infinity.")
    if train_features.shape[1] != eval_features.shape[1]:
        raise ValueError(f"Features have {train_features.shape[1]} and {eval_features.shape[1]} numbers; same needed.")
    if k < 1 or not temperature > 0:
        raise ValueError(f"k={k} must be at least 1 and temperature={temperature} positive.")
