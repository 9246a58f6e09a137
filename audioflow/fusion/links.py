"""What is averaged when scores are fused, and what the average is as scores.

Shapes: S systems, N (or, of a block, n) clips, C classes.

One label per clip: scores are probabilities of the classes; rows are made to sum to 1.
Several labels: every score is the probability that the clip has that class.

| on | one label | several labels |
|---|---|---|
| `probabilities` | p; the linear pool | p |
| `log_probabilities` | log p, then softmax; the logarithmic pool | log p, then exp |
| `logits` | log p less its mean over the classes, then softmax | log(p / (1 - p)), then sigmoid |

With one label and one weight per system, `logits` and `log_probabilities` are the same thing: what
they differ by is the same for all classes of a clip. With weights per class it is not.

Genest and Zidek, Combining Probability Distributions, Statistical Science 1986.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from audioflow.fusion.base import Float, Scores, Targets

On = Literal["logits", "probabilities", "log_probabilities"]

EPS = 1e-12
"""Least probability whose logarithm is taken: one confident error must not decide the weights."""

LEAST = 1e-7
"""The same of single classes, where clips may have several: float32 knows no nearer to 1."""

BLOCK_CELLS = 2**16


@dataclass(frozen=True)
class Link:
    """From scores to what is averaged, and back. multi_label: clips may have several labels."""

    on: On
    multi_label: bool = False

    def values(self, scores_NC: Scores) -> Float:
        """What is averaged, (N, C); of a row without any score above 0, that of equal scores."""
        if self.multi_label:
            return self._of_classes(scores_NC.astype(np.float64))
        shares_NC = shares(scores_NC)
        if self.on == "probabilities":
            return shares_NC
        logs_NC = np.log(np.maximum(shares_NC, EPS))
        return logs_NC - logs_NC.mean(axis=1, keepdims=True) if self.on == "logits" else logs_NC

    def _of_classes(self, scores_NC: Float) -> Float:
        if self.on == "probabilities":
            return np.clip(scores_NC, 0, 1)
        inside_NC = np.clip(scores_NC, LEAST, 1 - LEAST)
        if self.on == "log_probabilities":
            return np.log(inside_NC)
        return np.log(inside_NC) - np.log1p(-inside_NC)

    def scores(self, mixed_NC: Float) -> Float:
        """Averaged values as scores."""
        if self.multi_label:
            if self.on == "logits":
                return sigmoid(mixed_NC)
            return mixed_NC if self.on == "probabilities" else np.exp(np.minimum(mixed_NC, 0))
        if self.on == "probabilities":
            return shares(mixed_NC)
        return np.exp(mixed_NC - log_sum_exp(mixed_NC)[:, None])

    def loss(self, mixed_NC: Float, targets: Targets) -> Float:
        """Log loss of each clip, (N,): -log of its class's score, or the mean over the classes."""
        if self.multi_label:
            return np.asarray(self.cell_loss(mixed_NC, targets).mean(axis=1))
        own_N = mixed_NC[np.arange(len(targets)), targets]
        if self.on == "probabilities":
            total_N = np.maximum(mixed_NC.sum(axis=1), EPS)
            return np.asarray(np.log(total_N) - np.log(np.maximum(own_N, EPS)))
        return np.asarray(log_sum_exp(mixed_NC) - own_N)

    def cell_loss(self, mixed_NC: Float, truth_NC: Targets) -> Float:
        """Log loss of each score by itself, of clips with several labels."""
        if self.on == "logits":
            return np.asarray(np.logaddexp(0, np.where(truth_NC, -mixed_NC, mixed_NC)))
        scores_NC = np.clip(self.scores(mixed_NC), LEAST, 1 - LEAST)
        return np.asarray(-np.log(np.where(truth_NC, scores_NC, 1 - scores_NC)))

    def slope(self, mixed_NC: Float, targets: Targets) -> Float:
        """Derivative (N, C) of each clip's loss by its averaged values."""
        if not self.multi_label:
            return self._single_slope(mixed_NC, targets)
        truth_NC, count = targets.astype(np.float64), mixed_NC.shape[1]
        if self.on == "logits":
            return (sigmoid(mixed_NC) - truth_NC) / count
        scores_NC = np.clip(self.scores(mixed_NC), LEAST, 1 - LEAST)
        if self.on == "probabilities":
            return (scores_NC - truth_NC) / (scores_NC * (1 - scores_NC)) / count
        return np.where(targets, -1.0, scores_NC / (1 - scores_NC)) / count

    def _single_slope(self, mixed_NC: Float, targets: Targets) -> Float:
        rows = np.arange(len(targets))
        if self.on == "probabilities":
            slope_NC = np.zeros_like(mixed_NC)
            slope_NC += 1 / np.maximum(mixed_NC.sum(axis=1, keepdims=True), EPS)
            slope_NC[rows, targets] -= 1 / np.maximum(mixed_NC[rows, targets], EPS)
            return slope_NC
        slope_NC = self.scores(mixed_NC)
        slope_NC[rows, targets] -= 1
        return slope_NC

    def bend(self, mixed_NC: Float, targets: Targets) -> Float:
        """Second derivative (N, C) of each score's loss, of clips with several labels."""
        count = mixed_NC.shape[1]
        if self.on == "logits":
            scores_NC = sigmoid(mixed_NC)
            return scores_NC * (1 - scores_NC) / count
        scores_NC = np.clip(self.scores(mixed_NC), LEAST, 1 - LEAST)
        if self.on == "probabilities":
            return 1 / np.where(targets, scores_NC, 1 - scores_NC) ** 2 / count
        return np.where(targets, 0.0, scores_NC / (1 - scores_NC) ** 2) / count


def blocks(num_clips: int, num_classes: int, cells: int = BLOCK_CELLS) -> Iterator[slice]:
    """Slices of the clips, a cache's worth of scores each."""
    rows = max(1, cells // max(num_classes, 1))
    yield from (slice(start, start + rows) for start in range(0, num_clips, rows))


def shares(scores_NC: Scores) -> Float:
    """Rows made to sum to 1, even where a row is all 0."""
    positive_NC = np.maximum(scores_NC.astype(np.float64), 0)
    total_N1 = positive_NC.sum(axis=1, keepdims=True)
    even_NC = np.full_like(positive_NC, 1 / scores_NC.shape[1])
    return np.divide(positive_NC, total_N1, out=even_NC, where=total_N1 > 0)


def log_sum_exp(values_NC: Float) -> Float:
    """log(sum(exp(row))) of each row, (N,)."""
    most_N1 = values_NC.max(axis=1, keepdims=True)
    return np.asarray(np.log(np.exp(values_NC - most_N1).sum(axis=1)) + most_N1[:, 0])


def sigmoid(values: Float) -> Float:
    """1 / (1 + exp(-x))."""
    return np.asarray(1 / (1 + np.exp(-np.clip(values, -60, 60))))
