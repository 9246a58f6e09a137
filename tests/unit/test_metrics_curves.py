"""Curves against scikit-learn, and that thinning them changes nothing one could see."""

import numpy as np
import pytest
from sklearn import metrics as sk

from audioflow.metrics import all_curves
from audioflow.metrics.curves import (
    MOST_POINTS,
    class_curves,
    precision_recall_curve,
    roc_curve,
    threshold_curve,
)
from audioflow.metrics.levels import Levels
from audioflow.metrics.thinning import thinned


def make_case(seed: int, num_clips: int = 400, *, ties: bool = False, dtype: type = np.float32):
    rng = np.random.default_rng(seed)
    positive = rng.random(num_clips) < 0.2
    scores = rng.beta(2, 3, num_clips) * 0.7 + 0.3 * positive * rng.random(num_clips)
    return positive, (np.round(scores, 1) if ties else scores).astype(dtype)


def levels(positive: np.ndarray, scores: np.ndarray) -> Levels:
    return Levels.of(scores[positive], scores)


def rows(*columns: np.ndarray) -> set[tuple[float, ...]]:
    return {tuple(np.round(row, 12)) for row in np.column_stack(columns).astype(float)}


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_full_curves_are_those_of_scikit_learn(ties: bool, dtype: type) -> None:
    positive, scores = make_case(0, ties=ties, dtype=dtype)
    found = roc_curve(levels(positive, scores), 10_000)
    false_rate, true_rate, threshold = sk.roc_curve(positive, scores)
    assert distances(false_rate, true_rate, found.x, found.y).max() < 1e-12
    every = sk.roc_curve(positive, scores, drop_intermediate=False)
    assert rows(found.x, found.y, found.threshold) <= rows(*every)
    found = precision_recall_curve(levels(positive, scores), 10_000)
    precision, recall, threshold = sk.precision_recall_curve(positive, scores)
    assert rows(found.x, found.y, found.threshold) <= rows(recall[:-1], precision[:-1], threshold)
    assert found.x[-1] == 1
    # scikit-learn goes on below the score of the last positive, where nothing more is found.
    upper = threshold >= found.threshold[-1]
    assert distances(recall[:-1][upper], precision[:-1][upper], found.x, found.y).max() < 1e-12


@pytest.mark.parametrize("ties", [False, True])
def test_rankings_from_levels_are_those_of_scikit_learn(ties: bool) -> None:
    positive, scores = make_case(1, ties=ties)
    expected = sk.roc_auc_score(positive, scores), sk.average_precision_score(positive, scores)
    assert levels(positive, scores).ranking() == pytest.approx(expected, abs=1e-12)
    assert np.isnan(Levels.of(scores[:0], scores).ranking()).all()
    assert np.isnan(Levels.of(scores, scores).ranking()).all()


@pytest.mark.parametrize("num_clips", [300, 50_000])
def test_thinned_curves_look_like_the_full_ones(num_clips: int) -> None:
    positive, scores = make_case(2, num_clips)
    found = levels(positive, scores)
    for curve in (roc_curve, precision_recall_curve):
        full, thin = curve(found, 10**6), curve(found)
        assert len(thin.x) <= MOST_POINTS
        assert rows(thin.x, thin.y) <= rows(full.x, full.y)
        distance = distances(full.x, full.y, thin.x, thin.y)
        # Half a pixel of a chart 400 pixels wide; the first few scores may jump.
        assert np.quantile(distance, 0.99) < 1 / 800
        assert distance.max() < 1 / 100


def distances(x: np.ndarray, y: np.ndarray, line_x: np.ndarray, line_y: np.ndarray) -> np.ndarray:
    """Distance of each point from the nearest piece of a broken line."""
    start = np.column_stack([line_x[:-1], line_y[:-1]])
    step = np.column_stack([np.diff(line_x), np.diff(line_y)])
    squared = np.maximum((step**2).sum(1), 1e-30)
    found = []
    for point in np.column_stack([x, y]):
        along = np.clip(((point - start) * step).sum(1) / squared, 0, 1)
        found.append(np.hypot(*(start + along[:, None] * step - point).T).min())
    return np.array(found)


def test_thinning_keeps_the_corners_and_leaves_out_what_lies_on_a_line() -> None:
    x = np.array([0.0, 0.1, 0.2, 0.3, 0.6, 1.0])
    y = np.array([0.0, 0.4, 0.8, 0.8, 0.8, 1.0])
    assert thinned(x, y, 10).tolist() == [0, 2, 4, 5]
    assert thinned(x, y, 3).tolist() == [0, 2, 5]
    assert thinned(x[:1], y[:1], 5).tolist() == [0]
    assert thinned(np.array([0.0, 0.5, 0.0]), np.zeros(3), 5).tolist() == [0, 1, 2]


def test_the_threshold_curve_is_what_the_thresholds_give() -> None:
    positive, scores = make_case(3)
    found = threshold_curve(scores[positive], scores)
    assert len(found.threshold) <= MOST_POINTS
    assert (found.threshold[0], found.threshold[-1]) == (0, 1)
    for place in range(0, len(found.threshold), 7):
        said = scores >= np.float32(found.threshold[place])
        assert found.recall[place] == sk.recall_score(positive, said)
        assert found.f1[place] == pytest.approx(sk.f1_score(positive, said, zero_division=0))
        if said.any():
            assert found.precision[place] == sk.precision_score(positive, said)
        else:
            assert np.isnan(found.precision[place])


def test_small_scores_get_thresholds_where_they_are() -> None:
    positive, scores = make_case(4)
    found = threshold_curve(scores[positive] / 1000, scores / 1000)
    assert np.sum(found.threshold < 0.001) > MOST_POINTS / 3


def test_curves_of_one_label_per_clip() -> None:
    rng = np.random.default_rng(5)
    targets = rng.integers(4, size=500)
    scores = rng.random((500, 5))
    scores[np.arange(500), targets] += 0.5
    scores /= scores.sum(1, keepdims=True)
    found = all_curves(scores, targets, ["a", "b", "c", "d", "never"])
    assert [one.name for one in found.classes] == ["a", "b", "c", "d"]
    assert [one.support for one in found.classes] == np.bincount(targets).tolist()
    assert found.micro is not None
    assert found.answered is not None
    one_hot = np.eye(5)[targets]
    area = np.trapezoid(found.micro.roc.y, found.micro.roc.x)
    assert area == pytest.approx(sk.roc_auc_score(one_hot, scores, average="micro"), abs=1e-3)
    assert found.micro.reliability.count.sum() == 500
    assert found.micro.support == 500
    confidence, right = scores.max(1), scores.argmax(1) == targets
    answered = found.answered
    assert (answered.answered[0], answered.accuracy[0]) == (1, right.mean())
    for place in range(0, len(answered.threshold), 20):
        kept = confidence >= answered.threshold[place]
        assert answered.answered[place] == kept.mean()
        assert answered.accuracy[place] == pytest.approx(right[kept].mean())


def test_curves_of_several_labels() -> None:
    rng = np.random.default_rng(6)
    truth = rng.random((300, 3)) < [0.5, 0.1, 0.0]
    scores = 0.5 * rng.random((300, 3)) + 0.4 * truth
    found = all_curves(scores, truth, ["a", "b", "never"])
    assert [one.name for one in found.classes] == ["a", "b"]
    assert found.answered is None
    assert found.micro is not None
    assert found.micro.reliability.count.sum() == 900
    assert all_curves(scores, np.zeros_like(truth), ["a", "b", "never"]).micro is None


def test_many_classes_get_fewer_points_each() -> None:
    rng = np.random.default_rng(7)
    targets = np.arange(1200) % 300
    found = all_curves(rng.random((1200, 300)), targets, [str(index) for index in range(300)])
    assert len(found.classes) == 300
    assert max(len(one.roc.x) for one in found.classes) <= 40
    assert max(len(one.thresholds.f1) for one in found.classes) <= 40


def test_the_curves_of_very_many_scores_take_some_of_the_clips(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rng = np.random.default_rng(8)
    truth = rng.random((90, 2)) < 0.5
    scores = rng.random((90, 2))
    monkeypatch.setattr("audioflow.metrics.curves._MICRO_CELLS", 60)
    found = all_curves(scores, truth, ["a", "b"])
    assert found.micro is not None
    assert found.micro.support == truth[::3].sum()
    assert found.classes[0].support == truth[:, 0].sum()


def test_a_perfect_class_has_the_two_corners() -> None:
    positive = np.array([True, True, False, False])
    found = class_curves("a", positive, np.array([0.9, 0.8, 0.2, 0.1]))
    assert (found.roc.x.tolist(), found.roc.y.tolist()) == ([0, 0, 1], [0, 1, 1])
    assert (found.pr.x.tolist(), found.pr.y.tolist()) == ([0.5, 1], [1, 1])
