"""What is left to do for a table, and what of older shards is taken over."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from audioflow.embeddings import ClipEmbedding, embedding_rows
from audioflow.engine.embed_run import Items
from audioflow.engine.embed_todo import Works, works_for
from audioflow.shards import Shard, plan_shards
from audioflow.storage import Folder
from audioflow.tables import Content, Failure, Table

KEY = "5e77" * 8
CLIPS = 40
CLIP = ClipEmbedding({"embedding": np.zeros((1, 2), np.float32)}, np.zeros(1), 1.0, 1.0)


@pytest.fixture
def table(tmp_path: Any) -> Table:
    return Table(Folder(str(tmp_path)))


def manifest(clips: int = CLIPS, version: str = "1", fold: str | None = None) -> pa.Table:
    ids = [f"clip{number:03d}" for number in range(clips)]
    columns = {
        "clip_id": ids,
        "uri": [f"/{clip_id}" for clip_id in ids],
        "start_s": np.zeros(clips),
        "duration_s": np.ones(clips),
        "fold": pa.array([fold] * clips, pa.string()),
        "size_bytes": np.full(clips, 1000),
        "version": [version] * clips,
    }
    return pa.table(columns)


def commit(table: Table, shard: Shard, *failed: str, error: str = "truncated") -> None:
    """The shard of a table, some of whose clips failed."""
    ids = shard.rows["clip_id"].to_pylist()
    good = [clip_id for clip_id in ids if clip_id not in failed]
    bad = [Failure(clip_id, f"/{clip_id}", "decode", error, "why", 3) for clip_id in failed]
    rows = embedding_rows(good, [CLIP] * len(good), {"embedding": 2})
    keys = dict(zip(ids, shard.clip_keys, strict=True))
    table.commit_content(shard.name(KEY), Content(rows, bad, 1.0, keys))


def works(table: Table, shards: list[Shard], *, retry_failed: bool = False) -> Works:
    plan: Any = SimpleNamespace(settings_key=KEY, names=tuple(one.name(KEY) for one in shards))
    return works_for(table, plan, shards, retry_failed=retry_failed)


def ids_of(shard: Shard) -> list[str]:
    found: list[str] = shard.rows["clip_id"].to_pylist()
    return found


def test_what_is_not_committed_is_to_be_done(table: Table) -> None:
    shards = plan_shards(manifest(), 8)
    for shard in shards[1::2]:
        commit(table, shard)
    left = works(table, shards)
    assert left.numbers.tolist() == list(range(0, len(shards), 2))
    assert [number in left for number in (0, 1, len(shards) + 7)] == [True, False, False]
    work = left.of(2)
    assert (work.name, work.todo, work.reuse) == (shards[2].name(KEY), None, {})
    assert work.clip_keys == dict(zip(ids_of(shards[2]), shards[2].clip_keys, strict=True))
    assert left.plan.taken_over == 0


def test_work_items_are_the_shards_that_any_table_lacks(tmp_path: Any) -> None:
    shards = plan_shards(manifest(), 8)
    first, second = (Table(Folder(str(tmp_path / name))) for name in ("a", "b"))
    for shard in shards[1:]:
        commit(first, shard)
    for shard in shards[2:]:
        commit(second, shard)
    flags = np.arange(CLIPS) % 2 == 0
    items = Items(shards, {"a": works(first, shards), "b": works(second, shards)}, flags)
    assert [dict(item.works).keys() for item in items] == [{"a", "b"}, {"b"}]
    assert (len(items), items.total) == (2, CLIPS)
    assert items.clips == len(shards[0]) + len(shards[1])
    assert items[1].augment == flags[shards[1].indices].tolist()
    assert items[1].row(7)["clip_id"][0].as_py() == ids_of(shards[1])
    with pytest.raises(KeyError):
        items[1].works["a"]


@pytest.mark.parametrize("damaged", [False, True])
def test_a_shard_whose_clips_changed_takes_over_those_that_did_not(
    table: Table, damaged: bool
) -> None:
    rows, before = manifest(), plan_shards(manifest(), 8)
    fewer = (pa.concat_tables([rows.slice(0, n), rows.slice(n + 1)]) for n in range(CLIPS))
    after = next(plan for one in fewer if len(plan := plan_shards(one, 8)) == len(before))
    for shard in before:
        commit(table, shard, ids_of(shard)[-1])
    if damaged:
        for shard in before:
            table.folder.write(f"{shard.name(KEY)}.parquet", b"")
    left = works(table, after)
    (number,) = left.numbers
    work, ids = left.of(number), ids_of(after[number])
    old = next(one.name(KEY) for one in before if set(ids) < set(ids_of(one)))
    if damaged:
        assert (work.reuse, work.todo, left.plan.taken_over) == ({}, None, 0)
        assert old not in table.committed()
        return
    assert (work.reuse, work.todo) == ({old: ids}, [])
    assert left.plan.taken_over == len(ids)
    assert old in table.committed(), "as long as something of it can be taken over"
    again = works(table, after, retry_failed=True).of(number)
    lost = [ids_of(before[number])[-1]]
    assert again.reuse == {old: [clip_id for clip_id in ids if clip_id not in lost]}
    assert [ids[place] for place in again.todo or ()] == lost


def test_nothing_is_taken_over_of_other_media_or_of_another_fold(table: Table) -> None:
    (shard,) = plan_shards(manifest(), CLIPS)
    commit(table, replace(shard, in_folds=True))
    other = plan_shards(manifest(version="2"), CLIPS)
    assert works(table, other).of(0).reuse == {}
    (folded,) = plan_shards(manifest(fold="2"), CLIPS)
    commit(table, replace(folded, in_folds=True))
    fewer = plan_shards(manifest(CLIPS - 1, fold="2"), CLIPS)[0]
    assert works(table, [fewer]).of(0).reuse == {}, "not one of that fold"
    commit(table, replace(folded, in_folds=True))
    work = works(table, [replace(fewer, in_folds=True)]).of(0)
    assert list(work.reuse.values()) == [ids_of(fewer)]


def test_failed_clips_are_tried_again_when_that_is_asked_for(table: Table) -> None:
    shards = plan_shards(manifest(), 8)
    lost = ids_of(shards[1])[2]
    for number, shard in enumerate(shards):
        commit(table, shard, *([lost] if number == 1 else []))
    assert len(works(table, shards)) == 0
    left = works(table, shards, retry_failed=True)
    assert left.numbers.tolist() == [1]
    work, name = left.of(1), shards[1].name(KEY)
    assert (work.name, work.retry_of, work.todo) == (f"{name}-r1", name, [2])
    assert work.attempts == {lost: 3}
    assert work.reuse == {name: [one for one in ids_of(shards[1]) if one != lost]}
    assert left.plan.taken_over == len(shards[1]) - 1


def test_a_shard_that_failed_for_a_reason_that_is_not_its_clips_is_done_again(
    table: Table,
) -> None:
    (shard,) = plan_shards(manifest(), CLIPS)
    commit(table, shard, *ids_of(shard), error="network")
    assert works(table, [shard]).of(0).name == shard.name(KEY)
    assert table.committed() == set()
    commit(table, shard, *ids_of(shard))
    assert len(works(table, [shard])) == 0
