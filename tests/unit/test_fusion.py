"""Fusion: the join by key, the fit of weights against independent formulas, and what is refused."""

import json
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from pydantic import ValidationError
from sklearn.metrics import accuracy_score, log_loss

from audioflow import simplex
from audioflow.errors import RecipeError, TableError
from audioflow.fusion import FUSION_RULES, Weighted, fuse, join_scores
from audioflow.tables import scores_schema

CLASSES = ["cat", "dog", "owl"]


def score_table(scores, clip_ids, labels=None, splits=None):
    """A score table in the schema of `audioflow.tables`, in two chunks as shards would give."""
    scores = np.asarray(scores, np.float32)
    count, width = scores.shape
    flat = pa.array(scores.reshape(-1), pa.float32())
    columns = [
        pa.array(clip_ids, pa.string()),
        pa.array(labels or [["cat"]] * count, pa.list_(pa.string())),
        pa.array(splits or ["val"] * count, pa.string()),
        pa.FixedSizeListArray.from_arrays(flat, width),
        pa.array(["cat"] * count, pa.string()),
        pa.array([0.0] * count, pa.float32()),
    ]
    table = pa.Table.from_arrays(columns, schema=scores_schema(width))
    return pa.concat_tables([table.slice(0, count // 2), table.slice(count // 2)])


def make_scores(seed, num_clips=200, skill=(1.0, 1.5), num_classes=3):
    """Softmax scores (S, N, C) of systems of some skill, with class indices (N,)."""
    rng = np.random.default_rng(seed)
    targets = rng.integers(num_classes, size=num_clips)
    logits = rng.normal(size=(len(skill), num_clips, num_classes)) * 1.5
    for system, strength in enumerate(skill):
        logits[system, np.arange(num_clips), targets] += strength
    scores = np.exp(logits)
    return (scores / scores.sum(2, keepdims=True)).astype(np.float32), targets


def make_joined(seed=0, num_clips=200, skill=(1.0, 1.5)):
    """Two systems joined; the first half of the clips is `val`, the others are `test`."""
    scores, targets = make_scores(seed, num_clips, skill)
    clip_ids = [f"clip{index:04}" for index in range(num_clips)]
    labels = [[CLASSES[target]] for target in targets]
    splits = ["val"] * (num_clips // 2) + ["test"] * (num_clips - num_clips // 2)
    names = ["audio", "video", "text"][: len(skill)]
    tables = {
        name: score_table(values, clip_ids, labels, splits)
        for name, values in zip(names, scores, strict=True)
    }
    return join_scores(tables, dict.fromkeys(names, CLASSES))


def rule(**options) -> Weighted:
    return FUSION_RULES.build("weighted", options)


def all_there(scores):
    return np.ones(scores.shape[:2], bool)


def test_clips_are_joined_by_id_whatever_their_order():
    audio = score_table([[0.7, 0.2, 0.1], [0.1, 0.6, 0.3]], ["b", "a"], [["cat"], ["dog"]])
    video = score_table([[0.3, 0.3, 0.4], [0.8, 0.1, 0.1]], ["c", "b"], [[], ["cat"]])
    joined = join_scores({"audio": audio, "video": video}, {"audio": CLASSES, "video": CLASSES})
    assert joined.clip_ids == ["a", "b", "c"]
    assert joined.labels == [["dog"], ["cat"], []]
    assert joined.splits == ["val"] * 3
    assert joined.systems == ("audio", "video")
    assert joined.available.tolist() == [[True, True, False], [False, True, True]]
    assert joined.scores.dtype == np.float32
    nothing = [np.nan] * 3
    expected = [
        [[0.1, 0.6, 0.3], [0.7, 0.2, 0.1], nothing],
        [nothing, [0.8, 0.1, 0.1], [0.3, 0.3, 0.4]],
    ]
    np.testing.assert_array_equal(joined.scores, np.array(expected, np.float32))


def test_classes_are_put_into_the_order_of_the_first_system():
    audio = score_table([[0.7, 0.2, 0.1]], ["a"])
    video = score_table([[0.1, 0.7, 0.2]], ["a"])
    classes = {"audio": CLASSES, "video": ["owl", "cat", "dog"]}
    joined = join_scores({"audio": audio, "video": video}, classes)
    assert joined.classes == tuple(CLASSES)
    np.testing.assert_array_equal(joined.scores[0], joined.scores[1])


def test_three_tables_join_where_each_lacks_another_clip():
    ids = {"x": ["a", "b"], "y": ["b", "c"], "z": ["c", "a"]}
    tables = {
        name: score_table([[ord(clip) / 200, 0, 0] for clip in clips], clips)
        for name, clips in ids.items()
    }
    joined = join_scores(tables, dict.fromkeys(ids, CLASSES))
    assert joined.clip_ids == ["a", "b", "c"]
    assert joined.available.tolist() == [
        [True, True, False],
        [False, True, True],
        [True, False, True],
    ]
    own = np.nanmax(joined.scores[:, :, 0], axis=0)
    np.testing.assert_allclose(own, [97 / 200, 98 / 200, 99 / 200], rtol=1e-6)


def test_labels_in_another_order_agree():
    one = score_table([[1, 0, 0]], ["a"], [["cat", "dog"]])
    two = score_table([[1, 0, 0]], ["a"], [["dog", "cat"]])
    joined = join_scores({"one": one, "two": two}, {"one": CLASSES, "two": CLASSES})
    assert joined.labels == [["cat", "dog"]]


ONE = [[0.5, 0.25, 0.25]]


@pytest.mark.parametrize(
    ("other", "classes", "match"),
    [
        (score_table(ONE, ["a"]), ["cat", "dog", "elk"], "only 'one' has owl; only 'two' has elk"),
        (score_table(ONE, ["a"]), ["cat", "dog"], "only 'one' has owl; train"),
        (score_table(ONE, ["a"]), ["cat", "cat", "dog"], "'two' has class 'cat' 2 times"),
        (score_table(ONE * 3, ["b", "a", "a"]), CLASSES, "'two' has clip 'a' 2 times"),
        (
            score_table(ONE, ["a"], [["dog"]]),
            CLASSES,
            r"clip 'a' has labels \['cat'\] in score table 'one' and \['dog'\] in 'two'",
        ),
        (
            score_table(ONE, ["a"], splits=["test"]),
            CLASSES,
            "clip 'a' has split 'val' in score table 'one' and 'test' in 'two'",
        ),
        (score_table([[0.5, 0.5]], ["a"]), CLASSES, r"'scores' is .*\[2\], expected a list of 3"),
        (score_table([[0.5, 0.5, np.nan]], ["a"]), CLASSES, "'two': clip 'a' has score nan"),
        (score_table(ONE, ["a"]).drop_columns("split"), CLASSES, "'two' has no column 'split'"),
        (score_table(ONE, [None]), CLASSES, "'two': column 'clip_id' has a row without a value"),
    ],
)
def test_tables_that_do_not_fit_are_refused(other, classes, match):
    tables = {"one": score_table(ONE, ["a"]), "two": other}
    with pytest.raises(TableError, match=match):
        join_scores(tables, {"one": CLASSES, "two": classes})


def test_a_third_table_is_compared_with_the_one_that_has_the_clip():
    tables = {
        "one": score_table(ONE, ["a"]),
        "two": score_table(ONE, ["b"], [["dog"]]),
        "three": score_table(ONE, ["b"], [["owl"]]),
    }
    with pytest.raises(
        TableError, match=r"\['dog'\] in score table 'two' and \['owl'\] in 'three'"
    ):
        join_scores(tables, dict.fromkeys(tables, CLASSES))


def test_no_table_and_no_class_order_are_refused():
    with pytest.raises(TableError, match="no score table"):
        join_scores({}, {})
    with pytest.raises(TableError, match="order of score table 'one' is not given"):
        join_scores({"one": score_table(ONE, ["a"])}, {})


@pytest.mark.parametrize("skill", [(1.0, 1.5), (0.5, 2.0, 1.0)])
def test_mixture_weights_are_those_of_expectation_maximisation(skill):
    scores, targets = make_scores(1, skill=skill)
    params = rule().fit(scores, targets, all_there(scores))
    scores = scores.astype(np.float64) / scores.sum(2, keepdims=True, dtype=np.float64)
    own = scores[:, np.arange(len(targets)), targets]
    weights = np.full(len(skill), 1 / len(skill))
    for _ in range(5000):
        weights = (weights[:, None] * own / (weights @ own)).mean(axis=1)
    assert list(params["weights"].values()) == pytest.approx(weights, abs=1e-4)
    assert params["log_loss"] <= -np.log(weights @ own).mean() + 1e-9
    assert params["log_loss"] == pytest.approx(
        log_loss(targets, np.tensordot(weights, scores, 1)), abs=1e-6
    )


@pytest.mark.parametrize("on", ["probabilities", "log_probabilities"])
def test_log_loss_is_least_on_a_fine_grid(on):
    scores, targets = make_scores(2, skill=(0.7, 1.0, 0.2))
    params = rule(on=on).fit(scores, targets, all_there(scores))
    values = scores.astype(np.float64) if on == "probabilities" else np.log(scores)
    mixed = np.tensordot(simplex.grid(3, 1500), values, 1)
    mixed = mixed if on == "probabilities" else np.exp(mixed)
    own = mixed[:, np.arange(len(targets)), targets] / mixed.sum(axis=2)
    least = (-np.log(own)).mean(axis=1).min()
    assert least - 1e-3 < params["log_loss"] <= least + 1e-7


def test_accuracy_is_best_on_the_grid_and_ties_go_to_log_loss():
    scores, targets = make_scores(3)
    params = rule(objective="accuracy").fit(scores, targets, all_there(scores))
    accuracies, losses = [], []
    for share in np.linspace(0, 1, 101):
        mixed = (1 - share) * scores[0].astype(np.float64) + share * scores[1]
        accuracies.append(accuracy_score(targets, mixed.argmax(1)))
        losses.append(log_loss(targets, mixed / mixed.sum(1, keepdims=True)))
    best = [
        loss for loss, found in zip(losses, accuracies, strict=True) if found == max(accuracies)
    ]
    assert params["accuracy"] >= max(accuracies)
    if params["accuracy"] == max(accuracies):
        assert params["log_loss"] <= min(best) + 1e-9


def test_curve_has_accuracy_and_log_loss_by_the_second_weight():
    scores, targets = make_scores(4)
    curve = rule().fit(scores, targets, all_there(scores))["curve"]
    assert [point["weight"] for point in curve] == [step / 50 for step in range(51)]
    for point in (curve[0], curve[17], curve[50]):
        mixed = np.array([1 - point["weight"], point["weight"]]) @ scores.transpose(1, 0, 2)
        assert point["accuracy"] == accuracy_score(targets, mixed.argmax(1))
        mixed = mixed / mixed.sum(1, keepdims=True)
        assert point["log_loss"] == pytest.approx(log_loss(targets, mixed), abs=1e-6)
    three, targets = make_scores(4, skill=(1, 1, 1))
    assert "curve" not in rule().fit(three, targets, all_there(three))


def test_the_system_that_is_always_right_gets_all_the_weight():
    scores, targets = make_scores(5)
    scores[1] = np.eye(3)[targets]
    for options in ({}, {"objective": "accuracy"}):
        params = rule(**options).fit(scores, targets, all_there(scores), ["audio", "video"])
        assert params["weights"] == pytest.approx({"audio": 0, "video": 1}, abs=1e-6)
    params = rule(on="log_probabilities").fit(scores, targets, all_there(scores))
    assert params["log_loss"] < 1e-9


def test_systems_that_are_the_same_and_certain_errors_do_no_harm():
    scores, targets = make_scores(6)
    scores[1] = scores[0]
    for on in ("probabilities", "log_probabilities"):
        params = rule(on=on).fit(scores, targets, all_there(scores))
        assert sum(params["weights"].values()) == pytest.approx(1)
        wrong = np.stack([np.eye(3, dtype=np.float32)[(targets + 1) % 3]] * 2)
        params = rule(on=on).fit(wrong, targets, all_there(wrong))
        assert np.isfinite(params["log_loss"])


@pytest.mark.parametrize("on", ["probabilities", "log_probabilities"])
def test_fused_is_the_single_system_where_its_weight_is_1(on):
    joined = make_joined()
    fused, params = fuse(joined, rule(on=on, weights={"audio": 0, "video": 2}), "val")
    assert params["weights"] == {"audio": 0, "video": 1}
    assert params["objective"] is None
    np.testing.assert_allclose(fused, joined.scores[1], atol=1e-6)


@pytest.mark.parametrize("on", ["probabilities", "log_probabilities"])
def test_a_clip_is_scored_by_the_systems_it_has(on):
    fusion = rule(on=on)
    params = {"systems": ["a", "b", "c"], "weights": {"c": 0.0, "b": 0.75, "a": 0.25}, "on": on}
    scores, _ = make_scores(7, num_clips=4, skill=(1, 1, 1))
    available = np.array([[1, 1, 0, 1], [1, 0, 0, 0], [1, 0, 1, 1]], bool)
    scores[~available] = np.nan
    fused = fusion.apply(params, scores, available)
    np.testing.assert_allclose(fused.sum(1), 1, atol=1e-6)
    first = (
        0.25 * scores[0, 0] + 0.75 * scores[1, 0]
        if on == "probabilities"
        else scores[0, 0] ** 0.25 * scores[1, 0] ** 0.75
    )
    np.testing.assert_allclose(fused[0], first / first.sum(), atol=1e-6)
    np.testing.assert_allclose(fused[1], scores[0, 1], atol=1e-6)
    np.testing.assert_allclose(fused[2], scores[2, 2], atol=1e-6)
    np.testing.assert_allclose(fused[3], scores[0, 3], atol=1e-6)
    both = {**params, "weights": {"a": 0.0, "b": 1.0, "c": 0.0}}
    halves = fusion.apply(both, scores, available)[3]
    expected = scores[[0, 2], 3].mean(0) if on == "probabilities" else None
    expected = np.sqrt(scores[0, 3] * scores[2, 3]) if expected is None else expected
    np.testing.assert_allclose(halves, expected / expected.sum(), atol=1e-6)


def test_rows_sum_to_1_for_scores_that_do_not():
    scores = np.array([[[0.9, 0.9, 0.0], [0, 0, 0]], [[0.1, 0.1, 0.2], [0, 0, 0]]], np.float32)
    for on in ("probabilities", "log_probabilities"):
        params = {"systems": ["a", "b"], "weights": {"a": 0.5, "b": 0.5}, "on": on}
        fused = rule(on=on).apply(params, scores, all_there(scores))
        np.testing.assert_allclose(fused.sum(1), 1, atol=1e-6)
        np.testing.assert_allclose(fused[1], 1 / 3, atol=1e-6)


def test_clips_of_other_splits_do_not_touch_the_fit():
    joined = make_joined()
    fused, params = fuse(joined, rule(), "val")
    assert (params["clips"], params["fit_split"]) == (100, "val")
    turned = [
        [CLASSES[2]] if split == "test" else own
        for own, split in zip(joined.labels, joined.splits, strict=True)
    ]
    scores = joined.scores.copy()
    scores[:, 100:] = scores[:, 100:][:, ::-1]
    _, again = fuse(replace(joined, labels=turned, scores=scores), rule(), "val")
    assert again == params
    _, on_test = fuse(joined, rule(), "test")
    assert on_test["weights"] != params["weights"]
    assert fused.shape == (200, 3)


def test_the_order_of_clips_changes_nothing():
    joined = make_joined()
    order = np.random.default_rng(0).permutation(200)
    mixed = replace(
        joined,
        clip_ids=[joined.clip_ids[row] for row in order],
        labels=[joined.labels[row] for row in order],
        splits=[joined.splits[row] for row in order],
        scores=joined.scores[:, order],
        available=joined.available[:, order],
    )
    for options in ({}, {"on": "log_probabilities"}, {"objective": "accuracy"}):
        fused, params = fuse(joined, rule(**options), "val")
        shuffled, again = fuse(mixed, rule(**options), "val")
        assert again["weights"] == pytest.approx(params["weights"], abs=1e-6)
        np.testing.assert_allclose(shuffled, fused[order], atol=1e-6)


def test_the_fit_uses_clips_that_all_systems_have():
    joined = make_joined()
    available = joined.available.copy()
    available[0, :30] = False
    scores = np.where(available[:, :, None], joined.scores, np.nan)
    _, params = fuse(replace(joined, available=available, scores=scores), rule(), "val")
    assert params["clips"] == 70
    kept = slice(30, 100)
    targets = np.array([CLASSES.index(own[0]) for own in joined.labels])
    alone = rule().fit(joined.scores[:, kept], targets[kept], available[:, kept], joined.systems)
    assert alone["weights"] == pytest.approx(params["weights"])


@pytest.mark.parametrize("name", FUSION_RULES.names())
def test_parameters_survive_json(name):
    joined = make_joined(skill=(1.0, 1.5, 0.5))
    fusion = FUSION_RULES.build(name, {})
    fused, params = fuse(joined, fusion, "val")
    stored = json.loads(json.dumps(params, sort_keys=True, allow_nan=False))
    assert stored == params
    np.testing.assert_array_equal(fusion.apply(stored, joined.scores, joined.available), fused)


def test_fixed_weights_need_neither_the_split_nor_labels():
    joined = replace(make_joined(), splits=["test"] * 200, labels=[[]] * 200)
    fixed = rule(weights={"video": 3, "audio": 1})
    for split in ("val", "test"):
        fused, params = fuse(joined, fixed, split)
        assert params["weights"] == {"audio": 0.25, "video": 0.75}
        assert (params["clips"], params["accuracy"], params["curve"]) == (0, None, [])
        expected = 0.25 * joined.scores[0] + 0.75 * joined.scores[1]
        np.testing.assert_allclose(fused, expected, atol=1e-6)


def test_a_missing_split_is_named_with_those_present():
    joined = make_joined()
    with pytest.raises(TableError, match=r"split 'train'.* there are test \(100\), val \(100\)"):
        fuse(joined, rule(), "train")


@pytest.mark.parametrize("labels", [[], ["cat", "dog"], ["elk"]])
def test_a_clip_without_one_label_is_named(labels):
    joined = make_joined()
    changed = replace(joined, labels=[*joined.labels[:7], labels, *joined.labels[8:]])
    with pytest.raises(TableError, match=r"clip 'clip0007' of split 'val' has labels \["):
        fuse(changed, rule(), "val")


def test_no_clip_of_all_systems_is_named_with_the_counts():
    joined = make_joined()
    available = joined.available.copy()
    available[1, :] = False
    with pytest.raises(TableError, match=r"none of 100 clips .*\(audio 100, video 0\)"):
        fuse(replace(joined, available=available), rule(), "val")


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
        ({"on": "logits"}, "'probabilities' or 'log_probabilities'"),
    ],
)
def test_settings_out_of_range_are_refused(options, match):
    with pytest.raises(ValidationError, match=match):
        rule(**options)


def test_fixed_weights_have_to_name_the_systems():
    with pytest.raises(RecipeError, match="did you mean 'video'") as caught:
        fuse(make_joined(), rule(weights={"audio": 1, "vidoe": 1}), "val")
    assert "system 'video' has no weight" in str(caught.value)


def test_apply_refuses_a_clip_without_scores_and_other_systems():
    joined = make_joined()
    _, params = fuse(joined, rule(), "val")
    available = joined.available.copy()
    available[:, 3] = False
    with pytest.raises(ValueError, match="clip 3 has no scores of any system"):
        rule().apply(params, joined.scores, available)
    with pytest.raises(ValueError, match="scores have 1 systems, the weights are for audio, video"):
        rule().apply(params, joined.scores[:1], available[:1])


def test_grid_is_bounded_even_and_holds_the_corners():
    for size, count in ((1, 1), (2, 101), (3, 1326), (4, 1771), (6, 252), (50, 1275)):
        points = simplex.grid(size, 2000)
        assert len(points) == len(np.unique(points, axis=0)) == count
        assert points.min() >= 0
        np.testing.assert_allclose(points.sum(1), 1)
        assert np.isin(np.eye(size), points).all()
    assert np.array_equal(np.unique(simplex.grid(3, 1), axis=0), np.unique(np.eye(3), axis=0))


@pytest.mark.parametrize(
    ("target", "expected"), [([0.2, 0.3, 0.5], [0.2, 0.3, 0.5]), ([1.5, 0.5, -3], [1, 0, 0])]
)
def test_minimise_finds_the_minimum_inside_and_at_the_edge(target, expected):
    def squares(weights):
        away = weights - np.array(target)
        return float(away @ away), 2 * away, 2 * np.eye(3)

    assert simplex.minimise(squares, 3) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("on", ["probabilities", "log_probabilities"])
def test_derivatives_are_those_of_differences(on, monkeypatch):
    scores, targets = make_scores(8, skill=(1, 0.5, 2))
    seen = []

    def compare(function, size):
        weights, step = np.array([0.2, 0.5, 0.3]), 1e-5
        _, gradient, hessian = function(weights)
        for index, unit in enumerate(np.eye(size) * step):
            above, below = function(weights + unit), function(weights - unit)
            slope, bend = ((above[k] - below[k]) / (2 * step) for k in (0, 1))
            assert gradient[index] == pytest.approx(slope, abs=1e-6)
            assert hessian[index] == pytest.approx(bend, abs=1e-5)
            seen.append(index)
        return weights

    monkeypatch.setattr("audioflow.fusion.minimise", compare)
    rule(on=on).fit(scores, targets, all_there(scores))
    assert seen == [0, 1, 2]
