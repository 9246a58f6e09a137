"""The minimum of a smooth function of many variables."""

from collections.abc import Callable

import numpy as np

from audioflow.fusion.base import Float

MAX_STEPS = 200
TOLERANCE = 1e-6


def least(function: Callable[[Float], tuple[float, Float]], start: Float) -> Float:
    """Where `function`, which gives its value and gradient, is least, from `start` on (L-BFGS)."""
    from scipy.optimize import minimize  # it takes a while to import

    found = minimize(
        function,
        start,
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": MAX_STEPS, "gtol": TOLERANCE, "ftol": 1e-10},
    )
    return np.asarray(found.x, np.float64)
