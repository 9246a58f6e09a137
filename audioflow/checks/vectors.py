"""Clips as unit vectors whose dot products are similarities: cosines of standardised means.

Shapes: N clips, D width of a layer, W of what is kept of it.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from audioflow.checks.sides import Sides
from audioflow.ids import IdIndex, id_column
from audioflow.neighbours.measuring import Floats, Scaling, scaling_of, unit
from audioflow.neighbours.streaming import Source
from audioflow.texts import as_arrow

WIDEST = 256
"""Wider vectors are compared by a random projection to so many columns, and measured in full only
where that says that they may be alike (Johnson and Lindenstrauss 1984)."""


@dataclass(frozen=True)
class Compared:
    """The vectors of one layer, for as many passes over its shards as are needed.

    source: of whole clips. group: (N,) a number for the group of every clip of the manifest.
    """

    source: Source
    sides: Sides
    group: NDArray[np.intp]

    @cached_property
    def index(self) -> IdIndex:
        """Where in the manifest every clip is."""
        return IdIndex(as_arrow(self.sides.clip_ids))

    @cached_property
    def scaling(self) -> Scaling:
        """Of the columns, over all clips."""
        return scaling_of(iter(self.source))

    def __iter__(self) -> Iterator[tuple[NDArray[np.intp], Floats]]:
        """Places in the manifest and unit vectors (n, D), shard by shard."""
        for part in self.source:
            rows = self.index.find(id_column(part.clip_ids))
            known = rows >= 0  # the manifest may be newer than the table
            if known.any():
                yield rows[known], unit(self.scaling(part.vectors[known]))

    def taken(self, wanted: Collection[int]) -> tuple[NDArray[np.intp], Floats]:
        """The unit vectors (n, D) of these places, those that have one, in order of their place."""
        wanted_N = np.zeros(len(self.sides.clip_ids), np.bool_)
        wanted_N[list(wanted)] = True
        found = [(rows[keep], part[keep]) for rows, part in self if (keep := wanted_N[rows]).any()]
        rows = np.concatenate([np.zeros(0, np.intp), *(rows for rows, _ in found)])
        order = np.argsort(rows)
        if not found:
            return rows, np.zeros((0, 1), np.float32)
        return rows[order], np.concatenate([part for _, part in found])[order]


def narrowed(vectors_ND: Floats, projection: Floats | None) -> Floats:
    """Vectors (n, D) in few columns (n, W), of length 1 again."""
    return vectors_ND if projection is None else unit(vectors_ND @ projection)


def projection_for(width: int, kept: int = WIDEST) -> Floats | None:
    """A random projection (D, W) that keeps distances about as they are; None for few columns."""
    if width <= kept:
        return None
    rng = np.random.default_rng(0)
    return (rng.standard_normal((width, kept)) / np.sqrt(kept)).astype(np.float32)
