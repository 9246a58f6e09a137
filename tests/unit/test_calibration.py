"""Calibrators: against scikit-learn, on scores whose truth is known, and on what goes wrong."""

import json
import time

import numpy as np
import pytest
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from audioflow import calibration
from audioflow.calibration.base import log_odds, softmax
from audioflow.calibration.isotonic import fit_curve
from audioflow.calibration.logistic import fit_logistic
from audioflow.calibration.platt import Platt
from audioflow.calibration.temperature import Temperature
from audioflow.calibration.vector import Vector

N, C = 6000, 4


def drawn(scores_NC: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Classes that are as frequent as the scores say."""
    return (
        (generator.random((len(scores_NC), 1)) > scores_NC.cumsum(axis=1))
        .sum(axis=1)
        .clip(max=scores_NC.shape[1] - 1)
    )


def single(count: int = N, classes: int = C, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits, and classes drawn by their softmax."""
    generator = np.random.default_rng(seed)
    logits = 1.5 * generator.normal(size=(count, classes))
    return logits, drawn(softmax(logits), generator)


def several(count: int = N, classes: int = C, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits, and labels drawn by their sigmoid."""
    generator = np.random.default_rng(seed)
    logits = 1.5 * generator.normal(size=(count, classes))
    return logits, generator.random(logits.shape) < 1 / (1 + np.exp(-logits))


def as_scores(logits: np.ndarray, *, multi_label: bool = False) -> np.ndarray:
    found = 1 / (1 + np.exp(-logits)) if multi_label else softmax(logits)
    return found.astype(np.float32)


@pytest.mark.parametrize("scale", [0.5, 1.0, 3.0, 10.0])
def test_the_temperature_of_scaled_logits_is_the_scale(scale: float) -> None:
    logits, targets = single()
    found = calibration.fit("temperature", as_scores(scale * logits), targets)
    assert isinstance(found, Temperature)
    assert found.temperature == pytest.approx(scale, rel=0.06)
    np.testing.assert_allclose(found.apply(as_scores(scale * logits)), as_scores(logits), atol=0.02)


def test_the_temperature_of_several_labels_is_the_scale() -> None:
    logits, targets = several()
    scores = as_scores(3 * logits, multi_label=True)
    found = calibration.fit("temperature", scores, targets, multi_label=True)
    assert isinstance(found, Temperature)
    assert found.temperature == pytest.approx(3, rel=0.06)


def test_vector_scaling_finds_weights_and_biases() -> None:
    logits, targets = single(count=40_000)
    weights, biases = np.array([0.5, 1.0, 2.0, 1.5]), np.array([0.0, 1.0, -1.0, 0.5])
    # What undoes this acts on log scores, which are logits but for a shift of the row: the weights
    # can be found where that shift is known to be zero, as it is in logits normalised beforehand.
    values = np.log(softmax(logits))
    skewed = as_scores((values - biases) / weights)
    found = calibration.fit("vector", skewed, targets)
    before, after = (calibration.judge(one, targets) for one in (skewed, found.apply(skewed)))
    best = calibration.judge(as_scores(logits), targets)
    assert before["nll"] > best["nll"] + 0.3
    assert after["nll"] == pytest.approx(best["nll"], abs=0.02)
    only_biases = as_scores(values - biases)
    found = calibration.fit("vector", only_biases, targets)
    assert isinstance(found, Vector)
    np.testing.assert_allclose(found.lines[0], 1, atol=0.06)
    np.testing.assert_allclose(found.lines[1] - found.lines[1][0], biases, atol=0.12)


def test_vector_scaling_is_the_minimum_of_its_loss() -> None:
    logits, targets = single(count=500)
    scores = as_scores(2 * logits + [0, 1, 0, -1])
    found = calibration.fit("vector", scores, targets)
    assert isinstance(found, Vector)
    least = calibration.judge(found.apply(scores), targets)["nll"]
    for place in range(2 * C):
        for change in (-0.2, 0.2):
            lines = found.lines.copy()
            lines[divmod(place, C)] += change
            other = Vector(lines, found.least)
            assert calibration.judge(other.apply(scores), targets)["nll"] > least - 1e-4


def test_logistic_curves_are_those_of_scikit_learn() -> None:
    logits, targets = several(count=800)
    values = 2 * logits + [0, 1, 2, -3]
    found = fit_logistic(values, targets, ridge=1e-9)
    for place in range(C):
        known = LogisticRegression(C=1e9, tol=1e-9).fit(values[:, [place]], targets[:, place])
        np.testing.assert_allclose(found[0, place], known.coef_[0, 0], rtol=1e-3)
        np.testing.assert_allclose(found[1, place], known.intercept_[0], rtol=1e-3, atol=1e-3)


def test_logistic_curves_converge_from_far_and_where_classes_are_parted() -> None:
    values = np.array([-3.0, -2, -1, 1, 2, 3])[:, None]
    parted = values > 0
    found = fit_logistic(values, parted, start=(1.0, 0.0))
    assert 1 < found[0, 0] < 5
    assert found[1, 0] == pytest.approx(0, abs=1e-3)
    far = fit_logistic(50 * values, ~parted, start=(1.0, 0.0), ridge=1e-3)
    assert np.isfinite(far).all()
    assert far[0, 0] < 0


def test_platt_scaling_of_single_labels_is_one_against_the_rest() -> None:
    logits, targets = single()
    scores = as_scores(2.5 * logits)
    odds = log_odds(scores, 1e-30, multi_label=False)
    chances = np.stack(
        [
            LogisticRegression(C=1e9)
            .fit(odds[:, [k]], targets == k)
            .predict_proba(odds[:, [k]])[:, 1]
            for k in range(C)
        ],
        axis=1,
    )
    wanted = chances / chances.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(
        calibration.fit("platt", scores, targets).apply(scores), wanted, atol=3e-3
    )


def test_the_isotonic_curve_is_that_of_scikit_learn_with_a_made_up_clip_at_each_end() -> None:
    generator = np.random.default_rng(3)
    scores = generator.integers(0, 60, 500) / 60  # many ties
    positive = generator.random(500) < scores**2
    x, y = fit_curve(scores, positive)
    ends = [scores.min(), scores.max()]
    share = positive.mean()
    known = IsotonicRegression(out_of_bounds="clip").fit(
        np.append(scores, ends), np.append(positive.astype(float), [share, share])
    )
    grid = np.linspace(0, 1, 500)
    np.testing.assert_allclose(np.interp(grid, x, y), known.predict(grid), atol=1e-12)
    assert (np.diff(y) >= 0).all()
    assert 0 < y.min() < y.max() < 1


def test_isotonic_scores_neither_tie_nor_reach_the_ends() -> None:
    logits, targets = single(count=2000)
    scores = as_scores(3 * logits)
    found = calibration.fit("isotonic", scores, targets).apply(scores)
    assert (found > 0).all()
    assert (found < 1).all()
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-5)
    _, counts = np.unique(found, axis=0, return_counts=True)
    assert counts.max() == 1
    several_logits, labels = several(count=2000)
    raw = as_scores(3 * several_logits, multi_label=True)
    after = calibration.fit("isotonic", raw, labels, multi_label=True).apply(raw)
    for place in range(C):
        order = np.argsort(raw[:, place], kind="stable")
        assert (np.diff(after[order, place]) >= 0).all()


@pytest.mark.parametrize("method", ["temperature", "vector", "platt", "isotonic"])
@pytest.mark.parametrize("multi_label", [False, True])
def test_scores_that_are_too_sure_get_better_on_other_clips(method: str, multi_label: bool) -> None:
    logits, targets = several(seed=1) if multi_label else single(seed=1)
    raw = as_scores(3 * logits, multi_label=multi_label)
    half = N // 2
    fitted = calibration.fit(method, raw[:half], targets[:half], multi_label)
    found = fitted.apply(raw[half:])
    assert found.dtype == np.float32
    before = calibration.judge(raw[half:], targets[half:], multi_label)
    after = calibration.judge(found, targets[half:], multi_label)
    assert after["ece"] < before["ece"] / 3
    assert after["nll"] < before["nll"]
    assert after["brier"] < before["brier"]
    if not multi_label:
        np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("method", calibration.METHODS)
@pytest.mark.parametrize("multi_label", [False, True])
def test_a_calibrator_comes_back_from_json(method: str, multi_label: bool) -> None:
    logits, targets = several(count=300) if multi_label else single(count=300)
    raw = as_scores(2 * logits, multi_label=multi_label)
    fitted = calibration.fit(method, raw, targets, multi_label)
    again = calibration.from_json(json.loads(json.dumps(fitted.to_json(), allow_nan=False)))
    np.testing.assert_allclose(again.apply(raw), fitted.apply(raw), atol=1e-4)
    assert (again.few, again.instead) == (fitted.few, fitted.instead)


@pytest.mark.parametrize("method", calibration.METHODS)
def test_a_class_without_a_clip_is_told_and_keeps_usable_scores(method: str) -> None:
    logits, targets = single(count=400)
    raw = as_scores(2 * logits)
    there = targets != 2
    fitted = calibration.fit(method, raw[there], targets[there])
    found = fitted.apply(raw)
    assert fitted.few == (() if method in ("temperature", "none") else (2,))
    assert np.isfinite(found).all()
    assert (found[:, 2] > 0).all()
    if fitted.few:
        assert "all classes together" in fitted.instead


@pytest.mark.parametrize("method", ["temperature", "vector", "platt", "isotonic"])
def test_clips_that_are_all_right_give_no_certainty(method: str) -> None:
    targets = np.arange(60) % 3
    raw = np.full((60, 3), 0.1, np.float32)
    raw[np.arange(60), targets] = 0.8
    found = calibration.fit(method, raw, targets).apply(raw)
    assert (found.argmax(axis=1) == targets).all()
    assert 0.8 < found.max() < 1


@pytest.mark.parametrize("method", calibration.METHODS)
@pytest.mark.parametrize("right", [True, False])
def test_one_clip_says_little(method: str, right: bool) -> None:
    raw = np.array([[0.7, 0.2, 0.1]], np.float32)
    found = calibration.fit(method, raw, np.array([0 if right else 2])).apply(raw)
    assert np.isfinite(found).all()
    assert found.sum() == pytest.approx(1, abs=1e-5)
    if right:
        assert found.argmax() == 0


@pytest.mark.parametrize("method", calibration.METHODS)
def test_scores_of_0_and_1_and_rows_that_tie_are_survived(method: str) -> None:
    generator = np.random.default_rng(0)
    raw = np.eye(3, dtype=np.float32)[generator.integers(3, size=90)]
    raw[::5] = 1 / 3
    targets = generator.integers(3, size=90)
    found = calibration.fit(method, raw, targets).apply(raw)
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-5)


def test_the_rest_of_a_score_that_rounds_to_1_is_known() -> None:
    raw = softmax(np.array([[40.0, 0.0, 0.0]])).astype(np.float32)
    odds = log_odds(raw, 1e-38, multi_label=False)
    assert odds[0, 0] == pytest.approx(40 - np.log(2), abs=1e-3)
    assert odds[0, 1] == pytest.approx(-40, abs=1e-3)


@pytest.mark.parametrize(
    ("scores", "targets", "multi_label", "message"),
    [
        (np.zeros((0, 3)), np.zeros(0, int), False, "no clip to calibrate on"),
        (np.ones(3), np.zeros(3, int), False, r"shape \(3,\), expected \(N, C\)"),
        (np.full((2, 3), 1 / 3), np.array([0, 3]), False, "target 3 of clip 1 is not a class"),
        (np.full((2, 3), 1 / 3), np.zeros(3, int), False, r"shape \(3,\), expected \(2,\)"),
        (np.full((2, 3), 1 / 3), np.zeros(2, int), True, r"shape \(2,\), expected \(2, 3\)"),
        (
            np.array([[0.5, 0.5], [2.0, 0.0]]),
            np.zeros(2, int),
            False,
            "score 2.0 of clip 1, class 0",
        ),
        (np.array([[0.5, np.nan]]), np.zeros(1, int), False, "score nan of clip 0, class 1"),
    ],
)
def test_what_cannot_be_fitted_is_refused(scores, targets, multi_label, message) -> None:
    with pytest.raises(ValueError, match=message):
        calibration.fit("platt", scores, targets, multi_label)


def test_other_widths_methods_and_values_are_refused() -> None:
    fitted = calibration.fit("temperature", np.full((4, 2), 0.5), np.array([0, 1, 0, 1]))
    with pytest.raises(ValueError, match=r"shape \(4, 3\), expected \(N, 2\)"):
        fitted.apply(np.full((4, 3), 1 / 3))
    with pytest.raises(ValueError, match="'beta' is not one of temperature, vector"):
        calibration.fit("beta", np.full((4, 2), 0.5), np.array([0, 1, 0, 1]))
    with pytest.raises(ValueError, match="no values of a calibrator"):
        calibration.from_json({"method": "platt", "slopes": [1.0]})


def test_blocks_hold_whole_groups_of_even_size_in_any_order() -> None:
    groups = [f"site{number % 13}" for number in range(130)] + ["large"] * 40
    found = calibration.blocks(groups)
    assert {len(set(found[np.array(groups) == name])) for name in set(groups)} == {1}
    assert np.ptp(np.bincount(found)) <= 10
    order = np.random.default_rng(0).permutation(len(groups))
    shuffled = calibration.blocks([groups[place] for place in order])
    np.testing.assert_array_equal(shuffled, found[order])
    assert set(calibration.blocks(["one"] * 4).tolist()) == {0}


def test_cross_fitting_does_not_learn_a_clip_by_heart() -> None:
    """Labels that have nothing to do with scores: whoever sees a clip's own label looks better."""
    generator = np.random.default_rng(0)
    raw = as_scores(generator.normal(size=(400, 2)))
    targets = generator.integers(2, size=400)
    itself = calibration.judge(calibration.fit("isotonic", raw, targets).apply(raw), targets)
    crossed = calibration.cross_fitted(
        "isotonic", raw, targets, calibration.blocks([str(clip) for clip in range(400)])
    )
    assert itself["nll"] < np.log(2) - 0.005
    assert calibration.judge(crossed, targets)["nll"] > np.log(2) - 0.002


def test_the_label_of_a_clip_has_no_part_in_its_own_score() -> None:
    logits, targets = single(count=200)
    raw, places = as_scores(2 * logits), calibration.blocks([str(k) for k in range(200)])
    for method in calibration.METHODS:
        before = calibration.cross_fitted(method, raw, targets, places)
        mine = places == 1
        others = targets.copy()
        others[mine] = (others[mine] + 1) % C
        after = calibration.cross_fitted(method, raw, others, places)
        np.testing.assert_array_equal(before[mine], after[mine])
    with pytest.raises(ValueError, match="clips of 1 block"):
        calibration.cross_fitted("platt", raw, targets, np.zeros(200, np.intp))


def test_many_classes_and_clips_take_seconds() -> None:
    generator = np.random.default_rng(0)
    logits = generator.normal(size=(6000, 600)).astype(np.float32)
    targets = generator.integers(600, size=6000)
    logits[np.arange(6000), targets] += 4
    raw = softmax(2 * logits)
    for method in ("temperature", "vector", "platt", "isotonic"):
        started = time.process_time()
        fitted = calibration.fit(method, raw, targets)
        assert time.process_time() - started < 10
        part = raw[:3000]
        after = calibration.judge(fitted.apply(part), targets[:3000])
        assert after["nll"] < calibration.judge(part, targets[:3000])["nll"]


def test_platt_of_several_labels_is_what_vector_gives() -> None:
    logits, targets = several(count=300)
    raw = as_scores(2 * logits, multi_label=True)
    assert isinstance(calibration.fit("vector", raw, targets, multi_label=True), Platt)
