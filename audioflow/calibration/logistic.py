"""Logistic regressions of one variable, one for every class, all at once, by Newton's method.

Shapes: N clips, C classes; a slope and an offset for each class.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from audioflow.calibration.base import Float, row_blocks

RIDGE = 1.0
"""Weight of half the squared distance to the start beside the summed loss: what a few clips say."""
_STEPS = 60
_SMALL = 1e-3
"""Steps that are smaller end it: the error after them is far smaller still."""


def fit_logistic(
    values_NC: NDArray[Any],
    positive_NC: NDArray[np.bool_],
    start: tuple[float, float] = (1.0, 0.0),
    ridge: float = RIDGE,
) -> Float:
    """Slopes and offsets (2, C) with the least log loss of sigmoid(slope * value + offset).

    start: the slope and offset that the ridge draws to, and that a class without clips keeps.
    """
    centre = np.array(start)[:, None]
    line = np.repeat(centre, values_NC.shape[1], axis=1)
    loss, step = _newton(values_NC, positive_NC, line, centre, ridge)
    size = np.ones(values_NC.shape[1])
    for _ in range(_STEPS):
        tried = line - size * step
        tried_loss, tried_step = _newton(values_NC, positive_NC, tried, centre, ridge)
        worse = tried_loss > loss + 1e-9 * np.abs(loss)
        line = np.where(worse, line, tried)
        step = np.where(worse, step, tried_step)
        loss = np.where(worse, loss, tried_loss)
        size = np.where(worse, size / 2, 1.0)
        if np.abs(size * step).max() < _SMALL:
            break
    return line


def fit_pooled(values_NC: NDArray[Any], positive_NC: NDArray[np.bool_]) -> tuple[float, float]:
    """One slope and offset for all classes."""
    line = fit_logistic(values_NC.reshape(-1, 1), positive_NC.reshape(-1, 1))
    return float(line[0, 0]), float(line[1, 0])


def _newton(
    values_NC: NDArray[Any],
    positive_NC: NDArray[np.bool_],
    line: Float,
    centre: Float,
    ridge: float,
) -> tuple[Float, Float]:
    """Loss (C,) with the ridge, and Newton's step (2, C), at these slopes and offsets."""
    away = line - centre
    loss = ridge * (away**2).sum(axis=0) / 2
    slope_grad, offset_grad = ridge * away[0], ridge * away[1]
    slope_curve = np.full(line.shape[1], ridge)
    offset_curve, both = slope_curve.copy(), np.zeros(line.shape[1])
    slope, offset = line.astype(values_NC.dtype)
    for rows in row_blocks(values_NC):
        values, truth = values_NC[rows], positive_NC[rows]
        linear = np.clip(slope * values + offset, -80, 80)
        raised = np.exp(-np.abs(linear))
        chance = np.where(linear >= 0, 1, raised) / (1 + raised)
        losses = np.log1p(raised) + np.maximum(np.where(truth, -linear, linear), 0)
        loss += losses.sum(axis=0, dtype=np.float64)
        off = chance - truth
        curve = chance * (1 - chance)
        weighted = curve * values
        slope_grad = slope_grad + (off * values).sum(axis=0, dtype=np.float64)
        offset_grad = offset_grad + off.sum(axis=0, dtype=np.float64)
        slope_curve += (weighted * values).sum(axis=0, dtype=np.float64)
        both += weighted.sum(axis=0, dtype=np.float64)
        offset_curve += curve.sum(axis=0, dtype=np.float64)
    determinant = slope_curve * offset_curve - both**2
    step = np.stack(
        [
            (offset_curve * slope_grad - both * offset_grad) / determinant,
            (slope_curve * offset_grad - both * slope_grad) / determinant,
        ]
    )
    return loss, step
