"""Thresholds: for every class, the score above which a wanted precision or recall is kept.

A clip with one label is of the class that it is predicted to be, or (below that class's threshold)
of none; a clip with several has every class whose score reaches its threshold.

Shapes: N clips, C classes, L levels (scores of positive clips), D bootstrap draws; the first
column of weights is 1 for every clip.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from audioflow.bootstrap import Clusters
from audioflow.calibration.base import Float, Scores

LEAST_CLIPS = 5
"""Clips that a class needs, and that have to be at or above a threshold for a precision."""
_DRAWS, _FEWER_DRAWS, _MANY_CELLS = 200, 100, 5_000_000

Interval = tuple[float, float]


@dataclass(frozen=True)
class Target:
    """What a threshold is for: at least this precision or recall, or (`value` None) the best F1."""

    kind: Literal["precision", "recall", "f1"]
    value: float | None = None

    def __str__(self) -> str:
        return f"{self.kind} {self.value:g}" if self.value is not None else f"best {self.kind}"


@dataclass(frozen=True)
class Threshold:
    """The threshold of one class, and what it kept on the clips that it was found on.

    value: None where the target cannot be reached, for `reason`. clips: of the class. reached: at
    or above it. precision, recall, f1: at the threshold, of these clips. Intervals (95 %) are over
    groups of clips drawn anew: of the threshold itself where it is found anew in each draw, of
    which `reachable` is the share that has one; of precision and recall at this threshold. None
    where there is a single group.
    """

    value: float | None
    reason: str
    clips: int
    reached: int = 0
    precision: float | None = None
    recall: float | None = None
    f1: float | None = None
    value_interval: Interval | None = None
    precision_interval: Interval | None = None
    recall_interval: Interval | None = None
    reachable: float | None = None


def find_thresholds(
    scores_NC: Scores, targets: NDArray[Any], target: Target, groups_N: Sequence[str], seed: int = 0
) -> list[Threshold]:
    """A threshold for every class, of scores that were not calibrated on these very clips.

    For a precision, the one with the most recall that keeps it; for a recall, the highest score.
    """
    drawn = _weights(groups_N, scores_NC.size, seed)
    predicted_N = scores_NC.argmax(axis=1) if targets.ndim == 1 else None
    found = []
    for index in range(scores_NC.shape[1]):
        positive_N = targets == index if targets.ndim == 1 else targets[:, index]
        clips = int(positive_N.sum())
        if clips < LEAST_CLIPS:
            there = f"{clips} clip{'' if clips == 1 else 's'}" if clips else "no clip"
            reason = f"{there} of the class to find it on, {LEAST_CLIPS} are needed"
            found.append(Threshold(None, reason, clips))
            continue
        of_N = np.arange(len(scores_NC))
        if predicted_N is not None:
            of_N = np.flatnonzero(predicted_N == index)
        total_D = drawn[positive_N].sum(axis=0)
        levels = _levels(scores_NC[of_N, index], positive_N[of_N], drawn[of_N], total_D)
        found.append(_threshold(levels, target, clips))
    return found


def _weights(groups_N: Sequence[str], cells: int, seed: int) -> NDArray[np.float32]:
    """How often each clip is in each draw (N, 1 + D): whole groups, drawn with replacement."""
    clusters = Clusters.of(groups_N, len(groups_N))
    count = _DRAWS if cells <= _MANY_CELLS else _FEWER_DRAWS
    ones = np.ones((1, len(groups_N)), np.float32)
    chunks = [chunk.astype(np.float32) for chunk in clusters.weights(count, seed)]
    return np.ascontiguousarray(np.concatenate([ones, *chunks]).T)


@dataclass(frozen=True)
class _Levels:
    """Scores at which precision can be best, falling (L,), and what lies at or above each.

    below: the next lower score of any clip. count, hits: clips, and those of the class (L, 1 + D).
    total: clips of the class, predicted or not (1 + D,).
    """

    score: Float
    below: Float
    count: Float
    hits: Float
    total: Float

    @property
    def precision(self) -> Float:
        return np.divide(
            self.hits, self.count, out=np.full(self.hits.shape, np.nan), where=self.count > 0
        )

    @property
    def recall(self) -> Float:
        return np.divide(
            self.hits, self.total, out=np.full(self.hits.shape, np.nan), where=self.total > 0
        )

    @property
    def f1(self) -> Float:
        either = self.count + self.total
        return np.divide(
            2 * self.hits, either, out=np.full(self.hits.shape, np.nan), where=either > 0
        )


def _levels(
    scores_N: Scores,
    positive_N: NDArray[np.bool_],
    weights: NDArray[np.float32],
    total: NDArray[np.float32],
) -> _Levels:
    order = np.argsort(-scores_N, kind="stable")
    falling, hit = scores_N[order].astype(np.float64), positive_N[order]
    ends = np.flatnonzero(np.diff(falling, append=-1.0))
    hits_at = np.diff(np.cumsum(hit)[ends], prepend=0)
    kept = np.flatnonzero(hits_at)
    if not kept.size:
        empty = np.empty((0, weights.shape[1]))
        return _Levels(np.empty(0), np.empty(0), empty, empty, total.astype(np.float64))
    last = ends[kept]
    starts = np.concatenate([[0], last[:-1] + 1])
    used = weights[order[: last[-1] + 1]]
    count = np.add.reduceat(used, starts, axis=0).cumsum(axis=0, dtype=np.float64)
    each = weights[order[hit]].cumsum(axis=0, dtype=np.float64)
    hits = each[np.cumsum(hits_at[kept]) - 1]
    lower = np.append(falling, falling[-1])[last + 1]
    return _Levels(falling[last], lower, count, hits, total.astype(np.float64))


def _threshold(levels: _Levels, target: Target, clips: int) -> Threshold:
    places_D = _chosen(levels, target)
    values_L = (levels.score + levels.below) / 2
    reachable = float((places_D[1:] >= 0).mean()) if len(places_D) > 1 else None
    place = int(places_D[0])
    if place < 0:
        return Threshold(None, _why_not(levels, target), clips, reachable=reachable)
    found_D = values_L[places_D[1:][places_D[1:] >= 0]]
    precision, recall = levels.precision[place], levels.recall[place]
    return Threshold(
        float(values_L[place]),
        "",
        clips,
        int(levels.count[place, 0]),
        float(precision[0]),
        float(recall[0]),
        float(levels.f1[place, 0]),
        _interval(found_D),
        _interval(precision[1:]),
        _interval(recall[1:]),
        reachable,
    )


def _chosen(levels: _Levels, target: Target) -> NDArray[np.intp]:
    """The level of the threshold in each draw (1 + D,); -1 where none keeps the target."""
    num_levels, draws = levels.hits.shape
    if not num_levels:
        return np.full(draws, -1)
    if target.kind == "f1":
        return np.where(np.isnan(levels.f1), -1, levels.f1).argmax(axis=0)
    assert target.value is not None
    if target.kind == "recall":
        kept = levels.recall >= target.value
        return np.where(kept.any(axis=0), kept.argmax(axis=0), -1)
    kept = (levels.precision >= target.value) & (levels.count[:, :1] >= LEAST_CLIPS)
    return np.where(kept.any(axis=0), num_levels - 1 - kept[::-1].argmax(axis=0), -1)


def _why_not(levels: _Levels, target: Target) -> str:
    if not len(levels.score):
        return f"no clip of the class is predicted to be it, so that no {target.kind} can be had"
    if target.kind == "recall":
        best = levels.recall[-1, 0]
        return f"the recall is {best:.3g} at most: other clips of the class are predicted otherwise"
    enough = levels.count[:, 0] >= LEAST_CLIPS
    if not enough.any():
        there = int(levels.count[-1, 0])
        return f"{there} clips are predicted to be of the class, {LEAST_CLIPS} are needed"
    values = np.where(enough, levels.precision[:, 0], -1)
    place = int(values.argmax())
    return (
        f"the precision is {values[place]:.3g} at most, at a score of {levels.score[place]:.3g} "
        f"({int(levels.count[place, 0])} clips)"
    )


def _interval(values_D: Float) -> Interval | None:
    defined = values_D[~np.isnan(values_D)]
    if defined.size < 2:
        return None
    low, high = np.percentile(defined, [2.5, 97.5])
    return float(low), float(high)
