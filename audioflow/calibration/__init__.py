"""Calibration: making scores mean how often they are right, and thresholds that keep a promise.

    from audioflow import calibration
    fitted = calibration.fit("isotonic", scores_NC, targets)
    fitted.apply(others_NC)

A calibrator acts on rows of scores, wherever they come from: a head, another program, a fusion.
Shapes: N clips, C classes. Targets are class indices (N,) of single labels, or 0 and 1 (N, C).
"""

from audioflow.calibration.base import Calibrator
from audioflow.calibration.crossfit import blocks, cross_fitted
from audioflow.calibration.fitting import METHODS, fit, from_json
from audioflow.calibration.judging import judge
from audioflow.calibration.system import SystemCalibration
from audioflow.calibration.thresholds import Target, Threshold, find_thresholds

__all__ = [
    "METHODS",
    "Calibrator",
    "SystemCalibration",
    "Target",
    "Threshold",
    "blocks",
    "cross_fitted",
    "find_thresholds",
    "fit",
    "from_json",
    "judge",
]
