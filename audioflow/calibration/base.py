"""What every calibrator offers, and what they share: checked scores, log scores, blocks of rows.

Shapes: N clips, C classes. Scores are in [0, 1]; rows of single labels sum to 1. Targets are class
indices (N,) of single labels, or 0 and 1 (N, C) where a clip may have several labels or none.
"""

from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

Scores = NDArray[np.float32]
Float = NDArray[np.float64]

LEAST_SCORE = 1e-7
"""Stands for a score of 0, unless there are smaller scores that are none."""
_MOST_SCORE = 1 - 2**-24
_BLOCK_CELLS = 2**17


class Calibrator(Protocol):
    """A function on rows of scores, fitted on clips whose labels are known.

    few: classes (indices) with too few clips for a fit of their own. instead: what stands in for
    it, in words; "" where a method has no fit by class.
    """

    @property
    def few(self) -> tuple[int, ...]: ...

    @property
    def instead(self) -> str: ...

    def apply(self, scores_NC: ArrayLike) -> Scores:
        """Calibrated scores (N, C); raises `ValueError` for what `checked_scores` refuses."""
        ...

    def to_json(self) -> dict[str, Any]:
        """Plain values, of which `from_json` makes an equal calibrator."""
        ...


def checked_scores(scores_NC: ArrayLike, num_classes: int | None = None) -> Scores:
    """Scores as float32.

    Raises `ValueError` where they are no (N, num_classes), not finite, or outside of [0, 1].
    """
    scores = np.asarray(scores_NC, np.float32)
    if scores.ndim != 2 or num_classes not in (None, scores.shape[1]):
        wanted = "C" if num_classes is None else num_classes
        raise ValueError(f"scores have shape {scores.shape}, expected (N, {wanted})")
    if scores.size and not (scores.min() >= 0 and scores.max() <= 1 + 1e-4):
        clip, index = np.argwhere(~((scores >= 0) & (scores <= 1 + 1e-4)))[0]
        raise ValueError(
            f"score {scores[clip, index]} of clip {clip}, class {index} is not in [0, 1]"
        )
    return np.minimum(scores, np.float32(1))


def checked_targets(targets: ArrayLike, scores_NC: Scores, *, multi_label: bool) -> NDArray[Any]:
    """Targets as class indices (N,), or booleans (N, C).

    Raises `ValueError` where they do not fit the scores, or there is no clip.
    """
    found = np.asarray(targets)
    count, num_classes = scores_NC.shape
    if not count:
        raise ValueError("there is no clip to calibrate on")
    wanted = (count, num_classes) if multi_label else (count,)
    if found.shape != wanted:
        raise ValueError(f"targets have shape {found.shape}, expected {wanted}")
    if multi_label:
        return found > 0.5
    for clip in np.flatnonzero((found < 0) | (found >= num_classes))[:1]:
        raise ValueError(
            f"target {found[clip]} of clip {clip} is not a class index: 0 to {num_classes - 1}"
        )
    return found.astype(np.intp)


def least_of(scores_NC: Scores) -> float:
    """What a score of 0 is taken for: the smallest other one, and never more than 1e-7.

    A softmax in float32 has exact scores down to 1e-38, votes have zeros that mean nothing so
    extreme.
    """
    there = scores_NC[scores_NC > 0]
    return float(min(LEAST_SCORE, there.min())) if there.size else LEAST_SCORE


def log_scores(scores_NC: Scores, least: float) -> Scores:
    """Natural logarithm of scores, of which none is taken to be below `least`."""
    return np.log(np.maximum(scores_NC, np.float32(least)))


def log_odds(scores_NC: Scores, least: float, *, multi_label: bool) -> Scores:
    """Log of the odds of every class against the rest, float32 (N, C).

    Of single labels the rest is the sum of the other scores, which does not round to 0 beside a
    score that rounds to 1.
    """
    if multi_label:
        kept = np.clip(scores_NC, np.float32(least), np.float32(_MOST_SCORE))
        return np.log(kept) - np.log1p(-kept)
    found = np.empty_like(scores_NC)
    for rows in row_blocks(scores_NC):
        block = np.maximum(scores_NC[rows].astype(np.float64), least)
        places, best = np.arange(len(block)), block.argmax(axis=1)
        top = block[places, best]
        block[places, best] = 0
        others = np.maximum(block.sum(axis=1), least)
        rest = np.maximum((top + others)[:, None] - block, least)
        block[places, best], rest[places, best] = top, others
        found[rows] = np.log(block) - np.log(rest)
    return found


def sigmoid(values: NDArray[Any]) -> NDArray[Any]:
    """1 / (1 + exp(-values))."""
    return 1 / (1 + np.exp(-np.clip(values, -80, 80)))


def softmax(values_NC: NDArray[Any]) -> NDArray[Any]:
    """exp(values), each row divided by its sum."""
    raised = np.exp(values_NC - values_NC.max(axis=1, keepdims=True))
    return raised / raised.sum(axis=1, keepdims=True)


def positives(targets: NDArray[Any], num_classes: int) -> NDArray[np.bool_]:
    """Which clips have which label (N, C)."""
    if targets.ndim == 2:
        return targets
    return targets[:, None] == np.arange(num_classes)


def too_few(targets: NDArray[Any], num_classes: int, least_clips: int) -> tuple[int, ...]:
    """Classes with fewer clips than that, of their own or (of several labels) of others."""
    if targets.ndim == 2:
        counts = targets.sum(axis=0)
        counts = np.minimum(counts, len(targets) - counts)
    else:
        counts = np.bincount(targets, minlength=num_classes)
    return tuple(np.flatnonzero(counts < least_clips).tolist())


def row_blocks(values_NC: NDArray[Any]) -> Iterator[slice]:
    """Rows in pieces that stay in the processor's cache."""
    step = max(1, _BLOCK_CELLS // max(1, values_NC.shape[1]))
    for start in range(0, len(values_NC), step):
        yield slice(start, start + step)


def rounded(values: ArrayLike) -> list[float]:
    """Numbers with the nine digits that a float32 has, for JSON."""
    return [float(f"{value:.9g}") for value in np.asarray(values).tolist()]
