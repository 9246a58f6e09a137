"""`audioflow search` on a small run: clips, files, classes, patches, and what it refuses."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from audioflow.cli import app
from audioflow.storage import Folder
from tests.unit.heard_run import CLIPS, make_heard_run, tone, write_wav


@pytest.fixture(scope="module")
def heard(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    return make_heard_run(tmp_path_factory.mktemp("heard"))


def asked(run: Folder, *arguments: str, code: int = 0) -> str:
    done = CliRunner().invoke(app, ["search", run.url, "--backbone", "acoustic", *arguments])
    assert done.exit_code == code, done.output
    return " ".join(done.output.split())


def found(run: Folder, *arguments: str) -> dict[str, Any]:
    done = CliRunner().invoke(app, ["search", run.url, *arguments, "--json"])
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def test_clips_like_a_clip_are_of_its_class_and_it_is_not_among_them(heard):
    answer = found(heard, "--backbone", "acoustic", "--clip", "clip05", "--top", "8")
    assert answer["labels"] == ["high"]
    assert len(answer["neighbours"]) == 8
    assert [one["rank"] for one in answer["neighbours"]] == list(range(1, 9))
    assert all(one["labels"] == ["high"] for one in answer["neighbours"])
    assert "clip05" not in {one["clip_id"] for one in answer["neighbours"]}
    far = [one["distance"] for one in answer["neighbours"]]
    assert far == sorted(far)
    assert answer["standardised"], "columns of descriptors are in units of their own"


def test_what_is_shown_says_what_was_compared(heard):
    text = asked(heard, "--clip", "clip04", "--top", "3", "--metric", "euclidean")
    assert "3 clips nearest to clip04 (low) by acoustic/embedding (euclidean distance" in text
    assert "3 of 3 are low" in text


def test_a_file_is_heard_as_the_table_was(heard, tmp_path):
    """The file of a clip is at no distance of it; at the rate of the file nothing is resampled."""
    file = Folder(heard.url).split()[0].file("media/clip09.wav")
    answer = found(heard, "--backbone", "logmel", "--file", file, "--top", "2")
    assert answer["neighbours"][0]["clip_id"] == "clip09"
    assert answer["neighbours"][0]["distance"] == pytest.approx(0, abs=1e-3)
    write_wav(tmp_path / "new.wav", tone(2900, 2.0, seed=99))
    answer = found(heard, "--backbone", "logmel", "--file", str(tmp_path / "new.wav"))
    assert {one["labels"][0] for one in answer["neighbours"][:5]} == {"high"}


def test_patches_are_told_with_their_times(heard):
    """The second half of a clip has the tone."""
    answer = found(
        heard, "--backbone", "acoustic", "--clip", "clip20", "--start", "1.0", "--patches"
    )
    best = answer["neighbours"][0]
    assert best["labels"] == ["low"]
    assert best["start_s"] >= 0.5


def test_the_least_typical_of_a_class_are_of_it(heard):
    near = found(heard, "--backbone", "acoustic", "--class", "low", "--top", "12")
    far = found(heard, "--backbone", "acoustic", "--class", "low", "--far", "--top", "12")
    assert {one["labels"][0] for one in far["neighbours"]} == {"low"}
    ids = [one["clip_id"] for one in near["neighbours"]]
    assert ids == [one["clip_id"] for one in reversed(far["neighbours"])]


def test_one_split_alone(heard):
    answer = found(heard, "--backbone", "acoustic", "--clip", "clip01", "--split", "test")
    assert {one["clip_id"] for one in answer["neighbours"]} == set(CLIPS[18:])


def test_a_csv_has_every_column(heard, tmp_path):
    path = tmp_path / "found.csv"
    asked(heard, "--clip", "clip01", "--top", "4", "--csv", str(path))
    rows = list(csv.DictReader(path.read_text().splitlines()))
    assert len(rows) == 4
    assert rows[0].keys() >= {"rank", "distance", "clip_id", "labels", "split", "uri", "start_s"}
    assert Path(rows[0]["uri"]).is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--clip", "clip99"], "the manifest has no clip 'clip99'; its clips are called like"),
        ([], "give one of --clip, --file, --class; got none"),
        (["--clip", "clip01", "--class", "low"], "got --clip, --class"),
        (["--clip", "clip01", "--far"], "--far is for --class"),
        (["--class", "lov"], "no clip is of the class 'lov'; there are: high, low; did you mean"),
        (["--clip", "clip01", "--split", "val"], "no clip is of the split 'val'"),
        (["--clip", "clip01", "--layer", "pool"], "has no layer 'pool'; there are: embedding"),
        (["--clip", "clip01", "--start", "90"], "no patch of clip 'clip01' begins between 90 s"),
        (["--file", "/nowhere/a.wav"], "/nowhere/a.wav cannot be decoded: not_found"),
    ],
)
def test_what_cannot_be_searched_is_said(heard, arguments, message):
    assert message in asked(heard, *arguments, code=4)


def test_a_table_that_is_not_there_is_said(heard):
    done = CliRunner().invoke(app, ["search", heard.url, "--backbone", "acustic", "--clip", "x"])
    assert done.exit_code == 4
    text = " ".join(done.output.split())
    assert "there are: acoustic, logmel; did you mean 'acoustic'?" in text
