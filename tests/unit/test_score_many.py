"""What the driver of `score` keeps of many clips: some hundred bytes for each, and no object."""

import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from audioflow.engine.run import Run
from audioflow.engine.score_clips import scored_rows
from audioflow.engine.score_stored import ScoredShards
from audioflow.recipe import Recipe
from audioflow.storage import Folder
from tests.unit.many_clips import in_shards, make_table, manifest_rows

CLIPS = 60_000


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("many")
    make_table(Folder(str(folder)), "manifest", map(np.sort, in_shards(CLIPS)), manifest_rows)
    return Run(Recipe.model_validate(recipe_of(folder)))


def recipe_of(folder: Path) -> dict:
    return {
        "run_dir": str(folder),
        "manifest": {"reader": "folder", "root": str(folder)},
        "embed": {"backbones": {"acoustic": {}}, "clips_per_shard": 512},
        "systems": {"one": {"backbone": "acoustic", "head": {"name": "linear"}}},
        "score": {"splits": ["train", "val", "test"]},
    }


def held(make: Callable[[], ScoredShards]) -> tuple[ScoredShards, int]:
    """What was made, and the bytes that it holds."""
    before = pa.total_allocated_bytes()
    tracemalloc.start()
    try:
        kept = make()
        return kept, tracemalloc.get_traced_memory()[0] + pa.total_allocated_bytes() - before
    finally:
        tracemalloc.stop()


def test_what_is_kept_of_many_clips_is_small(run: Run) -> None:
    ScoredShards.of(run, scored_rows(run))  # what is imported on the way is not counted
    clips, found = held(lambda: ScoredShards.of(run, scored_rows(run)))
    assert clips.total == CLIPS
    # With the rows that are scored beside those of the manifest it was more than 200.
    assert found / CLIPS < 130


def test_rows_of_a_shard_are_the_clips_of_it_that_are_scored(run: Run) -> None:
    assert run.recipe.score is not None
    section = run.recipe.score.model_copy(update={"splits": ["val", "test"]})
    some = Run(run.recipe.model_copy(update={"score": section}))
    clips = ScoredShards.of(some, scored_rows(some))
    found = [clips.rows(shard) for shard in clips.shards]
    assert [rows.num_rows for rows in found] == [clips.scored(shard) for shard in clips.shards]
    assert sum(rows.num_rows for rows in found) == clips.total == CLIPS // 2
    rows = pa.concat_tables(found)
    assert set(rows["split"].unique().to_pylist()) == {"val", "test"}
    assert len(rows["clip_id"].unique()) == CLIPS // 2
    assert rows.column_names == ["clip_id", "uri", "labels", "split", "fold"]
