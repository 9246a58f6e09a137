"""Metrics against scikit-learn, and bootstrap intervals against resampling by hand."""

import numpy as np
import pytest
from scipy.stats import norm
from sklearn import metrics as sk

from audioflow.bootstrap import MIN_DRAWS, Clusters, planned_draws
from audioflow.metrics import Evaluation, d_prime, evaluate, paired_gain
from audioflow.metrics.one_label import in_top
from audioflow.ranking import ranking

EXACT = {"rel": 0, "abs": 1e-9}


def make_case(seed, num_clips=300, num_classes=7, ties=False, dtype=np.float64):
    """Scores that tell the classes apart a little; with `ties` only five different values occur."""
    rng = np.random.default_rng(seed)
    targets = rng.integers(num_classes, size=num_clips)
    scores = rng.random((num_clips, num_classes))
    scores[np.arange(num_clips), targets] += 0.3 * rng.random(num_clips)
    scores = np.round(scores * 3) / 4 if ties else scores / scores.sum(1, keepdims=True)
    return scores.clip(0, 1).astype(dtype), targets


def names(num_classes):
    return [f"class {index}" for index in range(num_classes)]


def value(evaluation: Evaluation, name: str) -> float:
    return evaluation.summary[name].value


def macro(function, scores, targets):
    """One versus rest, over the classes with a positive and a negative clip."""
    return np.mean(
        [
            function(targets == index, scores[:, index])
            for index in range(scores.shape[1])
            if 0 < np.sum(targets == index) < len(targets)
        ]
    )


@pytest.mark.parametrize("num_classes", [2, 3, 5, 6, 20])
@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_values_are_those_of_scikit_learn(num_classes, ties, dtype):
    scores, targets = make_case(num_classes, num_classes=num_classes, ties=ties, dtype=dtype)
    found = evaluate(scores, targets, names(num_classes), num_bootstrap=0)
    predicted = scores.argmax(1)
    assert value(found, "accuracy") == pytest.approx(sk.accuracy_score(targets, predicted), **EXACT)
    assert value(found, "balanced_accuracy") == pytest.approx(
        sk.balanced_accuracy_score(targets, predicted), **EXACT
    )
    assert value(found, "macro_f1") == pytest.approx(
        sk.f1_score(targets, predicted, average="macro", zero_division=0), **EXACT
    )
    assert value(found, "roc_auc") == pytest.approx(
        macro(sk.roc_auc_score, scores, targets), **EXACT
    )
    assert value(found, "map") == pytest.approx(
        macro(sk.average_precision_score, scores, targets), **EXACT
    )
    if num_classes > 2:
        k = 5 if num_classes > 5 else 2
        top_k = sk.top_k_accuracy_score(targets, scores, k=k, labels=range(num_classes))
        assert value(found, f"top_{k}") == pytest.approx(top_k, **EXACT)
    assert np.array_equal(
        found.confusion, sk.confusion_matrix(targets, predicted, labels=range(num_classes))
    )


@pytest.mark.parametrize("num_classes", [2, 6])
@pytest.mark.parametrize("ties", [False, True])
def test_details_are_those_of_scikit_learn(num_classes, ties):
    scores, targets = make_case(20 + num_classes, num_classes=num_classes, ties=ties)
    shares = np.where(scores.sum(1, keepdims=True) > 0, scores, 1 / num_classes)
    shares = shares / shares.sum(1, keepdims=True)
    found = {
        key: one.value
        for key, one in evaluate(
            shares, targets, names(num_classes), num_bootstrap=0
        ).details.items()
    }
    predicted, one_hot = shares.argmax(1), np.eye(num_classes)[targets]
    rates = {"zero_division": 0}
    expected = {
        "macro_precision": sk.precision_score(targets, predicted, average="macro", **rates),
        "macro_recall": sk.recall_score(targets, predicted, average="macro", **rates),
        "weighted_f1": sk.f1_score(targets, predicted, average="weighted", **rates),
        "weighted_precision": sk.precision_score(targets, predicted, average="weighted", **rates),
        "roc_auc_weighted": sk.roc_auc_score(one_hot, shares, average="weighted"),
        "map_weighted": sk.average_precision_score(one_hot, shares, average="weighted"),
        "log_loss": sk.log_loss(targets, shares),
        "brier": np.mean(((shares - one_hot) ** 2).sum(1)),
    }
    if num_classes > 2:
        expected["roc_auc_ovo"] = sk.roc_auc_score(targets, shares, multi_class="ovo")
    assert {key: found[key] for key in expected} == pytest.approx(expected, **EXACT)
    area = np.mean([sk.roc_auc_score(one_hot[:, c], shares[:, c]) for c in range(num_classes)])
    assert found["d_prime"] == pytest.approx(np.sqrt(2) * norm.ppf(area), **EXACT)


def test_one_versus_one_leaves_out_classes_without_a_clip():
    scores, targets = make_case(21)
    keep = targets != 3
    found = evaluate(scores[keep], targets[keep], names(7), num_bootstrap=0)
    rest = [0, 1, 2, 4, 5, 6]
    pairs = [
        sk.roc_auc_score(targets[both] == a, scores[both, a])
        for a in rest
        for b in rest
        if a != b
        for both in [np.isin(targets, [a, b])]
    ]
    assert found.details["roc_auc_ovo"].value == pytest.approx(np.mean(pairs), **EXACT)


def test_d_prime_has_the_interval_of_roc_auc():
    scores, targets = make_case(22)
    found = evaluate(scores, targets, names(7), num_bootstrap=50)
    area, distance = found.summary["roc_auc"], found.details["d_prime"]
    for bound in ("value", "low", "high"):
        expected = np.sqrt(2) * norm.ppf(getattr(area, bound))
        assert getattr(distance, bound) == pytest.approx(expected, **EXACT)
    assert (d_prime(1.0), d_prime(0.0), d_prime(0.5)) == (np.inf, -np.inf, 0.0)
    assert np.isnan(d_prime(np.nan))


def test_top_classes_in_blocks_are_those_in_one_piece(monkeypatch):
    scores, targets = make_case(23, ties=True)
    whole = in_top(scores, targets, 2)
    monkeypatch.setattr("audioflow.metrics.one_label._BLOCK_CELLS", 30)
    assert np.array_equal(whole, in_top(scores, targets, 2))


def test_per_class_results_are_those_of_scikit_learn():
    scores, targets = make_case(3, ties=True)
    targets[targets == 4] = 2
    found = evaluate(scores, targets, names(7), num_bootstrap=0)
    expected = sk.precision_recall_fscore_support(
        targets, scores.argmax(1), labels=range(7), zero_division=0
    )
    for index, result in enumerate(found.per_class):
        assert result.name == f"class {index}"
        assert result.support == expected[3][index]
        got = (result.precision, result.recall, result.f1)
        assert got == pytest.approx([column[index] for column in expected[:3]], **EXACT)
        if index != 4:
            auc = sk.roc_auc_score(targets == index, scores[:, index])
            assert result.roc_auc == pytest.approx(auc, **EXACT)
    assert np.isnan(found.per_class[4].roc_auc)
    assert np.isnan(found.per_class[4].average_precision)


@pytest.mark.parametrize("ties", [False, True])
def test_weighted_rankings_are_those_of_scikit_learn(ties):
    scores, targets = make_case(5, ties=ties)
    weights = np.random.default_rng(0).poisson(1, size=(20, len(targets))).astype(np.uint32)
    auc, precision = ranking(targets == 2, scores[:, 2], weights)
    for row, counts in enumerate(weights):
        arguments = (targets == 2, scores[:, 2])
        expected = sk.roc_auc_score(*arguments, sample_weight=counts)
        assert auc[row] == pytest.approx(expected, **EXACT)
        expected = sk.average_precision_score(*arguments, sample_weight=counts)
        assert precision[row] == pytest.approx(expected, **EXACT)


def test_rankings_in_chunks_are_those_in_one_piece(monkeypatch):
    scores, targets = make_case(6)
    weights = np.random.default_rng(0).poisson(1, size=(20, len(targets))).astype(np.uint32)
    whole = ranking(targets == 1, scores[:, 1], weights)
    monkeypatch.setattr("audioflow.ranking._CHUNK_CELLS", 500)
    assert np.array_equal(whole, ranking(targets == 1, scores[:, 1], weights))


def test_a_row_without_weight_on_positives_or_negatives_has_no_ranking():
    positive = np.array([True, True, False])
    weights = np.array([[0, 0, 3], [1, 2, 0], [1, 0, 1]], np.uint32)
    auc, precision = ranking(positive, np.array([0.9, 0.1, 0.5]), weights)
    assert np.isnan(auc).tolist() == np.isnan(precision).tolist() == [True, True, False]
    assert auc[2] == precision[2] == 1


@pytest.mark.parametrize("grouped", [False, True])
def test_intervals_are_those_of_resampling_by_hand(grouped):
    scores, targets = make_case(8, num_clips=60, num_classes=4, ties=True)
    groups = np.array([f"g{index % 9}" for index in range(60)]) if grouped else np.arange(60)
    found = evaluate(
        scores, targets, names(4), groups if grouped else None, num_bootstrap=25, seed=3
    )
    assert found.num_groups == (9 if grouped else 60)
    rng = np.random.default_rng(3)
    members = [np.flatnonzero(groups == group) for group in np.unique(groups)]
    draws = {name: [] for name in found.summary}
    for _ in range(25):
        drawn = rng.integers(len(members), size=len(members))
        clips = np.concatenate([members[group] for group in drawn])
        own, predicted = targets[clips], scores[clips].argmax(1)
        draws["accuracy"].append(sk.accuracy_score(own, predicted))
        draws["balanced_accuracy"].append(
            np.mean([np.mean(predicted[own == label] == label) for label in np.unique(own)])
        )
        draws["macro_f1"].append(sk.f1_score(own, predicted, average="macro", zero_division=0))
        draws["top_2"].append(sk.top_k_accuracy_score(own, scores[clips], k=2, labels=range(4)))
        draws["roc_auc"].append(macro(sk.roc_auc_score, scores[clips], own))
        draws["map"].append(macro(sk.average_precision_score, scores[clips], own))
    for name, estimate in found.summary.items():
        low, high = np.percentile(draws[name], [2.5, 97.5])
        assert (estimate.low, estimate.high) == pytest.approx((low, high), **EXACT), name


def test_intervals_do_not_depend_on_chunks(monkeypatch):
    scores, targets = make_case(9)
    whole = evaluate(scores, targets, names(7), num_bootstrap=50)
    monkeypatch.setattr("audioflow.bootstrap.CHUNK_BYTES", 4 * 300 * 7)
    assert evaluate(scores, targets, names(7), num_bootstrap=50).summary == whole.summary


def test_groups_make_the_interval_as_wide_as_their_number_says():
    """Ten copies of each clip, grouped, carry no more evidence than the clips alone."""
    scores, targets = make_case(10, num_clips=100)
    alone = evaluate(scores, targets, names(7), num_bootstrap=300)
    groups = np.repeat([f"g{index:03}" for index in range(100)], 10)
    copies = np.repeat(scores, 10, axis=0), np.repeat(targets, 10)
    grouped = evaluate(*copies, names(7), groups, num_bootstrap=300)
    for name in ("accuracy", "balanced_accuracy", "macro_f1", "roc_auc"):
        assert vars(grouped.summary[name]) == pytest.approx(vars(alone.summary[name]), **EXACT)


@pytest.mark.parametrize("grouped", [False, True])
def test_the_order_of_clips_changes_nothing(grouped):
    scores, targets = make_case(11, ties=True)
    groups = np.array([f"g{index % 40}" for index in range(300)]) if grouped else None
    order = np.random.default_rng(1).permutation(300)
    first = evaluate(scores, targets, names(7), groups, num_bootstrap=30)
    second = evaluate(
        scores[order],
        targets[order],
        names(7),
        groups[order] if grouped else None,
        num_bootstrap=30,
    )
    assert np.array_equal(first.confusion, second.confusion)
    assert first.per_class == second.per_class
    for name, estimate in first.summary.items():
        assert estimate.value == pytest.approx(second.summary[name].value, **EXACT)
        if grouped:
            assert vars(estimate) == pytest.approx(vars(second.summary[name]), **EXACT)


def test_summary_keys_stand_in_order():
    for num_classes, top in ((2, []), (3, ["top_2"]), (5, ["top_2"]), (6, ["top_5"])):
        scores, targets = make_case(0, num_classes=num_classes)
        found = evaluate(scores, targets, names(num_classes), num_bootstrap=2)
        expected = ["accuracy", "balanced_accuracy", *top, "macro_f1", "roc_auc", "map"]
        assert list(found.summary) == expected


def test_classes_without_positive_or_negative_clip_are_named():
    scores = np.array([[0.9, 0.1, 0.0], [0.2, 0.8, 0.0], [0.95, 0.05, 0.0]])
    found = evaluate(scores, [0, 1, 1], ["cat", "dog", "owl"], num_bootstrap=10)
    assert found.undefined == (
        "class 'owl' has no clip: it is left out of balanced_accuracy, macro_f1, roc_auc and map",
    )
    assert value(found, "roc_auc") == pytest.approx(0.5)
    alone = evaluate(scores, [1, 1, 1], ["cat", "dog", "owl"], num_bootstrap=10)
    assert "class 'dog' has every clip, so that none is negative" in alone.undefined[1]
    assert np.isnan(list(vars(alone.summary["map"]).values())).all()
    assert value(alone, "accuracy") == pytest.approx(1 / 3)


def test_a_single_group_and_no_draws_give_no_interval():
    scores, targets = make_case(12)
    for groups, num_bootstrap in ((["one"] * 300, 50), (None, 0)):
        found = evaluate(scores, targets, names(7), groups, num_bootstrap=num_bootstrap)
        for estimate in found.summary.values():
            assert estimate.value > 0
            assert np.isnan([estimate.low, estimate.high]).all()


def test_paired_gain_is_the_difference_resampled_together():
    scores_a, targets = make_case(13, num_clips=200)
    scores_b = scores_a.copy()
    scores_b[:50] = np.eye(7)[targets[:50]]
    groups = np.array([f"g{index % 20}" for index in range(200)])
    gain = paired_gain(scores_a, scores_b, targets, groups, num_bootstrap=40, seed=5)
    hit_a, hit_b = scores_a.argmax(1) == targets, scores_b.argmax(1) == targets
    assert gain.value == pytest.approx(hit_b.mean() - hit_a.mean(), **EXACT)
    draws = np.concatenate(list(Clusters.of(groups, 200).weights(40, seed=5)))
    expected = [np.average(hit_b, weights=w) - np.average(hit_a, weights=w) for w in draws]
    assert [gain.low, gain.high] == pytest.approx(np.percentile(expected, [2.5, 97.5]), **EXACT)
    same = paired_gain(scores_a, scores_a, targets, groups)
    assert (same.value, same.low, same.high) == (0, 0, 0)


def test_large_inputs_get_fewer_draws_but_never_too_few():
    assert vars(planned_draws(10_000, 50, 1000)) == {"counts": 1000, "ranking": 1000}
    assert vars(planned_draws(20_000, 500, 1000)) == {"counts": 1000, "ranking": 200}
    assert vars(planned_draws(10**9, 500, 1000)) == {"counts": MIN_DRAWS, "ranking": MIN_DRAWS}
    assert vars(planned_draws(10**9, 500, 20)) == {"counts": 20, "ranking": 20}


def test_ranking_metrics_use_the_first_of_the_draws(monkeypatch):
    scores, targets = make_case(14)
    many = evaluate(scores, targets, names(7), num_bootstrap=150).summary
    few = evaluate(scores, targets, names(7), num_bootstrap=MIN_DRAWS).summary
    monkeypatch.setattr("audioflow.bootstrap.MAX_RANKING_OPERATIONS", 1)
    monkeypatch.setattr("audioflow.bootstrap.CHUNK_BYTES", 4 * 300 * 70)
    mixed = evaluate(scores, targets, names(7), num_bootstrap=150).summary
    assert mixed["accuracy"] == many["accuracy"] != few["accuracy"]
    assert mixed["roc_auc"] == few["roc_auc"] != many["roc_auc"]


SCORES = np.array([[0.5, 0.5], [0.2, 0.8]])


@pytest.mark.parametrize(
    ("scores", "targets", "classes", "match"),
    [
        (SCORES, [0, 1], ["a", "b", "c"], r"scores have shape \(2, 2\), expected \(N, 3\)"),
        (SCORES[0], [0, 1], ["a", "b"], r"scores have shape \(2,\)"),
        (SCORES[:0], [], ["a", "b"], r"scores have shape \(0, 2\): there is nothing"),
        (SCORES, [0, 1, 1], ["a", "b"], r"targets have shape \(3,\), expected \(2,\)"),
        (SCORES, [0.0, 1.0], ["a", "b"], "targets are float64"),
        (SCORES, [0, 2], ["a", "b"], "target 2 of clip 1 is not a class index: 0 to 1"),
        (SCORES, [-1, 0], ["a", "b"], "target -1 of clip 0"),
        (SCORES * [1, np.nan], [0, 1], ["a", "b"], "score nan of clip 0, class 1 is not in"),
        (SCORES * [1, 2], [0, 1], ["a", "b"], "score 1.6 of clip 1, class 1 is not in"),
        (SCORES, [0, 1], ["a", "a"], "class 'a' is given 2 times"),
    ],
)
def test_bad_input_is_named(scores, targets, classes, match):
    with pytest.raises(ValueError, match=match):
        evaluate(scores, targets, classes)


@pytest.mark.parametrize(
    ("groups", "match"),
    [
        (["x"], r"groups have shape \(1,\), expected \(2,\)"),
        (np.array(["x", None], object), "group None of clip 1 is not a string"),
    ],
)
def test_bad_groups_are_named(groups, match):
    with pytest.raises(ValueError, match=match):
        evaluate(SCORES, [0, 1], ["a", "b"], groups)
    with pytest.raises(ValueError, match=match):
        paired_gain(SCORES, SCORES, [0, 1], groups)


def test_bad_draws_and_unequal_shapes_are_named():
    with pytest.raises(ValueError, match="num_bootstrap is -1"):
        evaluate(SCORES, [0, 1], ["a", "b"], num_bootstrap=-1)
    with pytest.raises(ValueError, match=r"shapes \(2, 2\) and \(1, 2\)"):
        paired_gain(SCORES, SCORES[:1], [0, 1])


def test_classes_that_are_never_predicted_are_named():
    scores = np.tile(np.array([0.6, 0.2, 0.1, 0.05, 0.05]), (10, 1))
    found = evaluate(scores, np.arange(10) % 5, list("abcde"), num_bootstrap=0)
    assert found.undefined == (
        "classes that no clip is said to be of count with a precision of 0 in macro_precision: "
        "'b', 'c', 'd' and 1 more",
    )
