"""On which side of a division every clip of a manifest is: learnt from, or tested."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from audioflow.division import CROSS_VALIDATED

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
    splits, folds = manifest["split"].to_pylist(), manifest["fold"].to_pylist()
    places = [
        f"fold {fold}" if split == CROSS_VALIDATED else split
        for split, fold in zip(splits, folds, strict=True)
    ]
    own = [LEARNT if place in (LEARNT, "val") else place for place in places]
    names = sorted(set(own), key=lambda name: (name != LEARNT, name))
    index = {name: number for number, name in enumerate(names)}
    side = np.array([index[name] for name in own], np.intp)
    return Sides(manifest["clip_id"].to_pylist(), places, side, tuple(names))
