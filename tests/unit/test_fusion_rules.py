"""The rules beside `weighted`: each against a direct formula, and where it is the right one."""

import numpy as np
import pytest
from pydantic import ValidationError
from scipy.optimize import minimize
from scipy.stats import rankdata

from audioflow.errors import RecipeError, TableError
from audioflow.fusion import Block
from audioflow.fusion.regression import Regression
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


def block(scores, **more) -> Block:
    return Block(scores, np.ones(scores.shape[:2], bool), **more)


def held_out_loss(made, clips) -> float:
    learnt, held = halves(clips)
    return log_loss(made.apply(made.fit(learnt), held.clips), held.targets)


# product


def test_product_is_bayes_rule_with_the_share_of_a_class_taken_out_once():
    scores, targets = make_scores(1, skill=(1, 1, 1))
    params = fusion("product", systems=3).fit(fit_clips(scores, targets))
    prior = (np.bincount(targets, minlength=3) + 0.5) / (len(targets) + 1.5)
    np.testing.assert_allclose(params["prior"], prior)
    expected = scores.astype(np.float64).prod(axis=0) / prior**2
    fused = fusion("product", systems=3).apply(params, block(scores))
    np.testing.assert_allclose(fused, expected / expected.sum(1, keepdims=True), atol=1e-6)


def test_product_of_a_clip_that_lacks_a_system_takes_out_one_share_less():
    scores, targets = make_scores(1, skill=(1, 1, 1))
    made = fusion("product", systems=3)
    params = made.fit(fit_clips(scores, targets))
    available = np.ones(scores.shape[:2], bool)
    available[1] = False
    expected = scores[[0, 2]].astype(np.float64).prod(axis=0) / np.array(params["prior"])
    fused = made.apply(params, Block(scores, available))
    np.testing.assert_allclose(fused, expected / expected.sum(1, keepdims=True), atol=1e-6)


def test_product_without_shares_needs_no_clips():
    scores, _ = make_scores(2)
    made = fusion("product", prior="even")
    expected = scores.astype(np.float64).prod(axis=0)
    fused = made.apply(made.fit(None), block(scores))
    np.testing.assert_allclose(fused, expected / expected.sum(1, keepdims=True), atol=1e-6)


def test_product_of_several_labels_multiplies_odds():
    scores, truth = make_several(3)
    made = fusion("product", num_classes=4, multi_label=True)
    params = made.fit(fit_clips(scores, truth))
    share = (truth.sum(axis=0) + 0.5) / (len(truth) + 1)
    wide = scores.astype(np.float64)
    odds = (wide / (1 - wide)).prod(axis=0) / (share / (1 - share))
    np.testing.assert_allclose(made.apply(params, block(scores)), odds / (1 + odds), atol=1e-5)


def independent(seed: int, num_clips: int = 2000):
    """Exact probabilities of two witnesses that hear independently, of classes that are uneven."""
    rng = np.random.default_rng(seed)
    share = np.array([0.7, 0.2, 0.1])
    targets = rng.choice(3, size=num_clips, p=share)
    heard = rng.normal(size=(2, num_clips, 3)) + 1.2 * np.eye(3)[targets]
    logits = 1.2 * heard + np.log(share)
    return softmax(logits), targets


def test_product_is_best_for_independent_witnesses_and_needs_the_shares():
    clips = fit_clips(*independent(4))
    losses = {
        (rule, prior): held_out_loss(fusion(rule, **({"prior": prior} if prior else {})), clips)
        for rule, prior in (("product", "fit"), ("product", "even"), ("weighted", ""), ("max", ""))
    }
    assert min(losses, key=losses.get) == ("product", "fit")
    assert losses["product", "fit"] < losses["product", "even"] - 0.02


# max, borda, rank


def test_max_is_the_highest_score_that_is_there():
    scores, _ = make_several(5, skill=(1, 1, 1))
    available = np.ones(scores.shape[:2], bool)
    available[2, :50] = False
    made = fusion("max", systems=3, num_classes=4, multi_label=True)
    fused = made.apply({}, Block(scores, available))
    np.testing.assert_array_equal(fused[:50], scores[:2, :50].max(axis=0))
    np.testing.assert_array_equal(fused[50:], scores[:, 50:].max(axis=0))
    single, _ = make_scores(5)
    fused = fusion("max").apply({}, block(single))
    most = single.max(axis=0)
    np.testing.assert_allclose(fused, most / most.sum(1, keepdims=True), atol=1e-6)


def test_borda_is_the_mean_of_ranks_within_a_clip():
    scores, _ = make_several(6, num_clips=50, num_classes=7)
    scores[0, :, 3] = scores[0, :, 2]
    fused = fusion("borda", num_classes=7, multi_label=True).apply({}, block(scores))
    ranks = np.mean([(rankdata(one, axis=1) - 1) / 6 for one in scores], axis=0)
    # Ties are told apart by less than any difference of ranks.
    np.testing.assert_allclose(fused, ranks, atol=0.25 / (2 * 6))
    differ = np.abs(ranks[:, :, None] - ranks[:, None, :]) > 1e-9
    order = np.sign(ranks[:, :, None] - ranks[:, None, :])
    assert (np.sign(fused[:, :, None] - fused[:, None, :])[differ] == order[differ]).all()


def test_borda_takes_the_surer_system_where_two_classes_have_as_many_points():
    scores = np.array([[[0.4, 0.6]], [[0.9, 0.1]]], np.float32)
    fused = fusion("borda", num_classes=2).apply({}, block(scores))
    assert fused[0, 0] > fused[0, 1]


def test_borda_and_rank_do_not_care_how_a_system_spreads_its_scores():
    scores, targets = make_scores(7, num_clips=3000, skill=(1.5, 1.5), num_classes=6)
    squeezed = scores.copy()
    squeezed[0] = 0.01 * scores[0] + 0.99 / 6  # as sure as a coin, but in the right order
    learnt, held = halves(fit_clips(squeezed, targets))
    alone = accuracy(held.clips.scores[1], held.targets)
    found = {}
    for rule in ("borda", "rank", "max"):
        made = fusion(rule, num_classes=6)
        found[rule] = accuracy(made.apply(made.fit(learnt), held.clips), held.targets)
    assert found["rank"] > alone + 0.03
    assert found["borda"] > alone + 0.03
    assert found["max"] <= alone + 0.005


def test_rank_is_the_mean_of_quantiles_among_the_fitted_clips():
    scores, truth = make_several(8, num_clips=4000)
    learnt, held = halves(fit_clips(scores, truth))
    made = fusion("rank", num_classes=4, multi_label=True)
    fused = made.apply(made.fit(learnt), held.clips)
    expected = np.mean(
        [
            [[np.mean(own[:, c] < value) for c, value in enumerate(row)] for row in others[:100]]
            for own, others in zip(learnt.clips.scores, held.clips.scores, strict=True)
        ],
        axis=0,
    )
    np.testing.assert_allclose(fused[:100], expected, atol=0.03)


def test_rank_over_all_classes_is_for_classes_that_compete():
    scores, targets = make_scores(9, num_clips=2000, num_classes=5)
    learnt, held = halves(fit_clips(scores, targets))
    found = {}
    for over in ("all", "class"):
        made = fusion("rank", num_classes=5, over=over)
        params = made.fit(learnt)
        assert len(params["knots"]["audio"]) == {"all": 1, "class": 5}[over]
        found[over] = made.apply(params, held.clips)
    np.testing.assert_array_equal(
        fusion("rank", num_classes=5).apply(fusion("rank", num_classes=5).fit(learnt), held.clips),
        found["all"],
    )
    assert accuracy(found["all"], held.targets) >= accuracy(found["class"], held.targets)


def test_rank_of_scores_that_are_all_the_same_is_the_middle():
    scores = np.full((2, 30, 2), 0.5, np.float32)
    truth = np.zeros((30, 2), bool)
    made = fusion("rank", num_classes=2, multi_label=True)
    fused = made.apply(made.fit(fit_clips(scores, truth)), block(scores))
    np.testing.assert_allclose(fused, 0.5, atol=0.01)


# stacked


def correlated(seed: int, num_clips: int = 3000):
    """Two systems with the same errors, one of them far too sure, and a third with its own."""
    rng = np.random.default_rng(seed)
    targets = rng.integers(4, size=num_clips)
    right = np.eye(4)[targets]
    shared, own = rng.normal(size=(2, num_clips, 4))
    logits = np.stack([1.2 * right + shared, 3 * (1.2 * right + shared), 1.2 * right + own])
    return softmax(logits), targets


def test_stacked_is_better_than_a_weighted_mean_where_systems_err_together():
    clips = fit_clips(*correlated(10))
    losses = {
        rule: held_out_loss(fusion(rule, systems=3, num_classes=4), clips)
        for rule in ("stacked", "weighted", "product")
    }
    assert losses["stacked"] < losses["weighted"] - 0.05
    assert losses["stacked"] < losses["product"] - 0.05


@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("features", ["tied", "per_class", "full"])
def test_stacked_is_at_the_minimum_of_its_loss(features, several):
    """Against a minimiser that knows no gradient, of the loss written out."""
    make = make_several if several else make_scores
    scores, targets = make(11, num_clips=60, num_classes=2)
    clips = fit_clips(scores, targets)
    found = Regression(features, several).fit(clips, 0.5)
    wide = np.log(scores.astype(np.float64))
    values = wide - wide.mean(axis=2, keepdims=True)
    values = wide - np.log1p(-scores.astype(np.float64)) if several else values

    def loss(flat):
        shared, bias, rest = flat[:2], flat[2:4], flat[4:]
        mixed = np.einsum("s,snc->nc", shared, values) + bias
        if features == "per_class":
            mixed = mixed + np.einsum("sc,snc->nc", rest.reshape(2, 2), values)
        if features == "full":
            mixed = mixed + np.einsum("skc,snk->nc", rest.reshape(2, 2, 2), values)
        if several:
            total = np.logaddexp(0, np.where(targets, -mixed, mixed)).sum()
        else:
            own = mixed[np.arange(60), targets]
            total = (np.logaddexp.reduce(mixed, axis=1) - own).sum()
        penalty = ((shared - 0.5) ** 2).sum() + ((bias**2).sum() + (rest**2).sum()) / 0.5
        return (total + penalty / 2) / 60

    mine = np.concatenate([found.shared_S, found.bias_C, found.deviation_D.ravel()])
    best = minimize(loss, np.zeros_like(mine), method="BFGS", options={"gtol": 1e-7})
    assert loss(mine) == pytest.approx(best.fun, abs=1e-6)
    np.testing.assert_allclose(mine, best.x, atol=5e-3)


def test_stacked_learns_which_classes_a_system_mixes_up_from_the_full_matrix():
    rng = np.random.default_rng(12)
    targets = rng.integers(4, size=4000)
    logits = rng.normal(size=(2, 4000, 4))
    logits[0, np.arange(4000), (targets + 1) % 4] += 3  # always one class off
    logits[1, np.arange(4000), targets] += 0.5
    clips = fit_clips(softmax(logits), targets)
    losses = {
        features: held_out_loss(fusion("stacked", num_classes=4, features=features), clips)
        for features in ("auto", "full", "per_class", "tied")
    }
    assert losses["full"] < losses["per_class"] - 0.3
    assert losses["auto"] == losses["full"]


def test_stacked_figures_out_of_fold_are_like_those_of_new_clips():
    scores, targets = make_scores(13, num_clips=1000, num_classes=12)
    learnt, held = halves(fit_clips(scores, targets))
    made = fusion("stacked", num_classes=12, features="per_class", C=[10.0])
    params = made.fit(learnt)
    new = log_loss(made.apply(params, held.clips), held.targets)
    assert params["fused"]["log_loss"] < new - 0.05  # of the clips that it was fitted on
    assert params["out_of_fold"]["log_loss"] == pytest.approx(new, rel=0.15)
    assert params["C"] == 10.0


def test_stacked_holds_back_where_there_are_few_clips_and_lets_go_where_there_are_many():
    rng = np.random.default_rng(14)
    tilt = rng.normal(size=6) * 1.5
    chosen = {}
    for count in (60, 1500):
        scores, targets = make_scores(14, num_clips=count, num_classes=6)
        tilted = softmax(np.log(scores) + tilt)
        chosen[count] = fusion("stacked", num_classes=6, features="per_class").fit(
            fit_clips(tilted, targets)
        )["C"]
    assert chosen[60] <= chosen[1500]
    assert chosen[1500] >= 0.1


def test_stacked_takes_whole_groups_out():
    """Clips of a group have the same scores and one label that only the group explains."""
    rng = np.random.default_rng(15)
    scores = softmax(rng.normal(size=(2, 40, 5)))
    targets = rng.integers(5, size=40)
    scores, targets = np.repeat(scores, 20, axis=1), np.repeat(targets, 20)
    groups = [f"group{row // 20}" for row in range(800)]
    by_group, by_clip = (
        fusion("stacked", num_classes=5).fit(fit_clips(scores, targets, groups=own))
        for own in (groups, None)
    )
    assert by_clip["C"] == 1.0
    assert by_group["C"] < 1.0
    assert by_group["out_of_fold"]["log_loss"] > np.log(5) - 0.2


# gated


def noisy(seed: int, num_clips: int = 3000):
    """The sound of half the clips is silent, and what audio says of them is noise."""
    rng = np.random.default_rng(seed)
    targets = rng.integers(4, size=num_clips)
    silent = rng.random(num_clips) < 0.5
    logits = rng.normal(size=(2, num_clips, 4))
    logits[0, np.arange(num_clips), targets] += np.where(silent, 0.0, 3.0)
    logits[0] *= np.where(silent, 2.0, 1.0)[:, None]
    logits[1, np.arange(num_clips), targets] += 1.5
    level = np.where(silent, -80.0, -20.0) + 3 * rng.normal(size=num_clips)
    quality = np.column_stack([level, rng.normal(size=num_clips)])
    return softmax(logits), targets, quality


@pytest.mark.parametrize("on", ["probabilities", "logits"])
def test_a_gate_is_better_than_one_weight_where_silent_clips_have_noise_for_scores(on):
    scores, targets, quality = noisy(16)
    clips = fit_clips(scores, targets, quality=quality)
    gated = fusion("gated", num_classes=4, qualities=["level_db", "nothing"], on=on)
    weighted = fusion("weighted", num_classes=4, on=on)
    assert held_out_loss(gated, clips) < held_out_loss(weighted, clips) - 0.1
    gate = gated.fit(clips)["gate"]
    slope = np.array(gate["slopes"][0]) - np.array(gate["slopes"][1])
    assert gate["columns"] == ["level_db", "nothing"]
    assert slope[0] > 1  # the louder, the more audio counts
    assert abs(slope[1]) < 0.3


def test_a_gate_of_several_labels():
    scores, truth = make_several(17, num_clips=2000, skill=(2.0, 1.0))
    rng = np.random.default_rng(0)
    silent = rng.random(2000) < 0.5
    scores[0, silent] = rng.random((silent.sum(), 4))
    clips = fit_clips(scores, truth, quality=np.where(silent, -80.0, -20.0)[:, None])
    several = {"num_classes": 4, "multi_label": True}
    gated = held_out_loss(fusion("gated", qualities=["level_db"], **several), clips)
    assert gated < held_out_loss(fusion("weighted", **several), clips) - 0.03


def test_a_gate_that_finds_nothing_is_the_rule_weighted():
    scores, targets = make_scores(18, num_clips=400)
    quality = np.ones((400, 1))
    clips = fit_clips(scores, targets, quality=quality)
    params = fusion("gated", qualities=["still"]).fit(clips)
    plain = fusion("weighted").fit(clips)
    assert params["spread"] == 0
    assert params["weights"] == pytest.approx(plain["weights"], abs=1e-6)
    np.testing.assert_allclose(
        fusion("gated", qualities=["still"]).apply(params, clips.clips),
        fusion("weighted").apply(plain, clips.clips),
        atol=1e-6,
    )


def test_clips_of_unknown_quality_have_a_weight_of_their_own():
    scores, targets, quality = noisy(19)
    silent = quality[:, 0] < -50
    quality[silent] = np.nan  # as of clips whose sound could not be decoded
    clips = fit_clips(scores, targets, quality=quality)
    gated = fusion("gated", num_classes=4, qualities=["level_db", "nothing"])
    weighted = fusion("weighted", num_classes=4)
    assert held_out_loss(gated, clips) < held_out_loss(weighted, clips) - 0.1


def test_qualities_far_beyond_those_of_the_fit_do_not_run_away():
    scores, targets, quality = noisy(20, num_clips=500)
    made = fusion("gated", num_classes=4, qualities=["level_db", "nothing"])
    params = made.fit(fit_clips(scores, targets, quality=quality))
    far, farther = (
        made.apply(params, block(scores, quality=np.full((500, 2), level)))
        for level in (-1e5, -1e30)
    )
    np.testing.assert_array_equal(far, farther)


def test_a_gate_without_qualities_is_told_what_is_missing():
    scores, targets = make_scores(21)
    made = fusion("gated", qualities=["level_db"])
    for quality in (None, np.full((200, 1), np.nan)):
        with pytest.raises(TableError, match=r"has a value of level_db: fuse\.quality has to name"):
            made.fit(fit_clips(scores, targets, quality=quality))


@pytest.mark.parametrize(
    ("rule", "options", "match"),
    [
        ("product", {"prior": "none"}, "'fit' or 'even'"),
        ("rank", {"over": "clips"}, "'auto', 'class' or 'all'"),
        ("stacked", {"features": "wide"}, "'auto', 'tied', 'per_class' or 'full'"),
        ("stacked", {"C": []}, "at least 1 item"),
        ("max", {"weights": {}}, "Extra inputs are not permitted"),
    ],
)
def test_settings_out_of_range_are_refused(rule, options, match):
    with pytest.raises(ValidationError, match=match):
        fusion(rule, **options)


@pytest.mark.parametrize(
    ("rule", "options", "match"),
    [
        ("stacked", {"C": [0.1, -1.0]}, "C: -1.0 is no variance; allowed: above 0"),
        ("gated", {"spreads": [0.0]}, "spreads: 0.0 is no standard deviation; allowed: above 0"),
    ],
)
def test_numbers_to_choose_from_have_to_be_above_0(rule, options, match):
    with pytest.raises(RecipeError, match=match):
        fusion(rule, **options)
