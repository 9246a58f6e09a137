"""What calibration did to the scores of one system, on clips that it was not fitted on.

Shapes: N clips, C classes.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from audioflow.metrics.calibration_error import (
    Reliability,
    adaptive_calibration_error,
    brier,
    confidence_and_right,
    expected_calibration_error,
    negative_log_likelihood,
    reliability,
)
from audioflow.report.clips import EvalClips
from audioflow.report.data import SystemScores


@dataclass(frozen=True)
class CalibrationErrors:
    """How far scores are from the shares they claim; of each, less is better."""

    ece: float
    adaptive_ece: float
    brier: float
    log_loss: float


@dataclass(frozen=True)
class Calibrated:
    """The errors of a split's scores before and after, the reliability before, and of how many
    clips the predicted class is another one.
    """

    before: CalibrationErrors
    after: CalibrationErrors
    raw: Reliability
    changed: int


def calibrated(system: SystemScores, clips: EvalClips) -> Calibrated | None:
    """None for a system whose scores before calibration were not kept, or without a clip."""
    if system.raw_scores is None or not len(clips):
        return None
    raw_NC = system.raw_scores[clips.row_N]
    changed = np.count_nonzero(raw_NC.argmax(axis=1) != clips.scores_NC.argmax(axis=1))
    return Calibrated(
        before=_errors(raw_NC, clips.targets),
        after=_errors(clips.scores_NC, clips.targets),
        raw=reliability(*confidence_and_right(raw_NC, clips.targets)),
        changed=int(changed),
    )


def _errors(scores_NC: NDArray[np.float32], targets: NDArray[np.generic]) -> CalibrationErrors:
    confidence, right = confidence_and_right(scores_NC, targets)
    return CalibrationErrors(
        ece=expected_calibration_error(confidence, right),
        adaptive_ece=adaptive_calibration_error(confidence, right),
        brier=brier(scores_NC, targets),
        log_loss=negative_log_likelihood(scores_NC, targets),
    )
