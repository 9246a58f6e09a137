"""`verify` of many clips: few bytes for each, and one that is wrong among them is found."""

import shutil
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from audioflow.ids import IdIndex, hashes, id_column
from audioflow.storage import Folder
from audioflow.tables import Table
from audioflow.verify import verify
from audioflow.verify.clips import Ledger
from tests.unit.many_clips import clip_ids, embedding_rows, in_shards, make_many

CLIPS = 120_000
SOUND = "embeddings/tone"


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    run = Folder(str(tmp_path_factory.mktemp("many")))
    make_many(run, CLIPS)
    return run


def test_many_clips_take_few_bytes_each(many: Folder) -> None:
    arrow = [pa.total_allocated_bytes()]
    tracemalloc.start()
    try:
        result = verify(many, lambda *told: arrow.append(pa.total_allocated_bytes()))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert result.ok
    assert [check.rows for check in result.tables] == [CLIPS, CLIPS]
    # With a text and an entry of a dict for each it was 260.
    assert (peak + max(arrow) - arrow[0]) / CLIPS < 150


Planting = Callable[[list[np.ndarray]], None]


def _one_missing(shards: list[np.ndarray]) -> None:
    shards[3] = np.delete(shards[3], 77)


def _one_twice(shards: list[np.ndarray]) -> None:
    shards[9] = np.append(shards[9], shards[2][5])


def _one_for_another(shards: list[np.ndarray]) -> None:
    shards[4] = np.concatenate([shards[4][:-1], shards[20][:1]])


def _one_unknown(shards: list[np.ndarray]) -> None:
    shards[5] = np.append(shards[5], CLIPS + 1)


@pytest.mark.parametrize(
    ("plant", "wanted"),
    [
        (_one_missing, [("lost_clip", 3, 77)]),
        (_one_twice, [("repeated_clip", 2, 5)]),
        (_one_for_another, [("repeated_clip", 20, 0), ("lost_clip", 4, -1)]),
        (_one_unknown, [("unknown_clip", None, CLIPS + 1)]),
    ],
)
def test_one_wrong_clip_among_many_is_found(
    many: Folder, tmp_path: Path, plant: Planting, wanted: list[tuple[str, int | None, int]]
) -> None:
    """wanted: kind of fault, and the clip as its place in a shard, or its number."""
    run = Folder(shutil.copytree(many.url, tmp_path / "run").as_posix())
    before, shards = in_shards(CLIPS), in_shards(CLIPS)
    plant(shards)
    table = Table(run / SOUND)
    header = table.complete_header()
    for number, (old, new) in enumerate(zip(before, shards, strict=True)):
        if not np.array_equal(old, new):
            name = header.shards[number].name
            header.shards[number] = table.commit(name, embedding_rows(new))
    table.finish(replace(header, rows=sum(receipt.rows for receipt in header.shards)))
    found = verify(run).faults
    clips = [place if shard is None else before[shard][place] for _, shard, place in wanted]
    named = clip_ids(np.array(clips)).to_pylist()
    assert [fault.kind for fault in found] == [kind for kind, _, _ in wanted]
    for fault, clip in zip(found, named, strict=True):
        assert fault.what.startswith(f"clip {clip!r} ")


# The ledger and its index


def _weak(ids: pa.Array) -> np.ndarray:
    """A hash that nearly all share with others."""
    return hashes(ids) % np.uint64(3)


@pytest.mark.parametrize("hashing", [hashes, _weak])
def test_an_id_is_found_where_it_stood_first_whatever_shares_its_hash(
    hashing: Callable[[pa.Array], np.ndarray],
) -> None:
    index = IdIndex(id_column(["b", "a", "", "b", "c", "ä", "b"]), hashing)
    wanted = id_column(["ä", "b", "x", "", "c", "a", "b "])
    assert index.find(wanted).tolist() == [5, 0, -1, 2, 4, 1, -1]
    assert index.positions().tolist() == [0, 1, 2, 0, 4, 5, 0]
    assert (len(index), index[5]) == (7, "ä")
    assert IdIndex(id_column([]), hashing).find(id_column(["a"])).tolist() == [-1]
    assert IdIndex(id_column(["a"]), hashing).find(id_column([])).tolist() == []


@pytest.mark.parametrize("grows", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_a_ledger_finds_what_counting_one_by_one_finds(seed: int, *, grows: bool) -> None:
    draw = np.random.default_rng(seed)
    names = [f"clip{number}" for number in range(40)]
    known = names[:35]
    ledger = Ledger(None if grows else IdIndex(id_column(known)))
    seen: dict[tuple[str, int], list[str]] = {}
    original, varied, unknown = set(), set(), []
    for number in range(12):
        file, clips = f"file{number}", draw.choice(names, draw.integers(0, 8)).tolist()
        if number % 3 == 2:
            strange, variants = ledger.add_failed(file, id_column(clips)), [0] * len(clips)
        else:
            variants = draw.integers(0, 3, len(clips)).tolist()
            strange = ledger.add(file, id_column(clips), np.array(variants, np.int32))
        unknown += strange
        assert strange == ([] if grows else [clip for clip in clips if clip not in known])
        for clip, variant in zip(clips, variants, strict=True):
            if clip not in strange:
                seen.setdefault((clip, variant), []).append(file)
                if number % 3 != 2:
                    (varied if variant else original).add(clip)
    assert {(one.clip_id, one.variant): one.places for one in ledger.repeated()} == {
        key: tuple(files[:2]) for key, files in seen.items() if len(files) > 1
    }
    assert set(ledger.lone_variants()) == varied - original
    if not grows:
        assert unknown
        half = np.arange(35) < 20
        there = {clip for clip, variant in seen if variant == 0}
        assert list(ledger.lost(half)) == [clip for clip in known[:20] if clip not in there]
        assert set(ledger.unwanted(half)) == {clip for clip, _ in seen} - set(known[:20])
