"""Clips that all systems scored, and how good a weighted mean of their scores is.

Shapes: S systems, N clips, C classes, n clips of one block.
"""

from collections.abc import Iterator

import numpy as np

from audioflow.fusion.base import FitClips, Float, Targets
from audioflow.fusion.links import EPS, Link, blocks, log_sum_exp
from audioflow.fusion.simplex import Derivatives


class Pool:
    """Complete clips under one link, kept in blocks: in one piece, each pass over them would mostly
    wait for memory."""

    def __init__(self, link: Link, clips: FitClips) -> None:
        scores_SNC = clips.clips.scores
        self.link = link
        self.size, self.num_clips, self.num_classes = scores_SNC.shape
        self.num_cells = scores_SNC.size
        self.blocks: list[tuple[Float, Targets]] = [
            (np.stack([link.values(part) for part in scores_SNC[:, rows]]), clips.targets[rows])
            for rows in blocks(self.num_clips, self.num_classes)
        ]

    def hits(self, weights_S: Float) -> int:
        """How many clips have their greatest score in their own class; for one label per clip."""
        return sum(
            int(np.count_nonzero(mixed_nC.argmax(axis=1) == targets_n))
            for mixed_nC, targets_n in self._mixed(weights_S)
        )

    def log_loss(self, weights_S: Float) -> float:
        """Mean loss of the clips."""
        losses = [
            self.link.loss(mixed_nC, targets).sum() for mixed_nC, targets in self._mixed(weights_S)
        ]
        return float(sum(losses)) / self.num_clips

    def quality(self, weights_S: Float) -> dict[str, float]:
        """`log_loss` and, for one label per clip, `accuracy`."""
        found = {"log_loss": self.log_loss(weights_S)}
        if self.link.multi_label:
            return found
        return {"accuracy": self.hits(weights_S) / self.num_clips} | found

    def derivatives(self, weights_S: Float) -> Derivatives:
        """Log loss, its gradient (S,) and Hessian (S, S); it is convex in the weights."""
        value, gradient_S, hessian_SS = 0.0, np.zeros(self.size), np.zeros((self.size, self.size))
        for values_SnC, targets_n in self.blocks:
            loss, slope_S, bend_SS = _derivatives(self.link, weights_S, values_SnC, targets_n)
            value, gradient_S, hessian_SS = value + loss, gradient_S + slope_S, hessian_SS + bend_SS
        return value / self.num_clips, gradient_S / self.num_clips, hessian_SS / self.num_clips

    def _mixed(self, weights_S: Float) -> Iterator[tuple[Float, Targets]]:
        for values_SnC, targets_n in self.blocks:
            yield mean(weights_S, values_SnC), targets_n


def mean(weights_S: Float, values_SnC: Float) -> Float:
    """Weighted mean over the systems, (n, C)."""
    # Not a matrix product: a block is too small for BLAS to start threads on it.
    return np.asarray(np.einsum("s,snc->nc", weights_S, values_SnC))


def _derivatives(
    link: Link, weights_S: Float, values_SnC: Float, targets_n: Targets
) -> Derivatives:
    """Sums over the clips of one block."""
    if link.multi_label:
        mixed_nC = mean(weights_S, values_SnC)
        slope_S = np.einsum("snc,nc->s", values_SnC, link.slope(mixed_nC, targets_n))
        bent_SnC = values_SnC * link.bend(mixed_nC, targets_n)
        loss = float(link.loss(mixed_nC, targets_n).sum())
        return loss, slope_S, np.einsum("snc,rnc->sr", values_SnC, bent_SnC)
    own_Sn = values_SnC[:, np.arange(len(targets_n)), targets_n]
    if link.on == "probabilities":
        return _linear(weights_S, own_Sn)
    return _logarithmic(link, weights_S, values_SnC, own_Sn)


def _linear(weights_S: Float, own_Sn: Float) -> Derivatives:
    """Of -log(w.p), p being the scores of the own class."""
    mixed_n = np.maximum(weights_S @ own_Sn, EPS)
    share_Sn = own_Sn / mixed_n
    return -float(np.log(mixed_n).sum()), -share_Sn.sum(axis=1), share_Sn @ share_Sn.T


def _logarithmic(link: Link, weights_S: Float, values_SnC: Float, own_Sn: Float) -> Derivatives:
    """Of log(sum over classes of exp(w.z)) - w.z of the own class.

    As for any log-partition function, gradient and Hessian are mean and covariance of z over the
    classes, here under the fused probabilities.
    """
    mixed_nC = mean(weights_S, values_SnC)
    loss_n = log_sum_exp(mixed_nC) - weights_S @ own_Sn
    fused_nC = link.scores(mixed_nC)
    mean_Sn = np.einsum("snc,nc->sn", values_SnC, fused_nC)
    square_SS = np.einsum("snc,rnc->sr", values_SnC, values_SnC * fused_nC)
    return float(loss_n.sum()), (mean_Sn - own_Sn).sum(axis=1), square_SS - mean_Sn @ mean_Sn.T
