"""Curves as data: ROC, precision-recall, thresholds, reliability; per class and of all together.

Shapes: N clips, C classes, P points of a curve, U distinct scores of positives.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from audioflow.metrics.calibration_error import (
    DEFAULT_BINS,
    Reliability,
    confidence_and_right,
    reliability,
)
from audioflow.metrics.levels import Levels
from audioflow.metrics.measuring import Task, columns_of, task_of
from audioflow.metrics.one_label import OneLabel
from audioflow.metrics.thinning import thinned
from audioflow.ranking import Float, ratio

MOST_POINTS = 200
_LEAST_POINTS = 24
_POINTS_OF_CLASSES = 12_000
_CLASS_BINS = 10
_MICRO_CELLS = 2**26


@dataclass(frozen=True)
class Line:
    """Points (P,) of a curve; `threshold` is the lowest score that counts as positive at each."""

    x: Float
    y: Float
    threshold: Float


@dataclass(frozen=True)
class ThresholdCurve:
    """What a threshold brings, (P,) each; precision is NaN where no score reaches it."""

    threshold: Float
    precision: Float
    recall: Float
    f1: Float


@dataclass(frozen=True)
class AnsweredCurve:
    """If only clips whose best score reaches a threshold are answered: which share, how well."""

    threshold: Float
    answered: Float
    accuracy: Float


@dataclass(frozen=True)
class ClassCurves:
    """The curves of one class against the rest, or of all decisions together ("micro").

    roc: false against true positive rate. pr: recall against precision. `reliability` is in bins
    of equal width, `reliability_mass` of equal mass. `support` is the number of positives.
    """

    name: str
    support: int
    roc: Line
    pr: Line
    thresholds: ThresholdCurve
    reliability: Reliability
    reliability_mass: Reliability


@dataclass(frozen=True)
class Curves:
    """All curves of one system; `classes` has those with both positive and negative clips.

    `answered` is None where clips may have several labels, `micro` where there is no positive or no
    negative at all.
    """

    micro: ClassCurves | None
    classes: tuple[ClassCurves, ...]
    answered: AnsweredCurve | None


def all_curves(scores_NC: ArrayLike, targets: ArrayLike, classes: Sequence[str]) -> Curves:
    """The curves of scores in [0, 1] for class indices (N,) or booleans (N, C).

    A curve has at most `MOST_POINTS` points, fewer per class where there are many classes; those of
    ROC and precision-recall are points of the full curves. The micro curves are of every score of
    every clip, but its reliability with one label is that of the best class, as in `evaluate`. From
    so many clips that there are over 6 * 10^7 scores, the micro curves take every second, third ...
    clip. Raises `ValueError` for what `evaluate` refuses.
    """
    task = task_of(scores_NC, targets, len(classes))
    most = max(_LEAST_POINTS, min(MOST_POINTS, _POINTS_OF_CLASSES // len(classes)))
    found = []
    for index, (name, scores_N) in enumerate(zip(classes, columns_of(task.scores), strict=True)):
        positive_N = task.positive(index)
        if 0 < np.count_nonzero(positive_N) < len(positive_N):
            found.append(class_curves(name, positive_N, scores_N, most, _CLASS_BINS))
    return Curves(
        _micro(task), tuple(found), _answered(task) if isinstance(task, OneLabel) else None
    )


def class_curves(
    name: str,
    positive_N: NDArray[np.bool_],
    scores_N: NDArray[np.floating],
    most: int = MOST_POINTS,
    bins: int = DEFAULT_BINS,
) -> ClassCurves:
    """The curves of one class, which has both positive and negative clips."""
    levels = Levels.of(scores_N[positive_N], scores_N)
    return ClassCurves(
        name,
        levels.num_positives,
        roc=roc_curve(levels, most),
        pr=precision_recall_curve(levels, most),
        thresholds=threshold_curve(scores_N[positive_N], scores_N, most),
        reliability=reliability(scores_N, positive_N, bins),
        reliability_mass=reliability(scores_N, positive_N, bins, equal_mass=True),
    )


def roc_curve(levels: Levels, most: int = MOST_POINTS) -> Line:
    """False positive rate and true positive rate, from (0, 0) to (1, 1)."""
    threshold, positives, everything = _corners(levels)
    true_rate = positives / levels.num_positives
    false_rate = (everything - positives) / (levels.num_all - levels.num_positives)
    kept = thinned(false_rate, true_rate, most)
    return Line(false_rate[kept], true_rate[kept], threshold[kept])


def precision_recall_curve(levels: Levels, most: int = MOST_POINTS) -> Line:
    """Recall and precision, from the highest score down to where every positive is found."""
    threshold, positives, everything = (values[1:-1] for values in _corners(levels))
    recall = positives / levels.num_positives
    precision = positives / everything
    kept = thinned(recall, precision, most)
    return Line(recall[kept], precision[kept], threshold[kept])


def _corners(levels: Levels) -> tuple[Float, Float, Float]:
    """Threshold, positives and everything that reach it, where the curves may turn.

    That is just above each level and at it: between, negatives alone are added. Before the first
    stands the point that nothing reaches, after the last the one that everything does.
    """
    # Nothing may be higher than the first level: that point is there already.
    start = 0 if levels.all_above[0] else 1

    def path(first: float, above: NDArray[np.number], at: NDArray[np.number], last: float) -> Float:
        turns = np.column_stack([above, at]).ravel()[start:]
        return np.concatenate([[first], turns, [last]]).astype(np.float64)

    positives_above = np.append(0, levels.positives_at[:-1])
    return (
        path(np.inf, levels.above, levels.score, levels.lowest),
        path(0, positives_above, levels.positives_at, levels.num_positives),
        path(0, levels.all_above, levels.all_at, levels.num_all),
    )


def threshold_curve(
    positives_P: NDArray[np.floating], all_A: NDArray[np.floating], most: int = MOST_POINTS
) -> ThresholdCurve:
    """Precision, recall and F1 over thresholds: half of them even in [0, 1], half at quantiles.

    The quantiles are those of the scores of positives, which may all be small.
    """
    ordered, positives = np.sort(all_A), np.sort(positives_P)
    half = most // 2
    even = np.linspace(0.0, 1.0, most - half)
    quantiles = np.quantile(positives, np.linspace(0.0, 1.0, half))
    threshold = np.unique(np.concatenate([even, quantiles]).astype(ordered.dtype))
    everything = len(ordered) - np.searchsorted(ordered, threshold)
    found = (len(positives) - np.searchsorted(positives, threshold)).astype(np.float64)
    return ThresholdCurve(
        threshold.astype(np.float64),
        precision=ratio(found, everything, empty=np.nan),
        recall=found / len(positives),
        f1=2 * found / (everything + len(positives)),
    )


def _micro(task: Task) -> ClassCurves | None:
    step = -(-task.scores.size // _MICRO_CELLS)
    scores_NC, targets = task.scores[::step], _targets(task)[::step]
    truth_NC = targets if targets.ndim == 2 else targets[:, None] == np.arange(scores_NC.shape[1])
    positives = scores_NC[truth_NC]
    if not 0 < positives.size < scores_NC.size:
        return None
    every = scores_NC.ravel()
    levels = Levels.of(positives, every)
    confidence, right = confidence_and_right(scores_NC, targets)
    return ClassCurves(
        "micro",
        levels.num_positives,
        roc=roc_curve(levels),
        pr=precision_recall_curve(levels),
        thresholds=threshold_curve(positives, every),
        reliability=reliability(confidence, right),
        reliability_mass=reliability(confidence, right, equal_mass=True),
    )


def _targets(task: Task) -> NDArray[np.generic]:
    return task.targets if isinstance(task, OneLabel) else task.truth


def _answered(task: OneLabel) -> AnsweredCurve:
    confidence_N = task.scores.max(axis=1)
    order = np.argsort(confidence_N, kind="stable")
    ordered = confidence_N[order]
    right = (task.predicted == task.targets)[order]
    threshold = np.unique(np.quantile(ordered, np.linspace(0, 1, MOST_POINTS), method="lower"))
    first = np.searchsorted(ordered, threshold)
    # How many of a clip and those after it are right.
    right_from = np.cumsum(right[::-1])[::-1]
    answered = len(ordered) - first
    return AnsweredCurve(
        threshold.astype(np.float64), answered / len(ordered), right_from[first] / answered
    )
