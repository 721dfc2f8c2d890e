"""Intervals and calibration, against naive loops and numbers by hand."""

import numpy as np
import pytest
import torch

from videomae_hf.evaluation.confidence import calibration, mean_interval, score_interval


def test_the_bootstrap_by_group_is_that_of_a_naive_loop():
    """With the same draws of groups, each group's videos counted one by one."""
    values, groups = np.array([1, 1, 0, 0, 0, 1, 1, 1]), list("aabbbccd")
    drawn = torch.randint(4, (2000, 4), generator=torch.Generator().manual_seed(0)).tolist()
    means = []
    for some in drawn:
        videos = [value for unit in some for value, group in zip(values, groups) if group == "abcd"[unit]]
        means.append(sum(videos) / len(videos))
    low, high = np.quantile(means, [0.025, 0.975])
    assert mean_interval(values, groups) == pytest.approx((low, high))


def test_an_interval_over_groups_is_wider_than_over_videos():
    rng = np.random.default_rng(0)
    of_group = rng.random(30) < 0.7
    values = np.repeat(of_group, 10).astype(float)  # videos of a group are all right or all wrong
    by_video = mean_interval(values, range(300), (0.0, 1.0))
    by_group = mean_interval(values, np.repeat(range(30), 10).tolist(), (0.0, 1.0))
    assert by_group[1] - by_group[0] > 2.5 * (by_video[1] - by_video[0])
    # Of 300 independent videos: the mean and 1.96 standard errors
    error = 1.96 * np.sqrt(values.mean() * (1 - values.mean()) / 300)
    assert by_video == pytest.approx((values.mean() - error, values.mean() + error), abs=0.01)


def test_equal_values_have_the_exact_interval():
    assert mean_interval(np.ones(10), range(10), (0.0, 1.0)) == pytest.approx((0.6915, 1.0), abs=1e-4)  # 0.025 ** 0.1
    assert mean_interval(np.zeros(10), range(10), (0.0, 1.0)) == pytest.approx((0.0, 0.3085), abs=1e-4)
    assert mean_interval(np.zeros(10), range(10), (-1.0, 1.0)) == pytest.approx((-0.3085, 0.3085), abs=1e-4)
    # Ten videos of two groups are two observations
    assert mean_interval(np.ones(10), [0, 1] * 5, (0.0, 1.0)) == pytest.approx((0.1581, 1.0), abs=1e-4)


def test_one_unit_has_no_interval():
    assert mean_interval(np.array([1.0, 0.0]), ["a", "a"]) is None
    assert mean_interval(np.zeros(0), []) is None
    assert score_interval(lambda places: 0.0, ["a", "a"]) is None


def test_a_score_that_is_no_mean_is_computed_for_each_resample():
    values = np.random.default_rng(1).random(40)
    found = score_interval(lambda places: float(values[places].mean()), range(40))
    assert found == pytest.approx(mean_interval(values, range(40)), abs=0.02)
    together = []
    score_interval(lambda places: together.append(sorted(places)) or 0.0, ["a", "b", "a"])
    assert {tuple(one) for one in together} == {(0, 0, 2, 2), (0, 1, 2), (1, 1)}


def test_calibration_by_hand():
    """Confidence 0.9 (right and wrong), 0.58 (right) and 0.5 (wrong): 2/4 * 0.4, 1/4 * 0.42 and 1/4 * 0.5."""
    probabilities = np.array([[0.9, 0.1], [0.1, 0.9], [0.58, 0.42], [0.5, 0.5]])
    found = calibration(np.log(probabilities), np.array([0, 0, 0, 1]))
    assert found["ece"] == pytest.approx(0.2 + 0.105 + 0.125)
    assert (found["confidence"], found["accuracy"]) == pytest.approx((0.72, 0.5))
    assert [one["videos"] for one in found["bins"]] == [1, 1, 2]
    assert [15 * one["to"] for one in found["bins"]] == pytest.approx([8, 9, 14])
    assert [15 * one["from"] for one in found["bins"]] == pytest.approx([7, 8, 13])
    sure = calibration(np.array([[100.0, 0.0]]), np.array([0]))
    assert sure["ece"] == 0 and sure["bins"][0]["to"] == 1


def test_groups_of_one_mean_have_the_exact_interval_too():
    """Half of each of four groups is right: no group differs from another."""
    values, groups = np.array([1.0, 0.0] * 4), np.arange(4).repeat(2)
    assert mean_interval(values, groups.tolist(), (0.0, 1.0)) == (0.0, 1.0)
    assert mean_interval(values, groups.tolist(), (-1.0, 1.0)) == pytest.approx((-0.1024, 1.0), abs=1e-4)
