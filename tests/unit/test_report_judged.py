"""What the page says of calibration, thresholds, groups, several labels, and what fusing brings."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from audioflow.metrics.calibration_error import (
    brier,
    confidence_and_right,
    expected_calibration_error,
)
from audioflow.report import SystemScores
from audioflow.report.figures import compute
from audioflow.report.formats import decimal, percent, with_metric_names
from audioflow.report.judged_views import FEWEST, calibration_rows, group_views, threshold_views
from audioflow.report.words import verdict
from tests.unit.report_pages import (
    CLASSES,
    build_text,
    certain,
    load,
    make_data,
    make_system,
    page_of,
    two_and_fused,
)


def threshold(value: float | None, reason: str = "") -> dict[str, Any]:
    there = value is not None
    return {
        "value": value,
        "reason": reason,
        "clips": 12,
        "precision": 0.91 if there else None,
        "recall": 0.5 if there else None,
        "value_interval": (0.3, 0.6) if there else None,
        "precision_interval": (0.8, 0.95) if there else None,
        "recall_interval": None,
    }


TOLD = {
    "method": "platt",
    "target": "precision 0.9",
    "how": "in 5 blocks of groups",
    "before": {"ece": 0.2, "adaptive_ece": 0.21, "brier": 0.5, "nll": 1.5},
    "after": {"ece": 0.1, "adaptive_ece": 0.11, "brier": 0.4, "nll": 1.25},
    "notes": ["class rain has 3 clips"],
    "classes": {"siren": threshold(0.45), "rain": threshold(None, "3 clips of the class")},
}


def calibrated_system() -> SystemScores:
    system = make_system("audio", num_clips=200)
    raw = system.scores**0.3
    return replace(system, calibration=TOLD, raw_scores=raw / raw.sum(axis=1, keepdims=True))


def test_what_calibration_did_is_told_of_the_clips_that_are_judged() -> None:
    system = calibrated_system()
    data = make_data(system)
    row = calibration_rows(data, compute(data, "test", 2))[0]
    target = np.arange(200) % 4
    errors = [
        (expected_calibration_error(*confidence_and_right(s, target)), brier(s, target))
        for s in (system.raw_scores, system.scores)
    ]
    assert (row.errors[0].before, row.errors[0].after) == tuple(percent(ece) for ece, _ in errors)
    assert (row.errors[2].before, row.errors[2].after) == tuple(decimal(b, 3) for _, b in errors)
    assert (row.method, row.changed) == ("platt", "0")
    page = page_of(build_text(data, num_bootstrap=2))
    assert "before calibration" in page.text
    assert "audio: class rain has 3 clips" in page.text


def test_without_raw_scores_the_errors_are_those_of_the_fit_and_that_is_said() -> None:
    data = make_data(replace(calibrated_system(), raw_scores=None))
    row = calibration_rows(data, compute(data, "test", 2))[0]
    assert [(cell.before, cell.after) for cell in row.errors] == [
        ("20.0", "10.0"),
        ("21.0", "11.0"),
        ("0.500", "0.400"),
        ("1.500", "1.250"),
    ]
    assert row.notes[0] == "errors are those on the fitting clips (in 5 blocks of groups)"
    assert "before calibration" not in page_of(build_text(data, num_bootstrap=2)).text


def test_thresholds_stand_in_a_table_with_the_reason_where_there_is_none() -> None:
    data = make_data(calibrated_system())
    view = threshold_views(data, compute(data, "test", 2))[0]
    assert (view.target, view.lacking) == ("for precision 0.9", 1)
    siren, rain = view.rows
    assert (siren.value, siren.interval, siren.precision, siren.recall) == (
        "0.450",
        "0.300 to 0.600",
        "91.0 (80.0 to 95.0)",
        "50.0",
    )
    assert (rain.value, rain.key, rain.reason) == ("–", "", "3 clips of the class")
    text = page_of(build_text(data, num_bootstrap=2)).text
    assert "Thresholds of audio per class for precision 0.9; 1 class without" in text


def test_groups_are_worst_first_and_small_ones_left_out() -> None:
    system = certain("audio", 60)
    groups = tuple(
        "bad site" if n >= 70 else "good site" if n < 60 else f"one{n}" for n in range(100)
    )
    data = make_data(replace(system, groups=groups))
    view = group_views(compute(data, "test", 100))[0]
    assert [(row.name, row.clips, row.weak) for row in view.rows] == [
        ("bad site", 30, True),
        ("good site", 60, False),
    ]
    assert view.num_groups == 12
    assert min(row.clips for row in view.rows) >= FEWEST
    text = page_of(build_text(data, num_bootstrap=20)).text
    assert "bad site worse 30 0.0" in text
    assert "Shown are 2 of 12" in text
    assert "audio is worse on group bad site: accuracy 0.0 % of 30 clips." in text


def several(name: str = "audio", seed: int = 0) -> SystemScores:
    """Clips with none, one or two labels."""
    rng = np.random.default_rng(seed)
    truth = np.random.default_rng(7).random((80, 4)) < 0.35
    scores = 1 / (1 + np.exp(-(rng.normal(size=truth.shape) + 3 * truth - 1.5)))
    sets = tuple(tuple(c for c, one in zip(CLASSES, row, strict=True) if one) for row in truth)
    return replace(
        make_system(name, num_clips=80),
        scores=scores.astype(np.float32),
        labels=tuple(map(", ".join, sets)),
        label_sets=sets,
    )


def test_clips_of_several_labels_have_figures_of_their_own() -> None:
    files = build_text(make_data(several(), several("video", 1)), num_bootstrap=20)
    page, found = page_of(files), load(files)
    assert found["systems"][0]["multi_label"] is True
    assert found["systems"][0]["num_clips"] == 80
    assert "reaches mAP " in found["verdict"]
    assert "confusion" not in page.ids()
    assert {"curves", "classes", "clips"} <= set(page.ids())
    assert "without any label, which count too." in page.text
    shown = page.text.partition("How sure is that?")[2].partition("Made by audioflow")[0]
    assert not {"nan", "none", "inf"} & set(shown.lower().replace(".", " ").split())


def test_systems_of_one_and_of_several_labels_share_a_page() -> None:
    files = build_text(make_data(several(), make_system("video")), num_bootstrap=5)
    found = load(files)
    assert found["verdict"].startswith("The video system classifies")
    assert "exact match" in page_of(files).text


def test_the_fusion_page_has_tests_costs_and_classes() -> None:
    audio, video, fused = two_and_fused()
    params = {
        **fused.fusion,
        "fit": {"clips": 24, "sampled_from": 900, "cross_fitted": False},
        "calibration": {"audio": {"method": "temperature"}, "video": {"method": "none"}},
        "out_of_fold": {"accuracy": 0.75, "log_loss": 0.5},
        "per_class": {"weights": {"audio": [0.1, 0.2, 0.3, 0.4], "video": [0.9, 0.8, 0.7, 0.6]}},
    }
    files = build_text(make_data(audio, video, replace(fused, fusion=params)), num_bootstrap=50)
    text, found = page_of(files).text, load(files)
    assert "fitted on 24 clips, drawn from 900" in text
    assert "every system calibrated first (temperature)" in text
    assert "accuracy 75.0 % on clips that had no part in the fit" in text
    assert "log loss 0.500 on clips that had no part in the fit" in text
    for gain in found["gains"]:
        only_fused, only_part = gain["test"]["only_b"], gain["test"]["only_a"]
        alone = (
            f"{only_fused} clip{'' if only_fused == 1 else 's'} right only when fused, {only_part}"
        )
        assert f"Against {gain['part']}: {alone} only alone; McNemar's test, p " in text
    better = next(gain for gain in found["gains"] if gain["is_better_part"])
    assert {one["name"] for one in better["classes"]} == set(CLASSES)
    assert "weight of audio weight of video" in text


@pytest.mark.parametrize(
    ("better", "words"),
    [
        (None, "more than video alone"),
        ("audio", r"; over video, which does better on these clips, +8."),
    ],
)
def test_the_verdict_is_honest_where_the_better_part_was_chosen_elsewhere(
    better: str | None, words: str
) -> None:
    params = {} if better is None else {"better": better}
    third = certain("fused", 88, kind="fused", parts=("audio", "video"), fusion=params)
    data = make_data(certain("audio", 70), certain("video", 80), third)
    assert words in verdict(data, compute(data, "test", 50))


@pytest.mark.parametrize(
    ("sentence", "expected"),
    [
        ("d_prime is infinite, because roc_auc is 1", "d-prime is infinite, because ROC-AUC is 1"),
        (
            "class 'map' has no clip: it is left out of map",
            "class 'map' has no clip: it is left out of mAP",
        ),
        ("mapping stays", "mapping stays"),
    ],
)
def test_keys_of_metrics_are_named_in_sentences(sentence: str, expected: str) -> None:
    assert with_metric_names(sentence) == expected
