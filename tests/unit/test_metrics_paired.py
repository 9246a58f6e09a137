"""Tests of the difference of two systems, against scipy and against resampling by hand."""

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as sk

from audioflow.bootstrap import Clusters
from audioflow.metrics import mcnemar, paired_differences, paired_gain

EXACT = {"rel": 0, "abs": 1e-9}


def make_case(seed: int, num_clips: int = 200, num_classes: int = 5):
    rng = np.random.default_rng(seed)
    targets = rng.integers(num_classes, size=num_clips)
    a = rng.random((num_clips, num_classes))
    b = a.copy()
    a[np.arange(num_clips), targets] += 0.2
    b[np.arange(num_clips), targets] += 0.5
    groups = np.array([f"g{index % 25}" for index in range(num_clips)])
    return a / 1.5, b / 1.5, targets, groups


def right(only_a: int, only_b: int, both: int = 7) -> tuple[np.ndarray, np.ndarray]:
    a = np.repeat([True, False, True], [only_a, only_b, both])
    return a, np.repeat([False, True, True], [only_a, only_b, both])


@pytest.mark.parametrize(("only_a", "only_b"), [(0, 0), (1, 0), (3, 9), (10, 10), (400, 330)])
def test_mcnemar_is_the_binomial_test_of_the_pairs_that_differ(only_a: int, only_b: int) -> None:
    found = mcnemar(*right(only_a, only_b))
    expected = stats.binomtest(only_a, only_a + only_b).pvalue if only_a + only_b else 1.0
    assert (found.only_a, found.only_b, found.exact) == (only_a, only_b, True)
    assert found.p_value == pytest.approx(expected, rel=1e-9)


def test_mcnemar_of_many_pairs_is_chi_square_with_continuity_correction() -> None:
    found = mcnemar(*right(2000, 2150))
    expected = stats.chi2.sf((150 - 1) ** 2 / 4150, 1)
    assert not found.exact
    assert found.p_value == pytest.approx(expected, rel=1e-9)
    assert found.p_value == pytest.approx(stats.binomtest(2000, 4150).pvalue, rel=0.01)
    assert mcnemar(*right(600, 600)).p_value == 1


def test_mcnemar_refuses_other_shapes() -> None:
    with pytest.raises(ValueError, match=r"shapes \(2,\) and \(3,\)"):
        mcnemar([True, False], [True, False, True])


def test_differences_are_those_of_resampling_by_hand() -> None:
    a, b, targets, groups = make_case(0)
    found = paired_differences(a, b, targets, groups, num_bootstrap=15, seed=4)
    assert list(found) == ["accuracy", "balanced_accuracy", "top_2", "macro_f1", "roc_auc", "map"]
    one_hot = np.eye(5)[targets]

    def both(function):
        draws = np.concatenate(list(Clusters.of(groups, 200).weights(15, seed=4)))
        rows = [np.repeat(np.arange(200), draw) for draw in draws]
        value = function(b, np.arange(200)) - function(a, np.arange(200))
        return value, *np.percentile([function(b, r) - function(a, r) for r in rows], [2.5, 97.5])

    expected = {
        "accuracy": both(lambda s, r: sk.accuracy_score(targets[r], s[r].argmax(1))),
        "macro_f1": both(lambda s, r: sk.f1_score(targets[r], s[r].argmax(1), average="macro")),
        "roc_auc": both(lambda s, r: sk.roc_auc_score(one_hot[r], s[r])),
        "map": both(lambda s, r: sk.average_precision_score(one_hot[r], s[r])),
    }
    for key, numbers in expected.items():
        got = found[key]
        assert (got.value, got.low, got.high) == pytest.approx(numbers, **EXACT), key
    gain = paired_gain(a, b, targets, groups, num_bootstrap=15, seed=4)
    assert vars(found["accuracy"]) == pytest.approx(vars(gain), **EXACT)


def test_chosen_metrics_are_those_of_all() -> None:
    a, b, targets, groups = make_case(1)
    every = paired_differences(a, b, targets, groups, num_bootstrap=10)
    some = paired_differences(a, b, targets, groups, metrics=["macro_f1"], num_bootstrap=10)
    assert some == {"macro_f1": every["macro_f1"]}
    loss = paired_differences(a, b, targets, groups, metrics=["log_loss"], num_bootstrap=10)
    assert loss["log_loss"].high < 0


def test_several_labels_are_compared_too() -> None:
    rng = np.random.default_rng(2)
    truth = rng.random((120, 4)) < 0.3
    a = rng.random((120, 4))
    b = 0.7 * a + 0.3 * truth
    found = paired_differences(a, b, truth, num_bootstrap=30)
    assert list(found) == ["map", "lwlrap", "roc_auc", "macro_f1", "micro_f1", "exact_match"]
    expected = [
        sk.average_precision_score(truth, s) - sk.average_precision_score(truth, a) for s in (b, a)
    ]
    assert found["map"].value == pytest.approx(expected[0], **EXACT)
    assert found["map"].low > 0
    same = paired_differences(a, a, truth, metrics=["map"], num_bootstrap=5)["map"]
    assert (same.value, same.low, same.high) == (0, 0, 0)


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: paired_differences(np.eye(2), np.eye(3), [0, 1]), r"\(2, 2\) and \(3, 3\)"),
        (
            lambda: paired_differences(np.eye(2), np.eye(2), [0, 1], metrics=["acuracy"]),
            "no metric 'acuracy' to compare by; there are accuracy, ",
        ),
        (lambda: paired_gain(np.eye(2), np.eye(2), np.eye(2)), "several labels have no accuracy"),
    ],
)
def test_bad_input_is_named(call, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        call()
