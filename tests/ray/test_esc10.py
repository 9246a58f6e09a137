"""ESC-10, 400 real recordings, cross-validated over its published folds: the README's figures."""

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
    told = re.search(r"choose the epoch: (\d+\.\d) % \(", (ROOT / "README.md").read_text())
    assert told
    assert accuracy["value"] == pytest.approx(float(told.group(1)) / 100, abs=0.015)
    assert accuracy["low"] < accuracy["value"] < accuracy["high"]


def test_real_networks_reach_the_accuracies_that_the_readme_tells(
    shared_data: Path, tmp_path: Path, ray_session: None
) -> None:
    weights = shared_data / "weights"
    files = {
        "yamnet": "yamnet_spectra_in.tflite",
        "musicnn": "mtat_musicnn.pth",
        "edgel3": "edgel3_sea_ust_audio_emb_64.h5.gz",
    }
    overrides = [
        f"run_dir={tmp_path}/esc10",
        f"manifest.list={shared_data}/esc10/meta.csv",
        f"manifest.root={shared_data}/esc10/audio",
        *(f"embed.backbones.{name}.weights={weights / file}" for name, file in files.items()),
    ]
    path = ROOT / "configs" / "esc10_backbones.yaml"
    run = Run(load_recipe(str(path), overrides, plugins()))
    run_job("run", run)
    report = json.loads(run.report().folder.read("report.json"))
    found = {each["name"]: each["metrics"]["accuracy"]["value"] for each in report["systems"]}
    rows = r"^\| `(\w+)`[^|]*\|[^|]*\| \**(\d+\.\d) %\** \("
    told = re.findall(rows, (ROOT / "README.md").read_text(), flags=re.MULTILINE)
    assert {name for name, _ in told} == found.keys() == {*files, "acoustic"}
    for name, percent in told:
        assert found[name] == pytest.approx(float(percent) / 100, abs=0.015), name
    assert found["yamnet"] >= 0.96
    for name in files:
        used = run.embeddings(name).complete_header().settings["weights"]["weights"]
        assert used["trained"], name
