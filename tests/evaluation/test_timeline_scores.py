"""Scores of timelines: literal values worked out by hand, and the protocol in another way over random cases."""

from itertools import product

import numpy as np
import pytest

from videomae_hf.evaluation.timeline_scores import (
    ACTIVITYNET,
    OVERLAPS,
    THUMOS14,
    Part,
    ScoredTimeline,
    average_precisions,
    detection_scores,
    duration,
    edit_score,
    segment_f1,
    temporal_iou,
    time_by_class,
    timeline_metrics,
    union,
    unlabelled_time,
)


def segments(*bounds) -> np.ndarray:
    return np.array(bounds, dtype=float).reshape(-1, 2)


def timeline(truth=(), found=(), spans=(), top=()) -> ScoredTimeline:
    parts = [[Part(*one) for one in some] for some in (truth, found)]
    return ScoredTimeline(*parts, segments(*spans), np.array(top, dtype=int))


def test_overlaps_are_those_of_the_two_benchmarks():
    assert THUMOS14 == (0.3, 0.4, 0.5, 0.6, 0.7)
    assert ACTIVITYNET == tuple(np.linspace(0.5, 0.95, 10).round(2))
    assert OVERLAPS == (0.3, 0.4, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)


def test_intersection_over_union():
    others = segments((0, 10), (5, 15), (10, 20), (2, 4), (30, 40))
    assert temporal_iou((0, 10), others).tolist() == [1, 5 / 15, 0, 0.2, 0]
    assert temporal_iou((3, 3), segments((3, 3))).tolist() == [0]


# ----------------------------------------------------------------------------------------------------------- detection


@pytest.mark.parametrize(
    ("truth", "found", "overlap", "expected"),
    [
        ([(0, 10)], [(0, 0, 10, 0.9)], 0.95, 1),
        ([(0, 10)], [(0, 0, 7, 0.9)], 0.7, 1),  # exactly at the threshold
        ([(0, 10)], [(0, 0, 7, 0.9)], 0.75, 0),
        ([(0, 10)], [], 0.5, 0),
        # Twice the same: the second one is false, but comes after the recall is complete.
        ([(0, 10)], [(0, 0, 10, 0.9), (0, 0, 10, 0.8)], 0.5, 1),
        # False first: a precision of 1/2 at the only recall
        ([(0, 10)], [(0, 20, 30, 0.9), (0, 0, 10, 0.8)], 0.5, 1 / 2),
        # By score, not by place: right, false, right: 1/2 * 1 + 1/2 * 2/3
        ([(0, 10), (20, 30)], [(0, 20, 30, 0.2), (0, 50, 60, 0.5), (0, 0, 10, 0.9)], 0.5, 1 / 2 + 1 / 3),
        # False, right, right: the precision at recall 1/2 is that of recall 1, 2/3 (interpolated)
        ([(0, 10), (20, 30)], [(0, 50, 60, 0.9), (0, 0, 10, 0.5), (0, 20, 30, 0.2)], 0.5, 2 / 3),
        # One of two found
        ([(0, 10), (20, 30)], [(0, 0, 10, 0.5)], 0.5, 1 / 2),
        # The better match of the second, 9/10 with (0, 10), is taken; it gets the other one, 7/11 with (3, 12).
        ([(0, 10), (3, 12)], [(0, 0, 10, 0.9), (0, 1, 10, 0.8)], 0.6, 1),
        # Equal scores: the first in the list is taken first, and the other one is the duplicate.
        ([(0, 10), (20, 30)], [(0, 50, 60, 0.5), (0, 0, 10, 0.5)], 0.5, 1 / 4),
    ],
)
def test_average_precision_by_hand(truth, found, overlap, expected):
    assert average_precisions([segments(*truth)], found, [overlap])[0] == pytest.approx(expected)


def test_a_match_is_within_its_video():
    truth = [segments((0, 10)), segments((100, 110))]
    assert average_precisions(truth, [(1, 0, 10, 0.9), (0, 0, 10, 0.5)], [0.5])[0] == pytest.approx(1 / 4)


def test_a_threshold_has_matches_of_its_own():
    """At 0.3 the first segment takes (0, 10), which the second one needs; at 0.7 it matches nothing."""
    found = [(0, 0, 5, 0.9), (0, 0, 10, 0.8)]
    assert average_precisions([segments((0, 10))], found, [0.3, 0.7]).tolist() == [1, 0.5]


def official(truth, found, overlap) -> float:
    """The average precision in the way of the challenge: arrays of true and false positives, the curve with a point
    before and after it, and its steps."""
    used, true, false = set(), [], []
    for video, start, end, _ in sorted(found, key=lambda one: one[3], reverse=True):
        ious = []
        for number, (left, right) in enumerate(truth[video]):
            shared = max(0.0, min(end, right) - max(start, left))
            ious.append((shared / (end - start + right - left - shared), -number))
        free = [(iou, -number) for iou, number in ious if iou >= overlap and (video, -number) not in used]
        hit = max(free, key=lambda one: (one[0], -one[1])) if free else None
        if hit:
            used.add((video, hit[1]))
        true.append(bool(hit))
        false.append(not hit)
    total = sum(map(len, truth))
    recall = [0.0, *(sum(true[: k + 1]) / total for k in range(len(true))), 1.0]
    precision = [0.0, *(sum(true[: k + 1]) / (k + 1) for k in range(len(true))), 0.0]
    for k in reversed(range(len(precision) - 1)):
        precision[k] = max(precision[k], precision[k + 1])
    return sum((recall[k] - recall[k - 1]) * precision[k] for k in range(1, len(recall)))


def test_the_protocol_over_random_cases():
    rng, seen = np.random.default_rng(0), set()
    for _ in range(300):
        truth = []
        for _ in range(rng.integers(1, 4)):
            starts = rng.uniform(0, 20, rng.integers(1, 5))
            truth.append(np.stack([starts, starts + rng.uniform(1, 10, len(starts))], axis=1))
        found = []
        for score in rng.permutation(rng.integers(0, 12)):
            video = int(rng.integers(len(truth)))
            start, end = truth[video][rng.integers(len(truth[video]))] + rng.normal(0, 1, 2)
            found.append((video, start, max(end, start + 0.1), float(score)))
        ours = average_precisions(truth, found)
        assert ours == pytest.approx([official(truth, found, overlap) for overlap in OVERLAPS])
        seen |= set(ours.round(3))
    assert len(seen) > 100  # the cases differ


def test_classes_without_labels_have_no_score():
    one = timeline(truth=[(0, 10, 0), (20, 30, 2)], found=[(0, 10, 0, 0.9), (0, 10, 1, 0.9), (20, 25, 2, 0.8)])
    scores = detection_scores([one], 3, [0.5, 0.7])
    assert scores[0].tolist() == [1, 1] and np.isnan(scores[1]).all() and scores[2].tolist() == [1, 0]
    metrics = timeline_metrics([one], ["a", "b", "c"])
    assert metrics["map"]["0.50"] == 1 and metrics["map"]["0.70"] == 0.5
    assert metrics["map_thumos14"] == pytest.approx((1 + 1 + 1 + 0.5 + 0.5) / 5)
    assert metrics["map_activitynet"] == pytest.approx((1 + 9 * 0.5) / 10)
    assert metrics["classes"]["b"]["ap"]["0.50"] is None and metrics["classes"]["b"]["predicted_segments"] == 1


# ---------------------------------------------------------------------------------------------------------------- time


def test_unions():
    assert union(segments((5, 6), (0, 2), (1, 3), (3, 4))).tolist() == [[0, 4], [5, 6]]
    assert duration(segments((5, 6), (0, 2), (1, 3))) == 4 and duration(segments()) == 0


def test_the_labelled_time_by_top_class():
    """Labels: 0 to 3 is a, 4 to 8 is b. Windows: 0 to 2 a, 2 to 5 b, 5 to 7 a; nothing after 7."""
    one = timeline(truth=[(0, 3, 0), (4, 8, 1)], spans=[(0, 2), (2, 5), (5, 7)], top=[0, 1, 0])
    assert time_by_class([one], 2).tolist() == [[2, 1, 0], [2, 1, 1]]
    metrics = timeline_metrics([one], ["a", "b"])
    assert metrics["time_accuracy"] == pytest.approx(3 / 7) and metrics["majority"] == pytest.approx(4 / 7)
    assert metrics["mean_class_time_accuracy"] == pytest.approx((2 / 3 + 1 / 4) / 2) and metrics["chance"] == 0.5
    assert metrics["labelled_seconds"] == 7 and metrics["labelled_seconds_in_no_window"] == 1
    assert metrics["unlabelled_seconds"] == 1 and metrics["unlabelled_in_segments"] == 0


def test_overlapping_labels():
    """Of the same class they count once, of two classes each."""
    one = timeline(truth=[(0, 3, 0), (2, 4, 0), (3, 5, 1)], spans=[(0, 10)], top=[0])
    assert time_by_class([one], 2).tolist() == [[4, 0, 0], [2, 0, 0]]


def test_time_without_a_label():
    """Of 0 to 10, labels cover 2 to 4 and 6 to 7; segments 0 to 3 and 6 to 9: 4 of 7 seconds without a label."""
    one = timeline(truth=[(2, 4, 0), (6, 7, 1)], found=[(0, 3, 0), (6, 9, 0)], spans=[(0, 5), (5, 10)], top=[0, 0])
    assert unlabelled_time([one]) == (7, 4)


def test_the_background_is_no_detection():
    one = timeline(
        truth=[(0, 4, 0), (4, 10, 1)], found=[(0, 4, 0, 0.9), (4, 10, 1, 0.9)], spans=[(0, 4), (4, 10)], top=[0, 1]
    )
    plain, metrics = timeline_metrics([one], ["run", "nothing"]), timeline_metrics([one], ["run", "nothing"], 1)
    assert plain["labelled_segments"] == 2 and plain["unlabelled_seconds"] == 0
    assert metrics["labelled_segments"] == metrics["predicted_segments"] == 1
    assert metrics["time_accuracy"] == 1 and metrics["labelled_seconds"] == 10 and metrics["unlabelled_seconds"] == 6
    assert metrics["classes"]["nothing"]["ap_thumos14"] is None
    assert metrics["classes"]["nothing"]["time_accuracy"] == 1


# -------------------------------------------------------------------------------------------------------- segmentation


def test_f1_by_hand():
    """Labels a, b, a; found a (exact), a again over the same one, b (half of it): 2 of 3 and 3 at 50 %, 1 at 60 %."""
    one = timeline(
        truth=[(0, 10, 0), (10, 20, 1), (20, 30, 0)], found=[(0, 10, 0), (1, 10, 0), (10, 15, 1)], spans=[(0, 30)]
    )
    assert segment_f1([one], 0.5) == pytest.approx(2 * 2 / 6) and segment_f1([one], 0.6) == pytest.approx(2 / 6)
    assert segment_f1([timeline()], 0.5) == 0 and segment_f1([timeline(found=[(0, 1, 0)])], 0.1) == 0
    # The second one overlaps the matched label most, and is not given to another one, unlike in detection.
    twice = timeline(truth=[(0, 10, 0), (3, 12, 0)], found=[(0, 10, 0), (1, 10, 0)])
    assert segment_f1([twice], 0.5) == pytest.approx(2 * 1 / 4)


@pytest.mark.parametrize(
    ("truth", "found", "expected"),
    [
        ("abc", "abc", 1),
        ("abc", "ac", 2 / 3),
        ("ab", "ba", 0),
        ("abab", "ab", 0.5),
        ("a", "", 0),
        ("abcd", "axcd", 0.75),
    ],
)
def test_edit_score_by_hand(truth, found, expected):
    parts = [[(time, time + 1, ord(label)) for time, label in enumerate(text)] for text in (truth, found)]
    assert edit_score([timeline(*parts)]) == pytest.approx(expected)
    assert edit_score([timeline(*parts), timeline(), timeline(parts[0], parts[0])]) == pytest.approx((expected + 1) / 2)


def test_edit_distance_against_all_alignments():
    """The shortest path over all ways to delete, insert and replace, without the table."""

    def distance(one, other):
        if not one or not other:
            return len(one) + len(other)
        rest = distance(one[1:], other[1:]) + (one[0] != other[0])
        return min(rest, distance(one[1:], other) + 1, distance(one, other[1:]) + 1)

    words = ["".join(letters) for length in range(4) for letters in product("ab", repeat=length)]
    for one, other in product(words, words):
        if one or other:
            parts = [[(time, time + 1, ord(label)) for time, label in enumerate(text)] for text in (one, other)]
            longest = max(len(one), len(other))
            assert edit_score([timeline(*parts)]) == pytest.approx(1 - distance(one, other) / longest)


def test_nothing_predicted():
    metrics = timeline_metrics([timeline(truth=[(0, 5, 0)], spans=[(0, 5)], top=[1])], ["a", "b"])
    assert metrics["time_accuracy"] == metrics["map_thumos14"] == metrics["edit"] == metrics["f1"]["50"] == 0
    assert metrics["unlabelled_in_segments"] is None
