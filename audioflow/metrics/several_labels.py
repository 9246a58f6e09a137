"""Metrics of clips that may have several labels or none, as functions of one weight per clip.

Shapes: N clips, C classes, D rows of weights, K pairs of a clip and one of its labels.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from audioflow.metrics.calibration_error import (
    adaptive_calibration_error,
    brier_per_clip,
    confidence_and_right,
    expected_calibration_error,
    log_loss_per_clip,
)
from audioflow.metrics.counts import ClassCounts, weighted_sums
from audioflow.metrics.levels import Levels
from audioflow.ranking import Float, Weights, ratio

_BLOCK_CELLS = 2**22


@dataclass(frozen=True)
class SeveralLabels:
    """Scores (N, C) in [0, 1], which labels each clip has (N, C), and thresholds (C,).

    A clip is said to be of every class whose score is at least its threshold.
    """

    scores: NDArray[np.floating]
    truth: NDArray[np.bool_]
    thresholds: Float

    @property
    def summary(self) -> tuple[str, ...]:
        """The names of the metrics to show first, in order."""
        return ("map", "lwlrap", "roc_auc", "macro_f1", "micro_f1", "exact_match")

    @property
    def unlabelled(self) -> int:
        """Clips without any label."""
        return int((~self.truth.any(axis=1)).sum())

    def positive(self, index: int) -> NDArray[np.bool_]:
        """Which clips (N,) are of class `index`."""
        return np.ascontiguousarray(self.truth[:, index])

    def confusion(self) -> None:
        """There is none: no class is said instead of another one."""
        return

    def counts(self, weights_DN: Weights) -> ClassCounts:
        """Weight by class of what is there, what is said, and what is rightly said."""
        shape = (len(weights_DN), self.scores.shape[1])
        found = ClassCounts(np.zeros(shape), np.zeros(shape), np.zeros(shape))
        for rows in _blocks(self.truth.shape):
            # Integers in float32 are exact up to 2^24, far above what a block adds up to.
            weights = weights_DN[:, rows].astype(np.float32)
            truth, said = self.truth[rows], self._said[rows]
            found.support[:] += weights @ truth.astype(np.float32)
            found.predicted[:] += weights @ said.astype(np.float32)
            found.hits[:] += weights @ (truth & said).astype(np.float32)
        return found

    def metrics(self, counts: ClassCounts, weights_DN: Weights) -> dict[str, Float]:
        """Every metric that is no ranking over clips, (D,) each."""
        parts = self._per_clip
        sums_KD = weighted_sums(np.stack(list(parts.values())), weights_DN)
        sums = dict(zip(parts, sums_KD, strict=True))
        total_D = weights_DN.sum(axis=1, dtype=np.float64)
        return {
            "lwlrap": ratio(sums["label_precision"], sums["labels"], empty=np.nan),
            "exact_match": sums["exact"] / total_D,
            "top_1": ratio(sums["best_is_label"], sums["labelled"], empty=np.nan),
            "hamming_loss": sums["wrong"] / total_D,
            "log_loss": sums["log_loss"] / total_D,
            "brier": sums["brier"] / total_D,
            **counts.averages(),
            **counts.micro(),
        }

    def single_values(self) -> dict[str, float]:
        """What is computed of all clips only, without an interval."""
        confidence, right = confidence_and_right(self.scores, self.truth)
        every = Levels.of(self.scores[self.truth], self.scores.ravel())
        auc, precision = every.ranking()
        return {
            "map_micro": precision,
            "roc_auc_micro": auc,
            "ece": expected_calibration_error(confidence, right),
            "adaptive_ece": adaptive_calibration_error(confidence, right),
        }

    @cached_property
    def _said(self) -> NDArray[np.bool_]:
        return self.scores >= self.thresholds.astype(self.scores.dtype)

    @cached_property
    def _per_clip(self) -> dict[str, Float]:
        """What metrics are sums over clips of, (N,) each."""
        wrong_N = np.count_nonzero(self._said != self.truth, axis=1)
        best_N = self.scores.argmax(axis=1)
        labels_N = np.count_nonzero(self.truth, axis=1)
        return {
            "label_precision": label_precisions(self.scores, self.truth),
            "labels": labels_N.astype(np.float64),
            "labelled": (labels_N > 0).astype(np.float64),
            "best_is_label": self.truth[np.arange(len(best_N)), best_N].astype(np.float64),
            "exact": (wrong_N == 0).astype(np.float64),
            "wrong": wrong_N / self.truth.shape[1],
            "log_loss": log_loss_per_clip(self.scores, self.truth),
            "brier": brier_per_clip(self.scores, self.truth),
        }


def label_precisions(scores_NC: NDArray[np.floating], truth_NC: NDArray[np.bool_]) -> Float:
    """Sum (N,) over a clip's labels of the precision at the rank of each; 0 without a label.

    The rank of a label counts the classes that score at least as much; the precision is the share
    of labels among those. Divided by the number of labels that is the label-ranking average
    precision of scikit-learn; summed over clips and divided by all labels, lwlrap (DCASE 2019,
    task 2).
    """
    clip_K, label_K = np.nonzero(truth_NC)
    found_N = np.zeros(len(scores_NC))
    step = max(1, _BLOCK_CELLS // scores_NC.shape[1])
    for start in range(0, len(clip_K), step):
        clips, labels = clip_K[start : start + step], label_K[start : start + step]
        own = scores_NC[clips, labels][:, None]
        at_least = scores_NC[clips] >= own
        rank = np.count_nonzero(at_least, axis=1)
        of_labels = np.count_nonzero(at_least & truth_NC[clips], axis=1)
        found_N += np.bincount(clips, of_labels / rank, len(found_N))
    return found_N


def _blocks(shape: tuple[int, ...]) -> list[slice]:
    step = max(1, _BLOCK_CELLS // shape[1])
    return [slice(start, start + step) for start in range(0, shape[0], step)]
