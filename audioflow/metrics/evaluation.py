"""All metrics of a score table against its labels, with bootstrap intervals over groups.

Shapes: N clips, C classes.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike

from audioflow.bootstrap import Clusters, Estimate, estimate
from audioflow.metrics.checks import checked_classes
from audioflow.metrics.counts import ClassCounts
from audioflow.metrics.measuring import Measured, Task, columns_of, measured, task_of
from audioflow.metrics.one_label import OneLabel
from audioflow.metrics.results import ClassResult, Evaluation
from audioflow.metrics.several_labels import SeveralLabels
from audioflow.ranking import one_versus_one


def evaluate(
    scores_NC: ArrayLike,
    targets: ArrayLike,
    classes: Sequence[str],
    groups_N: ArrayLike | None = None,
    *,
    thresholds: ArrayLike | None = None,
    num_bootstrap: int = 1000,
    seed: int = 0,
) -> Evaluation:
    """Metrics, confusion and per-class results of scores in [0, 1].

    `targets` are class indices (N,), or booleans (N, C) where a clip may have several labels or
    none. `groups_N` names what is resampled as a whole (recordings, sites); each clip is its own
    group where None. With several labels a class is said of a clip whose score is at least its
    threshold: 0.5, one number, or one per class (C,).

    Keys of `summary` with one label, in order:

    - `accuracy` (of equal scores the first class is predicted);
    - `balanced_accuracy`: mean recall of the classes that have a clip;
    - `top_5` with more than 5 classes, else `top_2` with more than 2. Of equal scores the last
      class ranks first, as in scikit-learn, so on tied scores this may disagree with `accuracy`;
    - `macro_f1` over the classes that occur in targets or predictions, with `zero_division=0`;
    - `roc_auc` (one versus rest) and `map` (average precision): macro means over the classes that
      have both a positive and a negative clip.

    With several labels: `map`, `lwlrap` (label-weighted label-ranking average precision: how high
    each clip's own labels rank among all), `roc_auc`, `macro_f1`, `micro_f1`, and `exact_match`
    (share of clips of which exactly their labels are said). `undefined` says what was left out.

    `details` has the rest:

    - `macro_` and `weighted_` means (by support) of precision, recall and F1, and with several
      labels `micro_` ones, which with one label would all be the accuracy;
    - `roc_auc_weighted`, `map_weighted`, and `d_prime`: the square root of 2 times the normal
      quantile of `roc_auc` (Hershey et al., CNN Architectures for Large-Scale Audio Classification,
      2017);
    - `log_loss` and `brier` as in `calibration_error`;
    - several labels: `hamming_loss` (share of wrong decisions) and `top_1` (the best class is one
      of the labels, of clips that have any);
    - without an interval: `ece` and `adaptive_ece` (of the best class, or with several labels of
      all scores), `roc_auc_ovo` (one label: every pair of classes alike; Hand and Till, 2001),
      `map_micro` and `roc_auc_micro` (several labels: all clips and classes in one ranking).

    Intervals are percentiles of `num_bootstrap` draws; a draw's macro means are over the classes
    defined in it. Large inputs get fewer draws: above 2 * 10^8 clips * draws for all metrics, above
    2 * 10^9 clips * classes * draws for those of rankings; `planned_draws` says how many. With a
    single group there is no interval (NaN). Given groups, the order of clips changes nothing.

    Raises `ValueError` for shapes that do not fit, no clip, a target that is no class index, a
    score that is NaN or outside [0, 1], a class given twice, thresholds where clips have one label,
    or a negative `num_bootstrap`.
    """
    names = checked_classes(classes)
    task = task_of(scores_NC, targets, len(names), thresholds)
    num_clips = len(task.scores)
    clusters = Clusters.of(groups_N, num_clips)
    got = measured(task, clusters, num_bootstrap, seed)
    found = {name: estimate(got.values[name], got.draws[name]) for name in got.values}
    found["d_prime"] = _d_prime_of(found["roc_auc"])
    found |= {name: _without_interval(number) for name, number in _single_values(task).items()}
    return Evaluation(
        num_clips=num_clips,
        num_groups=clusters.num_groups,
        classes=names,
        summary={name: found[name] for name in task.summary},
        details={name: found[name] for name in found if name not in task.summary},
        confusion=task.confusion(),
        per_class=_class_results(names, got),
        undefined=tuple(_undefined(task, names, got.counts, found)),
        multi_label=isinstance(task, SeveralLabels),
        unlabelled=task.unlabelled,
    )


def _single_values(task: Task) -> dict[str, float]:
    found = task.single_values()
    if isinstance(task, OneLabel):
        found["roc_auc_ovo"] = one_versus_one(columns_of(task.scores), task.targets)
    return found


def _without_interval(value: float) -> Estimate:
    return Estimate(value, math.nan, math.nan)


def d_prime(roc_auc: float) -> float:
    """The distance of two normal distributions with this ROC AUC, in standard deviations.

    Infinite for 1, minus infinite for 0, NaN for NaN.
    """
    if math.isnan(roc_auc):
        return math.nan
    if not 0 < roc_auc < 1:
        return math.copysign(math.inf, roc_auc - 0.5)
    return math.sqrt(2) * NormalDist().inv_cdf(roc_auc)


def _d_prime_of(roc_auc: Estimate) -> Estimate:
    """It rises with ROC AUC, so that the bounds of one are those of the other."""
    return Estimate(d_prime(roc_auc.value), d_prime(roc_auc.low), d_prime(roc_auc.high))


def _class_results(names: Sequence[str], got: Measured) -> tuple[ClassResult, ...]:
    counts = got.counts
    per_class = (counts.precision(), counts.recall(), counts.f1())
    d_prime_C = [d_prime(float(auc)) for auc in got.auc_C]
    columns = (*(values_1C[0] for values_1C in per_class), got.auc_C, got.precision_C, d_prime_C)
    return tuple(
        ClassResult(name, int(support), *map(float, values))
        for name, support, *values in zip(names, counts.support[0], *columns, strict=True)
    )


def _undefined(
    task: Task, names: Sequence[str], counts: ClassCounts, found: Mapping[str, Estimate]
) -> Iterator[str]:
    """What is left out of which mean, and what has no value, in words."""
    if task.unlabelled == len(task.scores):
        yield "no clip has a label: there is no lwlrap and no top_1"
    num_clips = len(task.scores)
    one_label = isinstance(task, OneLabel)
    for name, support, occurs in zip(names, counts.support[0], counts.occurs[0], strict=True):
        if support == num_clips:
            yield (
                f"class {name!r} has every clip, so that none is negative: "
                "it is left out of roc_auc and map"
            )
        if not support:
            without = ["balanced_accuracy"] if one_label else []
            without += ["roc_auc", "map"] if occurs else ["macro_f1", "roc_auc", "map"]
            listed = f"{', '.join(without[:-1])} and {without[-1]}"
            yield f"class {name!r} has no clip: it is left out of {listed}"
    never = (counts.support[0] > 0) & (counts.predicted[0] == 0)
    if never.any():
        first = ", ".join(repr(names[index]) for index in np.flatnonzero(never)[:3].tolist())
        yield (
            f"classes that no clip is said to be of count with a precision of 0 in "
            f"macro_precision: {first}{f' and {never.sum() - 3} more' if never.sum() > 3 else ''}"
        )
    if math.isinf(found["d_prime"].value):
        yield f"d_prime is infinite, because roc_auc is {found['roc_auc'].value:g}"
