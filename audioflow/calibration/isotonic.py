"""Isotonic regression: for every class, the rising curve of its share of clips over its score.

Zadrozny and Elkan, Transforming Classifier Scores into Accurate Multiclass Probability Estimates,
KDD 2002. Shapes: N clips, C classes, K knots of a curve.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from audioflow.calibration.base import (
    Float,
    Scores,
    checked_scores,
    least_of,
    log_odds,
    positives,
    rounded,
    row_blocks,
    sigmoid,
    too_few,
)
from audioflow.calibration.logistic import fit_pooled

LEAST_CLIPS = 10
_KEPT = 1e-3
"""Share of the score as it was: where a curve is flat, it still says which clip is above which."""


@dataclass(frozen=True)
class Isotonic:
    """Curves of every class through knots (2, K): scores as they were, and as they become.

    A class with too few clips has no knots, and follows the line of `pooled` (slope, offset) on its
    log odds.
    """

    multi_label: bool
    knots: tuple[Float, ...]
    pooled: tuple[float, float]
    least: float
    few: tuple[int, ...] = ()
    instead: str = "a logistic curve that suits all classes together"

    @classmethod
    def fit(cls, scores_NC: Scores, targets: NDArray[Any]) -> "Isotonic":
        """Curves with the least squared error, by pooling adjacent violators."""
        multi_label, num_classes, least = targets.ndim == 2, scores_NC.shape[1], least_of(scores_NC)
        few, pooled = too_few(targets, num_classes, LEAST_CLIPS), (1.0, 0.0)
        if few:
            odds_NC = log_odds(scores_NC, least, multi_label=multi_label)
            pooled = fit_pooled(odds_NC, positives(targets, num_classes))
        knots = []
        for index in range(num_classes):
            if index in few:
                knots.append(np.empty((2, 0)))
                continue
            positive_N = targets[:, index] if multi_label else targets == index
            knots.append(fit_curve(scores_NC[:, index], positive_N))
        return cls(multi_label, tuple(knots), pooled, least, few)

    def apply(self, scores_NC: ArrayLike) -> Scores:
        scores = checked_scores(scores_NC, len(self.knots))
        found = np.empty_like(scores)
        for rows in row_blocks(scores):
            block = scores[rows]
            chances = self._chances(block)
            if not self.multi_label:
                chances /= chances.sum(axis=1, keepdims=True)
            found[rows] = chances
        return found

    def _chances(self, scores_NC: Scores) -> Float:
        found = np.empty(scores_NC.shape)
        if self.few:
            odds_NC = log_odds(scores_NC, self.least, multi_label=self.multi_label)
            found[:] = sigmoid(self.pooled[0] * odds_NC + self.pooled[1])
        for index, knots in enumerate(self.knots):
            if knots.size:
                found[:, index] = np.interp(scores_NC[:, index], knots[0], knots[1])
        return (1 - _KEPT) * found + _KEPT * scores_NC

    def to_json(self) -> dict[str, Any]:
        return {
            "method": "isotonic",
            "multi_label": self.multi_label,
            "knots": [[rounded(knots[0]), rounded(knots[1])] for knots in self.knots],
            "pooled": list(self.pooled),
            "least": self.least,
            "few": list(self.few),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Isotonic":
        knots = tuple(np.array(one, np.float64).reshape(2, -1) for one in data["knots"])
        slope, offset = data["pooled"]
        few = tuple(data["few"])
        return cls(data["multi_label"], knots, (slope, offset), float(data["least"]), few)


def fit_curve(scores_N: NDArray[Any], positive_N: NDArray[np.bool_]) -> Float:
    """Knots (2, K) of the rising curve through the shares of positive clips, between 0 and 1.

    One made-up clip at each end, with the share that the class has among all, keeps the ends from
    0 and 1: a clip beyond them would else have a score of which nobody can be sure.
    """
    from scipy.optimize import isotonic_regression  # it takes a while to import

    order = np.argsort(scores_N, kind="stable")
    sorted_N = scores_N[order].astype(np.float64)
    first_U = np.flatnonzero(np.diff(sorted_N, prepend=-1.0))
    weights_U = np.diff(first_U, append=len(sorted_N)).astype(np.float64)
    hits_U = np.add.reduceat(positive_N[order].astype(np.float64), first_U)
    share = positive_N.mean()
    for end in (0, -1):
        weights_U[end] += 1
        hits_U[end] += share
    found = isotonic_regression(hits_U / weights_U, weights=weights_U)
    ends = np.unique(np.concatenate([found.blocks[:-1], found.blocks[1:] - 1]))
    return np.stack([sorted_N[first_U][ends], found.x[ends]])
