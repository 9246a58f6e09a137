"""ESC-10, 400 real recordings, cross-validated over its published folds: the README's figures."""

import json
import re
from collections.abc import Sequence
from pathlib import Path

import pytest
from ruamel.yaml import YAML

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


FILES = {
    "yamnet": "yamnet_spectra_in.tflite",
    "musicnn": "mtat_musicnn.pth",
    "edgel3": "edgel3_sea_ust_audio_emb_64.h5.gz",
}


@pytest.mark.parametrize(
    "names",
    [
        pytest.param(("yamnet", "acoustic"), id="one"),
        # Two minutes of computing, of networks that unit tests compare with published outputs.
        pytest.param((*FILES, "acoustic"), id="all", marks=pytest.mark.slow),
    ],
)
def test_real_networks_reach_the_accuracies_that_the_readme_tells(
    shared_data: Path, tmp_path: Path, ray_session: None, names: Sequence[str]
) -> None:
    path = ROOT / "configs" / "esc10_backbones.yaml"
    recipe = YAML(typ="safe").load(path.read_text())
    chosen = {name: recipe["embed"]["backbones"][name] for name in names}
    for name in chosen.keys() & FILES:
        chosen[name] |= {"weights": str(shared_data / "weights" / FILES[name])}
    overrides = [
        f"run_dir={tmp_path}/esc10",
        f"manifest.list={shared_data}/esc10/meta.csv",
        f"manifest.root={shared_data}/esc10/audio",
        f"embed.backbones={json.dumps(chosen)}",
        f"systems={json.dumps({name: recipe['systems'][name] for name in names})}",
    ]
    run = Run(load_recipe(str(path), overrides, plugins()))
    run_job("run", run)
    report = json.loads(run.report().folder.read("report.json"))
    found = {each["name"]: each["metrics"]["accuracy"]["value"] for each in report["systems"]}
    rows = r"^\| `(\w+)`[^|]*\|[^|]*\| \**(\d+\.\d) %\** \("
    told = dict(re.findall(rows, (ROOT / "README.md").read_text(), flags=re.MULTILINE))
    assert told.keys() == {*FILES, "acoustic"} == set(recipe["systems"])
    assert found.keys() == set(names)
    for name, accuracy in found.items():
        assert accuracy == pytest.approx(float(told[name]) / 100, abs=0.015), name
    assert found["yamnet"] >= 0.96
    for name in chosen.keys() & FILES:
        used = run.embeddings(name).complete_header().settings["weights"]["weights"]
        assert used["trained"], name
