"""`embed.imports`: tables of vectors that other programs computed, made without Ray."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from audioflow.engine.embed_plan import embed_shards
from audioflow.engine.imports import import_tables
from audioflow.engine.manifest import make_manifest
from audioflow.engine.run import Run
from audioflow.errors import InputError
from audioflow.events import Event
from audioflow.failures import summarise
from audioflow.importers import IMPORTERS
from audioflow.recipe import Recipe
from audioflow.storage import Folder
from audioflow.tables import Header
from audioflow.verify import verify

CLIPS = [f"{label}/{number:02d}.wav" for label in "ab" for number in range(20)]
PATCHES = 3
WIDTH = 4


def save(path: Path, clips: list[str], seed: int = 0, width: int = WIDTH) -> str:
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(len(clips) * PATCHES, width)).astype(np.float32)
    ids = np.repeat(clips, PATCHES)
    np.savez(path, X=vectors, IDS=ids, Y=np.array([ord(one[0]) - ord("a") for one in ids]))
    return str(path)


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    return [save(tmp_path / "1.npz", CLIPS[:25]), save(tmp_path / "2.npz", CLIPS[25:], seed=1)]


def recipe(tmp_path: Path, files: list[str], **options: Any) -> Recipe:
    return Recipe.model_validate(
        {
            "run_dir": str(tmp_path / "run"),
            "manifest": {"reader": "npz", "files": [*files, *options.pop("more_clips", [])]},
            "embed": {
                "imports": {"tags": {"name": "npz", "files": files, "hop_s": 0.5} | options},
                "clips_per_shard": 8,
            },
        }
    )


class Told(list[Event]):
    def __call__(self, event: Event) -> None:
        self.append(event)

    def kinds(self, job: str = "embed") -> list[str]:
        return [event.kind for event in self if event.job == job]


def imported(given: Recipe, told: Callable[[Event], None] = lambda event: None) -> Header:
    run = Run(given, told)
    parent = make_manifest(run)
    assert run.recipe.embed is not None
    shards = embed_shards(run.manifest().read(), run.recipe.embed)
    (header,) = import_tables(run, parent, shards)
    return header


def test_every_clip_gets_its_vectors_as_if_a_backbone_had_made_them(
    tmp_path: Path, files: list[str]
) -> None:
    header = imported(recipe(tmp_path, files))
    table = Run(recipe(tmp_path, files)).embeddings("tags")
    rows = {row["clip_id"]: row for row in table.read().to_pylist()}
    assert sorted(rows) == CLIPS
    with np.load(files[1]) as saved:
        chosen = saved["X"][saved["IDS"] == "b/07.wav"]
    row = rows["b/07.wav"]
    np.testing.assert_array_equal(np.array(row["embedding"], np.float32), chosen)
    assert row["patch_start_s"] == [0.0, 0.5, 1.0]
    assert (row["variant"], row["duration_s"], row["coverage"]) == (0, 1.5, 1.0)
    assert (header.kind, header.rows, header.failures) == ("embeddings", 40, 0)
    assert header.settings["layers"] == {"embedding": WIDTH}
    assert len(header.settings["vectors"]) == 32
    assert len(header.shards) > 4
    assert sum(shard.media_s for shard in header.shards) == 40 * 1.5


def test_the_table_is_proved_by_verify_and_its_failures_are_grouped(
    tmp_path: Path, files: list[str]
) -> None:
    more = save(tmp_path / "more.npz", ["a/98.wav", "a/99.wav"])
    given = recipe(tmp_path, files, more_clips=[more])
    header = imported(given)
    assert (header.rows, header.failures) == (40, 2)
    found = verify(Folder(given.run_dir))
    assert found.ok, found.faults
    (table,) = summarise(Folder(given.run_dir))
    (group,) = table.groups
    assert (group.stage, group.error, group.count) == ("import", "not_found", 2)
    assert group.example.reason == "the imported files have no vectors of this clip"
    assert group.example.uri == f"{more}#{group.example.clip_id}"


def test_what_the_manifest_does_not_have_is_counted_and_told(
    tmp_path: Path, files: list[str]
) -> None:
    given = recipe(tmp_path, files)
    manifest = given.manifest.model_copy(update={"files": files[:1]})
    told = Told()
    header = imported(given.model_copy(update={"manifest": manifest}), told)
    assert header.rows == 25
    assert header.stats["unknown_clips"] == 15
    (note,) = [event.data["text"] for event in told if event.kind == "note"]
    assert note == "tags: 15 clips of its files are not in the manifest, and left out"


def test_nothing_is_done_where_the_files_are_as_they_were_wherever_they_lie(
    tmp_path: Path, files: list[str]
) -> None:
    first = imported(recipe(tmp_path, files))
    told = Told()
    assert imported(recipe(tmp_path, files), told) == first
    assert told.kinds() == ["skip"]
    moved = []
    for file in files:
        moved.append(str(Path(file).with_suffix(".moved.npz")))
        Path(file).rename(moved[-1])
    second = imported(recipe(tmp_path, moved[::-1]))
    assert second.settings["vectors"] == first.settings["vectors"]
    assert [shard.sha256 for shard in second.shards] == [shard.sha256 for shard in first.shards]


@pytest.mark.parametrize("change", ["hop_s", "layer", "content"])
def test_what_counts_makes_other_vectors(tmp_path: Path, files: list[str], change: str) -> None:
    first = imported(recipe(tmp_path, files))
    options: dict[str, Any] = {"hop_s": {"hop_s": 1.0}, "layer": {"layer": "tags"}}.get(change, {})
    if change == "content":
        save(Path(files[0]), CLIPS[:25], seed=7)
    second = imported(recipe(tmp_path, files, **options))
    assert second.settings["vectors"] != first.settings["vectors"]
    assert not {shard.name for shard in second.shards} & {shard.name for shard in first.shards}
    assert verify(Folder(str(tmp_path / "run"))).ok


def test_an_interrupted_import_is_gone_on_with(tmp_path: Path, files: list[str]) -> None:
    given = recipe(tmp_path, files)
    stop = KeyboardInterrupt()

    def interrupt(event: Event) -> None:
        if event.kind == "progress" and event.data["done"] > 12:
            raise stop

    with pytest.raises(KeyboardInterrupt):
        imported(given, interrupt)
    assert Run(given).embeddings("tags").header() is None
    done = len(Run(given).embeddings("tags").committed())
    assert done >= 2
    told = Told()
    header = imported(given, told)
    assert header.stats["resumed"] == done
    assert header.rows == 40
    assert verify(Folder(given.run_dir)).ok


def test_a_clip_with_a_length_of_its_own_keeps_it(tmp_path: Path) -> None:
    lines = ["file,label,length", "x.wav,a,1.25", "y.wav,b,"]
    (tmp_path / "list.csv").write_text("\n".join(lines))
    file = save(tmp_path / "1.npz", ["x.wav@0+1.25", "y.wav"])
    given = Recipe.model_validate(
        {
            "run_dir": str(tmp_path / "run"),
            "manifest": {
                "reader": "csv",
                "list": str(tmp_path / "list.csv"),
                "file_column": "file",
                "label_column": "label",
                "duration_column": "length",
                "splits": {"train": 1},
            },
            "embed": {"imports": {"npz": {"files": [file]}}},
        }
    )
    run = Run(given)
    parent = make_manifest(run)
    assert given.embed is not None
    import_tables(run, parent, embed_shards(run.manifest().read(), given.embed))
    rows = run.embeddings("npz").read().to_pylist()
    assert {row["clip_id"]: row["duration_s"] for row in rows} == {
        "x.wav@0+1.25": 1.25,
        "y.wav": 3.0,
    }


def test_files_without_any_clip_of_the_manifest_are_told_with_examples(
    tmp_path: Path, files: list[str]
) -> None:
    given = recipe(tmp_path, [save(tmp_path / "other.npz", ["a/00.au", "a/01.au"])])
    manifest = given.manifest.model_copy(update={"files": files})
    with pytest.raises(
        InputError,
        match=r"embed\.imports\.tags: none of its 2 ids is of a clip of the manifest; the key of "
        r"its first, 'a/00\.au', is 'a/00\.au', that of the first clip '[ab]/\d\d\.wav' is '[ab]/",
    ):
        imported(given.model_copy(update={"manifest": manifest}))


@pytest.mark.parametrize(
    ("width", "clips", "told"),
    [
        (5, ["c"], r"2\.npz: X has the width 5, in .*1\.npz it has 4; import files of different"),
        (4, ["c", "a/00.wav"], r"clip 'a/00\.wav' \(IDS\) stands in .*1\.npz and in .*2\.npz; k"),
    ],
)
def test_files_that_do_not_go_together_are_refused(
    tmp_path: Path, files: list[str], width: int, clips: list[str], told: str
) -> None:
    given = recipe(tmp_path, files)
    imported(given)
    save(Path(files[1]), clips, width=width)
    manifest = given.manifest.model_copy(update={"files": files[:1]})
    with pytest.raises(InputError, match=told):
        imported(given.model_copy(update={"manifest": manifest}))


def test_a_file_that_is_not_there_is_told_with_its_place(tmp_path: Path, files: list[str]) -> None:
    Path(files[1]).unlink()
    given = recipe(tmp_path, files)
    manifest = given.manifest.model_copy(update={"files": files[:1]})
    with pytest.raises(InputError, match=r"2\.npz does not exist"):
        imported(given.model_copy(update={"manifest": manifest}))


def test_a_layer_cannot_be_called_as_a_column_of_the_table() -> None:
    with pytest.raises(ValidationError, match="'coverage' is a column of every embeddings table"):
        IMPORTERS.build("npz", {"files": ["a.npz"], "layer": "coverage"})


def test_real_cached_features_are_imported_whole(tmp_path: Path) -> None:
    features = Path(__file__).resolve().parents[3] / "shared" / "data" / "features"
    if not features.is_dir():
        pytest.skip(f"real test data is not at {features}")
    names = ("training_data", "evaluation_data")
    files = [str(features / f"{name}_GTZAN_MSDmusicnn_taggram.npz") for name in names]
    header = imported(recipe(tmp_path, files, hop_s=1.0))
    assert (header.rows, header.failures) == (733, 0)
    assert header.settings["layers"] == {"embedding": 50}
    rows = Run(recipe(tmp_path, files)).embeddings("tags").read()
    assert sum(map(len, rows["patch_start_s"].to_pylist())) == 12415 + 8127
    assert verify(Folder(str(tmp_path / "run"))).ok


def test_embed_makes_imports_without_starting_ray(tmp_path: Path, files: list[str]) -> None:
    import ray

    from audioflow.engine.flow import begin_early, run_job

    run = Run(recipe(tmp_path, files))
    begin_early("run", run)
    run_job("run", run)
    assert run.embeddings("tags").complete_header().rows == 40
    assert not ray.is_initialized()
