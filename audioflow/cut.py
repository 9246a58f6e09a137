"""How joined tables are cut into shards: by the hashes of clip ids, whatever the order of rows.

Shapes: N rows, P parts.

The space of hashes is halved until a part has about as many clips as a shard may hold. Score tables
of recordings that are one clip each are cut by the same hashes (`shards`), so that a part of them
lies in one shard, or in few.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from audioflow.hashes import HASH_BITS, clip_hashes

CLIPS_PER_PART = 16_384
BYTES_PER_PART = 64 * 2**20
"""Of float32 scores of one table."""


@dataclass(frozen=True)
class Cut:
    """2**bits parts, numbered from the least hashes up."""

    bits: int

    @classmethod
    def of(cls, num_clips: int, num_classes: int) -> "Cut":
        """The cut whose parts have about as many of `num_clips` clips as a shard may, or fewer."""
        most = max(1, min(CLIPS_PER_PART, BYTES_PER_PART // (4 * num_classes)))
        return cls((max(0, num_clips - 1) // most).bit_length())

    @property
    def count(self) -> int:
        """How many parts there are, P."""
        return 1 << self.bits

    def name(self, part: int) -> str:
        """The bits that the hashes in a part begin with; `all` where there is one part."""
        return f"{part:0{self.bits}b}" if self.bits else "all"

    def parts(self, hashes_N: NDArray[np.uint64]) -> NDArray[np.int64]:
        """The part (N,) that each hash lies in."""
        if not self.bits:
            return np.zeros(len(hashes_N), np.int64)
        return (hashes_N >> np.uint64(HASH_BITS - self.bits)).astype(np.int64)


@dataclass(frozen=True, eq=False)
class Sorted:
    """Rows in the order of their parts: those of part p are `ends[p]` to `ends[p + 1]`."""

    rows: pa.Table
    ends: NDArray[np.int64]

    def has(self, part: int) -> bool:
        """Whether there is a row of this part."""
        return bool(self.ends[part] < self.ends[part + 1])

    def of(self, part: int) -> pa.Table:
        """The rows of one part."""
        return self.rows.slice(self.ends[part], self.ends[part + 1] - self.ends[part])

    def copy_of(self, part: int) -> pa.Table:
        """The rows of one part in memory of their own, so that no others travel with them."""
        return self.rows.take(pa.array(np.arange(self.ends[part], self.ends[part + 1])))


def row_hashes(rows: pa.Table) -> NDArray[np.uint64]:
    """The hash (N,) of every row's `clip_id`."""
    return clip_hashes(rows["clip_id"].to_pylist())


def by_part(rows: pa.Table, cut: Cut) -> Sorted:
    """The rows sorted by part; within one they keep their order."""
    parts_N = cut.parts(row_hashes(rows))
    ends = np.concatenate([[0], np.cumsum(np.bincount(parts_N, minlength=cut.count))])
    if cut.bits:
        rows = rows.take(pa.array(np.argsort(parts_N, kind="stable")))
    return Sorted(rows, ends)


def distinct(hashes: Sequence[NDArray[np.uint64]]) -> NDArray[np.uint64]:
    """All hashes, each once, in order. The first of them are a sample that every run agrees on."""
    return np.unique(np.concatenate([np.zeros(0, np.uint64), *hashes]))
