"""Temperature: one number that all log scores (or log odds) are divided by.

Guo et al., On Calibration of Modern Neural Networks, ICML 2017. Shapes: N clips, C classes.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from audioflow.calibration.base import (
    Scores,
    checked_scores,
    least_of,
    log_odds,
    log_scores,
    row_blocks,
    sigmoid,
    softmax,
)

LEAST, MOST = 0.25, 20.0
"""Temperatures beyond these are never meant."""
_RIDGE = 1.0
"""Weight of log(temperature)^2 / 2 beside the summed loss: what a clip or so says."""


@dataclass(frozen=True)
class Temperature:
    """Softmax (sigmoid, for several labels) of log scores divided by `temperature`."""

    num_classes: int
    multi_label: bool
    temperature: float
    least: float
    few: tuple[int, ...] = ()
    instead: str = ""

    @classmethod
    def fit(cls, scores_NC: Scores, targets: NDArray[Any]) -> "Temperature":
        """The temperature with the least log loss on these clips, from 0.25 to 20."""
        from scipy.optimize import minimize_scalar  # it takes a while to import

        multi_label, least = targets.ndim == 2, least_of(scores_NC)
        values_NC = _values(scores_NC, least, multi_label=multi_label)

        def loss(log_temperature: float) -> float:
            prior = _RIDGE * log_temperature**2 / 2
            return summed_loss(values_NC, targets, math.exp(-log_temperature)) + prior

        bounds = (math.log(LEAST), math.log(MOST))
        found = minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-3})
        temperature = math.exp(found.x) if found.fun < loss(0.0) else 1.0
        return cls(scores_NC.shape[1], multi_label, temperature, least)

    def apply(self, scores_NC: ArrayLike) -> Scores:
        scores = checked_scores(scores_NC, self.num_classes)
        found = np.empty_like(scores)
        for rows in row_blocks(scores):
            values = _values(scores[rows], self.least, multi_label=self.multi_label)
            cooled = values / self.temperature
            found[rows] = sigmoid(cooled) if self.multi_label else softmax(cooled)
        return found

    def to_json(self) -> dict[str, Any]:
        return {
            "method": "temperature",
            "num_classes": self.num_classes,
            "multi_label": self.multi_label,
            "temperature": self.temperature,
            "least": self.least,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Temperature":
        return cls(
            data["num_classes"], data["multi_label"], data["temperature"], float(data["least"])
        )


def _values(scores_NC: Scores, least: float, *, multi_label: bool) -> Scores:
    """What is divided by the temperature: log odds of several labels, log scores of one."""
    if multi_label:
        return log_odds(scores_NC, least, multi_label=True)
    return log_scores(scores_NC, least)


def summed_loss(values_NC: Scores, targets: NDArray[Any], factor: float) -> float:
    """Log loss in nats, summed over clips (and classes, of several labels), of values * factor."""
    total = 0.0
    for rows in row_blocks(values_NC):
        values, truth = values_NC[rows] * np.float32(factor), targets[rows]
        if truth.ndim == 2:
            signed = np.where(truth, -values, values)
            losses = np.logaddexp(np.float32(0), signed)
        else:
            values -= values.max(axis=1, keepdims=True)
            own_N = values[np.arange(len(values)), truth]
            losses = np.log(np.exp(values).sum(axis=1)) - own_N
        total += float(losses.sum(dtype=np.float64))
    return total
