"""Metrics site by site: how well does each group of clips fare, and which ones badly?

Shapes: N clips, C classes, G groups.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from audioflow.bootstrap import Clusters, Estimate
from audioflow.metrics.measuring import Task, measured, task_of
from audioflow.metrics.one_label import OneLabel
from audioflow.metrics.several_labels import SeveralLabels, label_precisions
from audioflow.ranking import Float, ratio

MOST_GROUPS = 100

_Z = 1.959964  # the normal distribution has 95 % within so many standard deviations


@dataclass(frozen=True)
class GroupResult:
    """The clips of one group. `metrics`: `accuracy` and `macro_f1`, or `lwlrap` and `map`.

    The first of them has an interval; it takes the clips of a group as independent.
    """

    name: str
    num_clips: int
    metrics: dict[str, Estimate]


@dataclass(frozen=True)
class GroupTable:
    """The worst groups, the surest first: by the upper end of the interval, then by the value.

    By the value alone, groups of a single clip would lead. `num_groups` counts all there are.
    """

    column: str
    num_groups: int
    rows: tuple[GroupResult, ...]


def by_group(
    scores_NC: ArrayLike,
    targets: ArrayLike,
    groups_N: ArrayLike,
    *,
    column: str = "group",
    limit: int = MOST_GROUPS,
) -> GroupTable:
    """The metrics of the clips of each group, at most `limit` rows; `column` is their name.

    `targets` are class indices (N,) or booleans (N, C). Groups of clips without any label have no
    `lwlrap` and stand last. Raises `ValueError` for what `evaluate` refuses.
    """
    num_classes = np.shape(scores_NC)[-1] if np.ndim(scores_NC) else 0
    task = task_of(scores_NC, targets, num_classes)
    clusters = Clusters.of(groups_N, len(task.scores))
    names_G = np.unique(np.asarray(groups_N))
    clips_G = np.bincount(clusters.group, minlength=clusters.num_groups)
    value_G, weight_G = _values(task, clusters)
    low_G, high_G = wilson(value_G, weight_G)
    # NaN goes to the end; ties by value, then the larger group first.
    order = np.lexsort((-clips_G, value_G, high_G))[:limit]
    rows = _rows_of(clusters.group, order)
    return GroupTable(
        column,
        clusters.num_groups,
        tuple(
            GroupResult(
                str(names_G[group]),
                int(clips_G[group]),
                _metrics(task, rows[group], Estimate(*map(float, bounds))),
            )
            for group, *bounds in zip(
                order.tolist(), value_G[order], low_G[order], high_G[order], strict=True
            )
        ),
    )


def wilson(share_G: Float, number_G: Float) -> tuple[Float, Float]:
    """The 95 % interval of shares of so many independent clips; NaN where there is none.

    Wilson, Probable inference, the law of succession, and statistical inference (1927).
    """
    spread_G = ratio(np.full(number_G.shape, _Z**2), number_G, empty=np.nan)
    middle_G = (share_G + spread_G / 2) / (1 + spread_G)
    half_G = np.sqrt(spread_G * (share_G * (1 - share_G) + spread_G / 4)) / (1 + spread_G)
    return np.maximum(0.0, middle_G - half_G), np.minimum(1.0, middle_G + half_G)


def _values(task: Task, clusters: Clusters) -> tuple[Float, Float]:
    """The first metric of each group (G,), and the clips that it is a mean of."""

    def summed(values_N: NDArray[np.number] | NDArray[np.bool_]) -> Float:
        sums_G = np.bincount(clusters.group, values_N, clusters.num_groups)
        return sums_G.astype(np.float64)

    if isinstance(task, OneLabel):
        clips_G = summed(np.ones(len(task.targets)))
        return ratio(summed(task.predicted == task.targets), clips_G), clips_G
    labels_N = np.count_nonzero(task.truth, axis=1)
    precision_G = summed(label_precisions(task.scores, task.truth))
    return ratio(precision_G, summed(labels_N), empty=np.nan), summed(labels_N > 0)


def _metrics(task: Task, rows: NDArray[np.intp], first: Estimate) -> dict[str, Estimate]:
    if isinstance(task, OneLabel):
        part: Task = OneLabel(task.scores[rows], task.targets[rows])
        names, rankings = ("accuracy", "macro_f1"), False
    else:
        part = SeveralLabels(task.scores[rows], task.truth[rows], task.thresholds)
        names, rankings = ("lwlrap", "map"), True
    found = measured(part, Clusters.of(None, len(rows)), 0, rankings=rankings)
    return {names[0]: first, names[1]: Estimate(found.values[names[1]], math.nan, math.nan)}


def _rows_of(group_N: NDArray[np.intp], wanted: NDArray[np.intp]) -> dict[int, NDArray[np.intp]]:
    """The clips of each wanted group."""
    order = np.argsort(group_N, kind="stable")
    ordered = group_N[order]
    first = np.searchsorted(ordered, wanted, "left").tolist()
    behind = np.searchsorted(ordered, wanted, "right").tolist()
    return {
        group: order[start:end]
        for group, start, end in zip(wanted.tolist(), first, behind, strict=True)
    }
