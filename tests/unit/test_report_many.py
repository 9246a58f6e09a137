"""What the report keeps of many clips: columns, no object of Python for each."""

import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from audioflow.checks import manifest_leaks, sides_of
from audioflow.engine.report_systems import systems_of
from audioflow.engine.run import Run
from audioflow.errors import TableError
from audioflow.pieces import in_one_piece
from audioflow.recipe import Recipe
from audioflow.report import SystemScores
from audioflow.report.clips import eval_clips
from tests.unit.many_clips import CLASSES, SPLITS, clip_ids, make_many, make_scores

CLIPS = 100_000


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("many")
    run = Run(
        Recipe.model_validate(
            {
                "run_dir": str(folder),
                "manifest": {"reader": "folder", "root": str(folder)},
                "score": {"imports": {"one": {"importer": "csv", "path": "one.csv"}}},
            }
        )
    )
    make_many(run.folder, CLIPS)
    make_scores(run.folder, "one", CLIPS)
    return run


def read(run: Run, manifest: pa.Table) -> SystemScores:
    table = run.scores("one")
    return next(systems_of(run, {"scores/one": (table, table.complete_header())}, manifest))


def bytes_of(make: Callable[[], Any]) -> tuple[Any, int]:
    """What was made, and what it holds."""
    before = pa.total_allocated_bytes()
    tracemalloc.start()
    try:
        made = make()
        return made, tracemalloc.get_traced_memory()[0] + pa.total_allocated_bytes() - before
    finally:
        tracemalloc.stop()


def test_scores_of_many_clips_take_few_bytes_each(run: Run) -> None:
    manifest = in_one_piece(run.manifest().read())
    read(run, manifest)
    system, held = bytes_of(lambda: read(run, manifest))
    # 12 of them are scores. With a text for each it was 370.
    assert held / CLIPS < 80
    assert len(system.clip_ids) == CLIPS


def test_each_clip_keeps_what_belongs_to_it(run: Run) -> None:
    system = read(run, in_one_piece(run.manifest().read()))
    rows = np.random.default_rng(0).choice(CLIPS, 500, replace=False)
    for row in rows.tolist():
        number = int(system.clip_ids[row].split("/")[1])
        assert system.uris[row] == system.groups[row] == system.clip_ids[row]
        assert system.labels[row] == CLASSES[number % 3]
        assert system.splits[row] == SPLITS[number % 4]
    clips = eval_clips(system, "test")
    assert len(clips) == CLIPS // 4
    numbers = [int(system.clip_ids[row].split("/")[1]) for row in clips.row_N.tolist()]
    assert clips.target_N.tolist() == [number % 3 for number in numbers]
    assert (clips.scores_NC.argmax(1) == clips.target_N).mean() > 0.6
    assert clips.group_N[0] == system.groups[int(clips.row_N[0])]


def test_leaks_of_many_clips_are_found_without_a_list_for_each(run: Run) -> None:
    manifest = in_one_piece(run.manifest().read())
    ids = manifest["clip_id"].to_pylist()
    place = {clip_id: row for row, clip_id in enumerate(ids)}
    # A clip that is learnt from and one that is tested, of one group.
    one, other = (place[clip_id] for clip_id in clip_ids(np.array([40_000, 40_003])).to_pylist())
    groups = manifest["group"].to_pylist()
    groups[other] = groups[one]
    at = manifest.column_names.index("group")
    leaking = manifest.set_column(at, "group", pa.array(groups))

    def found() -> Any:
        return manifest_leaks(leaking, sides_of(leaking))

    found()
    leaks, _ = bytes_of(found)
    (leak,) = leaks
    assert leak.kind == "group"
    assert leak.clips == (ids[one], ids[other])
    tracemalloc.start()
    found()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # With a list for each group it was 430.
    assert peak / CLIPS < 110


def test_scores_of_a_clip_that_the_manifest_lacks_are_refused(run: Run) -> None:
    manifest = in_one_piece(run.manifest().read()).slice(1)
    gone = run.manifest().read(["clip_id"])["clip_id"][0].as_py()
    with pytest.raises(TableError, match=f"scores/one has the clip '{gone}', which the manifest"):
        read(run, manifest)
