"""What the checks find in a run, as the report shows it and as files beside it."""

import csv
import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from audioflow.cli import plugins
from audioflow.engine.report import make_report
from audioflow.engine.run import Run
from audioflow.errors import RecipeError
from audioflow.recipe import Recipe
from audioflow.recipe_file import load_recipe
from audioflow.storage import Folder
from audioflow.tables import Header, Table
from tests.unit.scored_tables import Clips, Told, softmax_scores, write_manifest, write_scores
from tests.unit.test_checks_duplicates import stored

COUNT = 400
PROGRAM = {"import": {"importer": "npy"}}
WRONG = np.flatnonzero(np.arange(COUNT) % 20 < 2)
"""Clips that have the label of another class."""


def run_of(folder: Path, **checks: Any) -> Run:
    section = {"num_bootstrap": 0, "players": 0, "checks": checks}
    recipe = {
        "run_dir": str(folder),
        "manifest": {"reader": "folder", "root": str(folder)},
        "embed": {"backbones": {"acoustic": {}, "color": {}}},
        "score": {"imports": {"one": {"name": "npy"}, "two": {"name": "npy"}}},
        "report": section,
    }
    return Run(Recipe.model_validate(recipe), Told())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Half train, half test; clip 1 (test) is a copy of clip 0 (train) in sound, and 3 of 2 by its
    recording."""
    place = tmp_path_factory.mktemp("checks")
    run = Folder(str(place))
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 3, COUNT)
    ids = [f"clip{number:03}" for number in range(COUNT)]
    splits = ["train", "test"] * (COUNT // 2)
    right = Clips(ids, truth, splits)
    label = truth.copy()
    label[WRONG] = (truth[WRONG] + 1) % 3
    told = Clips(ids, label, splits)
    write_manifest(run, told)
    edit_manifest(run, {"clip003": {"uri": "/data/clip002.mp4"}})
    for seed, name in enumerate(("one", "two")):
        write_scores(run, name, told, softmax_scores(right, seed, skill=5.0), **PROGRAM)
    vectors = rng.normal(size=(COUNT, 40)).astype(np.float32)
    vectors[1] = vectors[0] + 0.05
    store_embeddings(place / "embeddings" / "acoustic", vectors, ids)
    return place


def edit_manifest(run: Folder, changes: dict[str, dict[str, Any]]) -> None:
    table = Table(run / "manifest")
    rows = [row | changes.get(row["clip_id"], {}) for row in table.read().to_pylist()]
    receipt = table.commit("m", pa.Table.from_pylist(rows, schema=table.read().schema))
    header = table.complete_header()
    table.finish(Header(**{**vars(header), "shards": [receipt]}))


def store_embeddings(folder: Path, vectors: np.ndarray, ids: list[str]) -> None:
    source = stored(folder, vectors, ids)
    header = source.table.complete_header()
    settings = {"layers": {"embedding": vectors.shape[1]}, "backbone": "acoustic", "settings": {}}
    source.table.finish(Header(**{**vars(header), "settings": settings}))


def report(folder: Path, **checks: Any) -> tuple[dict[str, dict[str, Any]], Folder]:
    """The tables of report.json by their id, and the folder of the report."""
    run = run_of(folder, **checks)
    make_report(run)
    place = run.report().folder
    return {one["id"]: one for one in json.loads(place.read("report.json"))["clip_tables"]}, place


def rows_of(place: Folder, name: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(place.read(name).decode())))


def test_leaks_are_an_alarm_a_table_and_a_file(folder: Path) -> None:
    tables, place = report(folder)
    leaks = tables["leaks"]
    assert leaks["alarm"] == (
        "2 tested clips (1.0 %) also stand where heads learn: the same stretch (1) and "
        "near-duplicates (1)."
    )
    assert "also stand where heads learn" in place.read("index.html").decode()
    assert [row["cells"][:2] for row in leaks["rows"]] == [
        ["the same stretch", "train / test"],
        ["near-duplicates", "train / test"],
    ]
    assert "embeddings of acoustic (all pairs)" in leaks["lead"]
    assert "Right on the test clips without those listed: one" in leaks["lead"]
    first, second = rows_of(place, "leaks.csv")
    assert (first["clip_a"], first["clip_b"], first["what"]) == (
        "clip002",
        "clip003",
        "/data/clip002.mp4",
    )
    assert (second["clip_a"], second["clip_b"], second["concerned"]) == (
        "clip000",
        "clip001",
        "clip001",
    )
    assert float(second["similarity"]) > 0.99


def test_wrong_labels_lead_the_list_to_review(folder: Path) -> None:
    tables, place = report(folder)
    rows = rows_of(place, "label_suspects.csv")
    assert len(rows) == tables["labels"]["num_rows"]
    assert {row["split"] for row in rows} == {"test"}
    wrong = {f"clip{number:03}" for number in WRONG if number % 2}
    agreed = [row["clip_id"] for row in rows if row["systems"] == "one two"]
    assert len(wrong.intersection(agreed)) >= 18
    assert wrong.issuperset(agreed[:18])
    assert tables["labels"]["rows"][0]["cells"][3] == "2 of 2: one and two"
    assert all(row["decision"] == "" for row in rows)


def test_a_table_that_is_not_made_is_a_fault_of_the_recipe(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    text = (
        "run_dir: x\nmanifest: {reader: folder, root: d}\nembed: {backbones: {acoustic: {}}}\n"
        "report: {checks: {duplicates: %s}}\n"
    )
    path.write_text(text % "acustic")
    told = (
        "r.yaml:4: report.checks.duplicates: 'acustic' is no embeddings table of this recipe; "
        "allowed: auto, off, acoustic; did you mean 'acoustic'?"
    )
    with pytest.raises(RecipeError, match=re.escape(told)):
        load_recipe(str(path), [], plugins(), "report")
    for good in ("off", "auto", "acoustic"):
        path.write_text(text % good)
        recipe = load_recipe(str(path), [], plugins(), "report")
        assert recipe.report is not None
        assert recipe.report.checks.duplicates == good


def test_what_is_not_wanted_is_not_done(folder: Path) -> None:
    tables, place = report(folder, leaks=False)
    assert list(tables) == ["labels"]
    assert "leaks.csv" not in place.names()
    tables, _ = report(folder, labels=False, duplicates="off")
    assert list(tables) == ["leaks"]
    assert [row["cells"][0] for row in tables["leaks"]["rows"]] == ["the same stretch"]
    assert "Near-duplicates were not looked for" in tables["leaks"]["lead"]
