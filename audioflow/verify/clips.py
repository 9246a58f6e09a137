"""Accounting of clips: which stand in a table, how often, and which do not.

Shapes: N clips of the manifest, R rows of a table. Ids are kept once, in the index of the manifest;
a row costs 8 bytes, so that tables of tens of millions of rows fit in memory.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from audioflow.division import CROSS_VALIDATED
from audioflow.ids import IdIndex, id_column

_VARIANT_BITS = 32
_VARIANT = (1 << _VARIANT_BITS) - 1
"""A key is a clip's position, shifted, and its variant in the lower bits."""


class Splits:
    """The splits of clips, in the order of the clips."""

    def __init__(self) -> None:
        self._codes: dict[str, int] = {}
        self._parts: list[NDArray[np.int32]] = []

    def add(self, splits: pa.Array) -> None:
        """Those of the next clips, as texts."""
        encoded = pc.dictionary_encode(splits)
        names = encoded.dictionary.to_pylist()
        codes = np.array([self._codes.setdefault(one, len(self._codes)) for one in names], np.int32)
        self._parts.append(codes[encoded.indices.to_numpy()])

    def among(self, names: Collection[str], clips_N: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """(N,) which of these clips `score` takes for these splits, as `scores.is_scored` says."""
        codes_N = np.concatenate([np.zeros(0, np.int32), *self._parts])
        tested = "test" in self._codes and bool((codes_N[clips_N] == self._codes["test"]).any())
        folded = "val" if tested else "test"
        wanted = {*names, *([CROSS_VALIDATED] if folded in ("test", *names) else [])}
        codes = [code for name, code in self._codes.items() if name in wanted]
        return clips_N & np.isin(codes_N, codes)


@dataclass(frozen=True)
class Clips:
    """The clips of the manifest, with their splits.

    first_N: bool (N,), False where an id of the manifest stood before.
    """

    index: IdIndex
    splits: Splits
    first_N: NDArray[np.bool_]

    def in_splits(self, names: Collection[str]) -> NDArray[np.bool_]:
        """(N,) which clips `score` takes for these splits."""
        return self.splits.among(names, self.first_N)


@dataclass(frozen=True)
class Repeated:
    """A clip (in one variant) that stands in two places of a table."""

    clip_id: str
    variant: int
    places: tuple[str, str]


class Ledger:
    """Who stands where in one table: first all is taken up with `add`, then it is asked.

    With the `index` of a manifest, an id that it lacks is not taken up. Without, the index is made
    of the ids of the table itself, once all are there.
    """

    def __init__(self, index: IdIndex | None) -> None:
        self._given = index
        self._ids: list[pa.Array] = []
        self._variants: list[NDArray[np.int32] | None] = []
        self._parts: list[NDArray[np.int64]] = []
        self._places: list[str] = []
        self._failed: list[bool] = []
        self._settled: _Settled | None = None

    def add(
        self, place: str, ids: pa.Array, variants: NDArray[np.int32] | None = None
    ) -> list[str]:
        """Take up the rows of one file; the ids that are not in the index come back.

        `variants` (0 or more) go with `ids` (large strings); without, all are 0.
        """
        return self._add(place, ids, variants, failed=False)

    def add_failed(self, place: str, ids: pa.Array) -> list[str]:
        """Take up the failures of one file; the ids that are not in the index come back."""
        return self._add(place, ids, None, failed=True)

    def _add(
        self, place: str, ids: pa.Array, variants: NDArray[np.int32] | None, failed: bool
    ) -> list[str]:
        self._places.append(place)
        self._failed.append(failed)
        if self._given is None:
            self._ids.append(ids)
            self._variants.append(variants)
            return []
        positions = self._given.find(ids)
        known = positions >= 0
        self._parts.append(_keys(positions, variants)[known])
        return [ids[row].as_py() for row in np.flatnonzero(~known).tolist()]

    def _all(self) -> "_Settled":
        """What stands in the table, with all of it taken up."""
        if self._settled is None:
            index = self._given
            if index is None:
                index = IdIndex(pa.concat_arrays([id_column([]), *self._ids]))
                ends = np.cumsum([len(ids) for ids in self._ids])
                positions = np.split(index.positions(), ends[:-1]) if len(ends) else []
                self._parts = list(map(_keys, positions, self._variants))
                self._ids.clear()
            ends = np.cumsum([len(part) for part in self._parts])
            keys = np.concatenate([np.zeros(0, np.int64), *self._parts])
            self._parts.clear()
            self._settled = _Settled(index, keys, ends)
        return self._settled

    def clips(self, splits: Splits) -> Clips:
        """The clips of the table, which is the manifest, for those of others."""
        index = self._all().index
        first_N = np.zeros(len(index), np.bool_)
        first_N[self._all().keys >> _VARIANT_BITS] = True
        return Clips(index, splits, first_N)

    def repeated(self) -> Iterator[Repeated]:
        """Every clip and variant that stands more than once, with the first two of its places."""
        table = self._all()
        ordered = np.sort(table.keys)
        twice = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
        del ordered
        if not len(twice):
            return
        places = np.minimum(np.searchsorted(twice, table.keys), len(twice) - 1)
        rows = np.flatnonzero(twice[places] == table.keys)
        rows = rows[np.argsort(places[rows], kind="stable")]
        first = np.flatnonzero(np.diff(places[rows], prepend=-1))
        for key, at in zip(twice.tolist(), first.tolist(), strict=True):
            one, other = np.searchsorted(table.ends, rows[at : at + 2], side="right").tolist()
            yield Repeated(
                table.index[key >> _VARIANT_BITS],
                key & _VARIANT,
                (self._places[one], self._places[other]),
            )

    def lost(self, wanted_N: NDArray[np.bool_]) -> Iterator[str]:
        """Clips that are wanted and whose variant 0 stands neither in rows nor in failures."""
        table = self._all()
        return table.named(wanted_N & ~table.present(table.keys[(table.keys & _VARIANT) == 0]))

    def unwanted(self, wanted_N: NDArray[np.bool_]) -> Iterator[str]:
        """Clips that stand in the table and are not wanted."""
        table = self._all()
        return table.named(table.present(table.keys) & ~wanted_N)

    def lone_variants(self) -> Iterator[str]:
        """Clips with a row of a variant above 0, but none of variant 0."""
        table = self._all()
        parts = np.split(table.keys, table.ends[:-1]) if len(table.ends) else []
        rows = [part for part, failed in zip(parts, self._failed, strict=True) if not failed]
        varied = table.present(*(part[(part & _VARIANT) > 0] for part in rows))
        if not varied.any():
            return iter(())
        original = table.present(*(part[(part & _VARIANT) == 0] for part in rows))
        return table.named(varied & ~original)


@dataclass(frozen=True)
class _Settled:
    """keys: int64 (R,) of all that stands in a table. ends: how many keys there are up to the end
    of each file."""

    index: IdIndex
    keys: NDArray[np.int64]
    ends: NDArray[np.int64]

    def present(self, *keys: NDArray[np.int64]) -> NDArray[np.bool_]:
        """(N,) which clips these keys are of."""
        found = np.zeros(len(self.index), np.bool_)
        for part in keys:
            found[part >> _VARIANT_BITS] = True
        return found

    def named(self, clips_N: NDArray[np.bool_]) -> Iterator[str]:
        return (self.index[position] for position in np.flatnonzero(clips_N).tolist())


def _keys(positions: NDArray[np.int64], variants: NDArray[np.int32] | None) -> NDArray[np.int64]:
    keys = positions << _VARIANT_BITS
    return keys if variants is None else keys | variants.astype(np.int64)
