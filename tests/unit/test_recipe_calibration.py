"""The part of a recipe that calibrates: what it may say, and that heads do not depend on it."""

from collections.abc import Callable
from pathlib import Path

import pytest

from audioflow.cli import plugins
from audioflow.errors import RecipeError
from audioflow.recipe import Recipe
from audioflow.recipe_file import load_recipe

BASE = """\
run_dir: runs/x
manifest: {reader: folder, root: data}
embed: {backbones: {acoustic: {}}}
systems:
  audio: {backbone: acoustic, head: linear, calibration: CALIBRATION}
score: {}
"""

Load = Callable[..., Recipe]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    def call(calibration: str, *overrides: str) -> Recipe:
        path = tmp_path / "r.yaml"
        path.write_text(BASE.replace("CALIBRATION", calibration))
        return load_recipe(str(path), overrides, plugins())

    return call


def test_a_name_is_a_method_with_its_defaults(load: Load) -> None:
    found = load("isotonic").systems["audio"].calibration
    assert found is not None
    assert (found.method, found.thresholds, found.keep_raw) == ("isotonic", None, True)
    assert load("null").systems["audio"].calibration is None
    only = load("{thresholds: {recall: 0.8}, keep_raw: false}").systems["audio"].calibration
    assert only is not None
    assert (only.method, only.keep_raw) == ("temperature", False)
    assert only.thresholds is not None
    assert only.thresholds.recall == 0.8


def test_a_head_is_the_same_however_its_scores_are_calibrated(load: Load) -> None:
    one, other = (load(text).systems["audio"] for text in ("isotonic", "null"))
    assert one != other
    assert one.of_head == other.of_head
    assert "calibration" not in one.of_head


@pytest.mark.parametrize(
    ("calibration", "told"),
    [
        (
            "isotonik",
            "calibration.method: 'isotonik' is not allowed; allowed: temperature, vector,",
        ),
        ("{metod: platt}", "calibration.metod: unknown key, with the value 'platt'"),
        (
            "{thresholds: {}}",
            "calibration.thresholds: needs one of precision, recall and f1, got none",
        ),
        (
            "{thresholds: {precision: 0.9, f1: best}}",
            "calibration.thresholds: needs one of precision, recall and f1, got f1 ('best'), "
            "precision (0.9)",
        ),
        ("{thresholds: {precision: 90}}", "calibration.thresholds.precision: 90"),
        ("{thresholds: {recall: 0}}", "calibration.thresholds.recall: 0"),
        ("{thresholds: {f1: 0.5}}", "calibration.thresholds.f1: 0.5 is not allowed; allowed: best"),
    ],
)
def test_what_cannot_be_is_told(load: Load, calibration: str, told: str) -> None:
    with pytest.raises(RecipeError) as caught:
        load(calibration)
    (fault,) = caught.value.faults
    assert told in str(fault)


def test_without_val_there_is_nothing_to_calibrate_on(load: Load) -> None:
    splits = "manifest.splits={train: 0.8, test: 0.2}"
    overrides = [splits, "systems.audio.head=logistic_regression", "score.splits=[test]"]
    with pytest.raises(RecipeError) as caught:
        load("platt", *overrides)
    (fault,) = caught.value.faults
    assert (
        "systems.audio.calibration: is fitted on clips of 'val', and manifest.splits gives"
        in str(fault)
    )
    load("none", *overrides)
    load("platt", "manifest.splits={folds: 5}", "score.splits=[test]")
