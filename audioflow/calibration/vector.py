"""Vector scaling: a weight and a bias for every class on its log score, then softmax.

Guo et al., On Calibration of Modern Neural Networks, ICML 2017. Where scores are independent
(several labels) it is the same as Platt scaling. Shapes: N clips, C classes.
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
    log_scores,
    rounded,
    row_blocks,
    softmax,
    too_few,
)
from audioflow.calibration.platt import LEAST_CLIPS, Platt
from audioflow.calibration.temperature import Temperature

_RIDGE = 1.0
_STEPS = 100


@dataclass(frozen=True)
class Vector:
    """Softmax of weight * log score + bias of every class; `lines` (2, C) are these two."""

    lines: Float
    least: float
    few: tuple[int, ...] = ()
    instead: str = "the temperature that suits all classes together"

    @classmethod
    def fit(cls, scores_NC: Scores, targets: NDArray[Any]) -> "Vector | Platt":
        """Weights and biases with the least log loss, drawn a little to one temperature."""
        if targets.ndim == 2:
            return Platt.fit(scores_NC, targets)
        cooled = Temperature.fit(scores_NC, targets)
        few = too_few(targets, scores_NC.shape[1], LEAST_CLIPS)
        values_NC = log_scores(scores_NC, cooled.least)
        problem = _Problem(values_NC, targets, 1 / cooled.temperature, few)
        return cls(problem.solved(), cooled.least, few)

    def apply(self, scores_NC: ArrayLike) -> Scores:
        scores = checked_scores(scores_NC, self.lines.shape[1])
        found = np.empty_like(scores)
        for rows in row_blocks(scores):
            values = log_scores(scores[rows], self.least)
            found[rows] = softmax(self.lines[0] * values + self.lines[1])
        return found

    def to_json(self) -> dict[str, Any]:
        return {
            "method": "vector",
            "weights": rounded(self.lines[0]),
            "biases": rounded(self.lines[1]),
            "least": self.least,
            "few": list(self.few),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Vector":
        lines = np.array([data["weights"], data["biases"]], np.float64)
        return cls(lines, float(data["least"]), tuple(data["few"]))


class _Problem:
    """Minimises the loss over the change of each weight, and of each value at the class's centre.

    The centre is the mean log score of a class's own clips: there weight and bias hardly depend on
    each other, and a ridge on the change there means the same for every class.
    """

    def __init__(
        self, values_NC: Scores, targets: NDArray[np.intp], weight: float, few: tuple[int, ...]
    ) -> None:
        self._values, self._targets, self._weight = values_NC, targets, weight
        num_classes = values_NC.shape[1]
        own_N = values_NC[np.arange(len(targets)), targets].astype(np.float64)
        counts_C = np.bincount(targets, minlength=num_classes)
        sums_C = np.bincount(targets, own_N, num_classes)
        self._centre_C = sums_C / np.maximum(counts_C, 1)
        self._fitted_C = np.ones(num_classes, np.bool_)
        self._fitted_C[list(few)] = False
        self._own = sums_C - counts_C * self._centre_C, counts_C

    def solved(self) -> Float:
        """Weights and biases (2, C)."""
        from scipy.optimize import minimize  # it takes a while to import

        start = np.zeros(2 * len(self._centre_C))
        options = {"maxiter": _STEPS, "ftol": 1e-9, "gtol": 1e-6}
        found = minimize(self._loss, start, jac=True, method="L-BFGS-B", options=options)
        weights, biases = self._lines(found.x)
        return np.stack([weights, biases])

    def _lines(self, change: Float) -> tuple[Float, Float]:
        more_C, shift_C = change.reshape(2, -1)
        return self._weight + more_C, shift_C - more_C * self._centre_C

    def _loss(self, change: Float) -> tuple[float, Float]:
        """Mean loss with the ridge, and its gradient."""
        weights, biases = (line.astype(np.float32) for line in self._lines(change))
        count = len(self._targets)
        total = _RIDGE * float(change @ change) / 2
        grad = np.stack([-self._own[0], -self._own[1].astype(np.float64)])
        for rows in row_blocks(self._values):
            values = self._values[rows]
            linear = weights * values + biases
            linear -= linear.max(axis=1, keepdims=True)
            own = linear[np.arange(len(linear)), self._targets[rows]].sum(dtype=np.float64)
            raised = np.exp(linear)
            sums = raised.sum(axis=1, keepdims=True)
            total += float(np.log(sums).sum(dtype=np.float64)) - float(own)
            raised /= sums
            at_centre = raised.sum(axis=0, dtype=np.float64)
            grad[0] += (raised * values).sum(axis=0, dtype=np.float64) - at_centre * self._centre_C
            grad[1] += at_centre
        grad += _RIDGE * change.reshape(2, -1)
        grad *= self._fitted_C
        return total / count, grad.ravel() / count
