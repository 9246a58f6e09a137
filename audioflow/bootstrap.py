"""Bootstrap over groups of clips: how far would a metric move on another sample of recordings?

Shapes: N clips, D bootstrap draws. A draw is a row of integer weights, one per clip: how often the
clip was drawn. A metric that is a function of such weights needs no copy of its data per draw.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

MIN_DRAWS = 100
MAX_COUNT_OPERATIONS = 2 * 10**8
MAX_RANKING_OPERATIONS = 2 * 10**9
CHUNK_BYTES = 2**28


@dataclass(frozen=True)
class Estimate:
    """A value with its 95 % percentile bootstrap interval; NaN where undefined."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Draws:
    """How many bootstrap draws are made: for metrics of counts, and for metrics of rankings."""

    counts: int
    ranking: int


def planned_draws(num_clips: int, num_classes: int, num_bootstrap: int) -> Draws:
    """The draws that `evaluate` makes for an input of this size.

    A draw costs `num_clips` operations for metrics of counts (accuracy, F1, ...) and
    `num_clips * num_classes` for metrics of rankings (ROC AUC, average precision). Where the wanted
    draws would cost more than `MAX_COUNT_OPERATIONS` or `MAX_RANKING_OPERATIONS` (a few seconds
    each on one core), fewer are made, but not fewer than `MIN_DRAWS`. Raises `ValueError` for a
    negative `num_bootstrap`; 0 gives no interval.
    """
    if num_bootstrap < 0:
        raise ValueError(f"num_bootstrap is {num_bootstrap}, expected 0 (no interval) or more")

    def affordable(operations: int, limit: int) -> int:
        return min(num_bootstrap, max(MIN_DRAWS, limit // max(operations, 1)))

    counts = affordable(num_clips, MAX_COUNT_OPERATIONS)
    ranking = affordable(num_clips * num_classes, MAX_RANKING_OPERATIONS)
    return Draws(counts, min(counts, ranking))


@dataclass(frozen=True)
class Clusters:
    """What is drawn with replacement; `group` (N,) is the index of each clip's group."""

    group: NDArray[np.intp]
    num_groups: int

    @classmethod
    def of(cls, groups_N: ArrayLike | None, num_clips: int) -> "Clusters":
        """Groups from one name per clip, sorted by name; every clip its own group where None.

        Raises `ValueError` where the names are not one per clip, or one is missing.
        """
        if groups_N is None:
            return cls(np.arange(num_clips), num_clips)
        names_N = np.asarray(groups_N)
        if names_N.shape != (num_clips,):
            raise ValueError(f"groups have shape {names_N.shape}, expected ({num_clips},)")
        if names_N.dtype == object:
            missing = [clip for clip, name in enumerate(names_N) if not isinstance(name, str)]
            if missing:
                raise ValueError(
                    f"group {names_N[missing[0]]!r} of clip {missing[0]} is not a string"
                )
        names_G, group_N = np.unique(names_N, return_inverse=True)
        return cls(group_N.astype(np.intp), len(names_G))

    def weights(self, num_draws: int, seed: int) -> Iterator[NDArray[np.uint32]]:
        """The weights of `num_draws` draws in chunks (d, N) of bounded memory.

        The draws depend on the seed alone, not on the chunks. A single group gives no draw: it says
        nothing about how groups differ.
        """
        if self.num_groups < 2:
            return
        rng = np.random.default_rng(seed)
        num_clips = len(self.group)
        rows = max(1, CHUNK_BYTES // (4 * num_clips))
        for start in range(0, num_draws, rows):
            chunk_DN = np.empty((min(rows, num_draws - start), num_clips), np.uint32)
            for row_N in chunk_DN:
                drawn_G = rng.integers(self.num_groups, size=self.num_groups)
                row_N[:] = np.bincount(drawn_G, minlength=self.num_groups)[self.group]
            yield chunk_DN


def estimate(value: float, draws_D: NDArray[np.float64]) -> Estimate:
    """The value with the 2.5th and 97.5th percentile of its draws (those that are defined).

    Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapter 13.
    """
    defined = draws_D[~np.isnan(draws_D)]
    if np.isnan(value) or defined.size < 2:
        return Estimate(float(value), float("nan"), float("nan"))
    low, high = np.percentile(defined, [2.5, 97.5])
    return Estimate(float(value), float(low), float(high))
