"""Weights on the simplex (none negative, sum 1): a grid, and the minimum of a convex function.

Shapes: S weights, K points.
"""

from collections.abc import Callable
from itertools import combinations
from math import comb

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float64]
Derivatives = tuple[float, Float, Float]
"""Value, gradient (S,) and Hessian (S, S) of a function at a point."""

GAP = 1e-9
MAX_STEPS = 100
MAX_EXCHANGES = 1000
_STEPS_PER_UNIT = (100, 50, 20, 10, 5, 4, 2, 1)


def equal_weights(size: int) -> Float:
    """The centre of the simplex, (S,)."""
    return np.full(size, 1 / size)


def grid(size: int, max_points: int) -> Float:
    """Evenly spaced weights (K, S), corners included: as fine as `max_points` allows, at most 0.01.

    The corners are there however small `max_points` is.
    """
    steps = next(
        (n for n in _STEPS_PER_UNIT if comb(n + size - 1, size - 1) <= max_points),
        _STEPS_PER_UNIT[-1],
    )
    # Stars and bars: a choice of S - 1 bars among the places cuts the steps into S parts.
    places = steps + size - 1
    points = [np.diff((-1, *bars, places)) - 1 for bars in combinations(range(places), size - 1)]
    return np.array(points, np.float64) / steps


def minimise(function: Callable[[Float], Derivatives], size: int) -> Float:
    """The weights (S,) at which a convex function is least, to within `GAP` of its least value.

    Newton steps within the simplex with backtracking. The gap w.g - min(g), with g the gradient,
    bounds how far a convex function is above its minimum (Jaggi, ICML 2013): it tells when to stop.
    """
    weights_S = equal_weights(size)
    value, gradient_S, hessian_SS = function(weights_S)
    for _ in range(MAX_STEPS):
        if weights_S @ gradient_S - gradient_S.min() <= GAP:
            break
        move_S = _quadratic_minimum(weights_S, gradient_S, hessian_SS) - weights_S
        slope, length, rounding = float(gradient_S @ move_S), 1.0, 1e-14 * (1 + abs(value))
        found = function(weights_S + move_S)
        while found[0] > value + 1e-4 * length * slope + rounding and length > 1e-12:
            length /= 2
            found = function(weights_S + length * move_S)
        weights_S = weights_S + length * move_S
        value, gradient_S, hessian_SS = found
    return weights_S / weights_S.sum()


def _quadratic_minimum(start_S: Float, gradient_S: Float, hessian_SS: Float) -> Float:
    """Minimum on the simplex of the quadratic model at `start_S`.

    Weight moves between the two entries that gain most, each time as far as is best (sequential
    minimal optimisation, Platt 1998): exact for two, and quick where systems are nearly equal.
    """
    point_S, slope_S = start_S.copy(), gradient_S.copy()
    for _ in range(MAX_EXCHANGES):
        to = int(slope_S.argmin())
        source = int(np.where(point_S > 0, slope_S, -np.inf).argmax())
        gain = slope_S[source] - slope_S[to]
        if gain <= GAP / 10:
            break
        bend = hessian_SS[source, source] + hessian_SS[to, to] - 2 * hessian_SS[source, to]
        amount = point_S[source] if gain >= bend * point_S[source] else gain / bend
        point_S[to] += amount
        point_S[source] -= amount
        slope_S += amount * (hessian_SS[to] - hessian_SS[source])
    return point_S
