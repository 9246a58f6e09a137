"""Shards: the same clips in the same shard, run after run."""

import random
import re
import time
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from audioflow import shards
from audioflow.shards import (
    base_name,
    gathered,
    made_with,
    numbers_of,
    plan_shards,
    retry_name,
    retry_number,
)
from audioflow.tables import MANIFEST_SCHEMA

GOLDEN = [
    "000-5e77139-f99935385c07",
    "001-5e77139-9d3ddb018f46",
    "01-5e77139-40c94ae1555f",
    "1-5e77139-5353bc0b565e",
]
VARIED = "all-5e77139-f143bddc39c8"


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
            "source": "main",
        }
        for recording in range(recordings)
        for clip in range(clips_each)
    ]
    rows[0] |= changes
    return pa.Table.from_pylist(rows, schema=MANIFEST_SCHEMA)


def ids(table: pa.Table, clips_per_shard: int) -> list[list[str]]:
    return [shard.rows["clip_id"].to_pylist() for shard in plan_shards(table, clips_per_shard)]


def names(table: pa.Table, most: int = 10, key: str = "5e77139") -> list[str]:
    return [shard.name(key) for shard in plan_shards(table, most)]


@pytest.mark.parametrize("clips_per_shard", [1, 7, 32, 1000])
def test_every_clip_is_in_one_shard_that_is_not_too_large(clips_per_shard: int) -> None:
    table = manifest(100)
    found = ids(table, clips_per_shard)
    assert sorted(clip for shard in found for clip in shard) == table["clip_id"].to_pylist()
    assert all(0 < len(shard) <= clips_per_shard for shard in found)
    assert len(found) <= 100 / clips_per_shard * 2.5 + 1
    assert len({shard.part for shard in plan_shards(table, clips_per_shard)}) == len(found)


def test_long_recordings_are_spread_over_shards() -> None:
    table = manifest(8, clips_each=3)
    large = pa.array([40 * 2**20] * table.num_rows, pa.int64())
    place = table.column_names.index("size_bytes")
    found = ids(table.set_column(place, "size_bytes", large), 100)
    assert [len(shard) for shard in found] == [3] * 8, "not even two of 40 MB fit"
    unknown = pa.nulls(table.num_rows, pa.int64())
    assert len(ids(table.set_column(place, "size_bytes", unknown), 100)) == 1


@pytest.mark.parametrize("most", [1, 8, 20, 64, 1000])
def test_shards_are_gathered_by_the_parts_they_lie_in(most: int) -> None:
    shards = plan_shards(manifest(100, clips_each=2), 6)
    found = list(gathered(shards, most))
    assert [one for _, group in found for one in group] == shards
    for large, group in found:
        assert len(large) == sum(map(len, group))
        assert len(large) <= most or len(group) == 1
        assert all(one.part.startswith(large.part) for one in group)
        rows = [clip for one in group for clip in one.rows["clip_id"].to_pylist()]
        assert large.rows["clip_id"].to_pylist() == rows
    names = {large.name("5e77139") for large, _ in found}
    assert len(names) == len(found)
    assert len(found) == {1: len(shards), 1000: 1}.get(most, len(found))


def test_the_plan_is_the_same_whatever_the_order_of_recordings() -> None:
    table = manifest(60)
    order = list(range(60))
    random.Random(0).shuffle(order)
    shuffled = table.take(pa.array(order))
    assert ids(shuffled, 8) == ids(table, 8)
    assert names(shuffled, 8) == names(table, 8)


def test_shards_mix_the_classes() -> None:
    for shard in plan_shards(manifest(200), 40):
        assert {label for labels in shard.rows["labels"].to_pylist() for label in labels} == {
            "a",
            "b",
        }


def test_the_clips_of_a_recording_stay_together() -> None:
    found = ids(manifest(20, clips_each=3), 8)
    assert len(found) > 7
    for shard in found:
        assert all(shard.count(clip) == 1 for clip in shard)
        recordings = {clip.split("@")[0] for clip in shard}
        assert len(shard) == 3 * len(recordings)


def test_a_recording_with_more_clips_than_a_shard_takes_is_one_shard() -> None:
    assert [len(shard) for shard in ids(manifest(3, clips_each=10), 4)] == [10, 10, 10]


def test_names_change_with_settings_and_media_but_not_with_labels_or_place() -> None:
    before = names(manifest(30))
    assert len(set(before)) == len(before) > 2
    assert all(re.fullmatch(r"[01]+-5e77139-[0-9a-f]{12}", name) for name in before)
    assert not set(names(manifest(30), key="other")) & set(before)
    for change in ({"size_bytes": 101}, {"version": "2"}, {"start_s": 0.5}, {"duration_s": None}):
        changed = names(manifest(30, **change))
        assert len(set(changed) - set(before)) == 1
    for change in ({"labels": ["z"]}, {"split": "test"}, {"uri": "/elsewhere/000.wav"}):
        assert names(manifest(30, **change)) == before


@pytest.mark.parametrize("change", ["added", "deleted"])
def test_a_new_or_deleted_recording_touches_only_the_shard_it_lies_in(change: str) -> None:
    more, less = manifest(201), manifest(201).slice(1)
    before, after = (more, less) if change == "deleted" else (less, more)
    gone, new = set(names(before)) - set(names(after)), set(names(after)) - set(names(before))
    assert 1 <= len(gone) <= 2
    assert 1 <= len(new) <= 2


def test_a_clip_with_variants_is_made_anew() -> None:
    table = manifest(5)
    flags = np.array([True] + [False] * 4)
    (plain,), (varied,) = plan_shards(table, 9), plan_shards(table, 9, flags)
    assert len(set(plain.clip_keys) & set(varied.clip_keys)) == 4
    assert plain.name("k").startswith("all-k-")
    assert plain.name("k") != varied.name("k")


def test_names_are_those_that_tables_of_earlier_versions_have() -> None:
    table = manifest(4, clips_each=2, size_bytes=None, version="it's")
    found = names(table, 3)
    assert found == GOLDEN
    assert names(pa.concat_tables([table.slice(0, 3), table.slice(3)]), 3) == found, "in pieces"
    (whole,) = plan_shards(table, 8, np.array([True, False] * 4))
    assert whole.name("5e77139") == VARIED
    folds = pa.array(["2", None] * 4)
    place = table.column_names.index("fold")
    folded = replace(whole, manifest=table.set_column(place, "fold", folds))
    assert folded.clip_keys == whole.clip_keys
    keys = replace(folded, in_folds=True).clip_keys
    assert [":2" in key for key in keys] == [True, False] * 4
    assert [key.partition(":")[0] for key in keys] == list(whole.clip_keys)


def test_uris_with_the_same_hash_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    table = manifest(60, clips_each=2).take(np.random.default_rng(0).permutation(120))
    expected = names(table, 8)
    monkeypatch.setattr(shards, "_hashed", lambda uris: np.zeros(len(uris), np.uint64))
    assert names(table, 8) == expected


def test_clip_keys_are_compared_as_numbers() -> None:
    (shard,) = plan_shards(manifest(5), 9)
    assert (numbers_of(shard.clip_keys) == shard.key_numbers).all()
    folded = replace(shard, in_folds=True)
    assert (numbers_of(folded.clip_keys) == folded.key_numbers).all()
    odd = numbers_of(["0123456789abcdef", "0123456789abcdef:2", "0123456789abcdef:3"])
    assert odd[0] == 0x0123456789ABCDEF
    assert len(set(odd.tolist())) == 3


def test_a_retried_shard_is_named_after_the_one_it_replaces() -> None:
    (name,) = names(manifest(3))
    again = retry_name(retry_name(name))
    assert (base_name(name), base_name(again)) == (name, name)
    assert [retry_number(n) for n in (name, retry_name(name), again)] == [0, 1, 2]
    assert made_with(again, "5e77139")
    assert not made_with(again, "5e77138")


def test_many_clips_are_planned_in_seconds() -> None:
    count = 200_000
    columns = {
        "clip_id": [f"{i:09d}.wav" for i in range(count)],
        "uri": [f"s3://bucket/{i:09d}.wav" for i in range(count)],
        "labels": [["a"]] * count,
        "split": ["train"] * count,
        "group": [""] * count,
    }
    columns |= {name: [None] * count for name in MANIFEST_SCHEMA.names if name not in columns}
    table = pa.table(columns, schema=MANIFEST_SCHEMA)
    started = time.perf_counter()
    found = names(table, 32)
    assert 200_000 / 32 < len(found) < 200_000 / 12
    assert time.perf_counter() - started < 20


def test_no_clip_makes_no_shard() -> None:
    assert plan_shards(MANIFEST_SCHEMA.empty_table(), 8) == []
