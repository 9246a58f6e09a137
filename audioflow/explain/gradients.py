"""Integrated gradients of a logit over the spectrograms of a clip (Sundararajan et al. 2017).

Shapes: P patches, F frames, M bands.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from audioflow.errors import InputError
from audioflow.explain.extra import needed

TOLERANCE = 0.05
"""Share of the difference of the logits by which the sum of attributions may miss it."""
_LEAST_DIFFERENCE = 0.2
"""Of logits; of smaller ones rounding is more than the tolerance."""
_FIRST_STEPS, _MOST_STEPS = 32, 1024
_VALUES_AT_ONCE = 2**18
"""Of spectrograms; what a network makes of them is many times more."""


@dataclass(frozen=True)
class Attributions:
    """What each value of the spectrograms adds to the logit of the clip over that of the baseline.

    values_PFM: float32. delta: by how much their sum misses the difference of the two logits.
    """

    values_PFM: Tensor
    logit: float
    baseline_logit: float
    delta: float
    steps: int


def integrated_gradients(
    model: nn.Module, spectrograms_PFM: Tensor, baseline_PFM: Tensor
) -> Attributions:
    """Along the straight line from the baseline to the clip, in as many steps as it takes.

    model: (B, P, F, M) -> (B,), with gradients. Raises `InputError` where no gradient comes through
    or the sum of attributions misses the difference of the logits by more than `TOLERANCE`.
    """
    method = needed("captum.attr").IntegratedGradients(model)
    given, baseline = spectrograms_PFM[None], baseline_PFM[None]
    with torch.no_grad():
        logit, base = float(model(given)), float(model(baseline))
    _refuse_without_gradient(model, given)
    allowed = TOLERANCE * max(abs(logit - base), _LEAST_DIFFERENCE)
    at_once = max(1, _VALUES_AT_ONCE // given.numel())
    steps = _FIRST_STEPS
    while True:
        values = method.attribute(given, baseline, n_steps=steps, internal_batch_size=at_once)
        delta = float(values.double().sum()) - (logit - base)
        if abs(delta) <= allowed:
            return Attributions(values[0].detach().float(), logit, base, delta, steps)
        if steps == _MOST_STEPS:
            raise InputError(
                f"integrated gradients do not hold here: after {steps} steps they add up to "
                f"{logit - base + delta:.3f}, but the logits differ by {logit - base:.3f}; take "
                "--method occlusion"
            )
        steps *= 2


def _refuse_without_gradient(model: nn.Module, given: Tensor) -> None:
    with torch.enable_grad():
        found = model(given.clone().requires_grad_())
    if not found.requires_grad:
        raise InputError(
            "no gradient comes through this backbone, which does not compute with torch (engine: "
            "litert, a TFLite or an ONNX file): take --method occlusion"
        )
