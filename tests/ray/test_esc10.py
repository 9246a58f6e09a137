"""ESC-10, 400 real recordings, cross-validated over its published folds; the README's figure."""

import json
import re
from pathlib import Path

import pytest

from audioflow.cli import plugins
from audioflow.engine.flow import run_job
from audioflow.engine.run import Run
from audioflow.recipe_file import load_recipe
from tests.conftest import ROOT


def test_the_recipe_reaches_the_accuracy_that_the_readme_tells(
    shared_data: Path, tmp_path: Path, ray_session: None
) -> None:
    overrides = [
        f"run_dir={tmp_path}/esc10",
        f"manifest.list={shared_data}/esc10/meta.csv",
        f"manifest.root={shared_data}/esc10/audio",
    ]
    run = Run(load_recipe(str(ROOT / "configs" / "esc10.yaml"), overrides, plugins()))
    run_job("run", run)
    assert run.embeddings("acoustic").complete_header().rows == 400
    report = json.loads(run.report().folder.read("report.json"))
    accuracy = report["systems"][0]["metrics"]["accuracy"]
    assert report["systems"][0]["num_clips"] == 400
    told = re.search(r"\*\*(\d+\.\d) %\*\* of the clips right", (ROOT / "README.md").read_text())
    assert told
    assert accuracy["value"] == pytest.approx(float(told.group(1)) / 100, abs=0.015)
    assert accuracy["low"] < accuracy["value"] < accuracy["high"]
