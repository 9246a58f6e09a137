"""How near two clips have to be to be called near-duplicates.

Shapes: N clips, n clips of a part, S clips of a sample.

Sounds are alike to different degrees: short events in silence are nearer to each other than scenes.
So the measure is local: two clips are near-duplicates where their distance (1 - cosine) is at most
`RATIO` of what either has to its `NEIGHBOUR`th nearest clip of another group on its own side, which
one copy there does not change. That is the ratio test of Lowe (2004), on both clips. A pair more
alike than `ALWAYS` counts in any case, one less alike than `LEAST` never.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from audioflow.checks.vectors import Compared
from audioflow.neighbours.measuring import Floats

RATIO = 0.15
NEIGHBOUR = 2
ALWAYS = 0.999
LEAST = 0.9
SAMPLE = 2000
"""Clips of each side that the others are compared to at first."""


def limit(own_N: Floats, other_N: Floats) -> Floats:
    """The largest distance (N,) of near-duplicates whose usual neighbours are so far away."""
    usual = np.minimum(own_N, other_N)
    usual = np.where(np.isfinite(usual), usual, 0.0)
    return np.maximum(np.minimum(RATIO * usual, 1 - LEAST), 1 - ALWAYS).astype(np.float32)


@dataclass(frozen=True)
class Sampled:
    """Clips of every side, to bound how far the usual neighbours of the others are."""

    compared: Compared
    rows: NDArray[np.intp]
    vectors: Floats

    @classmethod
    def of(cls, compared: Compared) -> "Sampled":
        """The same clips every time, evenly over the manifest."""
        chosen: set[int] = set()
        for side in range(len(compared.sides.names)):
            mine = np.flatnonzero(compared.sides.side == side)
            places = np.linspace(0, len(mine) - 1, min(SAMPLE, len(mine))).astype(np.intp)
            chosen.update(mine[places].tolist())
        return cls(compared, *compared.taken(chosen))

    def bound(self, rows: NDArray[np.intp], vectors: Floats) -> Floats:
        """At most so far (n,) are the usual neighbours of these clips; infinite where unknown."""
        usual = Usual(self.compared, rows, vectors)
        usual.add(self.rows, self.vectors)
        return usual.distances


class Usual:
    """How far the usual neighbours of some clips (n) are, while others stream by."""

    def __init__(self, compared: Compared, rows: NDArray[np.intp], vectors: Floats) -> None:
        self._compared, self._rows, self._vectors = compared, rows, vectors
        self._nearest = np.full((len(rows), NEIGHBOUR), np.inf, np.float32)

    def add(self, rows: NDArray[np.intp], vectors: Floats) -> None:
        """Further clips; those of the same group or of another side are no usual neighbours."""
        side, group = self._compared.sides.side, self._compared.group
        for number in np.unique(side[self._rows]):
            mine, theirs = side[self._rows] == number, side[rows] == number
            if not theirs.any():
                continue
            far = 1 - self._vectors[mine] @ vectors[theirs].T
            far[group[self._rows[mine]][:, None] == group[rows[theirs]]] = np.inf
            both = np.concatenate([self._nearest[mine], far], axis=1)
            self._nearest[mine] = np.partition(both, NEIGHBOUR - 1, axis=1)[:, :NEIGHBOUR]

    @property
    def distances(self) -> Floats:
        """(n,), at least 0; infinite where there are too few others."""
        return np.maximum(self._nearest.max(axis=1), 0)
