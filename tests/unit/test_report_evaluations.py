"""What the report computes of clips with several labels, of groups and columns, and its curves."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from sklearn import metrics as sk

from audioflow.report import SystemScores
from audioflow.report.figures import compute
from tests.unit.report_pages import CLASSES, build_text, load, make_data, make_system, page_of


def several(
    name: str = "tags", num_clips: int = 80, split: str = "test", **more: Any
) -> SystemScores:
    """Clips with none to three of four labels; the last clip's label is no class."""
    rng = np.random.default_rng(3)
    truth = rng.random((num_clips, 4)) < 0.3
    truth[:2] = False
    scores = (0.55 * rng.random((num_clips, 4)) + 0.4 * truth).astype(np.float32)
    sets = [tuple(np.array(CLASSES)[row].tolist()) for row in truth]
    sets[-1] = (*sets[-1], "thunder")
    return replace(
        make_system(name, num_clips=num_clips, split=split),
        scores=scores,
        label_sets=tuple(sets),
        labels=tuple(map(", ".join, sets)),
        **more,
    )


def truth_of(system: SystemScores) -> np.ndarray:
    assert system.label_sets is not None
    return np.array([[name in labels for name in CLASSES] for labels in system.label_sets])


def test_clips_with_several_labels_or_none_count() -> None:
    system = several()
    files = build_text(make_data(system), num_bootstrap=20)
    found, truth = load(files)["systems"][0], truth_of(system)
    assert found["multi_label"]
    assert (found["num_clips"], found["left_out"], found["unknown_labels"]) == (80, 0, 1)
    assert found["unlabelled"] == np.sum(~truth.any(1)) >= 2
    assert found["metrics"]["map"]["value"] == pytest.approx(
        sk.average_precision_score(truth, system.scores, average="macro")
    )
    assert found["metrics"]["micro_f1"]["value"] == pytest.approx(
        sk.f1_score(truth, system.scores >= 0.5, average="micro")
    )
    assert found["chance"]["map"] == pytest.approx(truth.mean(0).mean())
    assert found["chance"]["lwlrap"] is None
    assert found["confused"] == []
    assert not found["confusion"]
    for mistake in found["mistakes"]:
        row = system.clip_ids.index(mistake["clip_id"])
        assert not truth[row, CLASSES.index(mistake["predicted"])]
    page_of(files)


def test_thresholds_of_the_calibration_say_what_is_said() -> None:
    classes = {"siren": {"value": 0.3}, "horn": {"value": None, "reason": "too few clips"}}
    system = several(calibration={"method": "none", "classes": classes})
    found = compute(make_data(system), "test", 0).systems[0].evaluation
    assert found is not None
    said = system.scores >= np.float32([0.3, 0.5, 0.5, 0.5])
    expected = sk.precision_score(truth_of(system), said, average=None)
    assert [one.precision for one in found.per_class] == pytest.approx(expected)


def test_results_by_group_and_by_column_stand_worst_first() -> None:
    system = make_system("audio")
    kinds = tuple(("field", "studio", "")[place % 3] for place in range(60))
    right = np.eye(4, dtype=np.float32)[np.arange(60) % 4]
    wrong = np.roll(right, 1, axis=1)
    scores = np.where([[kind == "field"] for kind in kinds], wrong, right)
    system = replace(system, scores=scores, columns={"source": kinds, "alone": system.clip_ids})
    found = load(build_text(make_data(system), num_bootstrap=5))["systems"][0]["groups"]
    assert [table["column"] for table in found] == ["group", "source"]
    assert (found[0]["num_groups"], found[0]["rows"][0]["num_clips"]) == (30, 2)
    rows = {row["name"]: row["metrics"]["accuracy"]["value"] for row in found[1]["rows"]}
    assert list(rows.items()) == [("field", 0.0), ("(none)", 1.0), ("studio", 1.0)]


def test_there_is_no_table_of_groups_where_each_clip_is_one() -> None:
    system = make_system("audio")
    system = replace(system, groups=system.clip_ids)
    assert load(build_text(make_data(system), num_bootstrap=2))["systems"][0]["groups"] == []


def test_curves_and_details_are_in_the_json() -> None:
    system = make_system("audio")
    found = load(build_text(make_data(system), num_bootstrap=20))["systems"][0]
    target = np.array([CLASSES.index(label) for label in system.labels])
    assert found["details"]["log_loss"]["value"] == pytest.approx(
        sk.log_loss(target, system.scores), rel=1e-5
    )
    assert found["details"]["log_loss"]["low"] < found["details"]["log_loss"]["value"]
    assert found["details"]["roc_auc_ovo"]["low"] is None
    curves = found["curves"]
    assert [one["name"] for one in curves["classes"]] == list(CLASSES)
    assert curves["micro"]["roc"]["threshold"][0] is None
    for one, place in zip(curves["classes"], range(4), strict=True):
        area = np.trapezoid(one["roc"]["y"], one["roc"]["x"])
        expected = sk.roc_auc_score(target == place, system.scores[:, place])
        assert area == pytest.approx(expected, abs=1e-4)
        digits = max(len(f"{value:.12g}".lstrip("0.")) for value in one["roc"]["x"])
        assert digits <= 5


def test_a_system_without_a_clip_on_the_split_has_none_of_it() -> None:
    data = make_data(make_system("audio", split="val"), several("tags", split="val"))
    for system in load(build_text(data))["systems"]:
        assert (system["details"], system["groups"], system["curves"]) == ({}, [], None)


def test_what_fusing_brings_is_told_of_several_labels_too() -> None:
    poor, good = several("poor"), several("good")
    rng = np.random.default_rng(0)
    poor = replace(poor, scores=rng.random(poor.scores.shape).astype(np.float32))
    fused = replace(
        good,
        name="fused",
        kind="fused",
        parts=("poor", "good"),
        available=(("poor", "good"),) * 80,
        scores=(good.scores + poor.scores) / 2,
    )
    files = build_text(make_data(poor, good, fused), num_bootstrap=10)
    found = load(files)
    assert {gain["part"]: gain["is_better_part"] for gain in found["gains"]} == {
        "poor": False,
        "good": True,
    }
    truth = truth_of(good)
    areas = [sk.average_precision_score(truth, one.scores) for one in (fused, poor, good)]
    for gain, area in zip(found["gains"], areas[1:], strict=True):
        assert gain["metric"] == "map"
        assert gain["gain"]["value"] == pytest.approx(areas[0] - area)
    assert found["availability"][0]["accuracy"]["value"] == pytest.approx(areas[0])
    page_of(files)
