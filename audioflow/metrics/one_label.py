"""Metrics of clips that have one label each, as functions of one weight per clip.

Shapes: N clips, C classes, D rows of weights.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from audioflow.metrics.calibration_error import (
    adaptive_calibration_error,
    brier_per_clip,
    expected_calibration_error,
    log_loss_per_clip,
)
from audioflow.metrics.counts import ClassCounts, weighted_sums
from audioflow.ranking import Float, Weights, mean_where

_BLOCK_CELLS = 2**22


@dataclass(frozen=True)
class OneLabel:
    """Scores (N, C) in [0, 1] and class indices (N,); of equal scores the first class is said."""

    scores: NDArray[np.floating]
    targets: NDArray[np.intp]

    @property
    def top_k(self) -> int | None:
        """How many best classes a clip may need; None for two classes, where it says nothing."""
        num_classes = self.scores.shape[1]
        return 5 if num_classes > 5 else 2 if num_classes > 2 else None

    @property
    def summary(self) -> tuple[str, ...]:
        """The names of the metrics to show first, in order."""
        top = (f"top_{self.top_k}",) if self.top_k else ()
        return ("accuracy", "balanced_accuracy", *top, "macro_f1", "roc_auc", "map")

    @property
    def unlabelled(self) -> int:
        """Clips without a label: there are none."""
        return 0

    @cached_property
    def predicted(self) -> NDArray[np.intp]:
        """The class (N,) that is said of each clip."""
        return self.scores.argmax(axis=1)

    def positive(self, index: int) -> NDArray[np.bool_]:
        """Which clips (N,) are of class `index`."""
        return self.targets == index

    def counts(self, weights_DN: Weights) -> ClassCounts:
        """Weight by class of what is there, what is said, and what is rightly said."""
        shape = (len(weights_DN), self.scores.shape[1])
        found = ClassCounts(np.empty(shape), np.empty(shape), np.empty(shape))
        hit_N = self.predicted == self.targets
        for draw, row_N in enumerate(weights_DN):
            weights_N = row_N.astype(np.float64)
            found.support[draw] = np.bincount(self.targets, weights_N, shape[1])
            found.predicted[draw] = np.bincount(self.predicted, weights_N, shape[1])
            found.hits[draw] = np.bincount(self.targets, weights_N * hit_N, shape[1])
        return found

    def metrics(self, counts: ClassCounts, weights_DN: Weights) -> dict[str, Float]:
        """Every metric that is no ranking over clips, (D,) each."""
        total_D = counts.support.sum(1)
        averages = counts.averages()
        found = {
            "accuracy": counts.hits.sum(1) / total_D,
            "balanced_accuracy": mean_where(counts.recall(), counts.support > 0),
            **averages,
        }
        means_KD = weighted_sums(self._per_clip, weights_DN) / total_D
        return found | dict(zip(self._per_clip_names, means_KD, strict=True))

    def single_values(self) -> dict[str, float]:
        """What is computed of all clips only, without an interval."""
        confidence_N = self.scores[np.arange(len(self.targets)), self.predicted]
        right_N = self.predicted == self.targets
        return {
            "ece": expected_calibration_error(confidence_N, right_N),
            "adaptive_ece": adaptive_calibration_error(confidence_N, right_N),
        }

    def confusion(self) -> NDArray[np.int64]:
        """Clips by right class (rows) and predicted one, (C, C)."""
        size = self.scores.shape[1]
        pairs_N = self.targets * size + self.predicted
        return np.bincount(pairs_N, minlength=size * size).reshape(size, size)

    @property
    def _per_clip_names(self) -> Sequence[str]:
        return ("log_loss", "brier", *((f"top_{self.top_k}",) if self.top_k else ()))

    @cached_property
    def _per_clip(self) -> Float:
        """The metrics that are a mean over clips: one row (N,) each."""
        rows = [log_loss_per_clip(self.scores, self.targets)]
        rows.append(brier_per_clip(self.scores, self.targets))
        if self.top_k:
            rows.append(in_top(self.scores, self.targets, self.top_k).astype(np.float64))
        return np.stack(rows)


def in_top(
    scores_NC: NDArray[np.floating], targets_N: NDArray[np.intp], k: int
) -> NDArray[np.bool_]:
    """Whether the target is among the top k (N,); of equal scores the last class ranks first."""
    num_clips, num_classes = scores_NC.shape
    found_N = np.empty(num_clips, bool)
    step = max(1, _BLOCK_CELLS // num_classes)
    for start in range(0, num_clips, step):
        block, own = scores_NC[start : start + step], targets_N[start : start + step, None]
        own_score = np.take_along_axis(block, own, axis=1)
        before = (block > own_score) | ((block == own_score) & (np.arange(num_classes) > own))
        found_N[start : start + step] = np.count_nonzero(before, axis=1) < k
    return found_N
