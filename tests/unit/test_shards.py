"""Shards: the same clips in the same shard, run after run."""

import random

import pyarrow as pa
import pytest

from audioflow.shards import plan_shards
from audioflow.tables import MANIFEST_SCHEMA


def manifest(recordings: int, clips_each: int = 1, **changes: object) -> pa.Table:
    rows = [
        {
            "clip_id": f"{recording:03d}@{clip}",
            "uri": f"/data/{recording:03d}.wav",
            "start_s": float(clip),
            "duration_s": 1.0,
            "labels": ["a" if recording < recordings // 2 else "b"],
            "split": "train",
            "fold": None,
            "group": f"{recording:03d}",
            "size_bytes": 100,
            "version": "1",
        }
        for recording in range(recordings)
        for clip in range(clips_each)
    ]
    rows[0] |= changes
    return pa.Table.from_pylist(rows, schema=MANIFEST_SCHEMA)


def ids(table: pa.Table, clips_per_shard: int) -> list[list[str]]:
    return [shard.rows["clip_id"].to_pylist() for shard in plan_shards(table, clips_per_shard)]


@pytest.mark.parametrize("clips_per_shard", [1, 7, 32, 1000])
def test_every_clip_is_in_one_shard_of_the_right_size(clips_per_shard: int) -> None:
    table = manifest(100)
    found = ids(table, clips_per_shard)
    assert sorted(clip for shard in found for clip in shard) == table["clip_id"].to_pylist()
    assert all(len(shard) == clips_per_shard for shard in found[:-1])
    assert 0 < len(found[-1]) <= clips_per_shard
    assert [shard.index for shard in plan_shards(table, clips_per_shard)] == list(range(len(found)))


def test_the_plan_is_the_same_whatever_the_order_of_recordings() -> None:
    table = manifest(60)
    order = list(range(60))
    random.Random(0).shuffle(order)
    shuffled = table.take(pa.array(order))
    assert ids(shuffled, 8) == ids(table, 8)
    names = [shard.name("key") for shard in plan_shards(table, 8)]
    assert names == [shard.name("key") for shard in plan_shards(shuffled, 8)]


def test_shards_mix_the_classes() -> None:
    for shard in plan_shards(manifest(200), 40):
        assert {label for labels in shard.rows["labels"].to_pylist() for label in labels} == {
            "a",
            "b",
        }


def test_the_clips_of_a_recording_stay_together() -> None:
    found = ids(manifest(20, clips_each=3), 8)
    assert all(len(shard) == 6 for shard in found[:-1])
    for shard in found:
        assert all(shard.count(clip) == 1 for clip in shard)
        recordings = {clip.split("@")[0] for clip in shard}
        assert len(shard) == 3 * len(recordings)


def test_a_recording_with_more_clips_than_a_shard_takes_is_one_shard() -> None:
    assert [len(shard) for shard in ids(manifest(3, clips_each=10), 4)] == [10, 10, 10]


def test_names_change_with_settings_and_media_but_not_with_labels_or_place() -> None:
    def names(table: pa.Table, key: str = "key") -> list[str]:
        return [shard.name(key) for shard in plan_shards(table, 10)]

    before = names(manifest(30))
    assert len(set(before)) == 3
    assert all(len(name) == len("00000-") + 12 for name in before)
    assert not set(names(manifest(30), "other")) & set(before)
    for change in ({"size_bytes": 101}, {"version": "2"}, {"start_s": 0.5}, {"duration_s": None}):
        changed = names(manifest(30, **change))
        assert len(set(changed) - set(before)) == 1
    for change in ({"labels": ["z"]}, {"split": "test"}, {"uri": "/elsewhere/000.wav"}):
        assert names(manifest(30, **change)) == before


def test_no_clip_makes_no_shard() -> None:
    assert plan_shards(MANIFEST_SCHEMA.empty_table(), 8) == []
