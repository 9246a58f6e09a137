"""Probable label errors, against errors that were planted and against the definition."""

from collections.abc import Sequence

import numpy as np
import pytest

from audioflow.checks import Heard, suspects
from audioflow.checks.labels import NONE, doubts, doubts_of_several

NAMES = [f"class {number}" for number in range(10)]


def softmax_scores(target: np.ndarray, num_classes: int, skill: float, seed: int) -> np.ndarray:
    logits = np.random.default_rng(seed).normal(size=(len(target), num_classes))
    logits[np.arange(len(target)), target] += skill
    powers = np.exp(logits)
    return (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32)


class Flipped:
    """2,000 clips of 10 classes, of which 5 % have the label of another class."""

    def __init__(self, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.truth = rng.integers(0, 10, 2000)
        self.wrong = np.zeros(2000, bool)
        self.wrong[rng.choice(2000, 100, replace=False)] = True
        moved = (self.truth + rng.integers(1, 10, 2000)) % 10
        self.label = np.where(self.wrong, moved, self.truth)
        self.ids = [f"c{number}" for number in range(2000)]

    def heard(self, name: str, skill: float, seed: int) -> Heard:
        scores = softmax_scores(self.truth, 10, skill, seed)
        return Heard(name, self.ids, NAMES, scores, self.label)


def by_definition(scores: np.ndarray, target: np.ndarray) -> dict[int, int]:
    """Northcutt et al. (2021), section 3.1, clip by clip."""
    usual = [scores[target == one, one].mean() for one in range(scores.shape[1])]
    found = {}
    for row, own in enumerate(target):
        reached = [one for one in range(scores.shape[1]) if scores[row, one] >= usual[one]]
        if reached and (best := max(reached, key=lambda one: scores[row, one])) != own:
            found[row] = best
    return found


def test_doubts_are_those_of_the_definition() -> None:
    flipped = Flipped()
    scores = softmax_scores(flipped.truth, 10, 2.0, 1).astype(np.float64)
    found = doubts(scores, flipped.label)
    wanted = by_definition(scores, flipped.label)
    told = dict(zip(found.row.tolist(), found.better.tolist(), strict=True))
    certain = {
        row: best
        for row, best in wanted.items()
        if scores[row, best] > scores[row, flipped.label[row]]
    }
    assert certain.items() <= told.items()
    assert len(certain) > 100
    assert (np.diff(found.margin) <= 0).all()


def test_planted_errors_lead_the_list_and_their_share_is_told() -> None:
    flipped = Flipped()
    found = doubts(softmax_scores(flipped.truth, 10, 4.0, 1), flipped.label)
    assert flipped.wrong[found.row[:80]].all()
    assert (found.better[:80] == flipped.truth[found.row[:80]]).all()
    assert flipped.wrong[found.row].sum() >= 90
    assert found.share == pytest.approx(0.05, abs=0.01)


def test_systems_that_agree_find_more_than_the_better_of_them() -> None:
    flipped = Flipped()
    ids = dict(zip(flipped.ids, flipped.wrong, strict=True))
    systems = [flipped.heard("audio", 3.0, 1), flipped.heard("video", 2.5, 2)]

    def precision(heard: Sequence[Heard]) -> float:
        return float(np.mean([ids[one.clip_id] for one in suspects(heard).rows[:80]]))

    assert precision(systems) >= precision(systems[:1]) + 0.1
    assert precision(systems) >= 0.95


def test_a_label_that_more_systems_doubt_comes_first() -> None:
    target = np.array([0] * 6 + [1] * 6)
    sure = np.where(target[:, None] == np.arange(2), 0.9, 0.1)
    both, one = sure.copy(), sure.copy()
    both[0], one[0] = [0.3, 0.9], [0.2, 0.95]
    both[7] = [1.0, 0.0]
    ids = [f"c{number}" for number in range(12)]
    systems = [
        Heard(name, ids, NAMES[:2], scores, target) for name, scores in (("a", both), ("b", one))
    ]
    first, second = suspects(systems).rows
    assert (first.clip_id, first.label, first.better) == ("c0", "class 0", "class 1")
    assert (first.systems, first.judged) == (("a", "b"), 2)
    assert (second.clip_id, second.systems, second.judged) == ("c7", ("a",), 2)
    assert second.margin == pytest.approx(0.5)


def test_systems_may_have_their_classes_in_any_order() -> None:
    flipped = Flipped()
    one = flipped.heard("audio", 4.0, 1)
    other = Heard("video", one.clip_ids, one.classes[::-1], one.scores[:, ::-1], 9 - flipped.label)
    found = suspects([one, other])
    assert {row.systems for row in found.rows} == {("audio", "video")}


def test_a_class_without_clips_is_never_more_likely() -> None:
    scores = np.array([[0.2, 0.2, 0.6]] * 4)
    assert len(doubts(scores, np.array([0, 0, 1, 1]))) == 0


def test_missing_and_wrong_labels_are_told_apart() -> None:
    rng = np.random.default_rng(0)
    truth = rng.random((1000, 4)) < 0.3
    scores = np.clip(truth * 0.6 + 0.2 + rng.normal(0, 0.1, truth.shape), 0, 1)
    flipped = rng.random(truth.shape) < 0.03
    label = truth ^ flipped
    found = doubts_of_several(scores, label)
    missing, wrong = found.given == NONE, found.better == NONE
    assert (missing ^ wrong).all()
    column = np.where(missing, found.better, found.given)
    assert (label[found.row, column] == wrong).all()
    assert flipped[found.row, column].mean() >= 0.95
    assert len(found) >= 0.9 * flipped.sum()
    assert found.share == pytest.approx(0.03, abs=0.01)
    ids = [str(number) for number in range(len(label))]
    rows = suspects([Heard("tags", ids, NAMES[:4], scores, label)]).rows
    assert len(rows) == len(found)
    assert sum(row.label is None and row.better in NAMES for row in rows) == missing.sum()
    assert sum(row.better is None and row.label in NAMES for row in rows) == wrong.sum()


def test_nothing_to_go_by_says_nothing() -> None:
    found = suspects([Heard("tags", ["a", "b"], ["x"], np.ones((2, 1)), np.ones((2, 1), bool))])
    assert (found.rows, found.num_clips) == ((), 2)
    assert np.isnan(found.share)
