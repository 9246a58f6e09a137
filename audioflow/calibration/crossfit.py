"""Cross-fitting: every clip calibrated by what was fitted without it and its group.

Shapes: N clips, C classes.
"""

import zlib
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from audioflow.calibration.base import Calibrator, Scores, checked_scores
from audioflow.calibration.fitting import fit

BLOCKS = 5


def blocks(groups_N: Sequence[str], count: int = BLOCKS) -> NDArray[np.intp]:
    """The block (N,) of each clip, 0 up: whole groups, of sizes as even as they allow.

    There are fewer blocks where there are fewer groups. Equal for equal groups, whatever the order
    of the clips.
    """
    sizes = Counter(groups_N)
    by_size = sorted(sizes, key=lambda name: (-sizes[name], zlib.crc32(name.encode()), name))
    held = [0] * min(count, len(sizes))
    place: dict[str, int] = {}
    for name in by_size:
        place[name] = held.index(min(held))
        held[place[name]] += sizes[name]
    return np.array([place[name] for name in groups_N], np.intp)


def fitted_without(
    method: str,
    scores_NC: ArrayLike,
    targets: ArrayLike,
    blocks_N: NDArray[np.intp],
    multi_label: bool = False,
) -> dict[int, Calibrator]:
    """By block, the calibrator that was fitted on all other blocks.

    Raises `ValueError` as `fit`, and where there are not two blocks.
    """
    scores, truth = checked_scores(scores_NC), np.asarray(targets)
    names: list[int] = np.unique(blocks_N).tolist()
    if len(names) < 2:
        raise ValueError(f"there are clips of {len(names)} block, cross-fitting needs 2 or more")
    others = {name: blocks_N != name for name in names}
    return {
        name: fit(method, scores[there_N], truth[there_N], multi_label)
        for name, there_N in others.items()
    }


def cross_fitted(
    method: str,
    scores_NC: ArrayLike,
    targets: ArrayLike,
    blocks_N: NDArray[np.intp],
    multi_label: bool = False,
) -> Scores:
    """Scores (N, C), those of a block calibrated by what was fitted on all other blocks.

    Raises `ValueError` as `fitted_without`.
    """
    scores = checked_scores(scores_NC)
    return applied(fitted_without(method, scores, targets, blocks_N, multi_label), scores, blocks_N)


def applied(
    calibrators: Mapping[int, Calibrator], scores_NC: Scores, blocks_N: NDArray[np.intp]
) -> Scores:
    """Scores (N, C), those of a block by its calibrator."""
    found = np.empty_like(scores_NC)
    for name, calibrator in calibrators.items():
        found[blocks_N == name] = calibrator.apply(scores_NC[blocks_N == name])
    return found
