"""Two systems on the same clips: by how much they differ, and whether that may be chance.

Shapes: N clips, C classes, D bootstrap draws.
"""

import math
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from audioflow.bootstrap import Clusters, Estimate, estimate, planned_draws
from audioflow.metrics.measuring import RANKED, Task, measured, task_of
from audioflow.metrics.one_label import OneLabel

EXACT_PAIRS = 1000
"""Up to so many clips that only one of two systems gets right, McNemar's test is exact."""


@dataclass(frozen=True)
class McNemar:
    """McNemar's test: of the clips that one system alone gets right, do both have as many?

    `only_a` and `only_b` count those clips. `p_value` is two-sided: how likely a difference at
    least as large would be if both were equally good; `exact`: by the binomial distribution, not
    by chi-square with continuity correction.
    """

    only_a: int
    only_b: int
    p_value: float
    exact: bool


def mcnemar(right_a_N: ArrayLike, right_b_N: ArrayLike) -> McNemar:
    """The test for two systems of which it is known what each got right (N,) bool.

    It takes clips as independent: where several are of one recording, an interval over groups
    (`paired_differences`) is the safer word. Raises `ValueError` for unequal shapes.
    McNemar, Note on the sampling error of the difference between correlated proportions (1947).
    """
    right_a, right_b = np.asarray(right_a_N, bool), np.asarray(right_b_N, bool)
    if right_a.shape != right_b.shape or right_a.ndim != 1:
        raise ValueError(
            f"right answers have shapes {right_a.shape} and {right_b.shape}, expected (N,) each"
        )
    only_a = int((right_a & ~right_b).sum())
    only_b = int((right_b & ~right_a).sum())
    pairs, fewer = only_a + only_b, min(only_a, only_b)
    if pairs > EXACT_PAIRS:
        chi_square = max(0, abs(only_a - only_b) - 1) ** 2 / pairs
        return McNemar(only_a, only_b, math.erfc(math.sqrt(chi_square / 2)), exact=False)
    # Whole numbers of Python: exact, and never too large.
    tail = sum(math.comb(pairs, count) for count in range(fewer + 1))
    return McNemar(only_a, only_b, min(1.0, 2 * tail / 2**pairs), exact=True)


def paired_gain(
    scores_a_NC: ArrayLike,
    scores_b_NC: ArrayLike,
    targets_N: ArrayLike,
    groups_N: ArrayLike | None = None,
    *,
    num_bootstrap: int = 1000,
    seed: int = 0,
) -> Estimate:
    """accuracy(b) - accuracy(a) on the same clips; each draw resamples the same groups for both.

    An interval that excludes 0 says that the two differ. Large inputs get fewer draws, as in
    `evaluate`. Raises `ValueError` for what `evaluate` refuses, for unequal shapes, and for clips
    with several labels, which have no accuracy.
    """
    task_a, task_b = _pair(scores_a_NC, scores_b_NC, targets_N)
    if not (isinstance(task_a, OneLabel) and isinstance(task_b, OneLabel)):
        raise ValueError("clips with several labels have no accuracy; use paired_differences")
    num_clips = len(task_a.targets)
    clusters = Clusters.of(groups_N, num_clips)
    hit_a_N, hit_b_N = (task.predicted == task.targets for task in (task_a, task_b))
    gain_N = hit_b_N.astype(np.float64) - hit_a_N
    num_draws = planned_draws(num_clips, 1, num_bootstrap).counts
    draws = [
        float(weights_N @ gain_N / weights_N.sum())
        for chunk_DN in clusters.weights(num_draws, seed)
        for weights_N in chunk_DN
    ]
    return estimate(float(gain_N.mean()), np.array(draws))


def paired_differences(
    scores_a_NC: ArrayLike,
    scores_b_NC: ArrayLike,
    targets: ArrayLike,
    groups_N: ArrayLike | None = None,
    *,
    metrics: Collection[str] | None = None,
    num_bootstrap: int = 1000,
    seed: int = 0,
) -> dict[str, Estimate]:
    """By how much b is above a in each metric, on the same clips and the same draws of groups.

    `targets` and `groups_N` are those of `evaluate`; with several labels the threshold is 0.5.
    `metrics` are keys of its `summary` (all where None) or of its `details` that have an interval
    there, but for `d_prime`; without one of rankings (`roc_auc`, `map`, `roc_auc_weighted`,
    `map_weighted`) this is much faster. An interval that excludes 0 says that the two differ.

    Raises `ValueError` for what `evaluate` refuses, unequal shapes and an unknown metric.
    """
    task_a, task_b = _pair(scores_a_NC, scores_b_NC, targets)
    wanted = tuple(task_a.summary if metrics is None else metrics)
    rankings = not set(wanted).isdisjoint(RANKED)
    clusters = Clusters.of(groups_N, len(task_a.scores))
    a, b = (
        measured(task, clusters, num_bootstrap, seed, rankings=rankings)
        for task in (task_a, task_b)
    )
    for name in wanted:
        if name not in a.values:
            raise ValueError(f"no metric {name!r} to compare by; there are {', '.join(a.values)}")
    return {
        name: estimate(b.values[name] - a.values[name], b.draws[name] - a.draws[name])
        for name in wanted
    }


def _pair(scores_a: ArrayLike, scores_b: ArrayLike, targets: ArrayLike) -> tuple[Task, Task]:
    shape_a, shape_b = np.shape(scores_a), np.shape(scores_b)
    if shape_a != shape_b or len(shape_a) != 2:
        raise ValueError(
            f"scores a and b have shapes {shape_a} and {shape_b}, expected the same (N, C)"
        )
    return task_of(scores_a, targets, shape_a[1]), task_of(scores_b, targets, shape_a[1])
