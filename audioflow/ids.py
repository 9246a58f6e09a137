"""Ids by their position: looked up exactly, without an object of Python for each.

Shapes: N ids that are indexed, Q ids that are looked for. An id costs its bytes and 8 more as Arrow
holds it, 8 for its hash and 4 for its place in the order of hashes. A hash only finds candidates:
what decides is that the ids themselves are equal.
"""

from collections.abc import Callable, Iterable

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

Hashing = Callable[[pa.Array], NDArray[np.uint64]]
"""Hashes of ids, equal for equal ids within this process."""

_AT_ONCE = 1 << 20


def hashes(ids: pa.Array) -> NDArray[np.uint64]:
    """(N,) a hash of every id."""
    found: NDArray[np.uint64] = pl.Series(ids).hash().to_numpy()
    return found


def id_column(ids: Iterable[str]) -> pa.Array:
    """Ids as the index takes them."""
    return pa.array(ids, pa.large_string())


class IdIndex:
    """Ids in their order; the position of one that stands more than once is that of its first."""

    def __init__(self, ids: pa.Array, hashing: Hashing = hashes) -> None:
        """ids: texts (N,) in one piece, none of them null."""
        self.ids = ids
        self._hashing = hashing
        parts = [hashing(ids.slice(low, _AT_ONCE)) for low in range(0, len(ids), _AT_ONCE)]
        found = np.concatenate([np.zeros(0, np.uint64), *parts])
        order = np.argsort(found, kind="stable")
        self._order = order.astype(np.uint32 if len(ids) < 1 << 32 else np.int64)
        del order
        self._hashes = found[self._order]

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, position: int) -> str:
        found: str = self.ids[position].as_py()
        return found

    def find(self, ids: pa.Array) -> NDArray[np.int64]:
        """(Q,) the position of every id, -1 where it is not in the index."""
        ids = ids.cast(self.ids.type)
        wanted = self._hashing(ids)
        places = np.searchsorted(self._hashes, wanted)
        found = np.full(len(ids), -1, np.int64)
        unsettled = np.arange(len(ids))
        while len(unsettled):  # again only for ids that share their hash with another one
            inside = places[unsettled] < len(self._hashes)
            unsettled = unsettled[inside]
            unsettled = unsettled[self._hashes[places[unsettled]] == wanted[unsettled]]
            candidates = self._order[places[unsettled]]
            same = pc.equal(self.ids.take(pa.array(candidates)), ids.take(pa.array(unsettled)))
            equal = same.to_numpy(zero_copy_only=False).astype(np.bool_)
            found[unsettled[equal]] = candidates[equal]
            unsettled = unsettled[~equal]
            places[unsettled] += 1
        return found

    def positions(self) -> NDArray[np.int64]:
        """(N,) the position of every id of the index: its own, unless it stood before."""
        own = np.arange(len(self.ids))
        same = self._hashes[1:] == self._hashes[:-1]
        doubtful = np.zeros(len(self.ids), np.bool_)
        doubtful[self._order[1:][same]] = True
        rows = np.flatnonzero(doubtful)
        own[rows] = self.find(self.ids.take(pa.array(rows)))
        return own
