"""`score.imports`: score tables of other programs, matched to clips by key, made without Ray."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from audioflow.engine.manifest import make_manifest
from audioflow.engine.run import Run
from audioflow.engine.score_imports import import_scores
from audioflow.errors import InputError, RecipeError
from audioflow.events import Event
from audioflow.exporters.base import Source
from audioflow.exporters.csv import Csv, CsvSettings
from audioflow.failures import summarise
from audioflow.plugins import plugins
from audioflow.recipe import Recipe
from audioflow.recipe_file import load_recipe
from audioflow.scores import score_matrix
from audioflow.storage import Folder
from audioflow.tables import Header
from audioflow.verify import verify

CLASSES = ["abseiling", "playing chess", "zumba"]


class Case:
    """A data set of paths of Windows alone, and scores of its clips in another order."""

    def __init__(self, folder: Path, clips: int = 60, classes: list[str] = CLASSES) -> None:
        self.folder, self.classes = folder, classes
        rng = np.random.default_rng(0)
        self.ids = [f"v_{row:011d}_{row % 300:06d}_{row % 300 + 10:06d}" for row in range(clips)]
        self.targets = np.arange(clips) % len(classes)
        self.order = rng.permutation(clips)
        self.logits = rng.normal(0, 2, (clips, len(classes))).astype(np.float32)
        self.write("classes.txt", (f"{n}\t{name}" for n, name in enumerate(classes)))
        self.write("list.txt", (self.path(row) for row in range(clips)), "\r\n")
        self.write("labels.txt", (f"{self.path(r)} 300 {self.targets[r]}" for r in range(clips)))
        self.rows(self.order)

    def path(self, row: int, suffix: str = ".mp4") -> str:
        return f"D:\\k600\\val\\{self.classes[self.targets[row]]}\\{self.ids[row]}{suffix}"

    def write(self, name: str, lines: Any, end: str = "\n") -> None:
        (self.folder / name).write_text(end.join(lines), newline="")

    def rows(self, order: Any, shape: Callable[[np.ndarray], np.ndarray] = lambda a: a) -> None:
        """Scores of these clips, in this order."""
        np.save(self.folder / "scores.npy", shape(self.logits[order]))
        self.write("ids.txt", (self.path(row, ".wav") for row in order))

    def recipe(self, **options: Any) -> Recipe:
        name = {"name": "npy", "scores": "scores.npy", "ids": "ids.txt", "classes": "classes.txt"}
        given = {
            key: value if key == "name" else str(self.folder / value) for key, value in name.items()
        }
        return Recipe.model_validate(
            {
                "run_dir": str(self.folder / "run"),
                "manifest": {
                    "reader": "list",
                    "list": str(self.folder / "list.txt"),
                    "labels": str(self.folder / "labels.txt"),
                    "classes": str(self.folder / "classes.txt"),
                    "splits": options.pop("splits", {"val": 0.5, "test": 0.5}),
                },
                "score": {"imports": {"video": given | options}},
            }
        )


class Told(list[Event]):
    def __call__(self, event: Event) -> None:
        self.append(event)

    @property
    def notes(self) -> list[str]:
        return [event.data["text"] for event in self if event.kind == "note"]


def imported(given: Recipe, told: Callable[[Event], None] = lambda event: None) -> Header:
    run = Run(given, told)
    make_manifest(run)
    assert run.recipe.score is not None
    (item,) = run.recipe.score.imports.items()
    return import_scores(run, *item)


def found(case: Case, given: Recipe) -> dict[str, np.ndarray]:
    rows = Run(given).scores("video").read()
    return dict(zip(rows["clip_id"].to_pylist(), score_matrix(rows), strict=True))


def softmax(logits: np.ndarray) -> np.ndarray:
    raised = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return raised / raised.sum(axis=-1, keepdims=True)


@pytest.fixture
def case(tmp_path: Path) -> Case:
    return Case(tmp_path)


@pytest.mark.parametrize(
    ("shape", "told"),
    [
        (lambda a: a, "60 x 3 float32 read as clips x classes"),
        (lambda a: a[:, None], "60 x 1 x 3 float32 read as clips x 1 x classes"),
        (lambda a: a.T[:, :, None], "3 x 60 x 1 float32 read as classes x clips x 1"),
    ],
)
def test_scores_reach_their_clips_by_the_name_of_the_file(
    case: Case, shape: Any, told: str
) -> None:
    case.rows(case.order, shape)
    given, listener = case.recipe(), Told()
    header = imported(given, listener)
    assert (header.kind, header.rows, header.failures) == ("scores", 60, 0)
    assert header.classes == CLASSES
    assert header.settings["multi_label"] is False
    scores = found(case, given)
    for row, clip_id in enumerate(case.ids):
        np.testing.assert_allclose(scores[clip_id], softmax(case.logits[row]), atol=1e-6)
    assert listener.notes == [f"video: {told}; logits"]
    checked = verify(Folder(given.run_dir))
    assert checked.ok, checked.faults


def test_labels_and_splits_are_those_of_the_manifest(case: Case) -> None:
    given = case.recipe(splits={"val": 0.5, "test": 0.5})
    imported(given)
    rows = Run(given).scores("video").read().to_pylist()
    manifest = Run(given).manifest().read().to_pylist()
    known = {row["clip_id"]: (row["labels"], row["split"]) for row in manifest}
    assert {row["clip_id"]: (row["labels"], row["split"]) for row in rows} == known
    assert {split for _, split in known.values()} == {"val", "test"}


def test_clips_of_other_splits_are_left_out_and_folds_scored_as_test(case: Case) -> None:
    given = case.recipe(splits={"train": 0.4, "val": 0.3, "test": 0.3})
    assert imported(given).rows == 36
    assert verify(Folder(given.run_dir)).ok
    folds = case.recipe(splits={"folds": 4})
    assert imported(folds).rows == 60
    assert set(Run(folds).scores("video").read()["split"].to_pylist()) == {"test"}
    assert verify(Folder(folds.run_dir)).ok


def test_clips_without_a_usable_row_fail_with_a_reason(case: Case) -> None:
    case.logits[7], case.logits[8] = 0, np.nan
    case.rows([row for row in case.order if row not in (3, 4)])
    given = case.recipe()
    header = imported(given)
    assert (header.rows, header.failures) == (56, 4)
    rows = Run(given).scores("video").read_failures().to_pylist()
    reasons = {row["clip_id"]: row["reason"] for row in rows}
    assert {(row["stage"], row["error"]) for row in rows} == {("score", "no_scores")}
    assert set(reasons) == {case.ids[row] for row in (3, 4, 7, 8)}
    assert "scores.npy has its key" in reasons[case.ids[3]]
    assert "zeros alone" in reasons[case.ids[7]]
    assert "NaN" in reasons[case.ids[8]]
    checked = verify(Folder(given.run_dir))
    assert checked.ok, checked.faults
    (table,) = summarise(Folder(given.run_dir))
    assert table.groups[0].count == 4
    assert "Add it to the file, or fuse" in table.groups[0].hint
    assert imported(case.recipe(zero_rows="keep")).failures == 3


def test_rows_of_no_clip_are_counted_named_and_may_be_refused(case: Case) -> None:
    case.write("list.txt", (case.path(row) for row in range(57)))
    told = Told()
    header = imported(case.recipe(), told)
    assert header.rows == 57
    assert header.stats["unknown_clips"] == 3
    assert "3 rows are of no clip of the manifest: 'D:\\\\k600" in told.notes[0]
    with pytest.raises(InputError, match=r"score.imports.video: .* 3 of 60 rows are of no clip"):
        imported(case.recipe(max_unknown_share=0.01))


def test_a_file_in_the_order_of_the_list_but_of_other_names_is_refused(case: Case) -> None:
    case.write("ids.txt", (f"clip{row}" for row in range(60)))
    with pytest.raises(InputError, match=r"score.imports.video: .*scores.npy: none of its 60 ids"):
        imported(case.recipe())
    assert Run(case.recipe()).scores("video").header() is None


def test_the_first_letters_of_a_name_may_be_the_key(case: Case) -> None:
    case.write("ids.txt", (case.ids[row][:20] + "_xxxxxx.wav" for row in case.order))
    given = case.recipe(key={"pattern": "^(.{20})"})
    assert imported(given).rows == 60
    scores = found(case, given)
    np.testing.assert_allclose(scores[case.ids[5]], softmax(case.logits[5]), atol=1e-6)


def test_classes_in_another_order_and_spelling_become_ours(case: Case) -> None:
    case.write("theirs.txt", ["Playing_Chess", "zumba", "climbing"])
    np.save(case.folder / "scores.npy", case.logits[case.order][:, [1, 2, 0]])
    theirs = str(case.folder / "theirs.txt")
    with pytest.raises(
        InputError, match=r"2 classes of the manifest: 'abseiling'.*'playing chess'"
    ):
        imported(case.recipe(classes=theirs))
    given = case.recipe(classes=theirs, rename={"climbing": "abseiling"}, spelling="loose")
    header = imported(given)
    assert header.classes == ["playing chess", "zumba", "abseiling"]
    scores = found(case, given)
    np.testing.assert_allclose(scores[case.ids[9]], softmax(case.logits[9])[[1, 2, 0]], atol=1e-6)


def test_nothing_is_done_where_the_files_are_as_they_were_and_all_where_they_are_not(
    case: Case,
) -> None:
    first, told = imported(case.recipe()), Told()
    assert imported(case.recipe(), told) == first
    assert [event.kind for event in told if event.job == "score"] == ["skip"]
    moved = case.folder / "moved.npy"
    (case.folder / "scores.npy").rename(moved)
    assert imported(case.recipe(scores=str(moved))).fingerprint == first.fingerprint
    np.save(moved, case.logits)
    assert imported(case.recipe(scores=str(moved))).fingerprint != first.fingerprint
    assert verify(Folder(case.recipe().run_dir)).ok


def test_an_interrupted_import_goes_on_with_its_shards(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("audioflow.engine.score_imports.CLIPS_PER_SHARD", 16)
    first = imported(case.recipe())
    assert len(first.shards) == 4
    table = Run(case.recipe()).scores("video")
    table.reopen()
    (Folder(table.folder.url) / "_shards").remove(f"{first.shards[1].name}.json")
    before = {
        name: (case.folder / "run/scores/video" / f"{name}.parquet").stat().st_mtime_ns
        for name in (shard.name for shard in first.shards)
    }
    second = imported(case.recipe())
    assert [shard.sha256 for shard in second.shards] == [shard.sha256 for shard in first.shards]
    assert second.stats["resumed"] == 3
    after = {
        name: (case.folder / "run/scores/video" / f"{name}.parquet").stat().st_mtime_ns
        for name in before
    }
    assert [name for name in before if after[name] != before[name]] == [first.shards[1].name]


def test_several_labels_have_scores_of_their_own(case: Case) -> None:
    lines = (f"{case.path(row)},{row % 3}" for row in range(60))
    case.write("labels.csv", lines)
    given = case.recipe(task="multi")
    header = imported(given)
    assert header.settings["multi_label"] is True
    scores = found(case, given)
    np.testing.assert_allclose(scores[case.ids[2]], 1 / (1 + np.exp(-case.logits[2])), atol=1e-6)


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_what_was_exported_or_written_comes_back_the_same(case: Case, form: str) -> None:
    first = imported(case.recipe())
    run = Run(case.recipe())
    path = str(case.folder / "run/scores/video")
    options: dict[str, Any] = {"key": "clip_id"}
    if form == "csv":
        path = str(case.folder / "video.csv")
        written = Csv(CsvSettings()).write(Source(run.folder, "video"), Path(path))
        assert written.clips == 60
        options |= {"ignore": ["split", "labels", "predicted"]}
    else:
        copy = case.folder / "copy"
        (case.folder / "run/scores/video").rename(copy)
        path = str(copy)
    data = case.recipe().model_dump(mode="json", exclude_defaults=True)
    data["score"]["imports"] = {"video": {"name": form, "scores": path} | options}
    again = Recipe.model_validate(data)
    second = imported(again)
    assert second.stats["values"] == "probabilities"
    assert (second.rows, second.classes) == (first.rows, first.classes)
    scores = found(case, again)
    for row, clip_id in enumerate(case.ids):
        np.testing.assert_allclose(scores[clip_id], softmax(case.logits[row]), atol=1e-6)


def test_the_shape_of_kinetics_600_imports_by_key_in_seconds(tmp_path: Path) -> None:
    """29,753 clips by Windows paths, 600 classes, scores of 29,731 of them as classes first."""
    case = Case(tmp_path, 29_753, [f"class_{number:03d}" for number in range(600)])
    case.rows(case.order[:29_731], lambda a: a.T[:, :, None])
    started = time.perf_counter()
    header = imported(case.recipe())
    seconds = time.perf_counter() - started
    assert (header.rows, header.failures) == (29_731, 22)
    frame = pl.read_parquet(tmp_path / "run/scores/video/*.parquet")
    right = frame["predicted"] == frame["labels"].list.first()
    by_hand = case.logits[case.order[:29_731]].argmax(axis=1) == case.targets[case.order[:29_731]]
    assert int(right.sum()) == int(by_hand.sum())
    assert seconds < 60


def test_what_is_wrong_with_an_import_is_told_with_the_recipe(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text(
        "run_dir: runs/x\n"
        "manifest: {reader: list, list: ids.txt, splits: {test: 1}}\n"
        "score:\n"
        "  splits: [test]\n"
        "  imports:\n"
        "    video: {name: npi, scores: a.npy, ids: a.txt, classes: c.txt}\n"
        "    npy: {scores: a.npy, ids: a.txt, clases: c.txt, key: {pattern: '('}}\n"
        "    csv: {scores: a.csv, values: logit}\n"
    )
    with pytest.raises(RecipeError) as raised:
        load_recipe(str(tmp_path / "r.yaml"), [], plugins(), "score")
    told = str(raised.value)
    for part in (
        "score.imports.video.name: score importer 'npi' does not exist; allowed: csv, npy, parquet",
        "score.imports.npy.classes: is missing",
        "score.imports.npy.clases: unknown key",
        "score.imports.npy.key.pattern: '(' is no regular expression",
        "score.imports.csv.values: 'logit' is not allowed",
    ):
        assert part in told
    assert len(raised.value.faults) == 5
