"""What a fusion brings: its gain over one system, also by class, and what is lost without one.

Shapes: N clips, C classes, D bootstrap draws.

All comparisons are paired: on the same clips, and in a bootstrap on the same draws of groups.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from audioflow.bootstrap import Clusters, Estimate, estimate, planned_draws
from audioflow.fusion.base import Float, Scores, Targets
from audioflow.metrics import McNemar, evaluate, mcnemar, paired_differences, paired_gain
from audioflow.ranking import ranking

Counts = NDArray[Any]


@dataclass(frozen=True)
class Judged:
    """Clips whose labels are known, (N,), with the groups that a bootstrap draws.

    groups: None where every clip is one by itself. classes: names, in the order of scores.
    """

    targets: Targets
    classes: Sequence[str]
    groups: ArrayLike | None = None
    num_bootstrap: int = 1000

    @property
    def metric(self) -> str:
        """What is compared: `accuracy` or, with several labels, `map`."""
        return "map" if self.targets.ndim == 2 else "accuracy"

    def value(self, scores_NC: Scores) -> float:
        """The metric of some scores."""
        if self.targets.ndim == 1:
            return float((scores_NC.argmax(axis=1) == self.targets).mean())
        return evaluate(scores_NC, self.targets, self.classes, num_bootstrap=0).summary["map"].value

    def difference(self, scores_a_NC: Scores, scores_b_NC: Scores) -> Estimate:
        """The metric of b less that of a, with an interval."""
        draws = self.num_bootstrap
        if self.targets.ndim == 1:
            return paired_gain(
                scores_a_NC, scores_b_NC, self.targets, self.groups, num_bootstrap=draws
            )
        found = paired_differences(
            scores_a_NC,
            scores_b_NC,
            self.targets,
            self.groups,
            metrics=["map"],
            num_bootstrap=draws,
        )
        return found["map"]

    def test(self, scores_a_NC: Scores, scores_b_NC: Scores) -> McNemar:
        """McNemar's test of right clips; with several labels, of right answers at 0.5."""
        if self.targets.ndim == 1:
            right = [scores.argmax(axis=1) == self.targets for scores in (scores_a_NC, scores_b_NC)]
        else:
            right = [
                ((scores >= 0.5) == self.targets).all(axis=1)
                for scores in (scores_a_NC, scores_b_NC)
            ]
        return mcnemar(*right)


@dataclass(frozen=True)
class PartGain:
    """How much better the fused scores are than those of one system, in `metric`."""

    metric: str
    fused: float
    part: float
    gain: Estimate
    test: McNemar


@dataclass(frozen=True)
class ClassGain:
    """Recall (with several labels: average precision) of one class, of a system and fused.

    `gain` has an interval where it could be drawn; of many classes some exclude 0 by chance.
    """

    name: str
    num_clips: int
    part: float
    fused: float
    gain: Estimate


@dataclass(frozen=True)
class MaskedLoss:
    """The same complete clips fused with and without one system; `cost` is what is lost."""

    num_clips: int
    metric: str
    whole: float
    masked: float
    cost: Estimate


def part_gain(judged: Judged, part_NC: Scores, fused_NC: Scores) -> PartGain:
    """The fused scores of clips against those of one system."""
    return PartGain(
        judged.metric,
        judged.value(fused_NC),
        judged.value(part_NC),
        judged.difference(part_NC, fused_NC),
        judged.test(part_NC, fused_NC),
    )


def class_gains(judged: Judged, part_NC: Scores, fused_NC: Scores) -> list[ClassGain]:
    """The gain of each class that some clip has, the largest first, losses last."""
    found = (
        _recalls(judged, part_NC, fused_NC)
        if judged.targets.ndim == 1
        else _precisions(judged, part_NC, fused_NC)
    )
    return sorted(found, key=lambda one: (-one.gain.value, one.name))


def masked_loss(judged: Judged, whole_NC: Scores, masked_NC: Scores) -> MaskedLoss:
    """What the clips lose where a system that scored them all is left out."""
    return MaskedLoss(
        len(whole_NC),
        judged.metric,
        judged.value(whole_NC),
        judged.value(masked_NC),
        judged.difference(masked_NC, whole_NC),
    )


def _recalls(judged: Judged, part_NC: Scores, fused_NC: Scores) -> list[ClassGain]:
    targets_N, size = judged.targets, len(judged.classes)
    support_C = np.bincount(targets_N, minlength=size)
    there = np.flatnonzero(support_C)
    hits = [scores_NC.argmax(axis=1) == targets_N for scores_NC in (part_NC, fused_NC)]
    part_C, fused_C = (np.bincount(targets_N, hit_N, size) for hit_N in hits)
    gain_N = hits[1].astype(np.float64) - hits[0]
    clusters = Clusters.of(judged.groups, len(targets_N))
    draws = planned_draws(len(targets_N), 1, judged.num_bootstrap).counts
    rows = [
        _shares(np.bincount(targets_N, row_N * gain_N, size), np.bincount(targets_N, row_N, size))
        for chunk_DN in clusters.weights(draws, seed=0)
        for row_N in chunk_DN.astype(np.float64)
    ]
    drawn_DC = np.array(rows).reshape(-1, size)
    return [
        ClassGain(
            judged.classes[c],
            int(support_C[c]),
            float(part_C[c] / support_C[c]),
            float(fused_C[c] / support_C[c]),
            estimate(float((fused_C[c] - part_C[c]) / support_C[c]), drawn_DC[:, c]),
        )
        for c in there.tolist()
    ]


def _shares(above_C: Counts, below_C: Counts) -> Float:
    return np.divide(above_C, below_C, out=np.full(above_C.shape, np.nan), where=below_C > 0)


def _precisions(judged: Judged, part_NC: Scores, fused_NC: Scores) -> list[ClassGain]:
    once_1N, found = np.ones((1, len(fused_NC)), np.uint32), []
    for c, name in enumerate(judged.classes):
        truth_N = judged.targets[:, c].astype(bool)
        if not truth_N.any() or truth_N.all():
            continue
        part, fused = (
            float(ranking(truth_N, np.ascontiguousarray(scores_NC[:, c]), once_1N)[1][0])
            for scores_NC in (part_NC, fused_NC)
        )
        gain = estimate(fused - part, np.empty(0))
        found.append(ClassGain(name, int(truth_N.sum()), part, fused, gain))
    return found
