# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""How far a score can be trusted: confidence intervals by bootstrap over groups of videos, and calibration."""

from collections.abc import Callable, Hashable, Sequence

import numpy as np
import torch

from ..labels import labels_of


LEVEL = 0.95
_RESAMPLES = 2000
_DRAWN = 40_000_000  # units in all resamples; of more than 20,000 units there are fewer, which they need less
_RESAMPLES_OF_RANKINGS = 200  # of scores that have to be computed anew for each resample
_AT_ONCE = 4_000_000  # numbers of a block of resamples
BINS = 15
_EQUAL = 1e-9  # means of units that differ by less are equal

Interval = tuple[float, float]


def mean_interval(values: np.ndarray, units: Sequence[Hashable], bounds: Interval | None = None) -> Interval | None:
    """The 95 % interval of the mean of `values` (N,), by resampling whole units with replacement (percentiles).

    Where all units have the same mean, as with an accuracy of 100 %, resampling would give an interval without width.
    The exact limit of a rate that was never observed in so many units takes its place: 1 - 0.025 ** (1 / units) to
    either side.

    Args:
        values: a number for each video.
        units: the unit of each video, such as its group.
        bounds: smallest and largest possible value of rates (0, 1) and of their differences (-1, 1); None for values
            without bounds.

    Returns:
        The interval; None for fewer than two units, which say nothing about others.
    """
    numbers = _unit_numbers(units)
    number = int(numbers.max()) + 1 if len(numbers) else 0
    if number < 2:
        return None
    sums = torch.zeros(number, 2, dtype=torch.float64)  # of each unit: the sum of its values, and its videos
    sums.index_add_(0, numbers, torch.stack([torch.as_tensor(values, dtype=torch.float64), torch.ones(len(values))], 1))
    of_unit = sums[:, 0] / sums[:, 1]
    if bounds is not None and of_unit.max() - of_unit.min() < _EQUAL:
        rare, value = 1 - ((1 - LEVEL) / 2) ** (1 / number), float(of_unit[0])
        return max(value - rare, bounds[0]), min(value + rare, bounds[1])
    generator, means = torch.Generator().manual_seed(0), []
    resamples = min(_RESAMPLES, max(_DRAWN // number, _RESAMPLES_OF_RANKINGS))
    block = max(_AT_ONCE // number, 1)
    for first in range(0, resamples, block):
        drawn = torch.randint(number, (min(block, resamples - first), number), generator=generator)
        totals = sums[drawn].sum(dim=1)  # (block, units, 2) -> (block, 2)
        means.append(totals[:, 0] / totals[:, 1])
    return _percentiles(torch.cat(means).numpy())


def score_interval(score: Callable[[np.ndarray], float], units: Sequence[Hashable]) -> Interval | None:
    """Like `mean_interval` for a score that is no mean; `score` gets the positions of the videos of a resample."""
    numbers = _unit_numbers(units).numpy()
    number = int(numbers.max()) + 1 if len(numbers) else 0
    if number < 2:
        return None
    members = [np.flatnonzero(numbers == unit) for unit in range(number)]
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randint(number, (_RESAMPLES_OF_RANKINGS, number), generator=generator).tolist()
    return _percentiles(np.array([score(np.concatenate([members[unit] for unit in some])) for some in drawn]))


def calibration(logits: np.ndarray, labels: np.ndarray, bins: int = BINS) -> dict:
    """Expected calibration error (Guo et al. 2017, arXiv 1706.04599) with bins of equal width, and its bins.

    Args:
        logits: (N, num_labels).
        labels: class numbers (N,).
        bins: number of bins of the probability of the predicted class; a bin includes its upper end.

    Returns:
        `ece`, `confidence` (the mean probability of the predicted class), `accuracy`, and `bins` with `from`, `to`,
        `videos`, `confidence` and `accuracy` of each bin that has videos.
    """
    probabilities = class_probabilities(logits)
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    place = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    found = []
    for number in range(bins):
        inside = place == number
        if inside.any():
            means = {"confidence": float(confidence[inside].mean()), "accuracy": float(right[inside].mean())}
            found.append({"from": number / bins, "to": (number + 1) / bins, "videos": int(inside.sum()), **means})
    ece = sum(one["videos"] * abs(one["accuracy"] - one["confidence"]) for one in found) / len(labels)
    return {"ece": ece, "confidence": float(confidence.mean()), "accuracy": float(right.mean()), "bins": found}


def class_probabilities(logits: np.ndarray) -> np.ndarray:
    """float64 (N, num_labels): the probabilities of one label per video."""
    return torch.as_tensor(logits, dtype=torch.float64).softmax(dim=-1).numpy()


def probabilities_of(logits: np.ndarray, problem_type: str | None) -> np.ndarray:
    """float64 (N, num_labels): probabilities, or the predicted numbers of a regression."""
    kind = labels_of(problem_type).problem_type
    if kind == "single_label_classification":
        return class_probabilities(logits)
    values = torch.as_tensor(logits, dtype=torch.float64)
    return (values if kind == "regression" else values.sigmoid()).numpy()


def _unit_numbers(units: Sequence[Hashable]) -> torch.Tensor:
    """int64 (N,): the number of the unit of each video."""
    known = {}
    return torch.tensor([known.setdefault(unit, len(known)) for unit in units], dtype=torch.int64)


def _percentiles(values: np.ndarray) -> Interval:
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)
