"""The calibrators by name."""

from collections.abc import Mapping
from typing import Any

from numpy.typing import ArrayLike

from audioflow.calibration.base import Calibrator, checked_scores, checked_targets
from audioflow.calibration.identity import Identity
from audioflow.calibration.isotonic import Isotonic
from audioflow.calibration.platt import Platt
from audioflow.calibration.temperature import Temperature
from audioflow.calibration.vector import Vector

_KINDS: dict[str, Any] = {
    "temperature": Temperature,
    "vector": Vector,
    "platt": Platt,
    "isotonic": Isotonic,
    "none": Identity,
}

METHODS = tuple(_KINDS)


def fit(
    method: str, scores_NC: ArrayLike, targets: ArrayLike, multi_label: bool = False
) -> Calibrator:
    """A calibrator fitted on clips whose labels are known.

    Raises `ValueError` for a method that is none of `METHODS`, for no clip, for shapes that do not
    fit, and for scores outside of [0, 1].
    """
    kind = _kind(method)
    scores = checked_scores(scores_NC)
    found: Calibrator = kind.fit(scores, checked_targets(targets, scores, multi_label=multi_label))
    return found


def from_json(data: Mapping[str, Any]) -> Calibrator:
    """The calibrator of which `to_json` made these values; raises `ValueError` for others."""
    try:
        found: Calibrator = _kind(data["method"]).from_json(data)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"these are no values of a calibrator: {error!r}") from error
    return found


def _kind(method: str) -> Any:
    if method not in _KINDS:
        raise ValueError(f"calibration method {method!r} is not one of {', '.join(METHODS)}")
    return _KINDS[method]
