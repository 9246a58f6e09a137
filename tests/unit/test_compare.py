"""`audioflow compare`: two runs, clip by clip."""

import csv
import html
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from sklearn.metrics import accuracy_score, average_precision_score
from typer.testing import CliRunner

from audioflow.cli import app
from audioflow.comparing import compare, read_side
from audioflow.comparing.text import values_of, verdict
from audioflow.scores import ScoredClips, score_rows
from audioflow.storage import Folder
from audioflow.tables import MANIFEST_SCHEMA, Header, Table

CLASSES = ["cat", "dog", "owl"]
NUM_CLIPS = 300
rng = np.random.default_rng(0)
TRUTH = rng.integers(0, 3, NUM_CLIPS)
IDS = [f"clip{number:03d}" for number in range(NUM_CLIPS)]


def scores_with(share_right: float, seed: int) -> np.ndarray[Any, Any]:
    """Scores whose highest is that of the true class for about this share of clips."""
    own = np.random.default_rng(seed)
    found = own.dirichlet(np.ones(3), NUM_CLIPS).astype(np.float32)
    for row in np.flatnonzero(own.random(NUM_CLIPS) < share_right):
        best = found[row].argmax()
        found[row, [best, TRUTH[row]]] = found[row, [TRUTH[row], best]]
    return found


def write(table: Table, kind: str, rows: pa.Table, classes: Sequence[str], **settings: Any) -> None:
    parents = {"heads/audio": "f"} if kind == "scores" else {}
    receipts = [table.commit("s0", rows)] if rows is not None else []
    count = rows.num_rows if rows is not None else 0
    name = table.folder.url.rpartition("/")[2]
    table.finish(Header(kind, name, "f", parents, settings, count, 0, receipts, list(classes)))


def make_run(
    place: Path,
    scores: np.ndarray[Any, Any],
    *,
    keep: Sequence[int] = range(NUM_CLIPS),
    classes: Sequence[str] = CLASSES,
    clips_per_group: int = 1,
    system: str = "audio",
    labels: Sequence[Sequence[str]] | None = None,
    split: str = "test",
    lr: float = 0.1,
) -> Folder:
    run = Folder(str(place))
    labels = labels or [[CLASSES[index]] for index in TRUTH]
    clips = ScoredClips([IDS[i] for i in keep], [labels[i] for i in keep], [split] * len(keep))
    rows = score_rows(clips, scores[list(keep)], classes)
    write(Table(run / f"scores/{system}"), "scores", rows, classes)
    write(Table(run / "heads/audio"), "head", None, classes, train={"lr": lr}, only=place.name)
    manifest = [
        {
            "clip_id": clip,
            "uri": f"/{clip}.wav",
            "labels": [],
            "fine_labels": [],
            "split": "test",
            "group": f"g{number // clips_per_group}",
            "source": "main",
        }
        for number, clip in enumerate(IDS)
    ]
    write(Table(run / "manifest"), "manifest", pa.Table.from_pylist(manifest, MANIFEST_SCHEMA), [])
    return run


A, B = scores_with(0.5, 1), scores_with(0.9, 2)


def test_order_of_rows_and_classes_does_not_matter(tmp_path: Path) -> None:
    backwards = list(range(NUM_CLIPS))[::-1]
    a = make_run(tmp_path / "a", A)
    b = make_run(tmp_path / "b", B[:, ::-1], keep=backwards, classes=CLASSES[::-1])
    found = compare(read_side(a, "audio"), read_side(b, "audio"), "test")
    head = found.headline
    assert (head.metric, found.num_clips) == ("accuracy", NUM_CLIPS)
    assert head.a == pytest.approx(accuracy_score(TRUTH, A.argmax(1)))
    assert head.b == pytest.approx(accuracy_score(TRUTH, B.argmax(1)))
    assert head.difference.low < head.b - head.a < head.difference.high
    assert found.is_sure
    assert "b is better by" in verdict(found)
    right = [scores.argmax(1) == TRUTH for scores in (A, B)]
    assert found.test.only_a == (right[0] & ~right[1]).sum()
    assert found.test.only_b == (right[1] & ~right[0]).sum()
    assert {one.name: one.num_clips for one in found.classes} == {
        name: (index == TRUTH).sum() for index, name in enumerate(CLASSES)
    }


def test_a_run_against_itself_has_no_difference_that_is_sure(tmp_path: Path) -> None:
    a, b = make_run(tmp_path / "a", A), make_run(tmp_path / "b", A)
    found = compare(read_side(a, "audio"), read_side(b, "audio"), "test")
    assert all(one.difference.value == 0 for one in found.metrics)
    assert not found.is_sure
    assert verdict(found).startswith("both have the same accuracy")


def test_a_difference_whose_interval_holds_zero_may_be_chance(tmp_path: Path) -> None:
    a, b = make_run(tmp_path / "a", A), make_run(tmp_path / "b", scores_with(0.52, 7))
    found = compare(read_side(a, "audio"), read_side(b, "audio"), "test")
    difference = found.headline.difference
    assert difference.low < 0 < difference.high
    assert difference.value != 0
    assert not found.is_sure
    assert verdict(found).endswith("may be chance")


def test_fewer_groups_make_a_difference_less_sure(tmp_path: Path) -> None:
    right, wrong = np.eye(3)[TRUTH], np.eye(3)[(TRUTH + 1) % 3]
    whole_groups = (np.arange(NUM_CLIPS) // 50 % 2 == 0)[:, None]
    scores = np.where(whole_groups, right, wrong).astype(np.float32)
    widths = []
    for size in (1, 50):
        folder = tmp_path / str(size)
        a = make_run(folder / "a", A, clips_per_group=size)
        b = make_run(folder / "b", scores, clips_per_group=size)
        found = compare(read_side(a, "audio"), read_side(b, "audio"), "test")
        assert found.num_groups == NUM_CLIPS // size
        widths.append(found.headline.difference.high - found.headline.difference.low)
    assert widths[1] > 2 * widths[0]


def test_clips_that_one_alone_has_are_counted_not_compared(tmp_path: Path) -> None:
    labels = [[CLASSES[index]] for index in TRUTH]
    labels[150] = ["fish"]
    a = make_run(tmp_path / "a", A, keep=range(0, 200), labels=labels)
    b = make_run(tmp_path / "b", B, keep=range(100, NUM_CLIPS), labels=labels)
    found = compare(read_side(a, "audio"), read_side(b, "audio"), "test")
    assert (found.num_clips, found.only_a, found.only_b, found.left_out) == (99, 100, 100, 1)


def test_clips_of_several_labels_are_compared_by_average_precision(tmp_path: Path) -> None:
    truth = np.random.default_rng(3).random((NUM_CLIPS, 3)) < 0.4
    labels = [[name for name, has in zip(CLASSES, row, strict=True) if has] for row in truth]
    good = np.clip(truth * 0.3 + np.random.default_rng(4).random(truth.shape) * 0.7, 0, 1)
    poor = np.random.default_rng(5).random(truth.shape)
    a = make_run(tmp_path / "a", poor.astype(np.float32), labels=labels)
    b = make_run(tmp_path / "b", good.astype(np.float32), labels=labels)
    found = compare(read_side(a, "audio"), read_side(b, "audio"), "test")
    assert found.multi_label
    assert found.headline.metric == "map"
    assert found.headline.b == pytest.approx(average_precision_score(truth, good), abs=1e-6)
    assert found.is_sure


def test_settings_that_differ_are_told(tmp_path: Path) -> None:
    a, b = make_run(tmp_path / "a", A), make_run(tmp_path / "b", B, lr=0.5)
    found = compare(read_side(a, "audio"), read_side(b, "audio"), "test")
    told = {one.key: (one.a, one.b) for one in found.changes}
    assert told == {"heads.train.lr": (0.1, 0.5), "heads.only": ("a", "b")}


def tool(*words: object) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["compare", *map(str, words)])
    return done.exit_code, done.output


def test_the_tool_tells_people_and_programs(tmp_path: Path) -> None:
    make_run(tmp_path / "a", A)
    make_run(tmp_path / "b", B)
    runs = (tmp_path / "a", tmp_path / "b")
    code, told = tool(*runs)
    assert code == 0
    assert "b is better by" in told
    assert "heads.only" in told
    code, told = tool(*runs, "--json", "--csv", tmp_path / "out.csv")
    (one,) = json.loads(told)
    sides = [read_side(Folder(str(place)), "audio") for place in runs]
    assert one == json.loads(json.dumps(values_of(compare(*sides, "test"))))
    with (tmp_path / "out.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["metric"] for row in rows if row["class"]] == ["recall"] * 3
    assert float(rows[0]["difference"]) == one["metrics"][0]["difference"]["value"]


def test_the_page_says_the_same_and_escapes_what_came_from_outside(tmp_path: Path) -> None:
    odd = "<script>alert(1)</script>"
    classes = [odd, *CLASSES[1:]]
    labels = [[classes[index]] for index in TRUTH]
    a = make_run(tmp_path / "a", A, classes=classes, labels=labels)
    b = make_run(tmp_path / "b", B, classes=classes, labels=labels, lr=0.5)
    code, _ = tool(tmp_path / "a", tmp_path / "b", "--html", tmp_path / "page.html")
    assert code == 0
    page = (tmp_path / "page.html").read_text()
    found = compare(read_side(a, "audio"), read_side(b, "audio"), "test")
    assert html.escape(verdict(found)) in page
    assert page.count("<script") == 1
    assert "&lt;script&gt;alert(1)" in page
    assert "heads.train.lr" in page
    assert "http" not in page.replace("http-equiv", "")
    code, told = tool(tmp_path / "a", tmp_path / "b", "--html", tmp_path / "none" / "page.html")
    assert (code, "cannot be written: No such file" in told) == (1, True)


def test_what_cannot_be_compared_is_said_with_a_way_out(tmp_path: Path) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    make_run(a, A)
    make_run(b, B, system="other")
    code, told = tool(a, b)
    assert code == 4
    assert "--system audio=other" in told
    assert tool(a, b, "--system", "audio=other")[0] == 0
    code, told = tool(a, b, "--system", "audio=othr")
    assert (code, "there are other" in told) == (4, True)
    code, told = tool(a, b, "--system", "audio=")
    assert (code, "NAME=NAME" in told) == (4, True)
    code, told = tool(a, a)
    assert (code, "given twice" in told) == (4, True)
    code, told = tool(a, b, "--system", "audio=other", "--split", "val")
    assert (code, "splits there are test" in told) == (4, True)
    code, told = tool(a, tmp_path / "none")
    assert (code, "run the job score" in told) == (4, True)
    make_run(tmp_path / "c", B, classes=["cat", "dog", "fish"])
    code, told = tool(a, tmp_path / "c")
    assert code != 0
    assert "fish" in told
