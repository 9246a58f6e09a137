"""How joined tables are cut: even, by the ids alone, and as the shards of score tables are."""

import numpy as np
import pyarrow as pa
import pytest

from audioflow.cut import CLIPS_PER_PART, Cut, by_part, distinct, row_hashes
from audioflow.hashes import clip_hash, clip_hashes
from audioflow.shards import gathered, plan_shards
from audioflow.tables import MANIFEST_SCHEMA

IDS = [f"C:\\clips\\v_{number:05}.wav" for number in range(4000)]


@pytest.mark.parametrize(
    ("clips", "classes", "parts"),
    [
        (0, 3, 1),
        (CLIPS_PER_PART, 3, 1),
        (CLIPS_PER_PART + 1, 3, 2),
        (1_000_000, 600, 64),
        (1_000_000, 10_000, 1024),
        (10**8, 600, 8192),
    ],
)
def test_parts_are_as_large_as_shards_may_be(clips: int, classes: int, parts: int) -> None:
    assert Cut.of(clips, classes).count == parts


def test_a_part_has_the_clips_whose_hashes_begin_with_its_name() -> None:
    cut = Cut(3)
    parts = cut.parts(clip_hashes(IDS))
    assert np.bincount(parts).min() > 400
    for clip_id, part in zip(IDS[:50], parts, strict=False):
        assert f"{clip_hash(clip_id):064b}".startswith(cut.name(part))
    assert Cut(0).name(0) == "all"
    assert not Cut(0).parts(clip_hashes(IDS)).any()


def test_rows_are_sorted_by_part_and_keep_their_order_there() -> None:
    rows = pa.table({"clip_id": IDS, "row": range(len(IDS))})
    kept = by_part(rows, Cut(2))
    found = [kept.of(part) for part in range(4)]
    assert pa.concat_tables(found).sort_by("row") == rows.sort_by("row")
    for part, mine in enumerate(found):
        assert kept.has(part)
        assert (Cut(2).parts(row_hashes(mine)) == part).all()
        assert (np.diff(mine["row"].to_numpy()) > 0).all()
        assert kept.copy_of(part) == mine


def test_a_part_copied_takes_no_other_rows_with_it() -> None:
    kept = by_part(pa.table({"clip_id": IDS}), Cut(4))
    size = len(kept.copy_of(3).to_batches()[0].serialize())
    assert kept.copy_of(3).get_total_buffer_size() < 2 * size


def test_shards_of_score_tables_lie_within_parts() -> None:
    manifest = pa.Table.from_pylist(
        [
            {
                "clip_id": clip_id,
                "uri": clip_id,
                "labels": [],
                "fine_labels": [],
                "split": "test",
                "group": clip_id,
                "source": "main",
            }
            for clip_id in IDS
        ],
        schema=MANIFEST_SCHEMA,
    )
    cut = Cut(4)
    for shard, _ in gathered(plan_shards(manifest, 48), 300):
        assert len(np.unique(cut.parts(row_hashes(shard.rows)))) == 1


def test_the_first_hashes_are_a_sample_that_no_order_changes() -> None:
    hashes = clip_hashes(IDS)
    halves = [hashes[:2500], hashes[1500:]]
    assert np.array_equal(distinct(halves), distinct([hashes[::-1]]))
    assert len(distinct(halves)) == len(IDS)
    assert len(distinct([])) == 0
