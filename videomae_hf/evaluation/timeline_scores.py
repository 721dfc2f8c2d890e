# Copyright 2026 The videomae_hf authors. Licensed under the Apache License, Version 2.0.
"""Scores of timelines: accuracy over time, segments as detections (ActivityNet), and as a segmentation (F1, edit).

Detection follows the evaluation of the ActivityNet challenge (Caba Heilbron et al., 2015; `get_detection_performance`):
segments of a class are taken by descending score; each is a true positive if its overlap with a labelled segment of its
class and video that no other one has matched reaches the threshold, of several the one that it overlaps most, and
otherwise a false positive. The average precision is the area under the interpolated precision. THUMOS14 is scored in
the same way by most papers, at other thresholds.

F1@k and the edit score are those of action segmentation (Lea et al., 2017, "Temporal convolutional networks").
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np


THUMOS14 = (0.3, 0.4, 0.5, 0.6, 0.7)
ACTIVITYNET = (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)
OVERLAPS = tuple(sorted({*THUMOS14, *ACTIVITYNET}))
F1_OVERLAPS = (0.1, 0.25, 0.5)


class Part(NamedTuple):
    """A part of a video with a class number: labelled, or found by a model with a score."""

    start: float
    end: float
    label: int
    score: float = 1.0


@dataclass(frozen=True, eq=False)
class ScoredTimeline:
    """The labels of a video beside its predictions; all times in the same unit, seconds as a rule.

    Args:
        truth: the labelled parts.
        found: the predicted segments.
        spans: float (N, 2), start and end of the time that each window stands for; they do not overlap.
        top: int (N,), the most probable class of each window.
    """

    truth: list[Part]
    found: list[Part]
    spans: np.ndarray
    top: np.ndarray

    def without(self, label: int | None) -> "ScoredTimeline":
        """The same without the parts of a class; for None, the same."""
        truth, found = ([part for part in parts if part.label != label] for parts in (self.truth, self.found))
        return ScoredTimeline(truth, found, self.spans, self.top)


# ----------------------------------------------------------------------------------------------------------- detection


def temporal_iou(segment: Sequence[float], others: np.ndarray) -> np.ndarray:
    """Intersection over union of a segment (start, end) with others (N, 2): float (N,)."""
    start, end = segment
    shared = np.clip(np.minimum(end, others[:, 1]) - np.maximum(start, others[:, 0]), 0, None)
    union = (end - start) + (others[:, 1] - others[:, 0]) - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)


def average_precisions(
    truth: Sequence[np.ndarray], found: Iterable[tuple[int, float, float, float]], overlaps: Sequence[float] = OVERLAPS
) -> np.ndarray:
    """Average precision of one class at each overlap: float (len(overlaps),).

    Args:
        truth: for each video, its labelled segments, float (N, 2); at least one in all.
        found: (video, start, end, score) of each predicted segment, with the number of the video. Of equal scores, the
            one that comes first is taken first.
        overlaps: thresholds of the intersection over union, which a match reaches.
    """
    ordered = sorted(found, key=lambda one: -one[3])
    hits = np.zeros((len(overlaps), len(ordered)), dtype=bool)
    free = [np.ones((len(overlaps), len(segments)), dtype=bool) for segments in truth]
    for rank, (video, start, end, _) in enumerate(ordered):
        shared = temporal_iou((start, end), truth[video])  # (N,)
        best_first = [one for one in np.argsort(-shared, kind="stable") if shared[one] >= min(overlaps)]
        for level, overlap in enumerate(overlaps):
            match = next((one for one in best_first if shared[one] >= overlap and free[video][level, one]), None)
            if match is not None:
                hits[level, rank], free[video][level, match] = True, False
    return np.array([_interpolated(row, sum(map(len, truth))) for row in hits])


def _interpolated(hits: np.ndarray, total: int) -> float:
    """The area under the interpolated precision over the recall, of hits (N,) by descending score."""
    right = np.cumsum(hits)
    precision = right / np.arange(1, len(hits) + 1)
    # At each recall, the best precision that this recall or a higher one has
    best = np.maximum.accumulate(precision[::-1])[::-1]
    return float(best[hits].sum() / total)


def detection_scores(
    timelines: Sequence[ScoredTimeline], num_labels: int, overlaps: Sequence[float] = OVERLAPS
) -> np.ndarray:
    """Average precision of each class at each overlap, float (num_labels, len(overlaps)); NaN for classes without a
    labelled segment."""
    scores = np.full((num_labels, len(overlaps)), np.nan)
    for label in range(num_labels):
        truth = [_bounds(part for part in one.truth if part.label == label) for one in timelines]
        if any(map(len, truth)):
            found = [
                (video, part.start, part.end, part.score)
                for video, one in enumerate(timelines)
                for part in one.found
                if part.label == label
            ]
            scores[label] = average_precisions(truth, found, overlaps)
    return scores


def _bounds(parts: Iterable[Part]) -> np.ndarray:
    """Start and end of parts: float (N, 2)."""
    return np.array([part[:2] for part in parts], dtype=np.float64).reshape(-1, 2)


# ---------------------------------------------------------------------------------------------------------------- time


def union(intervals: np.ndarray) -> np.ndarray:
    """The union of intervals (N, 2), as intervals (M, 2) that do not touch, in order."""
    merged = []
    for start, end in sorted(intervals.tolist()):
        if merged and start <= merged[-1][1]:
            merged[-1][1] = max(merged[-1][1], end)
        else:
            merged.append([start, end])
    return np.array(merged, dtype=np.float64).reshape(-1, 2)


def duration(intervals: np.ndarray) -> float:
    """The length of the union of intervals (N, 2)."""
    return float(np.diff(union(intervals)).sum())


def time_by_class(timelines: Sequence[ScoredTimeline], num_labels: int) -> np.ndarray:
    """The labelled time by its class (rows) and the top class of its windows: float (num_labels, num_labels + 1).

    The last column is labelled time in no window. Where labels of different classes overlap, each of them counts;
    overlapping labels of the same class count once.
    """
    seconds = np.zeros((num_labels, num_labels + 1))
    for one in timelines:
        for label in {part.label for part in one.truth}:
            for start, end in union(_bounds(part for part in one.truth if part.label == label)):
                shared = np.minimum(end, one.spans[:, 1]) - np.maximum(start, one.spans[:, 0])
                shared = np.clip(shared, 0, None)  # (N,)
                seconds[label, :-1] += np.bincount(one.top, shared, num_labels)
                seconds[label, -1] += max(end - start - shared.sum(), 0)
    return seconds


def unlabelled_time(timelines: Sequence[ScoredTimeline]) -> tuple[float, float]:
    """The time in windows without a label, and the part of it that predicted segments cover."""
    every = covered = 0.0
    for one in timelines:
        truth, found = _bounds(one.truth), _bounds(one.found)
        every += duration(np.concatenate([truth, one.spans])) - duration(truth)
        covered += duration(np.concatenate([truth, found])) - duration(truth)
    return max(every, 0.0), max(covered, 0.0)


# -------------------------------------------------------------------------------------------------------- segmentation


def segment_f1(timelines: Sequence[ScoredTimeline], overlap: float) -> float:
    """F1 of all segments of all videos; 0 if there is no match.

    In the order of time, each predicted segment is compared with the labelled one of its class and video that it
    overlaps most. It is right if their intersection over union reaches `overlap`, and no earlier one was.
    """
    right = total = 0
    for one in timelines:
        total += len(one.truth) + len(one.found)
        matched, bounds = set(), _bounds(one.truth)
        labels = np.array([part.label for part in one.truth], dtype=np.int64)
        for part in sorted(one.found):
            shared = temporal_iou(part[:2], bounds) * (labels == part.label)
            best = int(shared.argmax()) if len(shared) else None
            if best is not None and shared[best] >= overlap:
                matched.add(best)
        right += len(matched)
    return 2 * right / total if total else 0.0


def edit_score(timelines: Sequence[ScoredTimeline]) -> float:
    """The order of segments, whatever their bounds: 1 minus the edit distance of labelled and predicted classes divided
    by the longer length, averaged over the videos that have any segment; NaN without such a video."""
    scores = []
    for one in timelines:
        truth, found = ([part.label for part in sorted(parts)] for parts in (one.truth, one.found))
        if truth or found:
            scores.append(1 - _edit_distance(truth, found) / max(len(truth), len(found)))
    return float(np.mean(scores)) if scores else float("nan")


def _edit_distance(one: list[int], other: list[int]) -> int:
    """The smallest number of insertions, deletions and replacements (Levenshtein)."""
    row = list(range(len(other) + 1))
    for number, left in enumerate(one, start=1):
        diagonal, row[0] = row[0], number
        for place, right in enumerate(other, start=1):
            diagonal, row[place] = row[place], min(row[place] + 1, row[place - 1] + 1, diagonal + (left != right))
    return row[-1]


# ------------------------------------------------------------------------------------------------------------- metrics


def timeline_metrics(timelines: Sequence[ScoredTimeline], names: Sequence[str], background: int | None = None) -> dict:
    """All scores of timelines as JSON; a score that does not exist is None.

    Args:
        timelines: labels and predictions of each video, at least one of them with a label.
        names: the classes of the model.
        background: number of the class that stands for the absence of all others. It counts in the accuracy over time,
            but neither as a detection nor in the segmentation.
    """
    seconds, actions = time_by_class(timelines, len(names)), [one.without(background) for one in timelines]
    precisions = detection_scores(actions, len(names))
    totals, right = seconds.sum(axis=1), seconds[:, :-1].diagonal()
    has_truth = totals > 0
    unlabelled, covered = unlabelled_time(actions)
    at = _mean_over(precisions)  # (len(OVERLAPS),)
    return {
        "videos": len(timelines),
        "labelled_segments": sum(len(one.truth) for one in actions),
        "predicted_segments": sum(len(one.found) for one in actions),
        "labelled_seconds": round(float(totals.sum()), 6),
        "labelled_seconds_in_no_window": round(float(seconds[:, -1].sum()), 6),
        "time_accuracy": float(right.sum() / totals.sum()),
        "mean_class_time_accuracy": float((right[has_truth] / totals[has_truth]).mean()),
        "majority": float(totals.max() / totals.sum()),
        "chance": 1 / len(names),
        "unlabelled_seconds": round(unlabelled, 6),
        "unlabelled_in_segments": covered / unlabelled if unlabelled > 1e-6 else None,
        "map": {f"{overlap:.2f}": _number(value) for overlap, value in zip(OVERLAPS, at)},
        "map_thumos14": _number(_mean_at(at, THUMOS14)),
        "map_activitynet": _number(_mean_at(at, ACTIVITYNET)),
        "f1": {f"{100 * overlap:.0f}": segment_f1(actions, overlap) for overlap in F1_OVERLAPS},
        "edit": _number(edit_score(actions)),
        "classes": _by_class(actions, names, seconds, precisions),
        "seconds_by_top_class": {name: row.tolist() for name, row in zip(names, seconds.round(6))},
    }


def _by_class(
    timelines: Sequence[ScoredTimeline], names: Sequence[str], seconds: np.ndarray, precisions: np.ndarray
) -> dict[str, dict]:
    """The scores of each class."""
    scores = {}
    for label, name in enumerate(names):
        total = seconds[label].sum()
        scores[name] = {
            "labelled_segments": sum(part.label == label for one in timelines for part in one.truth),
            "predicted_segments": sum(part.label == label for one in timelines for part in one.found),
            "labelled_seconds": round(float(total), 6),
            "time_accuracy": float(seconds[label, label] / total) if total > 0 else None,
            "ap": {f"{overlap:.2f}": _number(value) for overlap, value in zip(OVERLAPS, precisions[label])},
            "ap_thumos14": _number(_mean_at(precisions[label], THUMOS14)),
            "ap_activitynet": _number(_mean_at(precisions[label], ACTIVITYNET)),
        }
    return scores


def _mean_over(precisions: np.ndarray) -> np.ndarray:
    """The mean of (num_labels, K) over the classes that have labels: (K,), NaN without such a class."""
    known = ~np.isnan(precisions[:, 0])
    return precisions[known].mean(axis=0) if known.any() else np.full(precisions.shape[1], np.nan)


def _mean_at(values: np.ndarray, overlaps: Sequence[float]) -> float:
    return float(np.mean([values[OVERLAPS.index(overlap)] for overlap in overlaps]))


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
