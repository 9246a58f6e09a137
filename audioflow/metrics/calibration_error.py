"""How far scores are from being probabilities: calibration errors, Brier score, log loss.

Shapes: N clips, C classes, B bins. `scores_NC` is in [0, 1]. `targets` says in its own shape what
the task is: class indices (N,) where a clip has one label (rows of scores sum to 1), booleans or
0 and 1 (N, C) where it may have several or none.

Every function raises `ValueError` for shapes that do not fit each other and where N is 0.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from audioflow.metrics.checks import SCORE_TOLERANCE

Float = NDArray[np.float64]

DEFAULT_BINS = 15


@dataclass(frozen=True)
class Reliability:
    """Clips sorted into B bins by confidence; bins without a clip are left out.

    `low` and `high` are the edges of each bin (a bin holds `low < confidence <= high`, the first
    also its `low`), `confidence` and `right` the means in it, `count` its number of clips.
    """

    low: Float
    high: Float
    confidence: Float
    right: Float
    count: NDArray[np.int64]

    @property
    def error(self) -> float:
        """The mean of |right - confidence| over clips: the expected calibration error."""
        return float(np.average(np.abs(self.right - self.confidence), weights=self.count))


def confidence_and_right(
    scores_NC: ArrayLike, targets: ArrayLike
) -> tuple[NDArray[np.floating], NDArray[np.bool_]]:
    """What calibration errors compare: a confidence, and whether what it speaks of is so.

    With one label per clip, the score of the best class and whether it is the right one: (N,) each.
    With several, every score and whether the clip has that label: (N * C,) each.
    """
    scores, truth = _checked(scores_NC, targets)
    if truth.ndim == 2:
        return scores.ravel(), truth.astype(bool, copy=False).ravel()
    best = scores.argmax(axis=1)
    return scores[np.arange(len(scores)), best], best == truth


def reliability(
    confidence_N: ArrayLike,
    right_N: ArrayLike,
    bins: int = DEFAULT_BINS,
    *,
    equal_mass: bool = False,
) -> Reliability:
    """Confidence against the share that is right, in bins of equal width or of equal mass.

    `right_N` is boolean, or 0 and 1. Bins of equal mass have their edges at quantiles of the
    confidence; clips with the same confidence are never parted, so that there may be fewer bins.
    The bins are those of scikit-learn's `calibration_curve` ("uniform" and "quantile").
    Raises `ValueError` for less than one bin or a confidence outside [0, 1].
    """
    ordered, of_right = _ordered(confidence_N, right_N)
    if bins < 1:
        raise ValueError(f"bins is {bins}, expected 1 or more")
    edges = _quantiles(ordered, bins) if equal_mass else np.linspace(0.0, 1.0, bins + 1)
    # Sorted, a bin is a slice: its clips are counted, not looked up one by one.
    inner = edges[1:-1].astype(ordered.dtype)
    start = np.append(0, np.searchsorted(ordered, inner, "right"))
    count = np.diff(np.append(start, len(ordered)))
    right = np.diff([0, *np.searchsorted(of_right, inner, "right").tolist(), len(of_right)])
    used = np.flatnonzero(count)
    return Reliability(
        low=edges[used],
        high=edges[used + 1],
        confidence=np.add.reduceat(ordered, start[used], dtype=np.float64) / count[used],
        right=right[used] / count[used],
        count=count[used],
    )


def _ordered(
    confidence_N: ArrayLike, right_N: ArrayLike
) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """The confidences sorted: of all clips, and of those that are right."""
    confidence, right = np.asarray(confidence_N), np.asarray(right_N)
    if confidence.dtype.kind != "f":
        confidence = confidence.astype(np.float64)
    if confidence.ndim != 1 or confidence.shape != right.shape or not confidence.size:
        raise ValueError(
            f"confidence has shape {confidence.shape} and right {right.shape}, expected (N,) each"
        )
    ordered = np.sort(confidence)
    lowest, highest = ordered[0], ordered[-1]  # a NaN is sorted to the end
    if not (lowest >= -SCORE_TOLERANCE and highest <= 1 + SCORE_TOLERANCE):
        raise ValueError(f"confidence goes from {lowest} to {highest}, expected 0 to 1")
    return ordered, np.sort(confidence[right.astype(bool, copy=False)])


def _quantiles(ordered: NDArray[np.floating], bins: int) -> Float:
    """The edges of bins of equal mass: NumPy's `quantile`, of values that are sorted already."""
    at = np.linspace(0.0, len(ordered) - 1, bins + 1)
    below = at.astype(np.intp)
    above = np.minimum(below + 1, len(ordered) - 1)
    low, high = ordered[below].astype(np.float64), ordered[above].astype(np.float64)
    return low + (at - below) * (high - low)


def expected_calibration_error(
    confidence_N: ArrayLike, right_N: ArrayLike, bins: int = DEFAULT_BINS
) -> float:
    """ECE in [0, 1]: mean gap of confidence and share right, in `bins` bins of equal width.

    Guo et al., On Calibration of Modern Neural Networks (2017), equation 3.
    """
    return reliability(confidence_N, right_N, bins).error


def adaptive_calibration_error(
    confidence_N: ArrayLike, right_N: ArrayLike, bins: int = DEFAULT_BINS
) -> float:
    """As `expected_calibration_error`, in bins of equal mass: as many clips in each, ties aside.

    Nguyen and O'Connor, Posterior calibration and exploratory analysis (2015), section 3.
    """
    return reliability(confidence_N, right_N, bins, equal_mass=True).error


def brier(scores_NC: ArrayLike, targets: ArrayLike) -> float:
    """Mean squared distance of scores and truth; less is better.

    With one label per clip summed over classes, in [0, 2] (Brier 1950, scikit-learn's
    `brier_score_loss(..., scale_by_half=False)`); with several the mean over clips and classes.
    """
    return float(brier_per_clip(scores_NC, targets).mean())


def brier_per_clip(scores_NC: ArrayLike, targets: ArrayLike) -> Float:
    """The share of each clip (N,) in `brier`, which is the mean of these."""
    scores, truth = _checked(scores_NC, targets)
    found_N = np.empty(len(scores))
    for rows in _blocks(scores):
        block = scores[rows].astype(np.float64)
        if truth.ndim == 2:
            found_N[rows] = ((block - truth[rows].astype(np.float64)) ** 2).mean(axis=1)
        else:
            block[np.arange(len(block)), truth[rows]] -= 1.0
            found_N[rows] = (block**2).sum(axis=1)
    return found_N


def negative_log_likelihood(scores_NC: ArrayLike, targets: ArrayLike) -> float:
    """Mean of -log of the score that the truth has, in nats; less is better.

    With one label per clip that of the right class, with several the mean over clips and classes of
    the binary cross-entropies. Scores are kept `eps` of their dtype from 0 and 1, as in
    scikit-learn's `log_loss`.
    """
    return float(log_loss_per_clip(scores_NC, targets).mean())


def log_loss_per_clip(scores_NC: ArrayLike, targets: ArrayLike) -> Float:
    """The share of each clip (N,) in `negative_log_likelihood`, which is the mean of these."""
    scores, truth = _checked(scores_NC, targets)
    eps = float(np.finfo(scores.dtype).eps)
    if truth.ndim == 1:
        own_N = scores[np.arange(len(scores)), truth].astype(np.float64)
        return -np.log(np.clip(own_N, eps, 1 - eps))
    found_N = np.empty(len(scores))
    for rows in _blocks(scores):
        block = np.clip(scores[rows].astype(np.float64), eps, 1 - eps)
        found_N[rows] = -np.log(np.where(truth[rows], block, 1 - block)).mean(axis=1)
    return found_N


_BLOCK_CELLS = 2**22


def _blocks(scores_NC: NDArray[np.floating]) -> list[slice]:
    """Rows in pieces whose temporary copies stay small."""
    step = max(1, _BLOCK_CELLS // max(1, scores_NC.shape[1]))
    return [slice(start, start + step) for start in range(0, len(scores_NC), step)]


def _checked(
    scores_NC: ArrayLike, targets: ArrayLike
) -> tuple[NDArray[np.floating], NDArray[np.generic]]:
    scores, truth = np.asarray(scores_NC), np.asarray(targets)
    if scores.dtype.kind != "f":
        scores = scores.astype(np.float64)
    if scores.ndim != 2 or not scores.size:
        raise ValueError(f"scores have shape {scores.shape}, expected (N, C) with a clip")
    if truth.ndim == 2:
        if truth.shape != scores.shape:
            raise ValueError(f"targets have shape {truth.shape}, scores {scores.shape}")
        return scores, truth.astype(bool, copy=False)
    if truth.shape != scores.shape[:1]:
        raise ValueError(f"targets have shape {truth.shape}, scores {scores.shape}")
    return scores, truth.astype(np.intp, copy=False)
