"""Thresholds of classes, and the calibration of a system that holds them."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from audioflow.calibration import SystemCalibration, Target, find_thresholds
from audioflow.calibration.base import softmax
from audioflow.calibration.fit_system import Material, Wanted, fit_system
from audioflow.calibration.system import CALIBRATION
from audioflow.errors import TableError
from audioflow.storage import Folder

N, C = 3000, 3
CLASSES = ("ant", "bee", "cat")


def single(count: int = N, seed: int = 0) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Scores of clips with one label, twice as sure as they should be; three clips to a group."""
    generator = np.random.default_rng(seed)
    logits = 1.5 * generator.normal(size=(count, C))
    targets = (generator.random((count, 1)) > softmax(logits).cumsum(axis=1)).sum(axis=1)
    groups = [f"site{clip // 3}" for clip in range(count)]
    return softmax(2 * logits).astype(np.float32), targets.clip(max=C - 1), groups


def several(count: int = N, seed: int = 0) -> tuple[np.ndarray, np.ndarray, list[str]]:
    generator = np.random.default_rng(seed)
    logits = 2 * generator.normal(size=(count, C))
    labels = generator.random(logits.shape) < 1 / (1 + np.exp(-logits))
    groups = [f"site{clip // 3}" for clip in range(count)]
    return (1 / (1 + np.exp(-logits))).astype(np.float32), labels, groups


def kept(scores: np.ndarray, targets: np.ndarray, place: int, value: float) -> tuple[float, float]:
    """Precision and recall of a class at a threshold, counted clip by clip."""
    hits = said = 0
    for row, target in zip(scores, targets, strict=True):
        chosen = row[place] >= value
        if np.ndim(target) == 0:
            chosen &= row.argmax() == place
        said += chosen
        hits += bool(chosen and (target == place if np.ndim(target) == 0 else target[place]))
    total = (targets == place).sum() if targets.ndim == 1 else targets[:, place].sum()
    return hits / said, hits / total


@pytest.mark.parametrize("make", [single, several])
def test_below_a_threshold_for_a_precision_there_is_no_more_recall_to_be_had(make: Any) -> None:
    scores, targets, groups = make()
    for place, one in enumerate(find_thresholds(scores, targets, Target("precision", 0.8), groups)):
        assert one.value is not None
        precision, recall = kept(scores, targets, place, one.value)
        assert precision >= 0.8
        assert (one.precision, one.recall) == pytest.approx((precision, recall))
        candidates = scores.argmax(axis=1) == place if targets.ndim == 1 else slice(None)
        lower = np.unique(scores[candidates, place])
        lower = lower[lower < one.value][-60:]
        at_lower = [kept(scores, targets, place, value) for value in lower]
        assert all(low < 0.8 or more == recall for low, more in at_lower)


@pytest.mark.parametrize("make", [single, several])
def test_a_threshold_for_a_recall_is_the_highest_that_keeps_it(make: Any) -> None:
    scores, targets, groups = make()
    for place, one in enumerate(find_thresholds(scores, targets, Target("recall", 0.4), groups)):
        assert one.value is not None
        assert kept(scores, targets, place, one.value)[1] >= 0.4
        higher = np.unique(scores[:, place])
        higher = higher[higher > one.value][1:]
        assert kept(scores, targets, place, float(higher[0]))[1] < 0.4


def test_the_best_f1_is_the_best_of_all_scores() -> None:
    scores, targets, groups = several(count=400)
    for place, one in enumerate(find_thresholds(scores, targets, Target("f1"), groups)):
        assert one.value is not None
        found = []
        for value in np.unique(scores[:, place]):
            precision, recall = kept(scores, targets, place, float(value))
            found.append(2 * precision * recall / (precision + recall) if precision else 0)
        assert one.f1 == pytest.approx(max(found))


def test_an_interval_holds_what_other_clips_give() -> None:
    scores, targets, groups = several()
    others, their_targets, _ = several(count=60_000, seed=5)
    for place, one in enumerate(find_thresholds(scores, targets, Target("precision", 0.8), groups)):
        assert one.value is not None
        assert one.value_interval is not None
        assert one.precision_interval is not None
        low, high = one.value_interval
        assert low <= one.value <= high
        assert high - low < 0.3
        precision, _ = kept(others, their_targets, place, one.value)
        low, high = one.precision_interval
        assert low - 0.01 < precision < high + 0.01
        assert one.reachable == 1


def test_intervals_are_over_groups() -> None:
    scores, targets, _ = several(count=600)
    whole = np.repeat(np.arange(20), 30).astype(str).tolist()
    many = find_thresholds(
        np.repeat(scores, 5, 0), np.repeat(targets, 5, 0), Target("f1"), whole * 5
    )
    few = find_thresholds(scores, targets, Target("f1"), whole)
    assert many[0].precision_interval == pytest.approx(few[0].precision_interval, abs=0.05)
    alone = find_thresholds(scores, targets, Target("f1"), ["one"] * 600)
    assert (alone[0].value_interval, alone[0].reachable) == (None, None)
    assert alone[0].value == few[0].value


def test_a_class_that_cannot_reach_its_target_says_why() -> None:
    scores, targets, groups = single()
    generator = np.random.default_rng(1)
    mixed = targets.copy()
    mixed[targets == 0] = generator.integers(2, size=(targets == 0).sum())
    found = find_thresholds(scores, mixed, Target("precision", 0.95), groups)[0]
    assert found.value is None
    assert found.reason.startswith("the precision is 0.")
    low = find_thresholds(scores, targets, Target("recall", 0.999), groups)[1]
    assert low.value is None
    assert "recall is 0." in low.reason
    some = np.flatnonzero((targets != 2) | (np.arange(N) < 12))
    rare = find_thresholds(scores[some], targets[some], Target("f1"), [groups[k] for k in some])[2]
    assert rare.value is None
    assert f"{rare.clips} clip" in rare.reason
    none = find_thresholds(scores, np.zeros(N, np.intp), Target("f1"), groups)[2]
    assert none.reason == "no clip of the class to find it on, 5 are needed"
    never = scores.copy()
    never[:, 1] = 0
    unseen = find_thresholds(never, targets, Target("precision", 0.5), groups)[1]
    assert unseen.reason.startswith("no clip of the class is predicted to be it")


def test_clips_with_the_same_score_stay_together() -> None:
    scores = np.array([[0.9]] * 5 + [[0.6]] * 10 + [[0.2]] * 5, np.float32)
    targets = np.array([[True]] * 5 + [[True], [False]] * 5 + [[False]] * 5)
    found = find_thresholds(scores, targets, Target("precision", 0.7), [str(k) for k in range(20)])
    assert found[0].reached == 5 or found[0].precision == pytest.approx(2 / 3)
    assert found[0].value == pytest.approx(0.75)
    assert found[0].precision == 1


def wanted(method: str = "temperature", target: Target | None = None, **more: Any) -> Wanted:
    values: dict[str, Any] = {"keep_raw": True, "classes": CLASSES, "multi_label": False}
    return Wanted(method, target, **(values | more))


def material(folds: int = 0, **more: Any) -> Material:
    scores, targets, groups = single(**more)
    named = [f"f{clip // 3 % folds}" for clip in range(len(scores))] if folds else None
    return Material(scores, targets, groups, named)


def test_what_a_calibration_did_is_judged_on_other_clips_than_it_was_fitted_on() -> None:
    found = fit_system(material(), wanted("isotonic", Target("precision", 0.7)), "key")
    fitted = found.fitted
    assert fitted["after"]["ece"] < fitted["before"]["ece"] / 2
    assert fitted["how"].startswith("cross-fitted: groups in 5 blocks")
    assert (fitted["clips"], fitted["groups"]) == (N, N // 3)
    # On labels without any meaning, a curve that sees a clip's own label would look calibrated.
    senseless = replace(material(), targets=np.random.default_rng(0).integers(C, size=N))
    nothing = fit_system(senseless, wanted("isotonic"), "key").fitted
    assert nothing["after"]["nll"] > np.log(C) - 0.005


def test_clips_of_a_fold_have_no_part_in_what_calibrates_them() -> None:
    asked = wanted("isotonic", Target("precision", 0.7))
    there = material(folds=4)
    found = fit_system(there, asked, "key")
    assert set(found.folds) == {"f0", "f1", "f2", "f3"}
    mine = np.array(there.folds_N) == "f1"
    changed = there.targets.copy()
    changed[mine] = (changed[mine] + 1) % C
    other = fit_system(replace(there, targets=changed), asked, "key")
    raw = there.raw_NC[:9]
    for fold in ("f1", "f2", None):
        before, after = (one.apply(raw, [fold] * 9) for one in (found, other))
        assert np.array_equal(before, after) == (fold == "f1")
        assert (found.thresholds(fold) == other.thresholds(fold)) == (fold == "f1")
    each = found.apply(raw, ["f0", "f1", None] * 3)
    np.testing.assert_array_equal(each[1::3], found.apply(raw, ["f1"] * 9)[1::3])
    # Of a fold that gave no clip to fit on, nothing can have been seen.
    np.testing.assert_array_equal(found.apply(raw, ["f9"] * 9), found.apply(raw, [None] * 9))


def test_many_folds_share_their_calibrators() -> None:
    there = material(folds=25, count=900)
    found = fit_system(there, wanted(), "key")
    assert len(found.parts) == 11
    assert set(found.folds.values()) == set(range(1, 11))


def test_a_clip_below_the_threshold_of_its_class_is_of_none() -> None:
    found = fit_system(material(), wanted(target=Target("precision", 0.75)), "key")
    scores = found.apply(material().raw_NC, [None] * N)
    limits = {name: one.value for name, one in found.thresholds().items()}
    above = found.above(scores, [None] * N).to_pylist()
    for row, names in zip(scores.tolist(), above, strict=True):
        best = CLASSES[int(np.argmax(row))]
        limit = limits[best]
        assert names == ([best] if limit is not None and max(row) >= limit else [])
    assert 0 < sum(map(bool, above)) < N


def test_of_several_labels_every_class_above_its_threshold_is_named() -> None:
    scores, labels, groups = several()
    asked = wanted("platt", Target("recall", 0.6), multi_label=True)
    found = fit_system(Material(scores, labels, groups), asked, "key")
    after = found.apply(scores, [None] * N)
    above = found.above(after, [None] * N).to_pylist()
    assert {len(names) for names in above} == {0, 1, 2, 3}
    for place, name in enumerate(CLASSES):
        said = np.array([name in names for names in above])
        assert said[labels[:, place]].mean() == pytest.approx(0.6, abs=0.01)


def test_a_calibration_comes_back_from_its_file(tmp_path: Any) -> None:
    folder = Folder(str(tmp_path))
    assert SystemCalibration.load(folder) is None
    made = fit_system(material(folds=3), wanted("vector", Target("recall", 0.4)), "key")
    folder.write(CALIBRATION, made.to_bytes())
    found = SystemCalibration.load(folder)
    assert found is not None
    assert replace(found, parts=(), sha256="") == replace(made, parts=())
    assert found.thresholds("f1") == made.thresholds("f1")
    assert found.columns == ("above_threshold", "raw_scores")
    raw = material().raw_NC[:50]
    np.testing.assert_allclose(
        found.apply(raw, ["f2"] * 50), made.apply(raw, ["f2"] * 50), atol=1e-5
    )
    assert found.summary()["before"] == made.fitted["before"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 7}, "it has version 7, expected 1"),
        ({"classes": None}, "it lacks something"),
        (
            {"parts": [{"calibrator": {"method": "magic"}, "thresholds": None}]},
            "'magic' is not one",
        ),
    ],
)
def test_a_damaged_file_is_told(tmp_path: Any, change: dict[str, Any], message: str) -> None:
    folder = Folder(str(tmp_path))
    told = json.loads(fit_system(material(), wanted(), "key").to_bytes()) | change
    folder.write(CALIBRATION, json.dumps(told).encode())
    with pytest.raises(TableError, match=f"calibration.json is damaged: .*{message}.*train again"):
        SystemCalibration.load(folder)


def test_clips_of_a_single_group_are_judged_as_fitted_and_that_is_said() -> None:
    there = replace(material(count=60), groups_N=["one"] * 60)
    found = fit_system(there, wanted("temperature", Target("f1")), "key")
    assert found.fitted["how"] == "on the clips it was fitted on, which are of one group"


def test_clips_of_a_single_fold_are_all_that_there_is() -> None:
    there = replace(material(count=60), folds_N=["f1"] * 60)
    found = fit_system(there, wanted("platt", Target("f1")), "key")
    assert (len(found.parts), dict(found.folds)) == (1, {})
    assert np.isfinite(found.apply(there.raw_NC, there.folds_N)).all()


def test_notes_name_the_classes_that_had_too_few_clips() -> None:
    there = material(count=300)
    targets = np.where(there.targets == 2, 0, there.targets)
    found = fit_system(replace(there, targets=targets), wanted("platt", Target("f1")), "key")
    assert found.fitted["notes"] == [
        "too few clips to fit platt on: cat; they get the slope and offset that suit all classes "
        "together",
        "no threshold keeps best f1 for cat",
    ]
