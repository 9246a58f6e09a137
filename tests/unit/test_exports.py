"""`audioflow export`: score tables as CSV, submissions, and label tracks."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from typer.testing import CliRunner

from audioflow import calibration
from audioflow.calibration.system import CALIBRATION, Part, SystemCalibration
from audioflow.calibration.thresholds import Threshold
from audioflow.cli import app
from audioflow.errors import InputError, StorageError, TableError
from audioflow.exporters import EXPORTERS
from audioflow.exporters.base import Source, Written
from audioflow.exporters.tracks import Stretch, merge
from audioflow.scores import ScoredClips, score_rows
from audioflow.storage import Folder
from audioflow.tables import MANIFEST_SCHEMA, Header, Table

CLASSES = ["dog", "cat, small", "owl"]
CLIPS = [f"clip{number}" for number in range(6)]
SCORES = np.random.default_rng(0).dirichlet(np.ones(3), 6).astype(np.float32)
SPLITS = ["val", "test"] * 3


def manifest(run: Folder, clips: Sequence[Mapping[str, Any]]) -> None:
    rows = [
        {"labels": [], "fine_labels": [], "split": "test", "group": "g", "source": "main"} | one
        for one in clips
    ]
    finish(run, "manifest", "manifest", [pa.Table.from_pylist(rows, schema=MANIFEST_SCHEMA)])


def finish(run: Folder, name: str, kind: str, shards: Sequence[pa.Table], **settings: Any) -> None:
    table = Table(run / name)
    receipts = [table.commit(f"s{place}", rows) for place, rows in enumerate(shards)]
    rows = sum(receipt.rows for receipt in receipts)
    title = name.rpartition("/")[2]
    table.finish(Header(kind, title, "f", {}, settings, rows, 0, receipts, CLASSES))


@pytest.fixture
def run(tmp_path: Path) -> Folder:
    """A score table of six clips in two shards."""
    run = Folder(str(tmp_path / "run"))
    manifest(run, [{"clip_id": clip, "uri": f"/data/{clip}.wav"} for clip in CLIPS])
    shards = []
    for rows in (slice(0, 4), slice(4, 6)):
        clips = ScoredClips(CLIPS[rows], [["dog", "owl"], *[["owl"]] * 5][rows], SPLITS[rows])
        shards.append(score_rows(clips, SCORES[rows], CLASSES))
    finish(run, "scores/audio", "scores", shards)
    return run


def export(
    form: str, run: Folder, out: Path, splits: tuple[str, ...] | None = None, **options: Any
) -> Written:
    written: Written = EXPORTERS.build(form, options).write(Source(run, "audio", splits), out)
    return written


def cells(path: Path) -> list[list[str]]:
    with path.open(newline="") as stream:
        return list(csv.reader(stream))


def write(folder: Path, name: str, *lines: str) -> str:
    (folder / name).write_text("\n".join(lines) + "\n")
    return str(folder / name)


# csv


def test_a_wide_table_holds_every_score_as_it_is(run: Folder, tmp_path: Path) -> None:
    assert export("csv", run, tmp_path / "o.csv") == Written(6, 1)
    header, *rows = cells(tmp_path / "o.csv")
    assert header == ["clip_id", "split", "labels", "predicted", *CLASSES]
    text = (tmp_path / "o.csv").read_text()
    assert text.startswith('clip_id,split,labels,predicted,dog,"cat, small",owl\n"clip0",')
    assert [row[0] for row in rows] == CLIPS
    assert rows[0][1:4] == ["val", "dog;owl", CLASSES[SCORES[0].argmax()]]
    np.testing.assert_array_equal(np.array([row[4:] for row in rows], np.float32), SCORES)


def test_only_the_clips_of_a_split_are_written(run: Folder, tmp_path: Path) -> None:
    assert export("csv", run, tmp_path / "o.csv", ("test",)).clips == 3
    assert [row[0] for row in cells(tmp_path / "o.csv")[1:]] == CLIPS[1::2]


# kaggle


def test_a_submission_has_the_ids_of_the_template_in_its_order(run: Folder, tmp_path: Path) -> None:
    template = write(tmp_path, "t.csv", "Id,Category", "clip5,", "clip0.mp4,", "clip3,")
    written = export("kaggle", run, tmp_path / "o.csv", template=template)
    best = [CLASSES[place] for place in SCORES.argmax(axis=1)]
    assert cells(tmp_path / "o.csv") == [
        ["Id", "Category"],
        ["clip5", best[5]],
        ["clip0.mp4", best[0]],
        ["clip3", best[3]],
    ]
    assert written.notes == ("3 scored clips are not in the template, and left out",)


def test_categories_may_be_numbers_of_a_list(run: Folder, tmp_path: Path) -> None:
    template = write(tmp_path, "t.csv", "Id,Category", *(f"{clip},0" for clip in CLIPS))
    numbers = write(tmp_path, "c.csv", "Label,Category", "7,owl", "8,dog", '9,"cat, small"')
    with pytest.raises(InputError, match="numbers 3 classes from 7 to 9"):
        export("kaggle", run, tmp_path / "o.csv", template=template, numbers=numbers)
    numbers = write(tmp_path, "c.csv", "Label,Category", "0,owl", "1,dog", '2,"cat, small"')
    export("kaggle", run, tmp_path / "o.csv", template=template, numbers=numbers)
    expected = [["1", "2", "0"][place] for place in SCORES.argmax(axis=1)]
    assert [row[1] for row in cells(tmp_path / "o.csv")[1:]] == expected
    short = write(tmp_path, "s.txt", "0\towl", "1\tdogs")
    with pytest.raises(InputError, match=r"s.txt has no number of 'dog'; did you mean its 'dogs'"):
        export("kaggle", run, tmp_path / "o.csv", template=template, numbers=short)


def test_an_id_without_scores_is_an_error_or_told(run: Folder, tmp_path: Path) -> None:
    template = write(tmp_path, "t.csv", "Id,Category", "clip1,", "gone,", "clip2,")
    out = tmp_path / "o.csv"
    with pytest.raises(InputError, match=r"1 of the 3 ids of .*t.csv have no scores .*'gone'"):
        export("kaggle", run, out, template=template)
    assert not out.exists()
    written = export("kaggle", run, out, template=template, fill="owl")
    assert cells(out)[2] == ["gone", "owl"]
    assert written.notes[0] == "1 ids have no scores, and got the class 'owl' (--fill)"
    with pytest.raises(InputError, match=r"--fill 'own' is no class.*did you mean 'owl'"):
        export("kaggle", run, out, template=template, fill="own")


def test_a_template_that_is_none_is_refused(run: Folder, tmp_path: Path) -> None:
    for lines, why in (
        (["Id,Category"], "0 rows"),
        (["Id,Category", "a,1", "a,2"], "the id 'a' is empty or stands twice"),
        (["Id,Category", "x/a.wav,1", "y/a.wav,2"], "'x/a.wav' and 'y/a.wav' have one key"),
    ):
        path = write(tmp_path, "t.csv", *lines)
        with pytest.raises(InputError, match=why):
            export("kaggle", run, tmp_path / "o.csv", template=path)
    with pytest.raises(InputError, match=r"gone.csv cannot be read: No such file"):
        export("kaggle", run, tmp_path / "o.csv", template=str(tmp_path / "gone.csv"))


# probabilities


def test_probabilities_stand_under_the_names_of_files(run: Folder, tmp_path: Path) -> None:
    written = export("probabilities", run, tmp_path / "o.csv", rename={"cat, small": "Cat"})
    header, *rows = cells(tmp_path / "o.csv")
    assert header == ["Filename", "dog", "Cat", "owl"]
    assert [row[0] for row in rows] == CLIPS
    np.testing.assert_array_equal(np.array([row[1:] for row in rows], np.float32), SCORES)
    assert written.clips == 6


def test_a_template_gives_order_and_columns(run: Folder, tmp_path: Path) -> None:
    template = write(tmp_path, "t.csv", "File,owl,Cat,dog", "clip4,,,", "gone,,,", "clip1,,,")
    given: dict[str, Any] = {"template": template, "rename": {"cat, small": "Cat"}}
    out = tmp_path / "o.csv"
    with pytest.raises(InputError, match="'gone'"):
        export("probabilities", run, out, **given)
    export("probabilities", run, out, fill="dog", **given)
    header, *rows = cells(out)
    assert header == ["File", "owl", "Cat", "dog"]
    assert [row[0] for row in rows] == ["clip4", "gone", "clip1"]
    found = np.array([row[1:] for row in rows], np.float32)
    np.testing.assert_array_equal(found[[0, 2]], SCORES[[4, 1]][:, [2, 1, 0]])
    assert found[1].tolist() == [0, 0, 1]
    with pytest.raises(InputError, match=r"its column 'Cat' is no class, .*; say by --rename"):
        export("probabilities", run, out, template=template)


# label tracks


def patches(run: Folder, clips: Mapping[str, tuple[float, Any]], **settings: Any) -> None:
    """A score table with the scores of patches: clip -> begin of its first patch, scores (P, C)."""
    ids = list(clips)
    means = np.stack([np.mean(scores, axis=0) for _, scores in clips.values()]).astype(np.float32)
    vectors = [np.asarray(scores, np.float32).tolist() for _, scores in clips.values()]
    starts = [[start + n for n in range(len(scores))] for start, scores in clips.values()]
    more = {
        "patch_start_s": pa.array(starts, pa.list_(pa.float64())),
        "patch_scores": pa.array(vectors, pa.list_(pa.list_(pa.float32(), 3))),
    }
    scored = ScoredClips(ids, [["dog"]] * len(ids), ["test"] * len(ids))
    rows = score_rows(scored, means, CLASSES, more=more)
    columns = ["patch_start_s", "patch_scores"]
    finish(run, "scores/audio", "scores", [rows], columns=columns, **settings)


DOG, OWL, NONE = [0.9, 0, 0.1], [0.1, 0, 0.8], [0.3, 0.4, 0.3]


@pytest.fixture
def heard(tmp_path: Path) -> Folder:
    """Two clips of one recording, the second from 4 s on, and one of another."""
    run = Folder(str(tmp_path / "run"))
    long, short = "/data/a/night.wav", "C:\\rec\\dawn.wav"
    manifest(
        run,
        [
            {"clip_id": "c2", "uri": long, "start_s": 4.0, "duration_s": 2.5},
            {"clip_id": "c1", "uri": long, "start_s": 0.0, "duration_s": 4.0},
            {"clip_id": "c3", "uri": short},
        ],
    )
    clips = {"c2": (0.0, [DOG, NONE, OWL]), "c1": (0.0, [DOG, NONE, DOG, DOG]), "c3": (0, [NONE])}
    patches(run, clips, patch_s=1.0)
    return run


def test_touching_patches_of_a_class_are_one_stretch_in_the_recordings_time(
    heard: Folder, tmp_path: Path
) -> None:
    written = export("audacity", heard, tmp_path / "tracks", threshold=0.5)
    assert sorted(one.name for one in (tmp_path / "tracks").iterdir()) == ["dawn.txt", "night.txt"]
    assert (tmp_path / "tracks" / "night.txt").read_text() == (
        "0.000000\t1.000000\tdog\n2.000000\t5.000000\tdog\n6.000000\t6.500000\towl\n"
    )
    assert (tmp_path / "tracks" / "dawn.txt").read_text() == ""
    assert (written.clips, written.files) == (3, 2)
    assert written.notes == ("3 stretches of 3 classes",)


def test_raven_gets_its_columns_and_how_sure_it_is(heard: Folder, tmp_path: Path) -> None:
    export("raven", heard, tmp_path / "tracks", threshold=0.5, gap_s=1.5)
    lines = (tmp_path / "tracks" / "night.selections.txt").read_text().splitlines()
    header, first, second = (line.split("\t") for line in lines)
    assert header[:7] == [
        "Selection",
        "View",
        "Channel",
        "Begin Time (s)",
        "End Time (s)",
        "Low Freq (Hz)",
        "High Freq (Hz)",
    ]
    row = dict(zip(header, first, strict=True))
    assert (row["Selection"], row["Begin Time (s)"], row["End Time (s)"]) == (
        "1",
        "0.000000",
        "5.000000",
    )
    assert (row["Common Name"], row["Confidence"]) == ("dog", "0.9000")
    assert row["Begin Path"] == "/data/a/night.wav"
    assert dict(zip(header, second, strict=True))["Selection"] == "2"


def test_without_a_threshold_those_of_the_calibration_count(heard: Folder, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"audio has no thresholds; give --threshold, or fit some"):
        export("audacity", heard, tmp_path / "tracks")
    limits = [Threshold(value, "", 9) for value in (0.95, 0.4)]
    limits.append(Threshold(None, "no clip of it", 0))
    fitted = calibration.fit("none", np.full((3, 3), 1 / 3, np.float32), np.arange(3))
    told = SystemCalibration(
        "k", "none", False, False, tuple(CLASSES), "f1", (Part(fitted, tuple(limits)),), {}, {}
    )
    (heard / "heads/audio").write(CALIBRATION, told.to_bytes())
    export("audacity", heard, tmp_path / "tracks")
    tracks = tmp_path / "tracks"
    assert (tracks / "dawn.txt").read_text() == "0.000000\t1.000000\tcat, small\n"
    assert (tracks / "night.txt").read_text() == (
        "1.000000\t2.000000\tcat, small\n5.000000\t6.000000\tcat, small\n"
    )


def test_a_table_without_patches_is_refused(run: Folder, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no scores of patches; score with score.patches: true"):
        export("audacity", run, tmp_path / "tracks", threshold=0.5)


def test_recordings_of_one_name_keep_apart(tmp_path: Path) -> None:
    run = Folder(str(tmp_path / "run"))
    uris = ["/x/a/1.wav", "/x/b/1.wav", "/x/a/2.wav", "/x/a/2.mp3"]
    manifest(run, [{"clip_id": f"c{n}", "uri": uri} for n, uri in enumerate(uris)])
    patches(run, {f"c{n}": (0.0, [DOG]) for n in range(4)}, patch_s=2.0)
    export("audacity", run, tmp_path / "tracks", threshold=0.5)
    assert sorted(one.name for one in (tmp_path / "tracks").iterdir()) == [
        "2.mp3.txt",
        "2.wav.txt",
        "x__a__1.wav.txt",
        "x__b__1.wav.txt",
    ]


def test_the_length_of_a_lone_patch_has_to_be_known(tmp_path: Path) -> None:
    run = Folder(str(tmp_path / "run"))
    manifest(run, [{"clip_id": "c", "uri": "/x/1.wav"}])
    patches(run, {"c": (0.0, [DOG])})
    with pytest.raises(InputError, match=r"clip 'c' has one patch, .*give --patch"):
        export("audacity", run, tmp_path / "tracks", threshold=0.5)
    export("audacity", run, tmp_path / "tracks", threshold=0.5, patch_s=3.0)
    assert (tmp_path / "tracks" / "1.txt").read_text() == "0.000000\t3.000000\tdog\n"


def test_stretches_merge_by_class_whatever_their_order() -> None:
    given = [
        Stretch(2, 3, "a", 0.5),
        Stretch(0, 1, "a", 0.6),
        Stretch(0.5, 2.0, "a", 0.9),
        Stretch(1, 2, "b", 0.7),
        Stretch(3.2, 4, "a", 0.8),
    ]
    assert merge(given, 0.0) == [
        Stretch(0, 3, "a", 0.9),
        Stretch(1, 2, "b", 0.7),
        Stretch(3.2, 4, "a", 0.8),
    ]
    assert merge(given, 0.2)[0] == Stretch(0, 4, "a", 0.9)


# The tool


def tool(*words: str) -> tuple[int, str]:
    found = CliRunner().invoke(app, ["export", *words])
    return found.exit_code, " ".join((found.output + (found.stderr or "")).split())


def test_the_tool_writes_and_tells(run: Folder, tmp_path: Path) -> None:
    out = str(tmp_path / "o.csv")
    assert tool("csv", run.url, "--system", "audio", "--out", out) == (0, f"{out}: 6 clips")
    assert len(cells(Path(out))) == 7


def test_options_that_do_not_fit_are_told_all_at_once(run: Folder, tmp_path: Path) -> None:
    where = [run.url, "--system", "audio", "--out", str(tmp_path / "o.csv")]
    code, text = tool("kaggle", *where, "--threshold", "0.5", "--split", "tets")
    assert code == 2
    for part in (
        "--split: 'tets' is no split",
        "--threshold: has no use with kaggle",
        "--template",
    ):
        assert part in text
    code, text = tool("ravn", *where)
    assert code == 2
    assert "did you mean 'raven'?" in text


def test_a_system_that_is_not_there_is_told(run: Folder, tmp_path: Path) -> None:
    code, text = tool("csv", run.url, "--system", "adio", "--out", str(tmp_path / "o.csv"))
    assert code == 4
    assert "there are audio; did you mean 'audio'?" in text


def test_a_table_that_is_not_complete_and_a_place_that_cannot_be_written_are_told(
    run: Folder, tmp_path: Path
) -> None:
    blocked = write(tmp_path, "file", "x")
    with pytest.raises(StorageError, match=r"--out .*o.csv cannot be written"):
        export("csv", run, Path(blocked) / "o.csv")
    Table(run / "scores/audio").reopen()
    with pytest.raises(TableError, match="is not complete"):
        export("csv", run, tmp_path / "o.csv")
