"""The rule `weighted`: its fit against independent formulas, and weights of classes."""

import numpy as np
import pytest
from pydantic import ValidationError
from sklearn.metrics import accuracy_score
from sklearn.metrics import log_loss as sklearn_log_loss

from audioflow.errors import RecipeError, TableError
from audioflow.fusion import Block
from audioflow.fusion.links import Link
from audioflow.fusion.pools import Pool
from audioflow.fusion.simplex import grid, minimise
from tests.unit.fusion_clips import (
    accuracy,
    fit_clips,
    fusion,
    halves,
    log_loss,
    make_scores,
    make_several,
    softmax,
)


def weights_of(params) -> list[float]:
    return list(params["weights"].values())


@pytest.mark.parametrize("skill", [(1.0, 1.5), (0.5, 2.0, 1.0)])
def test_mixture_weights_are_those_of_expectation_maximisation(skill):
    scores, targets = make_scores(1, skill=skill)
    params = fusion(systems=len(skill)).fit(fit_clips(scores, targets))
    scores = scores.astype(np.float64) / scores.sum(2, keepdims=True, dtype=np.float64)
    own = scores[:, np.arange(len(targets)), targets]
    weights = np.full(len(skill), 1 / len(skill))
    for _ in range(5000):
        weights = (weights[:, None] * own / (weights @ own)).mean(axis=1)
    assert weights_of(params) == pytest.approx(weights, abs=1e-4)
    assert params["fused"]["log_loss"] == pytest.approx(
        sklearn_log_loss(targets, np.tensordot(weights, scores, 1)), abs=1e-6
    )


@pytest.mark.parametrize("on", ["probabilities", "log_probabilities", "logits"])
def test_log_loss_is_least_on_a_fine_grid(on):
    scores, targets = make_scores(2, skill=(0.7, 1.0, 0.2))
    params = fusion(systems=3, on=on).fit(fit_clips(scores, targets))
    values = scores.astype(np.float64) if on == "probabilities" else np.log(scores)
    mixed = np.tensordot(grid(3, 1500), values, 1)
    mixed = mixed if on == "probabilities" else np.exp(mixed)
    own = mixed[:, np.arange(len(targets)), targets] / mixed.sum(axis=2)
    least = (-np.log(own)).mean(axis=1).min()
    assert least - 1e-3 < params["fused"]["log_loss"] <= least + 1e-6


@pytest.mark.parametrize("on", ["probabilities", "log_probabilities", "logits"])
def test_log_loss_of_several_labels_is_least_on_a_fine_grid(on):
    scores, truth = make_several(3, skill=(1.0, 1.1))
    params = fusion(on=on, multi_label=True, num_classes=4).fit(fit_clips(scores, truth))
    wide = scores.astype(np.float64)
    there = {
        "probabilities": lambda a: (1 - a) * wide[0] + a * wide[1],
        "log_probabilities": lambda a: wide[0] ** (1 - a) * wide[1] ** a,
        "logits": lambda a: 1 / (1 + np.exp(-((1 - a) * logit(wide[0]) + a * logit(wide[1])))),
    }[on]
    least = min(log_loss(there(share), truth) for share in np.linspace(0, 1, 501))
    assert least - 1e-4 < params["fused"]["log_loss"] <= least + 1e-5
    assert 0 < params["weights"]["audio"] < 1
    fused = fusion(on=on, multi_label=True, num_classes=4).apply(
        params, Block(scores, np.ones(scores.shape[:2], bool))
    )
    np.testing.assert_allclose(fused, there(params["weights"]["video"]), atol=1e-5)


def logit(scores):
    return np.log(scores / (1 - scores))


def test_accuracy_is_best_on_the_grid_and_ties_go_to_log_loss():
    scores, targets = make_scores(3)
    params = fusion(objective="accuracy").fit(fit_clips(scores, targets))
    accuracies, losses = [], []
    for share in np.linspace(0, 1, 101):
        mixed = (1 - share) * scores[0].astype(np.float64) + share * scores[1]
        accuracies.append(accuracy_score(targets, mixed.argmax(1)))
        losses.append(sklearn_log_loss(targets, mixed / mixed.sum(1, keepdims=True)))
    best = [
        loss for loss, found in zip(losses, accuracies, strict=True) if found == max(accuracies)
    ]
    assert params["fused"]["accuracy"] >= max(accuracies)
    if params["fused"]["accuracy"] == max(accuracies):
        assert params["fused"]["log_loss"] <= min(best) + 1e-6


def test_accuracy_is_not_to_be_had_of_several_labels():
    scores, truth = make_several(3)
    with pytest.raises(RecipeError, match="objective: accuracy is of clips with one label"):
        fusion(objective="accuracy", multi_label=True, num_classes=4).fit(fit_clips(scores, truth))


def test_curve_has_accuracy_and_log_loss_by_the_second_weight():
    scores, targets = make_scores(4)
    curve = fusion().fit(fit_clips(scores, targets))["curve"]
    assert [point["weight"] for point in curve] == [step / 50 for step in range(51)]
    for point in (curve[0], curve[17], curve[50]):
        mixed = np.array([1 - point["weight"], point["weight"]]) @ scores.transpose(1, 0, 2)
        assert point["accuracy"] == accuracy_score(targets, mixed.argmax(1))
        mixed = mixed / mixed.sum(1, keepdims=True)
        assert point["log_loss"] == pytest.approx(sklearn_log_loss(targets, mixed), abs=1e-6)
    three, targets = make_scores(4, skill=(1, 1, 1))
    assert "curve" not in fusion(systems=3).fit(fit_clips(three, targets))
    several, truth = make_several(4)
    curve = fusion(multi_label=True, num_classes=4).fit(fit_clips(several, truth))["curve"]
    assert set(curve[0]) == {"weight", "log_loss"}
    assert curve[0]["log_loss"] == pytest.approx(log_loss(several[0], truth), abs=1e-5)


def test_the_system_that_is_always_right_gets_all_the_weight():
    scores, targets = make_scores(5)
    scores[1] = np.eye(3)[targets]
    for options in ({}, {"objective": "accuracy"}):
        params = fusion(**options).fit(fit_clips(scores, targets))
        assert params["weights"] == pytest.approx({"audio": 0, "video": 1}, abs=1e-6)
        assert params["better"] == "video"
    params = fusion(on="log_probabilities").fit(fit_clips(scores, targets))
    assert params["fused"]["log_loss"] < 1e-6


@pytest.mark.parametrize("on", ["probabilities", "log_probabilities", "logits"])
def test_systems_that_are_the_same_and_certain_errors_do_no_harm(on):
    scores, targets = make_scores(6)
    scores[1] = scores[0]
    params = fusion(on=on).fit(fit_clips(scores, targets))
    assert sum(weights_of(params)) == pytest.approx(1)
    wrong = np.stack([np.eye(3, dtype=np.float32)[(targets + 1) % 3]] * 2)
    params = fusion(on=on).fit(fit_clips(wrong, targets))
    assert np.isfinite(params["fused"]["log_loss"])


@pytest.mark.parametrize("on", ["probabilities", "log_probabilities", "logits"])
def test_a_clip_is_scored_by_the_systems_it_has(on):
    scores, _ = make_scores(7, num_clips=4, skill=(1, 1, 1))
    available = np.array([[1, 1, 0, 1], [1, 0, 0, 0], [1, 0, 1, 1]], bool)
    block = Block(np.where(available[..., None], scores, np.nan), available)
    params = {"weights": {"text": 0.0, "video": 0.75, "audio": 0.25}}
    fused = fusion(systems=3, on=on).apply(params, block)
    first = (
        0.25 * scores[0, 0] + 0.75 * scores[1, 0]
        if on == "probabilities"
        else scores[0, 0] ** 0.25 * scores[1, 0] ** 0.75
    )
    np.testing.assert_allclose(fused[0], first / first.sum(), atol=1e-6)
    np.testing.assert_array_equal(fused[1], scores[0, 1])
    np.testing.assert_array_equal(fused[2], scores[2, 2])
    np.testing.assert_allclose(fused[3], scores[0, 3], atol=1e-6)
    none_left = {"weights": {"audio": 0.0, "video": 1.0, "text": 0.0}}
    even = fusion(systems=3, on=on).apply(none_left, block)[3]
    expected = (
        scores[[0, 2], 3].mean(0) if on == "probabilities" else np.sqrt(scores[0, 3] * scores[2, 3])
    )
    np.testing.assert_allclose(even, expected / expected.sum(), atol=1e-6)


@pytest.mark.parametrize("on", ["probabilities", "log_probabilities", "logits"])
def test_rows_sum_to_1_for_scores_that_do_not(on):
    scores = np.array([[[0.9, 0.9, 0.0], [0, 0, 0]], [[0.1, 0.1, 0.2], [0, 0, 0]]], np.float32)
    block = Block(scores, np.ones((2, 2), bool))
    fused = fusion(on=on).apply({"weights": {"audio": 0.5, "video": 0.5}}, block)
    np.testing.assert_allclose(fused.sum(1), 1, atol=1e-6)
    np.testing.assert_allclose(fused[1], 1 / 3, atol=1e-6)


def test_fixed_weights_need_neither_clips_nor_labels():
    scores, _ = make_scores(8)
    fixed = fusion(weights={"video": 3, "audio": 1})
    assert not fixed.needs_clips
    params = fixed.fit(None)
    assert params["weights"] == {"audio": 0.25, "video": 0.75}
    fused = fixed.apply(params, Block(scores, np.ones(scores.shape[:2], bool)))
    np.testing.assert_allclose(fused, 0.25 * scores[0] + 0.75 * scores[1], atol=1e-6)


def test_fixed_weights_have_to_name_the_systems():
    with pytest.raises(RecipeError, match="did you mean 'video'") as caught:
        fusion(weights={"audio": 1, "vidoe": 1})
    assert "system 'video' has no weight" in str(caught.value)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"weights": {"audio": -0.5, "video": 1}}, "weight -0.5 of system 'audio' is negative"),
        ({"weights": {"audio": 0, "video": 0}}, "give no system a weight above 0"),
        ({"weights": {}}, "give no system a weight above 0"),
        ({"weights": {"audio": float("nan")}}, "finite number"),
        (
            {"weights": {"audio": 1}, "objective": "accuracy"},
            "'accuracy' fits weights, but weights",
        ),
        ({"objective": "f1"}, "'log_loss' or 'accuracy'"),
        ({"on": "scores"}, "'logits', 'probabilities' or 'log_probabilities'"),
        ({"per_class": True, "objective": "accuracy"}, "per_class cannot stand beside objective"),
        ({"per_class": True, "weights": {"audio": 1}}, "per_class cannot stand beside weights"),
    ],
)
def test_settings_out_of_range_are_refused(options, match):
    with pytest.raises(ValidationError, match=match):
        fusion(**options)


def test_no_clip_of_all_systems_is_told_with_the_counts():
    scores, targets = make_scores(9, num_clips=100)
    available = np.ones((2, 100), bool)
    available[1] = False
    with pytest.raises(TableError, match=r"none of 100 clips .*\(audio 100, video 0\)"):
        fusion().fit(fit_clips(scores, targets, available=available))


def experts(seed: int, num_clips: int = 4000, num_classes: int = 8):
    """One system knows the first half of the classes, the other one the second."""
    rng = np.random.default_rng(seed)
    targets = rng.integers(num_classes, size=num_clips)
    logits = rng.normal(size=(2, num_clips, num_classes))
    middle = num_classes // 2
    knows = np.stack([targets < middle, targets >= middle])
    logits[:, np.arange(num_clips), targets] += np.where(knows, 3.0, 0.3)
    return softmax(logits), targets


@pytest.mark.parametrize("on", ["probabilities", "logits"])
def test_weights_of_classes_are_better_where_systems_know_different_ones(on):
    learnt, held = halves(fit_clips(*experts(10)))
    losses, found = {}, {}
    for per_class in (False, True):
        made = fusion(num_classes=8, per_class=per_class, on=on)
        found[per_class] = made.fit(learnt)
        losses[per_class] = log_loss(made.apply(found[per_class], held.clips), held.targets)
    assert losses[True] < losses[False] - 0.05
    audio = np.array(found[True]["per_class"]["weights"]["audio"])
    assert audio[:4].min() > audio[4:].max()
    video = np.array(found[True]["per_class"]["weights"]["video"])
    np.testing.assert_allclose(audio + video, 1)


def test_weights_of_classes_are_better_for_several_labels_too():
    scores, truth = make_several(11, num_clips=3000)
    noise = np.random.default_rng(0).random(scores.shape).astype(np.float32)
    scores[0, :, :2], scores[1, :, 2:] = noise[0, :, :2], noise[1, :, 2:]
    learnt, held = halves(fit_clips(scores, truth))
    losses = {}
    for per_class in (False, True):
        made = fusion(num_classes=4, multi_label=True, per_class=per_class)
        losses[per_class] = log_loss(made.apply(made.fit(learnt), held.clips), held.targets)
    assert losses[True] < losses[False] - 0.05


def test_weights_of_classes_stay_together_where_no_class_is_different():
    scores, targets = make_scores(12, num_clips=1000, num_classes=8)
    made = fusion(num_classes=8, per_class=True)
    params = made.fit(fit_clips(scores, targets))
    away = np.array(params["per_class"]["weights"]["audio"]) - params["weights"]["audio"]
    assert np.abs(away).max() < 0.15
    plain = fusion(num_classes=8).fit(fit_clips(scores, targets))
    assert params["weights"] == plain["weights"]


def test_clips_of_one_group_give_all_classes_the_same_weights():
    scores, targets = experts(13, num_clips=200)
    params = fusion(num_classes=8, per_class=True).fit(
        fit_clips(scores, targets, groups=["one"] * 200)
    )
    assert params["per_class"]["shrinkage"] is None
    for name, weight in params["weights"].items():
        assert params["per_class"]["weights"][name] == [weight] * 8


def test_a_class_weight_is_the_best_of_the_grid_for_its_own_loss():
    """With several labels and next to no penalty a class is fitted by itself."""
    scores, truth = make_several(14, num_clips=2000, skill=(1.5, 1.0))
    scores[0, :, 0] = np.random.default_rng(1).random(2000)
    params = fusion(num_classes=4, multi_label=True, per_class=True).fit(fit_clips(scores, truth))
    assert params["per_class"]["shrinkage"] <= 10
    share = params["per_class"]["weights"]["video"][0]
    losses = {
        step / 20: log_loss(
            (1 - step / 20) * scores[0, :, :1] + step / 20 * scores[1, :, :1], truth[:, :1]
        )
        for step in range(21)
    }
    assert min(losses, key=losses.get) == pytest.approx(share, abs=0.051)


@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("on", ["probabilities", "log_probabilities", "logits"])
def test_derivatives_are_those_of_differences(on, several):
    scores, targets = (make_several if several else make_scores)(8, skill=(1, 0.5, 2))
    pool = Pool(Link(on, several), fit_clips(scores, targets))
    weights, step = np.array([0.2, 0.5, 0.3]), 1e-5
    _, gradient, hessian = pool.derivatives(weights)
    for index, unit in enumerate(np.eye(3) * step):
        above, below = pool.derivatives(weights + unit), pool.derivatives(weights - unit)
        slope, bend = ((above[k] - below[k]) / (2 * step) for k in (0, 1))
        assert gradient[index] == pytest.approx(slope, abs=1e-6)
        assert hessian[index] == pytest.approx(bend, abs=1e-5)


@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("on", ["probabilities", "log_probabilities", "logits"])
def test_slopes_of_averaged_values_are_those_of_differences(on, several):
    scores, targets = (make_several if several else make_scores)(9, num_clips=5)
    link = Link(on, several)
    mixed = 0.4 * link.values(scores[0]) + 0.6 * link.values(scores[1])
    slope = link.slope(mixed, targets)
    for cell in np.ndindex(mixed.shape):
        losses = []
        for away in (1e-6, -1e-6):
            moved = mixed.copy()
            moved[cell] += away
            losses.append(link.loss(moved, targets)[cell[0]])
        assert slope[cell] == pytest.approx((losses[0] - losses[1]) / 2e-6, abs=1e-5)


def test_with_one_label_logits_and_log_probabilities_are_the_same_but_for_weights_of_classes():
    scores, targets = make_scores(15, num_clips=300)
    clips = fit_clips(scores, targets)
    fused = {
        on: fusion(on=on).apply(fusion(on=on).fit(clips), clips.clips)
        for on in ("logits", "log_probabilities")
    }
    np.testing.assert_allclose(fused["logits"], fused["log_probabilities"], atol=1e-6)
    assert accuracy(fused["logits"], targets) > 0.6


def test_grid_is_bounded_even_and_holds_the_corners():
    for size, count in ((1, 1), (2, 101), (3, 1326), (4, 1771), (6, 252), (50, 1275)):
        points = grid(size, 2000)
        assert len(points) == len(np.unique(points, axis=0)) == count
        assert points.min() >= 0
        np.testing.assert_allclose(points.sum(1), 1)
        assert np.isin(np.eye(size), points).all()
    assert np.array_equal(np.unique(grid(3, 1), axis=0), np.unique(np.eye(3), axis=0))


@pytest.mark.parametrize(
    ("target", "expected"), [([0.2, 0.3, 0.5], [0.2, 0.3, 0.5]), ([1.5, 0.5, -3], [1, 0, 0])]
)
def test_minimise_finds_the_minimum_inside_and_at_the_edge(target, expected):
    def squares(weights):
        away = weights - np.array(target)
        return float(away @ away), 2 * away, 2 * np.eye(3)

    assert minimise(squares, 3) == pytest.approx(expected, abs=1e-6)
