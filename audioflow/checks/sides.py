"""On which side of a division every clip of a manifest is: learnt from, or tested."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from audioflow.division import CROSS_VALIDATED
from audioflow.texts import Codes, Texts, as_arrow

LEARNT = "train"


@dataclass(frozen=True)
class Sides:
    """The clips (N) of a manifest, and where each stands.

    places: its split, or its fold as `fold 3`. side: (N,) index into `names`. Clips of `train` and
    `val` are on one side, "train": heads learn from both, or are selected on them. Every fold is a
    side of its own, and `test` is one. No two sides may have anything in common.
    """

    clip_ids: Sequence[str]
    places: Sequence[str]
    side: NDArray[np.intp]
    names: tuple[str, ...]

    @property
    def tested(self) -> NDArray[np.bool_]:
        """(N,) whether results are told of a clip: all but those that are only learnt from."""
        learnt = self.names.index(LEARNT) if LEARNT in self.names else -1
        return self.side != learnt

    @property
    def can_leak(self) -> bool:
        """Whether there are two sides at all."""
        return len(self.names) > 1


def sides_of(manifest: pa.Table) -> Sides:
    """The sides of the clips of a manifest, in its order; "train" is the first."""
    folds = pc.binary_join_element_wise("fold ", pc.fill_null(manifest["fold"], "None"), "")
    in_folds = pc.equal(manifest["split"], CROSS_VALIDATED)
    places = Codes.of(pc.if_else(in_folds, folds, manifest["split"]))
    names = sorted({*map(_side, places.names)}, key=lambda name: (name != LEARNT, name))
    index = {name: number for number, name in enumerate(names)}
    side = places.each(lambda place: index[_side(place)], np.intp)
    return Sides(Texts(as_arrow(manifest["clip_id"])), places, side, tuple(names))


def _side(place: str) -> str:
    return LEARNT if place in (LEARNT, "val") else place
