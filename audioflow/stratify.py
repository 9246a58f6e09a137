"""Whole groups of clips into parts, so that every class is divided as the parts' shares say.

A greedy form of iterative stratification (Sechidis et al., On the Stratification of Multi-Label
Data, ECML PKDD 2011): the classes that the fewest groups have come first.

Shapes: U groups, E pairs of a group and a class that it has, C classes, P parts.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

ATTEMPTS = 20
_AT_ONCE = 65_536

Integers = NDArray[np.int64]
Parts = NDArray[np.int16]


@dataclass(frozen=True)
class Groups:
    """Groups and how many of their clips have each class.

    names: the names of the groups at rising places, as UTF-8 in batches. owners, codes, counts:
    (E,) of every pair its group (rising), its class and the clips of the one that have the other.
    classes: the names of the classes by code; one that no group has is none.
    """

    size: int
    names: Callable[[Integers], Iterable[Sequence[bytes]]]
    owners: NDArray[np.int32]
    codes: NDArray[np.int32]
    counts: NDArray[np.int32]
    classes: Sequence[str]

    @cached_property
    def starts(self) -> Integers:
        """(U + 1,) where the pairs of a group begin."""
        return np.searchsorted(self.owners, np.arange(self.size + 1)).astype(np.int64)

    @cached_property
    def totals(self) -> Integers:
        """(U,) the labels of all clips of a group."""
        sums = np.concatenate([[0], np.cumsum(self.counts, dtype=np.int64)])
        totals: Integers = np.diff(sums[self.starts])
        return totals

    @cached_property
    def spread(self) -> Integers:
        """(C,) how many groups have a class."""
        return np.bincount(self.codes, minlength=len(self.classes)).astype(np.int64)

    @cached_property
    def used(self) -> list[int]:
        """The codes of the classes that there are, by name."""
        there = np.flatnonzero(self.spread).tolist()
        return sorted(there, key=lambda code: self.classes[code])

    @cached_property
    def rarest(self) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """(U,) the turn of a group's rarest class, and its code; C where a group has no class."""
        spread = self.spread.tolist()
        order = sorted(self.used, key=lambda code: (spread[code], self.classes[code]))
        ranks = np.full(len(self.classes) + 1, -1, np.int32)
        ranks[order] = np.arange(len(order))
        # A group without a class has the turn of the class without a name.
        nameless = next((code for code in order if not self.classes[code]), len(self.classes))
        turns = np.full(self.size, ranks[nameless], np.int32)
        filled = np.flatnonzero(np.diff(self.starts))
        if len(filled):
            turns[filled] = np.minimum.reduceat(ranks[self.codes], self.starts[filled])
        codes = np.array([*order, nameless], np.int32)[turns]
        return turns, codes


def divide(groups: Groups, shares: Mapping[str, float], seed: int) -> Parts:
    """The part (U,) of every group, by place in `shares`; the same for a seed, whatever the order
    of `groups`.

    shares: part -> its share of the clips, more than 0; they need not add up to 1. Where groups
    have several classes, some class may still miss a part (see `missing`); several divisions are
    tried then, and the one that misses least is returned.
    """
    best: Parts = np.zeros(groups.size, np.int16)
    least = None
    for attempt in range(ATTEMPTS):
        parts = _attempt(groups, list(shares.values()), f"{seed}/{attempt}")
        _mend(groups, parts, len(shares))
        count = sum(map(len, missing(groups, parts, shares).values()))
        if least is None or count < least:
            best, least = parts, count
        if not least:
            break
    return best


def missing(groups: Groups, parts: Parts, shares: Mapping[str, float]) -> dict[str, list[str]]:
    """The parts that lack a class, by class; only classes that lack some."""
    has_PC = _having(groups, parts, len(shares)) > 0
    found = {}
    for code in groups.used:
        lacks = [part for part, has in zip(shares, has_PC[:, code], strict=True) if not has]
        if lacks:
            found[groups.classes[code]] = lacks
    return found


def _having(groups: Groups, parts: Parts, num_parts: int) -> Integers:
    """(P, C) how many groups of a part have a class."""
    width = len(groups.classes)
    keys = parts[groups.owners].astype(np.int64) * width + groups.codes
    return np.bincount(keys, minlength=num_parts * width).reshape(num_parts, width)


def _attempt(groups: Groups, shares: Sequence[float], salt: str) -> Parts:
    order = _hashes(groups, salt)
    turns, firsts = groups.rarest
    # Groups of about the same size in an order of chance, the large ones first.
    sizes = -np.frexp(groups.totals.astype(np.float64))[1]
    sequence = np.lexsort((order, sizes, turns))
    chance = (order % np.uint64(len(shares))).astype(np.int16)
    parts = np.zeros(groups.size, np.int16)
    filling = _Filling(shares, len(groups.classes))
    for at in range(0, groups.size, _AT_ONCE):
        inside = sequence[at : at + _AT_ONCE]
        entries = zip(
            firsts[inside].tolist(),
            chance[inside].tolist(),
            _pairs(groups, inside),
            strict=True,
        )
        parts[inside] = [filling.place(*entry) for entry in entries]
    return parts


def _pairs(groups: Groups, inside: Integers) -> Iterator[list[tuple[int, int]]]:
    """Of these groups, the classes that each has and how often."""
    begins, ends = groups.starts[inside], groups.starts[inside + 1]
    if (ends - begins == 1).all():
        codes, counts = groups.codes[begins].tolist(), groups.counts[begins].tolist()
        yield from ([pair] for pair in zip(codes, counts, strict=True))
        return
    for begin, end in zip(begins.tolist(), ends.tolist(), strict=True):
        codes, counts = groups.codes[begin:end].tolist(), groups.counts[begin:end].tolist()
        yield list(zip(codes, counts, strict=True))


class _Filling:
    """Parts that are filled, one group after the other."""

    def __init__(self, shares: Sequence[float], num_classes: int) -> None:
        # One place more, for groups without a class.
        self._parts = [([0] * (num_classes + 1), share) for share in shares]
        self._totals = [0] * len(shares)

    def place(self, first: int, chance: int, pairs: Sequence[tuple[int, int]]) -> int:
        """The part that a group goes to; first: its rarest class."""
        if len(pairs) == 1:
            half = pairs[0][1] / 2
        else:
            half = next((count for code, count in pairs if code == first), 0) / 2
        # How full the part would be, half of the group counted: the rounding of Sainte-Lague,
        # which favours neither large nor small parts.
        fills = [
            (own[first] > 0, round((own[first] + half) / share, 6)) for own, share in self._parts
        ]
        least = min(fills)
        if fills.count(least) == 1:
            chosen = fills.index(least)
        else:
            tied = [part for part, fill in enumerate(fills) if fill == least]
            chosen = self._of_tied(tied, chance, pairs)
        own = self._parts[chosen][0]
        for code, count in pairs:
            own[code] += count
            self._totals[chosen] += count
        return chosen

    def _of_tied(self, tied: Sequence[int], chance: int, pairs: Sequence[tuple[int, int]]) -> int:
        """Of parts that are alike in the rarest class, the one with the least of all of them."""
        size = sum(count for _, count in pairs)

        def fill(part: int) -> tuple[float, float, int]:
            own, share = self._parts[part]
            same = sum((own[code] + count / 2) * count for code, count in pairs)
            total = (self._totals[part] + size / 2) / share
            return round(same / share, 6), round(total, 6), (part + chance) % len(self._parts)

        return min(tied, key=fill)


def _mend(groups: Groups, parts: Parts, num_parts: int) -> None:
    """Move groups, small ones first, to parts that lack their classes, while that helps."""
    have_PC = _having(groups, parts, num_parts)
    lacking = ((have_PC == 0).any(axis=0)) & (groups.spread > 0)
    if not lacking.any():
        return
    have = have_PC.tolist()
    for group in _small_first(groups, np.unique(groups.owners[lacking[groups.codes]])):
        labels = groups.codes[groups.starts[group] : groups.starts[group + 1]].tolist()
        here = int(parts[group])
        lost = sum(have[here][label] == 1 for label in labels)
        gains = [sum(not own[label] for label in labels) for own in have]
        there = gains.index(max(gains))
        if gains[there] > lost:
            parts[group] = there
            for label in labels:
                have[here][label] -= 1
                have[there][label] += 1


def _small_first(groups: Groups, candidates: Integers) -> list[int]:
    names = [name for batch in groups.names(candidates) for name in batch]
    table = pa.table(
        {"size": groups.totals[candidates], "name": pa.array(names, pa.large_binary())}
    )
    order = pc.sort_indices(table, [("size", "ascending"), ("name", "ascending")]).to_numpy()
    return [int(group) for group in candidates[order]]


def _hashes(groups: Groups, salt: str) -> NDArray[np.uint64]:
    """(U,) numbers of chance by the names of groups."""
    start = f"{salt}/".encode()
    parts = [
        b"".join(hashlib.sha256(start + name).digest()[:8] for name in batch)
        for batch in groups.names(np.arange(groups.size))
    ]
    return np.frombuffer(b"".join(parts), ">u8").astype(np.uint64)
