"""How far scores are from being probabilities. Shapes: N clips, C classes."""

from numpy.typing import ArrayLike

from audioflow.calibration.base import checked_scores, checked_targets
from audioflow.metrics import calibration_error as errors


def judge(scores_NC: ArrayLike, targets: ArrayLike, multi_label: bool = False) -> dict[str, float]:
    """`ece`, `adaptive_ece`, `brier` and `nll` (nats), as `metrics.calibration_error` has them.

    Raises `ValueError` as `fit`.
    """
    scores = checked_scores(scores_NC)
    truth = checked_targets(targets, scores, multi_label=multi_label)
    confidence, right = errors.confidence_and_right(scores, truth)
    return {
        "ece": errors.expected_calibration_error(confidence, right),
        "adaptive_ece": errors.adaptive_calibration_error(confidence, right),
        "brier": errors.brier(scores, truth),
        "nll": errors.negative_log_likelihood(scores, truth),
    }
