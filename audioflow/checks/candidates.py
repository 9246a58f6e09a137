"""Pairs of clips on two sides that may be near-duplicates: all that are near, or, of very many
clips, those that codes of random signs bring together.

Shapes: N clips, W columns, K pairs; a code has 256 bits in 4 words.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from audioflow.checks.limits import Sampled, limit
from audioflow.checks.vectors import WIDEST, Compared, narrowed, projection_for
from audioflow.neighbours.measuring import Floats

MOST_PAIRS = 6_000_000_000
"""Of so many pairs of clips on two sides all are compared; about a minute of one core."""
MOST_BYTES = 1024**3
"""Of the vectors that are held for that."""
PER_CLIP = 3
"""Pairs that are kept of one clip in one block."""
_BLOCK = 2048
_COLUMNS = 8192
_SLACK = 1.6
"""Distances in a random projection may be off by that factor."""
_WORDS = 4
_WINDOW = 10

Pairs = NDArray[np.intp]
"""(K, 2) places in the manifest."""


class _Held(NamedTuple):
    """What is kept in memory of all clips with vectors, in order of their side."""

    rows: NDArray[np.intp]
    side: NDArray[np.intp]
    vectors: Floats
    bounds: Floats


def is_affordable(compared: Compared, width: int, most_pairs: int) -> bool:
    """Whether all pairs of clips on two sides can be compared."""
    counts = np.bincount(compared.sides.side).astype(object)
    pairs = (counts.sum() ** 2 - (counts**2).sum()) // 2
    held = counts.sum() * min(width, WIDEST) * 4
    return bool(pairs <= most_pairs and held <= MOST_BYTES)


def all_pairs(compared: Compared, sampled: Sampled) -> Pairs:
    """Every pair that may be one, the nearest first, by blocks of matrix products."""
    width = sampled.vectors.shape[1]
    projection = projection_for(width)
    slack = 1.0 if projection is None else _SLACK
    held = _held(compared, sampled, projection)
    found, distances = [np.zeros((0, 2), np.intp)], [np.zeros(0, np.float32)]
    for block, columns in _blocks(held.side):
        far = 1 - held.vectors[block] @ held.vectors[columns].T
        most = limit(held.bounds[block], held.bounds[block]) * slack
        for place in np.flatnonzero(far.min(axis=1) <= most):
            own = held.bounds[block][place]
            near = far[place] <= limit(np.full(far.shape[1], own), held.bounds[columns]) * slack
            best = np.flatnonzero(near)
            best = best[np.argsort(far[place][best], kind="stable")[:PER_CLIP]]
            row = np.full(len(best), held.rows[block][place])
            found.append(np.stack([held.rows[columns][best], row], axis=1))
            distances.append(far[place][best])
    return np.concatenate(found)[np.argsort(np.concatenate(distances), kind="stable")]


def _held(compared: Compared, sampled: Sampled, projection: Floats | None) -> _Held:
    parts = [
        (rows, narrowed(whole, projection), sampled.bound(rows, whole)) for rows, whole in compared
    ]
    rows, vectors, bounds = (np.concatenate(each) for each in zip(*parts, strict=True))
    side = compared.sides.side[rows]
    order = np.argsort(side, kind="stable")
    return _Held(rows[order], side[order], vectors[order], bounds[order])


def _blocks(side_N: NDArray[np.intp]) -> Iterator[tuple[slice, slice]]:
    """Blocks of clips with blocks of those on earlier sides, so that every pair comes once."""
    edges = np.flatnonzero(np.diff(side_N)) + 1
    ends = [*edges[1:].tolist(), len(side_N)]
    for first, end in zip(edges.tolist(), ends, strict=True):
        for start in range(first, end, _BLOCK):
            for column in range(0, first, _COLUMNS):
                yield (
                    slice(start, min(start + _BLOCK, end)),
                    slice(column, min(column + _COLUMNS, first)),
                )


def sketched_pairs(compared: Compared, sampled: Sampled) -> Pairs:
    """The pairs that stand near each other in any of several orders of the clips by their codes,
    those whose codes differ least first.

    A code has the signs of random projections (Charikar 2002): of the angle between two clips, each
    bit is another one with a chance of angle / pi.
    """
    shape = sampled.vectors.shape[1], 64 * _WORDS
    planes = np.random.default_rng(0).standard_normal(shape, np.float32)
    parts = [(rows, _codes(part @ planes), sampled.bound(rows, part)) for rows, part in compared]
    rows, codes, bounds = (np.concatenate(each) for each in zip(*parts, strict=True))
    side = compared.sides.side[rows]
    found, bits = [np.zeros((0, 2), np.intp)], [np.zeros(0, np.int64)]
    for key in _keys(codes):
        order = np.argsort(key)
        for step in range(1, _WINDOW + 1):
            one, other = order[:-step], order[step:]
            apart = side[one] != side[other]
            one, other = one[apart], other[apart]
            differing = np.bitwise_count(codes[one] ^ codes[other]).sum(axis=1)
            near = differing <= _most_bits(limit(bounds[one], bounds[other]))
            found.append(np.stack([rows[one[near]], rows[other[near]]], axis=1))
            bits.append(differing[near].astype(np.int64))
    nearest = np.argsort(np.concatenate(bits), kind="stable")
    pairs = np.sort(np.concatenate(found)[nearest], axis=1)
    return pairs[np.sort(np.unique(pairs, axis=0, return_index=True)[1])]


def _codes(signs: Floats) -> NDArray[np.uint64]:
    return np.packbits(signs > 0, axis=1).view(np.uint64)


def _keys(codes: NDArray[np.uint64]) -> Iterator[NDArray[np.uint64]]:
    """Orders that begin with different bits."""
    half = np.uint64(32)
    for word in codes.T:
        yield word.copy()
        yield (word << half) | (word >> half)


def _most_bits(distance_K: Floats) -> NDArray[np.float64]:
    """How many bits may differ at this distance: the expected number and three deviations."""
    share = np.arccos(1 - distance_K.astype(np.float64)) / np.pi
    bits = 64 * _WORDS
    return bits * share + 3 * np.sqrt(bits * share * (1 - share)) + 1
