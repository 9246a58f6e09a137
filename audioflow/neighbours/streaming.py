"""Vectors of clips or of patches, read off an embeddings table by a few threads.

Shapes: N clips (or patches) of a shard, P patches of a clip, L vectors of a patch, D width.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from audioflow.embeddings import LayerRows, layer_rows
from audioflow.errors import InputError
from audioflow.tables import Table

READERS = 4
"""Shards that are read ahead."""

Told = Callable[[int, int], None]
"""Called with how many shards are read, and how many there are."""


@dataclass(frozen=True)
class Vectors:
    """Vectors float32 (N, D) of clips, or of patches with where they begin.

    time_s: (N,) seconds from the start of the clip; None for whole clips.
    """

    clip_ids: list[str]
    vectors: NDArray[np.float32]
    time_s: NDArray[np.float64] | None = None

    def __len__(self) -> int:
        return len(self.clip_ids)

    def where(self, keep_N: NDArray[np.bool_]) -> "Vectors":
        """Some of them."""
        times = None if self.time_s is None else self.time_s[keep_N]
        ids = [clip_id for clip_id, keep in zip(self.clip_ids, keep_N, strict=True) if keep]
        return Vectors(ids, self.vectors[keep_N], times)


@dataclass(frozen=True)
class Source:
    """One layer of a complete embeddings table, clip by clip (the mean of its vectors) or patch by
    patch; only clips as recorded, no variants."""

    table: Table
    layer: str
    patches: bool = False

    def __iter__(self) -> Iterator[Vectors]:
        return self.streamed()

    def streamed(self, told: Told = lambda done, total: None) -> Iterator[Vectors]:
        """The vectors of every shard, in the order of the table."""
        names = [receipt.name for receipt in self.table.complete_header().shards if receipt.rows]
        waiting: deque[Future[Vectors]] = deque()
        left = deque(names)
        with ThreadPoolExecutor(READERS, thread_name_prefix="search") as pool:
            for done in range(len(names)):
                while left and len(waiting) < 2 * READERS:
                    waiting.append(pool.submit(self.shard, left.popleft()))
                yield waiting.popleft().result()
                told(done + 1, len(names))

    def shard(self, name: str) -> Vectors:
        """The vectors of one shard."""
        times = ["patch_start_s"] if self.patches else []
        rows = self.table.read_shard(name, ["clip_id", "variant", *times, self.layer])
        return vectors_of(rows.filter(pc.equal(rows["variant"], 0)), self.layer, self.patches)


def vectors_of(rows: pa.Table, layer: str, patches: bool = False) -> Vectors:
    """The vectors of rows of an embeddings table; clips without any are left out."""
    found = layer_rows(rows, layer)
    counts = np.diff(found.offsets)
    if not patches:
        return _means(found, counts)
    ids = [clip_id for clip_id, count in zip(found.clip_ids, counts, strict=True) if count]
    times = [
        _times(clip_id, np.asarray(starts, np.float64), int(count))
        for clip_id, starts, count in zip(
            found.clip_ids, rows["patch_start_s"].to_pylist(), counts, strict=True
        )
        if count
    ]
    return Vectors(
        [clip_id for clip_id, mine in zip(ids, times, strict=True) for _ in mine],
        found.vectors,
        np.concatenate([np.zeros(0), *times]),
    )


def _means(found: LayerRows, counts: NDArray[np.int64]) -> Vectors:
    there = counts > 0
    ids = [clip_id for clip_id, one in zip(found.clip_ids, there, strict=True) if one]
    starts = found.offsets[:-1][there]
    if not starts.size:
        return Vectors(ids, found.vectors[:0])
    total = np.add.reduceat(found.vectors, starts, axis=0, dtype=np.float64)
    return Vectors(ids, (total / counts[there][:, None]).astype(np.float32))


def _times(clip_id: str, starts_P: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """When each vector of a clip begins; several of one patch share its time."""
    if not len(starts_P) or count % len(starts_P):
        raise InputError(
            f"clip {clip_id!r} has {count} vectors in {len(starts_P)} patches, so that it cannot "
            "be said when they are; search whole clips, without --patches"
        )
    return np.repeat(starts_P, count // len(starts_P))


def locate(source: Source, clip_id: str, likely: Callable[[str], bool]) -> Vectors | None:
    """The vectors of one clip; None where the table has none of it.

    likely: of the name of a shard, whether to look there first.
    """
    name = shard_with(source.table, clip_id, likely)
    if name is None:
        return None
    found = source.shard(name)
    return found.where(np.array([one == clip_id for one in found.clip_ids], np.bool_))


def shard_with(table: Table, clip_id: str, likely: Callable[[str], bool]) -> str | None:
    """The name of the shard that has rows of a clip."""
    names: Sequence[str] = [one.name for one in table.complete_header().shards if one.rows]
    for name in sorted(names, key=likely, reverse=True):
        if pc.any(pc.equal(table.read_shard(name, ["clip_id"])["clip_id"], clip_id)).as_py():
            return name
    return None
