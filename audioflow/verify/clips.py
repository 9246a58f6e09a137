"""Accounting of clips: which stand in a table, how often, and which do not.

Shapes: N clips of the manifest, R rows of a table. Ids are kept once, as the keys of a `ClipIndex`;
a row costs 8 bytes, so that tables of tens of millions of rows fit in memory.
"""

import sys
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from audioflow.division import CROSS_VALIDATED

_VARIANT_BITS = 32
_VARIANT = (1 << _VARIANT_BITS) - 1
"""A key is a clip's position, shifted, and its variant in the lower bits."""


@dataclass
class ClipIndex:
    """Clips by their position, with their splits; an index without a manifest has no splits."""

    ids: list[str] = field(default_factory=list)
    splits: list[str] = field(default_factory=list)
    positions: dict[str, int] = field(default_factory=dict)

    def position(self, clip_id: str) -> int:
        """The position of a clip, given to it now where it has none."""
        found = self.positions.setdefault(clip_id, len(self.ids))
        if found == len(self.ids):
            self.ids.append(clip_id)
        return found

    def take(self, ids: Sequence[str], splits: Sequence[str]) -> None:
        """Set the splits of clips that got their positions in this order; the first one counts."""
        for clip_id, split in zip(ids, splits, strict=True):
            if self.positions[clip_id] == len(self.splits):
                self.splits.append(sys.intern(split))

    def in_splits(self, names: Collection[str]) -> NDArray[np.bool_]:
        """(N,) which clips `score` takes for these splits, as `scores.is_scored` says."""
        folded = "val" if "test" in self.splits else "test"
        wanted = {*names, *([CROSS_VALIDATED] if folded in ("test", *names) else [])}
        return np.fromiter((split in wanted for split in self.splits), np.bool_, len(self.splits))


@dataclass(frozen=True)
class Repeated:
    """A clip (in one variant) that stands in two places of a table."""

    clip_id: str
    variant: int
    places: tuple[str, str]


class Ledger:
    """Who stands where in one table.

    Unless it `grows`, an id that the index lacks is not taken up.
    """

    def __init__(self, clips: ClipIndex, *, grows: bool) -> None:
        self._clips = clips
        self._grows = grows
        self._keys: list[NDArray[np.int64]] = []
        self._places: list[str] = []
        self._failed: list[bool] = []

    def add(
        self, place: str, ids: Sequence[str], variants: NDArray[np.int32] | None = None
    ) -> list[str]:
        """Take up the rows of one file; the ids that are not in the index come back.

        `variants` (0 or more) go with `ids`; without, all are 0.
        """
        return self._add(place, ids, variants, failed=False)

    def add_failed(self, place: str, ids: Sequence[str]) -> list[str]:
        """Take up the failures of one file; the ids that are not in the index come back."""
        return self._add(place, ids, None, failed=True)

    def _add(
        self,
        place: str,
        ids: Sequence[str],
        variants: NDArray[np.int32] | None,
        failed: bool,
    ) -> list[str]:
        find = self._clips.position if self._grows else self._known
        positions = np.fromiter(map(find, ids), np.int64, len(ids))
        keys = positions << _VARIANT_BITS
        if variants is not None:
            keys |= variants.astype(np.int64)
        known = positions >= 0
        self._keys.append(keys[known])
        self._places.append(place)
        self._failed.append(failed)
        return [ids[row] for row in np.flatnonzero(~known).tolist()]

    def _known(self, clip_id: str) -> int:
        return self._clips.positions.get(clip_id, -1)

    def _all_keys(self) -> NDArray[np.int64]:
        return np.concatenate([np.zeros(0, np.int64), *self._keys])

    def repeated(self) -> Iterator[Repeated]:
        """Every clip and variant that stands more than once, with the first two of its places."""
        keys = self._all_keys()
        order = np.argsort(keys, kind="stable")
        keys = keys[order]
        same = np.flatnonzero(keys[1:] == keys[:-1])
        first = same[np.concatenate([[True], keys[same][1:] != keys[same][:-1]])[: len(same)]]
        ends = np.cumsum([len(part) for part in self._keys])
        for row in first:
            pair = np.searchsorted(ends, order[row : row + 2], side="right")
            yield Repeated(
                self._clips.ids[keys[row] >> _VARIANT_BITS],
                int(keys[row] & _VARIANT),
                (self._places[pair[0]], self._places[pair[1]]),
            )

    def lost(self, wanted_N: NDArray[np.bool_]) -> Iterator[str]:
        """Clips that are wanted and whose variant 0 stands neither in rows nor in failures."""
        for position in np.flatnonzero(wanted_N & ~self._present(variant_0=True)):
            yield self._clips.ids[position]

    def unwanted(self, wanted_N: NDArray[np.bool_]) -> Iterator[str]:
        """Clips that stand in the table and are not wanted."""
        for position in np.flatnonzero(self._present(variant_0=False) & ~wanted_N):
            yield self._clips.ids[position]

    def lone_variants(self) -> Iterator[str]:
        """Clips with a row of a variant above 0, but none of variant 0."""
        rows = [part for part, failed in zip(self._keys, self._failed, strict=True) if not failed]
        keys = np.concatenate([np.zeros(0, np.int64), *rows])
        higher = np.zeros(len(self._clips.ids), np.bool_)
        higher[keys[(keys & _VARIANT) > 0] >> _VARIANT_BITS] = True
        original = np.zeros_like(higher)
        original[keys[(keys & _VARIANT) == 0] >> _VARIANT_BITS] = True
        for position in np.flatnonzero(higher & ~original):
            yield self._clips.ids[position]

    def _present(self, *, variant_0: bool) -> NDArray[np.bool_]:
        keys = self._all_keys()
        if variant_0:
            keys = keys[(keys & _VARIANT) == 0]
        found = np.zeros(len(self._clips.ids), np.bool_)
        found[keys >> _VARIANT_BITS] = True
        return found
