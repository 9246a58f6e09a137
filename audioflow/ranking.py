"""ROC AUC and average precision as functions of integer clip weights, many rows of weights at once.

Shapes: N clips, C classes, D rows of weights, P positive clips, U distinct scores of those,
B = 2U + 1 bins of scores.
"""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float64]
Weights = NDArray[np.unsignedinteger]

_CHUNK_CELLS = 2**22


def ranking(
    positive_N: NDArray[np.bool_], scores_N: NDArray[np.floating], weights_DN: Weights
) -> tuple[Float, Float]:
    """Weighted ROC AUC and average precision of one class for each row of weights: two arrays (D,).

    Equal to scikit-learn's `roc_auc_score` and `average_precision_score` with `sample_weight`, ties
    included; NaN in rows that give no weight to a positive, or none to a negative. Fastest where
    the weights are in Fortran order, that is with those of a clip side by side.
    """
    auc_D = np.full(len(weights_DN), np.nan)
    precision_D = np.full(len(weights_DN), np.nan)
    levels_U = np.unique(scores_N[positive_N])
    # Both metrics only ask for the weight between, and at, the scores of positive clips: bin 2k + 1
    # holds the clips at level k, bin 2k those between the levels k - 1 and k.
    above_N = np.searchsorted(levels_U, scores_N)
    tied_N = np.append(levels_U, np.nan)[above_N] == scores_N
    bins_N = 2 * above_N + tied_N
    positives_P = np.flatnonzero(positive_N)
    levels_P = bins_N[positives_P] // 2
    num_levels = len(levels_U)
    rows = max(1, _CHUNK_CELLS // (2 * num_levels + 1))
    for start in range(0, len(weights_DN) if num_levels else 0, rows):
        chunk_ND = weights_DN[start : start + rows].T
        all_DB = _binned(bins_N, chunk_ND, 2 * num_levels + 1)
        positive_DU = _binned(levels_P, chunk_ND[positives_P], num_levels)
        done = slice(start, start + rows)
        auc_D[done], precision_D[done] = _from_levels(all_DB, positive_DU)
    return auc_D, precision_D


def _binned(bins_N: NDArray[np.intp], weights_ND: Weights, num_bins: int) -> Float:
    """Sum (D, B) of the weights of the clips in each bin."""
    from scipy.sparse import csr_array

    # One 1 in each row, in the column of its bin: several times as fast as one bincount per draw.
    size = len(bins_N)
    parts = np.ones(size, np.uint32), bins_N.astype(np.int32), np.arange(size + 1, dtype=np.int32)
    return (csr_array(parts, shape=(size, num_bins)).T @ weights_ND).T.astype(np.float64)


def _from_levels(all_DB: Float, positive_DU: Float) -> tuple[Float, Float]:
    """ROC AUC and average precision (D,) from the weight at and between the scores of positives."""
    total_D1 = all_DB.sum(1, keepdims=True)
    positive_D1 = positive_DU.sum(1, keepdims=True)
    negative_D1 = total_D1 - positive_D1
    tied_DU = all_DB[:, 1::2]
    below_DU = np.cumsum(all_DB, axis=1)[:, 0:-1:2]
    positive_below_DU = np.cumsum(positive_DU, axis=1) - positive_DU
    negative_DU = (below_DU - positive_below_DU) + 0.5 * (tied_DU - positive_DU)
    precision_DU = ratio(positive_D1 - positive_below_DU, total_D1 - below_DU)
    undefined_D = ((positive_D1 == 0) | (negative_D1 == 0))[:, 0]
    auc_D = ratio((positive_DU * negative_DU).sum(1), (positive_D1 * negative_D1)[:, 0])
    precision_D = ratio((positive_DU * precision_DU).sum(1), positive_D1[:, 0])
    auc_D[undefined_D] = precision_D[undefined_D] = np.nan
    return auc_D, precision_D


def ratio(above: NDArray[np.number], below: NDArray[np.number], *, empty: float = 0.0) -> Float:
    """`above / below`, and `empty` where `below` is 0."""
    return np.divide(above, below, out=np.full(above.shape, empty), where=below != 0)


def mean_where(values_DC: Float, keep_DC: NDArray[np.bool_]) -> Float:
    """Mean (D,) of the kept classes of each row; NaN where none is kept."""
    return ratio(np.where(keep_DC, values_DC, 0.0).sum(1), keep_DC.sum(1), empty=np.nan)


def one_versus_one(
    columns_CN: Iterable[NDArray[np.floating]], targets_N: NDArray[np.intp]
) -> float:
    """Mean ROC AUC of every ordered pair of classes: clips of one against those of the other.

    `columns_CN` are the scores of each class. Equal to scikit-learn's `roc_auc_score` with
    `multi_class="ovo"` on the classes that have a clip (Hand and Till, 2001); NaN for fewer than 2.
    """
    support_C = np.bincount(targets_N)
    total, used = 0.0, 0
    for index, scores_N in enumerate(columns_CN):
        if index >= len(support_C) or not support_C[index]:
            continue
        own_P = np.sort(scores_N[targets_N == index])
        above_N = len(own_P) - np.searchsorted(own_P, scores_N, "right")
        at_least_N = len(own_P) - np.searchsorted(own_P, scores_N, "left")
        wins_C = np.bincount(targets_N, (above_N + at_least_N) / (2 * len(own_P)), len(support_C))
        auc_C = ratio(wins_C, support_C)
        auc_C[index] = 0.0
        total += float(auc_C.sum())
        used += 1
    return total / (used * (used - 1)) if used > 1 else float("nan")
