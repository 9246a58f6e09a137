"""Near-duplicates on two sides of a division, by their embeddings.

Shapes: N clips, K pairs.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from audioflow.checks.candidates import MOST_PAIRS, Pairs, all_pairs, is_affordable, sketched_pairs
from audioflow.checks.leaks import Leak, leak_of
from audioflow.checks.limits import Sampled, Usual, limit
from audioflow.checks.sides import Sides
from audioflow.checks.vectors import Compared
from audioflow.neighbours.measuring import Floats
from audioflow.neighbours.streaming import Source

MOST_MEASURED = 10_000
"""Clips that are measured in full; where there are more, those of the nearest pairs."""


@dataclass(frozen=True)
class Duplicates:
    """The near-duplicates, the most alike first; whether all pairs were compared, and how many
    pairs that may be some were left out."""

    leaks: tuple[Leak, ...] = ()
    exact: bool = True
    beyond: int = 0


def duplicate_leaks(
    source: Source,
    sides: Sides,
    groups: NDArray[np.str_] | NDArray[np.int64],
    most_pairs: int = MOST_PAIRS,
) -> Duplicates:
    """The clips of `source` that have a near-duplicate on another side, each with its nearest.

    groups: (N,) of the clips of the manifest. With more than `most_pairs` pairs to compare a few
    may be missed, the fewer the more alike they are.
    """
    group = np.unique(groups, return_inverse=True)[1]
    compared = Compared(source, sides, group.astype(np.intp))
    sampled = Sampled.of(compared)
    if not len(sampled.rows) or not sides.can_leak:
        return Duplicates()
    exact = is_affordable(compared, sampled.vectors.shape[1], most_pairs)
    pairs = (all_pairs if exact else sketched_pairs)(compared, sampled)
    kept, distances, limits, beyond = _measured(compared, pairs)
    leaks = []
    taken: set[int] = set()
    for place in np.argsort(distances, kind="stable"):
        one, other = kept[place].tolist()
        tested = [row for row in (one, other) if sides.tested[row]]
        if distances[place] > limits[place] or taken.issuperset(tested):
            continue
        taken.update(tested)
        leaks.append(_leak(one, other, float(distances[place]), sides))
    return Duplicates(tuple(leaks), exact, beyond)


def _leak(one: int, other: int, distance: float, sides: Sides) -> Leak:
    found = leak_of("duplicate", [one, other], sides, "")
    return Leak(
        found.kind, found.clips, found.places, found.what, found.concerned, 1 - max(distance, 0.0)
    )


def _measured(compared: Compared, pairs: Pairs) -> tuple[Pairs, Floats, Floats, int]:
    """The pairs with their distances in full and the largest that count, and how many were left."""
    if not len(pairs):
        nothing = np.zeros(0, np.float32)
        return pairs, nothing, nothing, 0
    kept = _affordable(pairs)
    rows, vectors = compared.taken(np.unique(kept).tolist())
    place = np.searchsorted(rows, kept)
    distances = 1 - (vectors[place[:, 0]] * vectors[place[:, 1]]).sum(axis=1)
    usual = Usual(compared, rows, vectors)
    for others, part in compared:
        usual.add(others, part)
    far = usual.distances
    return kept, distances, limit(far[place[:, 0]], far[place[:, 1]]), len(pairs) - len(kept)


def _affordable(pairs: Pairs) -> Pairs:
    """The first pairs, that have no more than `MOST_MEASURED` clips."""
    seen: set[int] = set()
    for number, pair in enumerate(pairs.tolist()):
        seen.update(pair)
        if len(seen) > MOST_MEASURED:
            return pairs[:number]
    return pairs
