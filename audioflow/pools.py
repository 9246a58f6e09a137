"""Opinion pools: the linear and the logarithmic mean of class probabilities, and how good they are.

Shapes: S systems, N clips, C classes, n clips of one block.

Genest and Zidek, Combining Probability Distributions, Statistical Science 1986.
"""

from collections.abc import Iterator
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from audioflow.simplex import Derivatives

Float = NDArray[np.float64]
Flags = NDArray[np.bool_]
Scores = NDArray[np.floating]
Mean = Literal["probabilities", "log_probabilities"]

EPS = 1e-12
"""Least probability whose logarithm is taken: one confident error must not decide the weights."""

BLOCK_CELLS = 2**16


class Pool:
    """Clips that all systems scored, and how good their weighted mean is.

    The clips are kept in `blocks`: in one piece, each pass over them would mostly wait for memory.
    Scores are as for `averaged`; `targets_N` are class indices.
    """

    def __init__(self, mean: Mean, scores_SNC: Scores, targets_N: NDArray[np.integer]) -> None:
        self.mean = mean
        self.size, self.num_clips, num_classes = scores_SNC.shape
        self.num_cells = scores_SNC.size
        self._blocks = [
            (np.stack([averaged(mean, part) for part in scores_SNC[:, rows]]), targets_N[rows])
            for rows in blocks(self.num_clips, num_classes)
        ]

    def hits(self, weights_S: Float) -> int:
        """How many clips have their greatest score in their own class."""
        return sum(
            int(np.count_nonzero(mixed_nC.argmax(axis=1) == targets_n))
            for mixed_nC, targets_n in self._mixed(weights_S)
        )

    def quality(self, weights_S: Float) -> tuple[int, float]:
        """`hits` and log loss: the mean of -log(score of the own class), at most -log(EPS)."""
        hits, loss = 0, 0.0
        for mixed_nC, targets_n in self._mixed(weights_S):
            hits += int(np.count_nonzero(mixed_nC.argmax(axis=1) == targets_n))
            own_n = mixed_nC[np.arange(len(targets_n)), targets_n]
            if self.mean == "probabilities":
                loss -= float(np.log(np.maximum(own_n, EPS)).sum())
            else:
                loss += float((_log_sum_exp(mixed_nC) - own_n).sum())
        return hits, loss / self.num_clips

    def log_loss(self, weights_S: Float) -> float:
        """The log loss alone."""
        return self.quality(weights_S)[1]

    def derivatives(self, weights_S: Float) -> Derivatives:
        """Log loss, its gradient (S,) and Hessian (S, S); it is convex in the weights."""
        value, gradient_S, hessian_SS = 0.0, np.zeros(self.size), np.zeros((self.size, self.size))
        of_block = _linear if self.mean == "probabilities" else _logarithmic
        for values_SnC, targets_n in self._blocks:
            own_Sn = values_SnC[:, np.arange(len(targets_n)), targets_n]
            loss, slope_S, bend_SS = of_block(weights_S, values_SnC, own_Sn)
            value, gradient_S, hessian_SS = value + loss, gradient_S + slope_S, hessian_SS + bend_SS
        return value / self.num_clips, gradient_S / self.num_clips, hessian_SS / self.num_clips

    def _mixed(self, weights_S: Float) -> Iterator[tuple[Float, NDArray[np.integer]]]:
        for values_SnC, targets_n in self._blocks:
            yield _mean(weights_S, values_SnC), targets_n


def blocks(num_clips: int, num_classes: int) -> Iterator[slice]:
    """Slices of the clips, a cache's worth of scores each."""
    rows = max(1, BLOCK_CELLS // num_classes)
    yield from (slice(start, start + rows) for start in range(0, num_clips, rows))


def averaged(mean: Mean, scores_NC: Scores) -> Float:
    """What is averaged: rows made to sum to 1 (even where a row is all 0), or their logarithms."""
    positive_NC = np.maximum(scores_NC.astype(np.float64), 0)
    total_N1 = positive_NC.sum(axis=1, keepdims=True)
    even_NC = np.full_like(positive_NC, 1 / scores_NC.shape[1])
    shares_NC = np.divide(positive_NC, total_N1, out=even_NC, where=total_N1 > 0)
    return shares_NC if mean == "probabilities" else np.log(np.maximum(shares_NC, EPS))


def probabilities(mean: Mean, mixed_NC: Float) -> Float:
    """Averaged values as probabilities: rows sum to 1."""
    if mean == "probabilities":
        return mixed_NC / mixed_NC.sum(axis=1, keepdims=True)
    return np.exp(mixed_NC - _log_sum_exp(mixed_NC)[:, None])


def _linear(weights_S: Float, _: Float, own_Sn: Float) -> Derivatives:
    """Sums over clips of -log(w.p) and its derivatives, p being the scores of the own class."""
    mixed_n = np.maximum(weights_S @ own_Sn, EPS)
    share_Sn = own_Sn / mixed_n
    return -float(np.log(mixed_n).sum()), -share_Sn.sum(axis=1), share_Sn @ share_Sn.T


def _logarithmic(weights_S: Float, values_SnC: Float, own_Sn: Float) -> Derivatives:
    """Sums of log(sum over classes of exp(w.z)) - w.z of the own class, z = log p.

    As for any log-partition function, gradient and Hessian are mean and covariance of z over the
    classes, here under the fused probabilities.
    """
    mixed_nC = _mean(weights_S, values_SnC)
    loss_n = _log_sum_exp(mixed_nC) - weights_S @ own_Sn
    fused_nC = probabilities("log_probabilities", mixed_nC)
    mean_Sn = np.einsum("snc,nc->sn", values_SnC, fused_nC)
    square_SS = np.einsum("snc,rnc->sr", values_SnC, values_SnC * fused_nC)
    return float(loss_n.sum()), (mean_Sn - own_Sn).sum(axis=1), square_SS - mean_Sn @ mean_Sn.T


def _mean(weights_S: Float, values_SnC: Float) -> Float:
    # Not a matrix product: a block is too small for BLAS to start threads on it.
    return np.asarray(np.einsum("s,snc->nc", weights_S, values_SnC))


def _log_sum_exp(values_NC: Float) -> Float:
    most_N1 = values_NC.max(axis=1, keepdims=True)
    return np.asarray(np.log(np.exp(values_NC - most_N1).sum(axis=1)) + most_N1[:, 0])
