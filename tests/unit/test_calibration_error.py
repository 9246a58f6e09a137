"""Calibration errors, Brier score and log loss against scikit-learn, torchmetrics and by hand."""

import numpy as np
import pytest
import torch
import torchmetrics.functional.classification as tm
from sklearn import metrics as sk
from sklearn.calibration import calibration_curve

from audioflow.metrics.calibration_error import (
    adaptive_calibration_error,
    brier,
    brier_per_clip,
    confidence_and_right,
    expected_calibration_error,
    log_loss_per_clip,
    negative_log_likelihood,
    reliability,
)


def one_label(seed: int, num_clips: int = 400, num_classes: int = 5):
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(num_clips, num_classes))
    targets = rng.integers(num_classes, size=num_clips)
    logits[np.arange(num_clips), targets] += 1.5
    scores = np.exp(2 * logits)
    return scores / scores.sum(1, keepdims=True), targets


def several_labels(seed: int, num_clips: int = 300, num_classes: int = 4):
    rng = np.random.default_rng(seed)
    scores = rng.random((num_clips, num_classes))
    return scores, rng.random((num_clips, num_classes)) < scores**2


@pytest.mark.parametrize("bins", [5, 15])
def test_ece_is_that_of_torchmetrics(bins: int) -> None:
    scores, targets = one_label(0)
    expected = tm.multiclass_calibration_error(
        torch.tensor(scores), torch.tensor(targets), num_classes=5, n_bins=bins
    )
    found = expected_calibration_error(*confidence_and_right(scores, targets), bins)
    assert found == pytest.approx(float(expected), abs=1e-6)
    scores, truth = several_labels(1)
    expected = tm.binary_calibration_error(
        torch.tensor(scores.ravel()), torch.tensor(truth.ravel().astype(int)), n_bins=bins
    )
    found = expected_calibration_error(*confidence_and_right(scores, truth), bins)
    assert found == pytest.approx(float(expected), abs=1e-6)


@pytest.mark.parametrize("equal_mass", [False, True])
def test_reliability_is_the_calibration_curve_of_scikit_learn(equal_mass: bool) -> None:
    scores, truth = several_labels(2)
    found = reliability(scores[:, 0], truth[:, 0], 10, equal_mass=equal_mass)
    strategy = "quantile" if equal_mass else "uniform"
    right, confidence = calibration_curve(truth[:, 0], scores[:, 0], n_bins=10, strategy=strategy)
    assert found.right == pytest.approx(right)
    assert found.confidence == pytest.approx(confidence)
    assert found.count.sum() == len(scores)
    assert found.error == pytest.approx(
        np.average(np.abs(right - confidence), weights=found.count), abs=1e-12
    )


def test_bins_of_equal_mass_see_what_one_wide_bin_hides() -> None:
    """Scores all in one bin of equal width, too low and too high in equal measure."""
    confidence = np.repeat([0.91, 0.92, 0.98, 0.99], 100)
    right = np.arange(400) % 10 < np.repeat([10, 10, 9, 9], 100)
    assert expected_calibration_error(confidence, right, 10) == pytest.approx(0.0, abs=1e-9)
    assert adaptive_calibration_error(confidence, right, 4) == pytest.approx(0.085)


def test_clips_of_the_same_confidence_are_never_parted() -> None:
    order = np.random.default_rng(0).permutation(90)
    confidence = np.repeat([0.2, 0.5, 0.8], 30)
    right = np.tile([1, 0, 0], 30)
    found = reliability(confidence[order], right[order], 7, equal_mass=True)
    assert found.confidence == pytest.approx([0.2, 0.5, 0.8])
    assert found.count.tolist() == [30, 30, 30]


def test_edges_belong_to_the_lower_bin_and_both_ends_to_one() -> None:
    found = reliability([0.0, 0.5, 1.0, 0.75], [0, 1, 1, 0], 2)
    assert found.count.tolist() == [2, 2]
    assert (found.low.tolist(), found.high.tolist()) == ([0, 0.5], [0.5, 1])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_brier_and_log_loss_are_those_of_scikit_learn(dtype: type) -> None:
    scores, targets = one_label(3)
    scores = scores.astype(dtype)
    found = brier(scores, targets), negative_log_likelihood(scores, targets)
    expected = np.mean(((scores - np.eye(5)[targets]) ** 2).sum(1)), sk.log_loss(targets, scores)
    assert found == pytest.approx(expected, rel=1e-5)
    assert np.mean(brier_per_clip(scores, targets)) == pytest.approx(found[0])
    assert np.mean(log_loss_per_clip(scores, targets)) == pytest.approx(found[1])
    scores, truth = several_labels(4)
    scores = scores.astype(dtype)
    columns = range(scores.shape[1])
    losses = [sk.log_loss(truth[:, c], scores[:, c], labels=[False, True]) for c in columns]
    errors = [sk.brier_score_loss(truth[:, c], scores[:, c]) for c in columns]
    assert negative_log_likelihood(scores, truth) == pytest.approx(np.mean(losses), rel=1e-5)
    assert brier(scores, truth) == pytest.approx(np.mean(errors), rel=1e-5)


def test_a_certain_mistake_has_a_finite_loss() -> None:
    assert negative_log_likelihood([[1.0, 0.0]], [1]) == pytest.approx(36.04, abs=0.01)
    assert negative_log_likelihood(np.array([[1.0, 0.0]], np.float32), [[0, 1]]) < 17


def test_many_clips_in_blocks_are_those_in_one_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    scores, truth = several_labels(5)
    whole = brier_per_clip(scores, truth), log_loss_per_clip(scores, truth)
    monkeypatch.setattr("audioflow.metrics.calibration_error._BLOCK_CELLS", 7)
    assert np.array_equal(whole, (brier_per_clip(scores, truth), log_loss_per_clip(scores, truth)))


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: reliability([0.5], [1], 0), "bins is 0"),
        (lambda: reliability([0.5, 1.5], [1, 0]), r"goes from 0.5 to 1.5, expected 0 to 1"),
        (lambda: reliability([np.nan], [1]), "goes from nan to nan"),
        (lambda: reliability([], []), r"shape \(0,\) and right \(0,\)"),
        (lambda: reliability([0.5], [1, 0]), r"shape \(1,\) and right \(2,\)"),
        (lambda: brier([[0.5, 0.5]], [[1, 0, 0]]), r"targets have shape \(1, 3\), scores \(1, 2\)"),
        (lambda: brier([[0.5, 0.5]], [0, 1]), r"targets have shape \(2,\)"),
        (lambda: negative_log_likelihood(np.zeros((0, 2)), []), r"scores have shape \(0, 2\)"),
    ],
)
def test_bad_input_is_named(call, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        call()
