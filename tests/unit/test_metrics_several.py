"""Metrics of clips with several labels or none, against scikit-learn and torchmetrics."""

import numpy as np
import pytest
import torch
import torchmetrics.functional.classification as tm
from sklearn import metrics as sk

from audioflow.metrics import LESS_IS_BETTER, NOT_SHARES, Evaluation, evaluate
from audioflow.metrics.calibration_error import brier, negative_log_likelihood
from audioflow.metrics.several_labels import label_precisions

EXACT = {"rel": 0, "abs": 1e-9}
NAMES = tuple("abcdef")


def make_case(seed: int, num_clips: int = 240, *, ties: bool = False):
    """Clips with 0 to 4 of six labels, of which `a` is common and `f` rare."""
    rng = np.random.default_rng(seed)
    truth = rng.random((num_clips, 6)) < np.array([0.6, 0.4, 0.3, 0.2, 0.1, 0.04])
    scores = np.clip(0.6 * rng.random((num_clips, 6)) + 0.4 * truth * rng.random(), 0, 1)
    return (np.round(scores * 4) / 4 if ties else scores), truth


def values(found: Evaluation) -> dict[str, float]:
    return {key: one.value for key, one in {**found.summary, **found.details}.items()}


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_values_are_those_of_scikit_learn(ties: bool, dtype: type) -> None:
    scores, truth = make_case(1, ties=ties)
    scores = scores.astype(dtype)
    found = evaluate(scores, truth, NAMES, num_bootstrap=0)
    said = scores >= 0.5
    some = truth.any(1)
    rates = {"zero_division": 0}
    expected = {
        "map": sk.average_precision_score(truth, scores, average="macro"),
        "map_micro": sk.average_precision_score(truth, scores, average="micro"),
        "map_weighted": sk.average_precision_score(truth, scores, average="weighted"),
        "roc_auc": sk.roc_auc_score(truth, scores, average="macro"),
        "roc_auc_micro": sk.roc_auc_score(truth, scores, average="micro"),
        "roc_auc_weighted": sk.roc_auc_score(truth, scores, average="weighted"),
        "lwlrap": sk.label_ranking_average_precision_score(
            truth[some], scores[some], sample_weight=truth[some].sum(1)
        ),
        "macro_f1": sk.f1_score(truth, said, average="macro", **rates),
        "micro_f1": sk.f1_score(truth, said, average="micro", **rates),
        "weighted_f1": sk.f1_score(truth, said, average="weighted", **rates),
        "macro_precision": sk.precision_score(truth, said, average="macro", **rates),
        "micro_precision": sk.precision_score(truth, said, average="micro", **rates),
        "weighted_precision": sk.precision_score(truth, said, average="weighted", **rates),
        "macro_recall": sk.recall_score(truth, said, average="macro", **rates),
        "micro_recall": sk.recall_score(truth, said, average="micro", **rates),
        "exact_match": sk.accuracy_score(truth, said),
        "hamming_loss": sk.hamming_loss(truth, said),
        "top_1": np.mean(truth[np.arange(len(truth)), scores.argmax(1)][some]),
        "log_loss": negative_log_likelihood(scores, truth),
        "brier": brier(scores, truth),
    }
    got = values(found)
    assert {key: got[key] for key in expected} == pytest.approx(expected, **EXACT)
    assert set(got) - set(expected) == {"d_prime", "ece", "adaptive_ece"}
    assert found.multi_label
    assert found.confusion is None
    assert found.unlabelled == np.sum(~some)


def test_values_are_those_of_torchmetrics() -> None:
    scores, truth = make_case(2)
    got = values(evaluate(scores, truth, NAMES, num_bootstrap=0))
    arguments = torch.tensor(scores), torch.tensor(truth.astype(int)), 6
    expected = {
        "map": tm.multilabel_average_precision(*arguments, average="macro"),
        "roc_auc": tm.multilabel_auroc(*arguments, average="macro"),
        "macro_f1": tm.multilabel_f1_score(*arguments, average="macro"),
        "exact_match": tm.multilabel_exact_match(*arguments),
        "hamming_loss": tm.multilabel_hamming_distance(*arguments, average="micro"),
    }
    assert {key: got[key] for key in expected} == pytest.approx(
        {key: float(value) for key, value in expected.items()}, abs=1e-6
    )


def test_per_class_results_follow_the_threshold_of_each_class() -> None:
    scores, truth = make_case(3)
    thresholds = np.linspace(0.1, 0.9, 6)
    found = evaluate(scores, truth, NAMES, thresholds=thresholds, num_bootstrap=0)
    expected = sk.precision_recall_fscore_support(truth, scores >= thresholds, zero_division=0)
    for place, result in enumerate(found.per_class):
        got = (result.precision, result.recall, result.f1, result.support)
        assert got == pytest.approx([column[place] for column in expected], **EXACT)
        auc = sk.roc_auc_score(truth[:, place], scores[:, place])
        assert result.roc_auc == pytest.approx(auc, **EXACT)
    one = evaluate(scores, truth, NAMES, thresholds=0.3, num_bootstrap=0)
    assert one.summary["micro_f1"].value == pytest.approx(
        sk.f1_score(truth, scores >= 0.3, average="micro"), **EXACT
    )


@pytest.mark.parametrize("grouped", [False, True])
def test_intervals_are_those_of_resampling_by_hand(grouped: bool) -> None:
    scores, truth = make_case(4, num_clips=70, ties=True)
    groups = np.array([f"g{index % 11:02}" for index in range(70)]) if grouped else np.arange(70)
    found = evaluate(scores, truth, NAMES, groups if grouped else None, num_bootstrap=20, seed=3)
    rng = np.random.default_rng(3)
    members = [np.flatnonzero(groups == group) for group in np.unique(groups)]
    draws: dict[str, list[float]] = {}
    for _ in range(20):
        drawn = rng.integers(len(members), size=len(members))
        clips = np.concatenate([members[group] for group in drawn])
        one = evaluate(scores[clips], truth[clips], NAMES, num_bootstrap=0)
        for key, value in values(one).items():
            draws.setdefault(key, []).append(value)
    alone = {"d_prime", "ece", "adaptive_ece", "map_micro", "roc_auc_micro"}
    for key, estimate in {**found.summary, **found.details}.items():
        if key not in alone:
            low, high = np.nanpercentile(draws[key], [2.5, 97.5])
            assert (estimate.low, estimate.high) == pytest.approx((low, high), **EXACT), key


def test_counts_in_blocks_are_those_in_one_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    scores, truth = make_case(5)
    whole = evaluate(scores, truth, NAMES, num_bootstrap=10)
    monkeypatch.setattr("audioflow.metrics.several_labels._BLOCK_CELLS", 50)
    parts = evaluate(scores, truth, NAMES, num_bootstrap=10)
    for key, estimate in whole.summary.items():
        assert vars(parts.summary[key]) == pytest.approx(vars(estimate), **EXACT)


def test_lwlrap_by_hand() -> None:
    """Two labels on ranks 1 and 3 of one clip, one on rank 2 of another, none of a third."""
    scores = np.array([[0.9, 0.5, 0.4], [0.8, 0.7, 0.1], [0.3, 0.2, 0.1]])
    truth = np.array([[1, 0, 1], [0, 1, 0], [0, 0, 0]], bool)
    assert label_precisions(scores, truth) == pytest.approx([1 + 2 / 3, 1 / 2, 0])
    found = evaluate(scores, truth, ["a", "b", "c"], num_bootstrap=0)
    assert found.summary["lwlrap"].value == pytest.approx((1 + 2 / 3 + 1 / 2) / 3)
    assert found.unlabelled == 1


def test_what_is_undefined_is_said() -> None:
    scores = np.array([[0.9, 0.2, 0.1], [0.8, 0.7, 0.1]])
    found = evaluate(scores, np.array([[1, 0, 0], [1, 1, 0]]), ["a", "b", "c"], num_bootstrap=5)
    assert found.undefined == (
        "class 'a' has every clip, so that none is negative: it is left out of roc_auc and map",
        "class 'c' has no clip: it is left out of macro_f1, roc_auc and map",
        "d_prime is infinite, because roc_auc is 1",
    )
    none = evaluate(scores, np.zeros((2, 3), bool), ["a", "b", "c"], num_bootstrap=5)
    assert none.undefined[0] == "no clip has a label: there is no lwlrap and no top_1"
    assert np.isnan([none.summary["lwlrap"].value, none.summary["map"].value]).all()
    assert none.summary["exact_match"].value == 0


def test_a_perfect_system_is_perfect() -> None:
    _, truth = make_case(6)
    found = evaluate(truth.astype(np.float32), truth, NAMES, num_bootstrap=0)
    assert all(one.value == pytest.approx(1) for one in found.summary.values())
    got = values(found)
    assert [got[key] for key in LESS_IS_BETTER] == pytest.approx([0] * 5, abs=1e-5)
    shares = [value for key, value in got.items() if key not in NOT_SHARES]
    assert 0 <= min(shares) <= max(shares) <= 1


SCORES = np.array([[0.5, 0.5], [0.2, 0.8]])


@pytest.mark.parametrize(
    ("truth", "thresholds", "match"),
    [
        (np.eye(3), None, r"targets have shape \(3, 3\), scores \(2, 2\)"),
        (np.array([[0, 2], [1, 0]]), None, "target 2 of clip 0, class 1 is neither 0 nor 1"),
        (np.eye(2), [0.5, 0.5, 0.5], r"thresholds have shape \(3,\), expected one or \(2,\)"),
        (np.eye(2), [0.5, np.nan], "threshold nan is not 0 or more"),
        ([0, 1], 0.5, "thresholds are given, but each clip has one label"),
    ],
)
def test_bad_input_is_named(truth, thresholds, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        evaluate(SCORES, truth, ["a", "b"], thresholds=thresholds)
