"""Every metric of all clips and of bootstrap draws, as functions of one integer weight per clip.

Shapes: N clips, C classes, D rows of weights: all clips as they are, then bootstrap draws.

The reported value (all weights 1) and the value of a draw come from the same lines.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from audioflow.bootstrap import Clusters, planned_draws
from audioflow.metrics.checks import checked_scores, checked_targets, checked_thresholds
from audioflow.metrics.counts import ClassCounts, weighted_mean
from audioflow.metrics.one_label import OneLabel
from audioflow.metrics.several_labels import SeveralLabels
from audioflow.ranking import Float, Weights, mean_where, ranking

Task = OneLabel | SeveralLabels

RANKED = ("roc_auc", "map", "roc_auc_weighted", "map_weighted")
"""The metrics of rankings that have an interval: what a draw of them costs is in `bootstrap`."""


def task_of(
    scores: ArrayLike, targets: ArrayLike, num_classes: int, thresholds: ArrayLike | None = None
) -> Task:
    """Checked scores and targets of either kind; raises `ValueError` as `evaluate` says."""
    scores_NC = checked_scores(scores, num_classes)
    found = checked_targets(targets, scores_NC.shape)
    if found.ndim == 2:
        thresholds_C = checked_thresholds(thresholds, num_classes)
        return SeveralLabels(scores_NC, found.astype(bool, copy=False), thresholds_C)
    if thresholds is not None:
        raise ValueError("thresholds are given, but each clip has one label: leave them out")
    return OneLabel(scores_NC, found.astype(np.intp, copy=False))


@dataclass(frozen=True)
class Measured:
    """The metrics of all clips and of each draw; counts (1, C) and rankings (C,) are of all clips.

    Rankings are empty, and their metrics not there, where they were not wanted.
    """

    values: dict[str, float]
    draws: dict[str, Float]
    counts: ClassCounts
    auc_C: Float
    precision_C: Float


def measured(
    task: Task, clusters: Clusters, wanted: int, seed: int = 0, *, rankings: bool = True
) -> Measured:
    """All clips and `wanted` draws, or as many as `planned_draws` says.

    The metrics of rankings are those of the first draws only, where these are fewer.
    """
    num_clips, num_classes = task.scores.shape
    planned = planned_draws(num_clips, num_classes, wanted)
    chunks: dict[str, list[Float]] = {}
    of_all: ClassCounts | None = None
    ranked: list[Float] = []
    left = planned.ranking + 1 if rankings else 0
    for weights_DN in _all_and_draws(clusters, planned.counts, seed):
        counts = task.counts(weights_DN)
        metrics = task.metrics(counts, weights_DN)
        if left > 0:
            both = _rankings(task, weights_DN[:left])
            metrics |= _ranked(*both, counts.support[:left])
            left -= len(weights_DN)
            ranked = ranked or [values_DC[0] for values_DC in both]
        of_all = of_all or counts.first
        for name, values_D in metrics.items():
            chunks.setdefault(name, []).append(values_D)
    assert of_all is not None
    rows = {name: np.concatenate(parts) for name, parts in chunks.items()}
    return Measured(
        values={name: float(values[0]) for name, values in rows.items()},
        draws={name: values[1:] for name, values in rows.items()},
        counts=of_all,
        auc_C=ranked[0] if ranked else np.empty(0),
        precision_C=ranked[1] if ranked else np.empty(0),
    )


def _all_and_draws(clusters: Clusters, num_draws: int, seed: int) -> Iterator[Weights]:
    """Weights in chunks: a row of ones, for all clips as they are, then the draws."""
    ones_1N = np.ones((1, len(clusters.group)), np.uint32)
    chunks = clusters.weights(num_draws, seed)
    first_DN = next(chunks, None)
    yield ones_1N if first_DN is None else np.concatenate([ones_1N, first_DN])
    yield from chunks


def _rankings(task: Task, weights_DN: Weights) -> tuple[Float, Float]:
    """ROC AUC and average precision, (D, C) each."""
    by_clip_DN = np.asfortranarray(weights_DN)
    columns = [
        ranking(task.positive(index), column_N, by_clip_DN)
        for index, column_N in enumerate(columns_of(task.scores))
    ]
    return np.stack([auc for auc, _ in columns], 1), np.stack([ap for _, ap in columns], 1)


def columns_of(scores_NC: NDArray[np.floating]) -> Iterator[NDArray[np.floating]]:
    """The scores of each class (N,), copied some classes at a time: rows are read as a whole."""
    for start in range(0, scores_NC.shape[1], 16):
        yield from np.ascontiguousarray(scores_NC[:, start : start + 16].T)


def _ranked(auc_DC: Float, precision_DC: Float, support_DC: Float) -> dict[str, Float]:
    """The metrics `RANKED`: means over the classes that have both positives and negatives."""
    return {
        "roc_auc": mean_where(auc_DC, ~np.isnan(auc_DC)),
        "map": mean_where(precision_DC, ~np.isnan(precision_DC)),
        "roc_auc_weighted": weighted_mean(auc_DC, support_DC),
        "map_weighted": weighted_mean(precision_DC, support_DC),
    }
