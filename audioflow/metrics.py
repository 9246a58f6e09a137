"""Metrics of a score table against its labels, with bootstrap intervals over groups.

Shapes: N clips, C classes, D bootstrap draws.

Every metric is a function of one integer weight per clip, so that the reported value (all weights
1) and the value of a bootstrap draw come from the same lines. The values are scikit-learn's.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from audioflow.bootstrap import Clusters, Estimate, estimate, planned_draws
from audioflow.ranking import Float, Weights, mean_where, ranking, ratio

__all__ = ["ClassResult", "Estimate", "Evaluation", "evaluate", "paired_gain", "planned_draws"]

SCORE_TOLERANCE = 1e-4
"""How far rounding may take a score out of [0, 1] (half precision)."""


@dataclass(frozen=True)
class ClassResult:
    """One class against the rest. `support` is its number of clips.

    Precision, recall and F1 are 0 where they have nothing to divide by (scikit-learn's
    `zero_division=0`); the other two are NaN where the class has no positive or no negative clip.
    """

    name: str
    support: int
    precision: float
    recall: float
    f1: float
    roc_auc: float
    average_precision: float


@dataclass(frozen=True)
class Evaluation:
    """What `evaluate` found. `confusion` is (C, C) int: rows are true, columns predicted classes.

    `undefined` has one sentence for each class that was left out of the macro means of rankings.
    """

    num_clips: int
    num_groups: int
    classes: tuple[str, ...]
    summary: dict[str, Estimate]
    confusion: NDArray[np.int64]
    per_class: tuple[ClassResult, ...]
    undefined: tuple[str, ...]


@dataclass(frozen=True)
class _Task:
    """Checked input: scores (N, C), class indices, predicted ones, whether in the top k (N,).

    What assumes one label per clip is here and in `_Counts`; rankings ask for `positive` only.
    """

    scores: NDArray[np.floating]
    targets: NDArray[np.intp]
    predicted: NDArray[np.intp]
    top_k: int | None
    in_top: NDArray[np.bool_]

    def positive(self, index: int) -> NDArray[np.bool_]:
        return self.targets == index


@dataclass(frozen=True)
class _Counts:
    """Weight in each draw of: a class, its predictions, both (D, C); the top k (D,)."""

    support: Float
    predicted: Float
    hits: Float
    top_k: Float

    def recall(self) -> Float:
        return ratio(self.hits, self.support)

    def precision(self) -> Float:
        return ratio(self.hits, self.predicted)

    def f1(self) -> Float:
        return ratio(2 * self.hits, self.support + self.predicted)


def evaluate(
    scores_NC: ArrayLike,
    targets_N: ArrayLike,
    classes: Sequence[str],
    groups_N: ArrayLike | None = None,
    *,
    num_bootstrap: int = 1000,
    seed: int = 0,
) -> Evaluation:
    """Accuracy, ranking metrics, confusion and per-class results of scores in [0, 1].

    `targets_N` are class indices, `groups_N` names what is resampled as a whole (recordings,
    sites); each clip is its own group where None. The keys of `summary`, in order:

    - `accuracy` (of equal scores the first class is predicted);
    - `balanced_accuracy`: mean recall of the classes that have a clip;
    - `top_5` with more than 5 classes, else `top_2` with more than 2. Of equal scores the last
      class ranks first, as in scikit-learn, so on tied scores this may disagree with `accuracy`;
    - `macro_f1` over the classes that occur in targets or predictions, with `zero_division=0`;
    - `roc_auc` (one versus rest) and `map` (average precision): macro means over the classes that
      have both a positive and a negative clip; `undefined` names the others.

    Intervals are percentiles of `num_bootstrap` draws; a draw's macro means are over the classes
    defined in it. Large inputs get fewer draws: above 2 * 10^8 clips * draws for all metrics, above
    2 * 10^9 clips * classes * draws for `roc_auc` and `map`; `planned_draws` says how many. With a
    single group there is no interval (NaN). Given groups, the order of clips changes nothing.

    Raises `ValueError` for shapes that do not fit, no clip, a target that is no class index, a
    score that is NaN or outside [0, 1], a class given twice, or a negative `num_bootstrap`.
    """
    names = _checked_classes(classes)
    task = _checked(scores_NC, targets_N, len(names))
    clusters = Clusters.of(groups_N, len(task.targets))
    ones_DN = np.ones((1, len(task.targets)), np.uint32)
    counts = _counts(task, ones_DN)
    auc_DC, precision_DC = _rankings(task, ones_DN)
    value = _count_metrics(task, counts) | _macro_rankings(auc_DC, precision_DC)
    draws = _bootstrap(task, clusters, num_bootstrap, seed)
    none_D = np.empty(0)
    size = len(names)
    pairs_N = task.targets * size + task.predicted
    return Evaluation(
        num_clips=len(task.targets),
        num_groups=clusters.num_groups,
        classes=names,
        summary={name: estimate(value[name][0], draws.get(name, none_D)) for name in value},
        confusion=np.bincount(pairs_N, minlength=size * size).reshape(size, size),
        per_class=_class_results(names, counts, auc_DC[0], precision_DC[0]),
        undefined=_undefined(names, counts.support[0], len(task.targets)),
    )


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
    `evaluate`. Raises `ValueError` for what `evaluate` refuses, and for unequal shapes.
    """
    shape_a, shape_b = np.shape(scores_a_NC), np.shape(scores_b_NC)
    if shape_a != shape_b or len(shape_a) != 2:
        raise ValueError(
            f"scores a and b have shapes {shape_a} and {shape_b}, expected the same (N, C)"
        )
    task_a = _checked(scores_a_NC, targets_N, shape_a[1])
    task_b = _checked(scores_b_NC, targets_N, shape_a[1])
    clusters = Clusters.of(groups_N, shape_a[0])
    hit_a_N = task_a.predicted == task_a.targets
    hit_b_N = task_b.predicted == task_b.targets
    gain_N = hit_b_N.astype(np.float64) - hit_a_N
    num_draws = planned_draws(shape_a[0], 1, num_bootstrap).counts
    draws = [
        float(weights_N @ gain_N / weights_N.sum())
        for chunk_DN in clusters.weights(num_draws, seed)
        for weights_N in chunk_DN
    ]
    return estimate(float(gain_N.mean()), np.array(draws))


def _rankings(task: _Task, weights_DN: Weights) -> tuple[Float, Float]:
    """ROC AUC and average precision, (D, C) each."""
    columns = [
        ranking(task.positive(index), np.ascontiguousarray(column_N), weights_DN)
        for index, column_N in enumerate(task.scores.T)
    ]
    return np.stack([auc for auc, _ in columns], 1), np.stack([ap for _, ap in columns], 1)


def _macro_rankings(auc_DC: Float, precision_DC: Float) -> dict[str, Float]:
    columns = {"roc_auc": auc_DC, "map": precision_DC}
    return {name: mean_where(values, ~np.isnan(values)) for name, values in columns.items()}


def _counts(task: _Task, weights_DN: Weights) -> _Counts:
    shape = (len(weights_DN), task.scores.shape[1])
    found = _Counts(np.empty(shape), np.empty(shape), np.empty(shape), np.zeros(shape[0]))
    hit_N = task.predicted == task.targets
    for draw, row_N in enumerate(weights_DN):
        weights_N = row_N.astype(np.float64)
        found.support[draw] = np.bincount(task.targets, weights_N, shape[1])
        found.predicted[draw] = np.bincount(task.predicted, weights_N, shape[1])
        found.hits[draw] = np.bincount(task.targets, weights_N * hit_N, shape[1])
        found.top_k[draw] = weights_N @ task.in_top
    return found


def _in_top(
    scores_NC: NDArray[np.floating], targets_N: NDArray[np.intp], k: int
) -> NDArray[np.bool_]:
    """Whether the target is among the top k; of equal scores the last class ranks first."""
    own_N1 = np.take_along_axis(scores_NC, targets_N[:, None], axis=1)
    later_NC = np.arange(scores_NC.shape[1]) > targets_N[:, None]
    before_NC = (scores_NC > own_N1) | ((scores_NC == own_N1) & later_NC)
    return np.count_nonzero(before_NC, axis=1) < k


def _count_metrics(task: _Task, counts: _Counts) -> dict[str, Float]:
    total_D = counts.support.sum(1)
    metrics = {
        "accuracy": counts.hits.sum(1) / total_D,
        "balanced_accuracy": mean_where(counts.recall(), counts.support > 0),
    }
    if task.top_k:
        metrics[f"top_{task.top_k}"] = counts.top_k / total_D
    occurs_DC = counts.support + counts.predicted > 0
    metrics["macro_f1"] = mean_where(counts.f1(), occurs_DC)
    return metrics


def _bootstrap(task: _Task, clusters: Clusters, wanted: int, seed: int) -> dict[str, Float]:
    """Each metric's value in each draw; the metrics of rankings use the first of the draws."""
    num_clips, num_classes = task.scores.shape
    planned = planned_draws(num_clips, num_classes, wanted)
    found: dict[str, list[Float]] = {}
    left = planned.ranking
    for weights_DN in clusters.weights(planned.counts, seed):
        metrics = _count_metrics(task, _counts(task, weights_DN))
        if left > 0:
            metrics |= _macro_rankings(*_rankings(task, weights_DN[:left]))
            left -= len(weights_DN)
        for name, values_D in metrics.items():
            found.setdefault(name, []).append(values_D)
    return {name: np.concatenate(chunks) for name, chunks in found.items()}


def _class_results(
    names: Sequence[str], counts: _Counts, auc_C: Float, precision_C: Float
) -> tuple[ClassResult, ...]:
    per_draw = (counts.precision(), counts.recall(), counts.f1())
    columns = (*(values_DC[0] for values_DC in per_draw), auc_C, precision_C)
    return tuple(
        ClassResult(name, int(support), *(float(value) for value in values))
        for name, support, *values in zip(names, counts.support[0], *columns, strict=True)
    )


def _undefined(names: Sequence[str], support_C: Float, num_clips: int) -> tuple[str, ...]:
    reasons = {0: "has no clip", num_clips: "has every clip, so that none is negative"}
    return tuple(
        f"class {name!r} {reasons[int(support)]}: it is left out of roc_auc and map"
        for name, support in zip(names, support_C, strict=True)
        if int(support) in reasons
    )


def _checked_classes(classes: Sequence[str]) -> tuple[str, ...]:
    names = tuple(classes)
    for name, times in Counter(names).most_common(1):
        if times > 1:
            raise ValueError(f"class {name!r} is given {times} times")
    return names


def _checked(scores: ArrayLike, targets: ArrayLike, num_classes: int) -> _Task:
    scores_NC, targets_N = np.asarray(scores), np.asarray(targets)
    if scores_NC.dtype.kind != "f":
        scores_NC = scores_NC.astype(np.float64)
    if scores_NC.ndim != 2 or scores_NC.shape[1] != num_classes:
        raise ValueError(f"scores have shape {scores_NC.shape}, expected (N, {num_classes})")
    if scores_NC.size == 0:
        raise ValueError(f"scores have shape {scores_NC.shape}: there is nothing to evaluate")
    if targets_N.shape != scores_NC.shape[:1]:
        raise ValueError(f"targets have shape {targets_N.shape}, expected {scores_NC.shape[:1]}")
    if not np.issubdtype(targets_N.dtype, np.integer):
        raise ValueError(f"targets are {targets_N.dtype}, expected class indices (integers)")
    for clip in np.flatnonzero((targets_N < 0) | (targets_N >= num_classes))[:1]:
        raise ValueError(
            f"target {targets_N[clip]} of clip {clip} is not a class index: 0 to {num_classes - 1}"
        )
    inside_NC = (scores_NC >= -SCORE_TOLERANCE) & (scores_NC <= 1 + SCORE_TOLERANCE)
    for clip, index in np.argwhere(~inside_NC)[:1]:
        raise ValueError(
            f"score {scores_NC[clip, index]} of clip {clip}, class {index} is not in [0, 1]"
        )
    return _task(scores_NC, targets_N.astype(np.intp))


def _task(scores_NC: NDArray[np.floating], targets_N: NDArray[np.intp]) -> _Task:
    num_classes = scores_NC.shape[1]
    top_k = 5 if num_classes > 5 else 2 if num_classes > 2 else None
    in_top_N = _in_top(scores_NC, targets_N, top_k or num_classes)
    return _Task(scores_NC, targets_N, scores_NC.argmax(axis=1), top_k, in_top_N)
