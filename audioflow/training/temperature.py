"""The temperature of a head that was just trained, fitted on its `val` logits.

Shapes: R readouts, N clips, F classes of the head, C classes.
"""

import math
from dataclasses import replace
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from audioflow.systems.readout import Readout

LEAST, MOST = 0.25, 20.0
"""Temperatures beyond these are never meant: on few clips that are all right, colder is better."""


def fitted_temperature(logits_RNF: Tensor, targets: NDArray[Any], readout: Readout) -> float:
    """The temperature with the least loss on these clips, between 0.25 and 20; 1 without a clip.

    Guo et al., On Calibration of Modern Neural Networks, ICML 2017.
    """
    if not len(targets):
        return 1.0
    from scipy.optimize import minimize_scalar  # it takes a while to import

    known = torch.from_numpy(targets)

    def loss(log_temperature: float) -> float:
        cooled = replace(readout, temperature=math.exp(log_temperature))
        return cooled.loss(logits_RNF, known)

    bounds = (math.log(LEAST), math.log(MOST))
    found = minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-3})
    return math.exp(found.x) if found.fun < loss(0.0) else 1.0
