"""Checks of what is to be evaluated; every fault is told with the clip, class and value at fault.

Shapes: N clips, C classes.
"""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

SCORE_TOLERANCE = 1e-4
"""How far rounding may take a score out of [0, 1] (half precision)."""


def checked_classes(classes: Sequence[str]) -> tuple[str, ...]:
    """The names. Raises `ValueError` for a class given twice."""
    names = tuple(classes)
    for name, times in Counter(names).most_common(1):
        if times > 1:
            raise ValueError(f"class {name!r} is given {times} times")
    return names


def checked_scores(scores: ArrayLike, num_classes: int) -> NDArray[np.floating]:
    """Scores (N, C) as floats.

    Raises `ValueError` for another shape, no clip, and a score that is NaN or outside [0, 1].
    """
    scores_NC = np.asarray(scores)
    if scores_NC.dtype.kind != "f":
        scores_NC = scores_NC.astype(np.float64)
    if scores_NC.ndim != 2 or scores_NC.shape[1] != num_classes:
        raise ValueError(f"scores have shape {scores_NC.shape}, expected (N, {num_classes})")
    if scores_NC.size == 0:
        raise ValueError(f"scores have shape {scores_NC.shape}: there is nothing to evaluate")
    # The extremes first: they need no copy, and a NaN is both of them.
    if not (scores_NC.min() >= -SCORE_TOLERANCE and scores_NC.max() <= 1 + SCORE_TOLERANCE):
        inside_NC = (scores_NC >= -SCORE_TOLERANCE) & (scores_NC <= 1 + SCORE_TOLERANCE)
        clip, index = np.argwhere(~inside_NC)[0]
        raise ValueError(
            f"score {scores_NC[clip, index]} of clip {clip}, class {index} is not in [0, 1]"
        )
    return scores_NC


def checked_targets(targets: ArrayLike, shape: tuple[int, ...]) -> NDArray[np.generic]:
    """Class indices (N,) intp, or which labels each clip has (N, C) bool, for scores of `shape`.

    Raises `ValueError` for another shape, indices that are no integers or no class, and a matrix
    with other values than 0 and 1.
    """
    found, (num_clips, num_classes) = np.asarray(targets), shape
    if found.ndim == 2:
        return _checked_matrix(found, shape)
    if found.shape != (num_clips,):
        raise ValueError(f"targets have shape {found.shape}, expected ({num_clips},)")
    if not np.issubdtype(found.dtype, np.integer):
        raise ValueError(f"targets are {found.dtype}, expected class indices (integers)")
    for clip in np.flatnonzero((found < 0) | (found >= num_classes))[:1]:
        raise ValueError(
            f"target {found[clip]} of clip {clip} is not a class index: 0 to {num_classes - 1}"
        )
    return found.astype(np.intp, copy=False)


def _checked_matrix(found: NDArray[np.generic], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    if found.shape != shape:
        raise ValueError(f"targets have shape {found.shape}, scores {shape}: expected the same")
    truth_NC = found.astype(bool, copy=False)
    if found.dtype != np.bool_ and not ((found == 0) | (found == 1)).all():
        clip, index = np.argwhere((found != 0) & (found != 1))[0]
        raise ValueError(
            f"target {found[clip, index]} of clip {clip}, class {index} is neither 0 nor 1"
        )
    return truth_NC


def checked_thresholds(thresholds: ArrayLike | None, num_classes: int) -> NDArray[np.float64]:
    """A threshold per class (C,), 0.5 where none is given.

    Raises `ValueError` for another number of them, and one that is NaN or negative.
    """
    given = np.asarray(0.5 if thresholds is None else thresholds, np.float64)
    if given.shape not in ((), (num_classes,)):
        raise ValueError(f"thresholds have shape {given.shape}, expected one or ({num_classes},)")
    if not (given >= 0).all():
        raise ValueError(f"threshold {given.min()} is not 0 or more")
    return np.broadcast_to(given, num_classes)
