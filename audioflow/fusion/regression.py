"""The logistic regression of the rule `stacked`: its loss, its gradient and its minimum.

Shapes: S systems, N clips, C classes, n clips of a block; D deviations: none, (S, C), or (S, C, C)
with the class that is looked at before the one that is scored.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from audioflow.fusion.base import FitClips, Float, Targets
from audioflow.fusion.descent import least
from audioflow.fusion.links import Link, blocks

SHARED_VARIANCE = 1.0
"""Of the shared weights, around those of the plain mean: they have all clips to be fitted on."""


@dataclass(frozen=True)
class Weights:
    """Shared weights (S,), bias (C,), and deviations from the shared weights."""

    shared_S: Float
    bias_C: Float
    deviation_D: Float

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "shared": self.shared_S.tolist(),
            "bias": self.bias_C.tolist(),
            "deviation": self.deviation_D.tolist(),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Weights":
        """What `to_json` gave."""
        return cls(*(np.array(data[key], np.float64) for key in ("shared", "bias", "deviation")))


class Regression:
    """features: `tied`, `per_class` or `full`. multi_label: each class by itself."""

    def __init__(self, features: str, multi_label: bool) -> None:
        self.features = features
        self.link = Link("logits", multi_label)

    def mixed(self, weights: Weights, values_SnC: Float, *, exact: bool = True) -> Float:
        """What the scores are read off, (n, C).

        exact: whatever else is in the block, a clip's values are the same to the bit. A matrix
        product is faster, but does not promise that.
        """
        deviation_D = weights.deviation_D
        if deviation_D.ndim == 3:
            wide_nF = np.concatenate(values_SnC, axis=1)
            deviation_FC = deviation_D.reshape(-1, deviation_D.shape[2])
            looked_nC = (
                np.einsum("nf,fc->nc", wide_nF, deviation_FC) if exact else wide_nF @ deviation_FC
            )
            shared_nC = np.einsum("s,snc->nc", weights.shared_S, values_SnC)
            return np.asarray(shared_nC + looked_nC + weights.bias_C)
        own = weights.shared_S[:, None] + (deviation_D if deviation_D.size else 0.0)
        mixed_nC = np.repeat(weights.bias_C[None], values_SnC.shape[1], axis=0)
        for weight, values_nC in zip(own, values_SnC, strict=True):
            mixed_nC += weight * values_nC
        return mixed_nC

    def fit(self, clips: FitClips, variance: float, start: Weights | None = None) -> Weights:
        """The weights of least loss plus penalty on complete clips; the problem is convex."""
        size, count, num_classes = clips.clips.scores.shape
        shapes = [(size,), (num_classes,), self._deviation_shape(size, num_classes)]
        ends = np.cumsum([int(np.prod(shape)) for shape in shapes])
        parts = [
            (np.stack([self.link.values(part) for part in clips.clips.scores[:, rows]]), rows)
            for rows in blocks(count, num_classes)
        ]

        def unpacked(flat: Float) -> Weights:
            pieces = np.split(flat, ends[:-1])
            return Weights(*(one.reshape(shape) for one, shape in zip(pieces, shapes, strict=True)))

        def loss(flat: Float) -> tuple[float, Float]:
            weights = unpacked(flat)
            found = self._penalty(weights, variance)
            for values_SnC, rows in parts:
                self._add(found, weights, values_SnC, clips.targets[rows])
            gradient = np.concatenate([piece.ravel() for piece in found[1:]])
            return found[0] / count, gradient / count

        begin = start or Weights(
            np.full(size, 1 / size), np.zeros(num_classes), np.zeros(shapes[2])
        )
        pieces = (begin.shared_S, begin.bias_C, begin.deviation_D)
        return unpacked(least(loss, np.concatenate([piece.ravel() for piece in pieces])))

    def quality(self, weights: Weights, clips: FitClips) -> dict[str, float]:
        """`log_loss` and, for one label per clip, `accuracy` of complete clips."""
        hits, loss = 0, 0.0
        for rows in blocks(len(clips), weights.bias_C.size):
            values_SnC = np.stack([self.link.values(part) for part in clips.clips.scores[:, rows]])
            mixed_nC, targets_n = self.mixed(weights, values_SnC), clips.targets[rows]
            loss += float(self.link.loss(mixed_nC, targets_n).sum())
            if not self.link.multi_label:
                hits += int((mixed_nC.argmax(axis=1) == targets_n).sum())
        found = {"log_loss": loss / len(clips)}
        return found if self.link.multi_label else {"accuracy": hits / len(clips)} | found

    def _deviation_shape(self, size: int, num_classes: int) -> tuple[int, ...]:
        shapes = {"tied": (0,), "per_class": (size, num_classes)}
        return shapes.get(self.features, (size, num_classes, num_classes))

    def _penalty(self, weights: Weights, variance: float) -> list[Any]:
        """Penalty, and its derivative by shared weights, bias and deviations."""
        away_S = weights.shared_S - 1 / len(weights.shared_S)
        pieces = (away_S, weights.bias_C, weights.deviation_D)
        variances = (SHARED_VARIANCE, variance, variance)
        slopes = [piece / of for piece, of in zip(pieces, variances, strict=True)]
        total = sum(
            float((piece * slope).sum()) / 2 for piece, slope in zip(pieces, slopes, strict=True)
        )
        return [total, *slopes]

    def _add(
        self, found: list[Any], weights: Weights, values_SnC: Float, targets_n: Targets
    ) -> None:
        """Add loss and derivatives of one block. Losses are summed over clips (and, with several
        labels, over classes)."""
        mixed_nC = self.mixed(weights, values_SnC, exact=False)
        times = mixed_nC.shape[1] if self.link.multi_label else 1
        slope_nC = self.link.slope(mixed_nC, targets_n) * times
        found[0] += float(self.link.loss(mixed_nC, targets_n).sum()) * times
        by_class_SC = np.einsum("snc,nc->sc", values_SnC, slope_nC)
        found[1] = found[1] + by_class_SC.sum(axis=1)
        found[2] = found[2] + slope_nC.sum(axis=0)
        if self.features == "per_class":
            found[3] = found[3] + by_class_SC
        elif self.features == "full":
            found[3] = found[3] + values_SnC.transpose(0, 2, 1) @ slope_nC
