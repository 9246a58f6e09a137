"""Metrics group by group, worst first, and their intervals."""

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn import metrics as sk

from audioflow.metrics import by_group
from audioflow.metrics.groups import wilson


def make_case(seed: int = 0, num_clips: int = 300):
    rng = np.random.default_rng(seed)
    targets = rng.integers(4, size=num_clips)
    groups = np.array([f"site {index}" for index in rng.integers(6, size=num_clips)])
    scores = rng.random((num_clips, 4))
    scores[np.arange(num_clips), targets] += np.where(groups == "site 2", 0.0, 0.6)
    return scores / scores.sum(1, keepdims=True), targets, groups


def test_rows_are_those_of_scikit_learn_with_wilson_intervals() -> None:
    scores, targets, groups = make_case()
    found = by_group(scores, targets, groups, column="site")
    assert (found.column, found.num_groups, len(found.rows)) == ("site", 6, 6)
    assert found.rows[0].name == "site 2"
    highs = [row.metrics["accuracy"].high for row in found.rows]
    assert highs == sorted(highs)
    for row in found.rows:
        own = groups == row.name
        predicted = scores[own].argmax(1)
        right = int((predicted == targets[own]).sum())
        interval = binomtest(right, int(own.sum())).proportion_ci(method="wilson")
        accuracy = row.metrics["accuracy"]
        assert row.num_clips == own.sum()
        assert accuracy.value == pytest.approx(right / own.sum())
        assert (accuracy.low, accuracy.high) == pytest.approx(interval, abs=1e-6)
        expected = sk.f1_score(targets[own], predicted, average="macro", zero_division=0)
        assert row.metrics["macro_f1"].value == pytest.approx(expected)


def test_a_group_of_one_clip_does_not_stand_before_a_surely_bad_one() -> None:
    scores = np.eye(2)[[0] * 41]
    targets = np.array([1] + [1] * 30 + [0] * 10)
    groups = ["lone"] + ["bad"] * 40
    assert [row.name for row in by_group(scores, targets, groups).rows] == ["bad", "lone"]


def test_many_groups_are_cut_to_the_worst() -> None:
    scores, targets, groups = make_case()
    every = by_group(scores, targets, groups)
    found = by_group(scores, targets, groups, limit=2)
    assert found.rows == every.rows[:2]
    assert found.num_groups == 6


def test_several_labels_have_lwlrap_and_map() -> None:
    rng = np.random.default_rng(1)
    truth = rng.random((200, 5)) < 0.3
    groups = np.array(["east", "west"], object)[np.arange(200) % 2]
    groups[190:] = "silent"
    truth[190:] = False
    scores = rng.random((200, 5)) * 0.6 + 0.4 * truth * (groups == "west")[:, None]
    found = by_group(scores, truth, groups)
    assert [row.name for row in found.rows] == ["east", "west", "silent"]
    for row in found.rows[:2]:
        own = groups == row.name
        some = own & truth.any(1)
        expected = sk.label_ranking_average_precision_score(
            truth[some], scores[some], sample_weight=truth[some].sum(1)
        )
        lwlrap = row.metrics["lwlrap"]
        assert lwlrap.value == pytest.approx(expected)
        assert lwlrap.low < expected < lwlrap.high
        assert row.metrics["map"].value == pytest.approx(
            sk.average_precision_score(truth[own], scores[own], average="macro")
        )
    silent = found.rows[2]
    assert np.isnan([silent.metrics["lwlrap"].value, silent.metrics["map"].value]).all()


def test_wilson_without_a_clip_is_undefined() -> None:
    low, high = wilson(np.array([0.5, 1.0]), np.array([0.0, 5.0]))
    assert np.isnan([low[0], high[0]]).all()
    assert (low[1], high[1]) == pytest.approx((0.5655, 1.0), abs=1e-4)


def test_bad_groups_are_named() -> None:
    with pytest.raises(ValueError, match=r"groups have shape \(1,\), expected \(2,\)"):
        by_group(np.eye(2), [0, 1], ["x"])
