"""`audioflow explain` on a small run of real sound files: every method, and what it refuses."""

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from audioflow.cli import app
from audioflow.explain.rows import CLIP_SCHEMA, CONCEPT_SCHEMA
from audioflow.storage import Folder
from audioflow.tables import Table
from audioflow.verify.places import tables_in
from tests.unit.heard_run import CLIPS, make_heard_run, tone, write_wav

PNG = b"\x89PNG\r\n"


@pytest.fixture(scope="module")
def heard(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    return make_heard_run(tmp_path_factory.mktemp("heard"))


def explain(run: Folder, *arguments: str, code: int = 0) -> str:
    done = CliRunner().invoke(app, ["explain", run.url, *arguments])
    assert done.exit_code == code, done.output
    return " ".join(done.output.split())


def rows_of(run: Folder, name: str) -> pa.Table:
    """The rows, of a table that is whole and whose pictures are there."""
    folder = Path(run.url) / "explanations" / name
    index = json.loads((folder / "index.json").read_text())
    assert index["pictures"]
    for picture in index["pictures"]:
        data = (folder / picture["file"]).read_bytes()
        assert data.startswith(PNG)
        assert len(data) < 300_000
        assert picture["caption"]
    header = Table(Folder(str(folder))).complete_header()
    assert header.kind == "explanations"
    assert f"heads/{index['system']}" in header.parents
    (shard,) = header.shards
    return pq.read_table(folder / f"{shard.name}.parquet")


def matrix(row: dict) -> np.ndarray:
    return np.array(row["attributions"]).reshape(row["shape"])


def test_integrated_gradients_point_at_the_tone(heard):
    text = explain(
        heard,
        "--system",
        "tiles",
        "--method",
        "integrated_gradients",
        "--clip",
        "clip21",
        "--clip",
        "clip20",
        "--class",
        "high",
    )
    assert "clip21 (high) as high: logit" in text
    rows = rows_of(heard, "tiles-integrated_gradients")
    assert rows.schema.equals(CLIP_SCHEMA)
    high, low = rows.to_pylist()
    assert (high["clip_id"], high["class"], high["labels"]) == ("clip21", "high", ["high"])
    for row in (high, low):
        difference = row["logit"] - row["baseline_logit"]
        assert matrix(row).sum() == pytest.approx(difference + row["delta"], rel=1e-3)
        assert abs(row["delta"]) <= 0.05 * max(abs(difference), 0.2)
    found = matrix(high)
    times_s = high["start_s"] + high["hop_s"] * np.arange(len(found))
    length_s = 1.2 + 0.05 * 21
    assert found[times_s > length_s / 2].sum() > 2 * found[times_s < length_s / 2].sum()
    band_hz = np.array(high["bands_hz"])[found.sum(axis=0).argmax()]
    assert band_hz == pytest.approx(3210, rel=0.15)
    assert high["logit"] > low["logit"]


def test_occlusion_over_time_and_frequency_finds_the_tone(heard):
    explain(heard, "--system", "tiles", "--method", "occlusion", "--best", "1", "--class", "high")
    (row,) = rows_of(heard, "tiles-occlusion").to_pylist()
    assert row["labels"] == ["high"]
    time, band = np.unravel_index(matrix(row).argmax(), row["shape"])
    assert row["start_s"] + row["hop_s"] * time > 0.5
    assert row["bands_hz"][band] == pytest.approx(3100, rel=0.3)
    assert row["delta"] is None


def test_occlusion_over_time_works_without_a_spectrogram(heard):
    explain(
        heard, "--system", "rows", "--method", "occlusion", "--clip", "clip13", "--span-s", "0.25"
    )
    (row,) = rows_of(heard, "rows-occlusion").to_pylist()
    assert row["shape"] == [8]
    assert (row["hop_s"], row["start_s"], row["bands_hz"]) == (0.25, 0.0, [])


def test_shap_names_the_columns_and_adds_up(heard):
    text = explain(heard, "--system", "rows", "--method", "shap", "--best", "2")
    assert "rows: the columns that matter most over 2 clips" in text
    for row in rows_of(heard, "rows-shap").to_pylist():
        assert sum(row["attributions"]) == pytest.approx(
            row["logit"] - row["baseline_logit"], abs=1e-3
        )
        assert "mean of centroid (octaves)" in row["columns"]
        assert len(row["columns"]) == len(row["values"]) == len(row["attributions"]) == 108


def test_the_worst_clips_are_those_with_the_lowest_score_of_their_label(heard):
    scores = Table(heard / "scores" / "rows").read().to_pylist()
    explain(heard, "--system", "rows", "--method", "shap", "--worst", "1", "--split", "test")
    (row,) = rows_of(heard, "rows-shap").to_pylist()
    right = {
        one["clip_id"]: one["scores"][["high", "low"].index(one["labels"][0])]
        for one in scores
        if one["split"] == "test"
    }
    assert row["clip_id"] == min(right, key=lambda clip: right[clip])


@pytest.fixture(scope="module")
def concepts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`whistle` has recordings of high tones, `mixed` of both."""
    root = tmp_path_factory.mktemp("concepts")
    for number in range(8):
        for name, hz in (("whistle", 3000), ("mixed", [400, 3000][number % 2])):
            (root / name).mkdir(exist_ok=True)
            write_wav(root / name / f"{number}.wav", tone(hz + 7 * number, 1.5, 50 + number))
    return root


def test_concepts_are_heard_and_told_from_random(heard, concepts):
    text = explain(heard, "--system", "tiles", "--method", "tcav", "--concepts", str(concepts))
    rows = rows_of(heard, "tiles-tcav")
    assert rows.schema.equals(CONCEPT_SCHEMA)
    found = {(row["concept"], row["class"]): row for row in rows.to_pylist()}
    assert found.keys() == {(c, k) for c in ("whistle", "mixed") for k in ("high", "low")}
    assert found["whistle", "high"]["score"] > 0.9
    assert found["whistle", "low"]["score"] < 0.1
    assert not found["mixed", "high"]["meaningful"]
    assert "mixed" in text
    assert "no concept: told from random" in text


def test_concepts_are_read_from_lists_of_clips(heard, tmp_path):
    path = tmp_path / "concepts.csv"
    ids = CLIPS[:16:2]
    path.write_text("clip_id,concept\n" + "".join(f"{one},bass\n" for one in ids))
    explain(
        heard,
        "--system",
        "tiles",
        "--method",
        "tcav",
        "--class",
        "low",
        "--concepts",
        str(path),
        "--runs",
        "5",
    )
    (row,) = rows_of(heard, "tiles-tcav").to_pylist()
    assert (row["concept"], row["class"], row["examples"]) == ("bass", "low", 8)
    assert row["score"] > 0.9


def test_a_second_explanation_takes_the_place_of_the_first(heard):
    for clip in ("clip01", "clip02"):
        explain(heard, "--system", "rows", "--method", "shap", "--clip", clip)
    assert [row["clip_id"] for row in rows_of(heard, "rows-shap").to_pylist()] == ["clip02"]
    assert not any("explanations" in table for table in tables_in(heard))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--system", "row", "--method", "shap"], "there are: rows, tiles; did you mean 'rows'?"),
        (["--system", "rows", "--method", "lime"], "--method lime is not known; there are"),
        (["--system", "rows", "--method", "shap"], "say which clips to explain: --clip, --best"),
        (["--system", "rows", "--method", "shap", "--clip", "x"], "the manifest has no clip 'x'"),
        (
            ["--system", "rows", "--method", "integrated_gradients", "--best", "1"],
            "the backbone of acoustic has no spectrogram",
        ),
        (
            ["--system", "tiles", "--method", "occlusion", "--clip", "clip01", "--class", "deep"],
            "clip01: the system tiles has no class 'deep'; its classes are high, low",
        ),
        (["--system", "rows", "--method", "tcav"], "tcav needs --concepts"),
        (
            ["--system", "rows", "--method", "tcav", "--concepts", "/nowhere.yaml"],
            "/nowhere.yaml cannot be read as concepts",
        ),
    ],
)
def test_what_cannot_be_explained_is_said(heard, arguments, message):
    assert message in explain(heard, *arguments, code=4)


def test_sound_that_is_not_what_was_embedded_is_not_explained(heard, tmp_path):
    folder = Path(heard.url).parent
    leave = shutil.ignore_patterns("explanations")
    shutil.copytree(folder / "run", tmp_path / "run", ignore=leave)
    media = folder / "media" / "clip03.wav"
    before = media.read_bytes()
    arguments = ["--system", "tiles", "--method", "occlusion", "--clip", "clip03"]
    try:
        write_wav(media, tone(400, 1.35, 0))
        assert "the file is not the one that was embedded" in explain(
            Folder(str(tmp_path / "run")), *arguments, code=4
        )
        media.unlink()
        text = explain(Folder(str(tmp_path / "run")), *arguments, code=4)
    finally:
        media.write_bytes(before)
    assert "clip03: " in text
    assert "not_found" in text
    assert not (tmp_path / "run" / "explanations").exists(), "nothing is written"
