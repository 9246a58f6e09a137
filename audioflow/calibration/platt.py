"""Platt scaling: for every class, a logistic regression on the log odds of its score.

Platt, Probabilistic Outputs for Support Vector Machines, 1999; one against the rest, and rows of
single labels divided by their sum, as in Zadrozny and Elkan, KDD 2002. Shapes: N clips, C classes.
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
from audioflow.calibration.logistic import fit_logistic, fit_pooled

LEAST_CLIPS = 5


@dataclass(frozen=True)
class Platt:
    """sigmoid(slope * log odds + offset) for every class; `lines` are slopes and offsets (2, C)."""

    multi_label: bool
    lines: Float
    least: float
    few: tuple[int, ...] = ()
    instead: str = "the slope and offset that suit all classes together"

    @classmethod
    def fit(cls, scores_NC: Scores, targets: NDArray[Any]) -> "Platt":
        """Slopes and offsets with the least log loss, drawn a little to those of all classes."""
        multi_label, num_classes, least = targets.ndim == 2, scores_NC.shape[1], least_of(scores_NC)
        odds_NC = log_odds(scores_NC, least, multi_label=multi_label)
        positive_NC = positives(targets, num_classes)
        pooled = fit_pooled(odds_NC, positive_NC)
        few = too_few(targets, num_classes, LEAST_CLIPS)
        lines = fit_logistic(odds_NC, positive_NC, pooled)
        lines[:, list(few)] = np.array(pooled)[:, None]
        return cls(multi_label, lines, least, few)

    def apply(self, scores_NC: ArrayLike) -> Scores:
        scores = checked_scores(scores_NC, self.lines.shape[1])
        found = np.empty_like(scores)
        for rows in row_blocks(scores):
            odds = log_odds(scores[rows], self.least, multi_label=self.multi_label)
            chances = sigmoid(self.lines[0] * odds + self.lines[1])
            if not self.multi_label:
                chances /= chances.sum(axis=1, keepdims=True)
            found[rows] = chances
        return found

    def to_json(self) -> dict[str, Any]:
        return {
            "method": "platt",
            "multi_label": self.multi_label,
            "slopes": rounded(self.lines[0]),
            "offsets": rounded(self.lines[1]),
            "least": self.least,
            "few": list(self.few),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Platt":
        lines = np.array([data["slopes"], data["offsets"]], np.float64)
        return cls(data["multi_label"], lines, float(data["least"]), tuple(data["few"]))
