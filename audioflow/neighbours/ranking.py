"""The nearest vectors of many, kept while they stream by."""

from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from audioflow.neighbours.measuring import Floats, Metric, Scaling, distances
from audioflow.neighbours.streaming import Vectors


@dataclass(frozen=True, order=True)
class Hit:
    """A clip, or a patch that begins `time_s` (seconds) after the start of its clip."""

    distance: float
    clip_id: str
    time_s: float | None = None


@dataclass(frozen=True)
class Asked:
    """What is searched for.

    top: how many. far: the farthest instead. scaling: of vectors before they are compared (the
    query is scaled already). exclude: a clip that is no answer. only: the clips that may be one;
    None for all.
    """

    top: int = 20
    metric: Metric = "cosine"
    far: bool = False
    scaling: Scaling | None = None
    exclude: str | None = None
    only: AbstractSet[str] | None = None


def nearest(parts: Iterable[Vectors], query_D: Floats, asked: Asked) -> list[Hit]:
    """The `top` nearest to the query, nearest first; of equal ones the first by id, then time."""
    best = _Best(asked.top, asked.far)
    for part in parts:
        if not len(part):
            continue
        vectors = asked.scaling(part.vectors) if asked.scaling else part.vectors
        best.add(part, distances(vectors, query_D, asked.metric), _allowed(part, asked))
    return best.hits()


def _allowed(part: Vectors, asked: Asked) -> NDArray[np.bool_]:
    allowed = np.ones(len(part), np.bool_)
    if asked.exclude is not None:
        allowed &= np.array([clip_id != asked.exclude for clip_id in part.clip_ids])
    if asked.only is not None:
        allowed &= np.array([clip_id in asked.only for clip_id in part.clip_ids])
    return allowed


class _Best:
    """The best so far, and a few more between two cuts."""

    def __init__(self, top: int, far: bool) -> None:
        self._top = top
        self._sign = -1.0 if far else 1.0
        self._held: list[Hit] = []
        self._limit = np.inf

    def add(self, part: Vectors, distances_N: Floats, allowed_N: NDArray[np.bool_]) -> None:
        values = np.where(allowed_N, self._sign * distances_N, np.inf)
        limit = self._limit
        if len(values) > self._top:
            limit = min(limit, float(np.partition(values, self._top - 1)[self._top - 1]))
        for place in np.flatnonzero((values <= limit) & allowed_N):
            time_s = None if part.time_s is None else float(part.time_s[place])
            self._held.append(Hit(float(values[place]), part.clip_ids[place], time_s))
        if len(self._held) > 4 * self._top:
            self._cut()

    def _cut(self) -> None:
        self._held = sorted(self._held)[: self._top]
        if len(self._held) == self._top:
            self._limit = self._held[-1].distance

    def hits(self) -> list[Hit]:
        self._cut()
        return [Hit(self._sign * hit.distance, hit.clip_id, hit.time_s) for hit in self._held]
