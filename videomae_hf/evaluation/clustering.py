# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""k-means over features, flat or hierarchical: the visual words of VideoBERT.

VideoBERT clusters 1024 values of each segment in a tree of depth 4 with 12 branches, which has 12^4 = 20,736 leaves
(https://arxiv.org/abs/1904.01766). A tree costs less than flat k-means with as many centroids, whose error is smaller;
up to 1,000 words, flat k-means is fast enough.
"""

import warnings

import numpy as np
import torch

from ..models.visual_words import VisualWords, nearest


MOST_FLAT = 1000  # words, up to which the clustering is flat
_MOST_WORDS = 2**20
_MOST_ROWS = 20_000  # above which k-means works in mini-batches
_CHUNK = 10_000  # rows that are converted to float64 at once


def check_scikit_learn() -> None:
    """Raises ValueError if scikit-learn is not installed."""
    try:
        import sklearn  # noqa: F401
    except ImportError as error:
        raise ValueError("Visual words need scikit-learn: pip install scikit-learn") from error


def fit_visual_words(
    features: np.ndarray, branching: int, depth: int, generator: torch.Generator | None = None
) -> VisualWords:
    """Clusters features, standardised in every dimension, into at most branching^depth words.

    Args:
        features: float32 (N, F), of training videos alone.
        branching: number of branches of a node.
        depth: number of levels; of a flat clustering, only the number of words matters.
        generator: random generator.

    Returns:
        The words. In a tree there may be fewer: nodes with no more features than branches are leaves.

    Raises:
        ValueError: there are fewer features than words, they are not finite, or a number is out of range.
    """
    if branching < 2 or depth < 1 or branching**depth > _MOST_WORDS:
        raise ValueError(
            f"branching={branching} and depth={depth} must be at least 2 and 1, and give at most {_MOST_WORDS:,} words."
        )
    number = branching**depth
    if features.ndim != 2 or len(features) < number:
        raise ValueError(
            f"Features of shape {features.shape} are too few for {branching}^{depth} = {number:,} words; reduce "
            f"branching or depth, or extract more videos."
        )
    if not np.isfinite(features).all():
        raise ValueError("The features are not finite; extract them again.")
    mean, std = moments(features)
    rows = features.astype(np.float32)
    rows -= mean
    rows /= std
    centroids = _flat(rows, number, generator) if number <= MOST_FLAT else _tree(rows, branching, depth, generator)
    tensors = (torch.from_numpy(one.astype(np.float32, copy=False)) for one in (centroids, mean, std))
    kind = "flat" if number <= MOST_FLAT else "hierarchical"
    return VisualWords(*tensors, {"clustering": kind, "branching": branching, "depth": depth, "rows": len(rows)})


def moments(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of features (N, F), float32 (F,) each; the latter is 1 where all are equal."""
    mean = features.mean(axis=0, dtype=np.float64)
    chunks = np.array_split(features, max(len(features) // _CHUNK, 1))  # float64 takes twice the memory
    std = np.sqrt(sum(np.square(chunk - mean).sum(axis=0) for chunk in chunks) / len(features))
    std[std < 1e-6 * np.maximum(np.abs(mean), 1e-6)] = 1.0
    return mean.astype(np.float32), std.astype(np.float32)


def relative_error(features: np.ndarray, words: VisualWords) -> float:
    """Mean squared distance of standardised features (N, F) to their centroids, as a fraction of their variance."""
    rows = (torch.from_numpy(features).float() - words.mean) / words.std
    error = (rows - words.centroids[nearest(rows, words.centroids)]).square().sum()
    return float(error / (rows - rows.mean(dim=0)).square().sum().clamp(min=1e-12))


def _flat(rows: np.ndarray, number: int, generator: torch.Generator | None) -> np.ndarray:
    """(N, F) -> centroids (number, F)."""
    from sklearn.cluster import KMeans, MiniBatchKMeans
    from sklearn.exceptions import ConvergenceWarning

    seed = int(torch.randint(2**31 - 1, (), generator=generator))
    options = {"n_clusters": number, "n_init": 1, "random_state": seed}
    kmeans = MiniBatchKMeans(batch_size=4096, **options) if len(rows) > _MOST_ROWS else KMeans(**options)
    with warnings.catch_warnings():  # equal features are in one cluster, which leaves others empty
        warnings.simplefilter("ignore", ConvergenceWarning)
        return kmeans.fit(rows).cluster_centers_


def _tree(rows: np.ndarray, branching: int, depth: int, generator: torch.Generator | None) -> np.ndarray:
    """(N, F) -> centroids of the leaves (K, F)."""
    if depth == 0 or len(rows) <= branching:
        return rows.mean(axis=0, keepdims=True)
    centroids = torch.from_numpy(_flat(rows, branching, generator))
    member = nearest(torch.from_numpy(rows), centroids).numpy()
    parts = [rows[member == branch] for branch in range(branching)]
    return np.concatenate([_tree(part, branching, depth - 1, generator) for part in parts if len(part)])
