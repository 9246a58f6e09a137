"""Precision, recall and F1 from weighted counts, many rows of weights at once.

Shapes: N clips, C classes, D rows of weights, K quantities per clip.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from audioflow.ranking import Float, Weights, mean_where, ratio


@dataclass(frozen=True)
class ClassCounts:
    """Weight of clips of a class, of those said to be of it, and of those rightly so, (D, C) each.

    Everything is 0 where it has nothing to divide by, as scikit-learn's `zero_division=0`.
    """

    support: Float
    predicted: Float
    hits: Float

    @property
    def first(self) -> "ClassCounts":
        """The first row of weights alone."""
        return ClassCounts(self.support[:1], self.predicted[:1], self.hits[:1])

    def recall(self) -> Float:
        return ratio(self.hits, self.support)

    def precision(self) -> Float:
        return ratio(self.hits, self.predicted)

    def f1(self) -> Float:
        return ratio(2 * self.hits, self.support + self.predicted)

    @property
    def occurs(self) -> NDArray[np.bool_]:
        """The classes (D, C) that some clip has, or is said to have."""
        return self.support + self.predicted > 0

    def averages(self) -> dict[str, Float]:
        """Macro means over the classes that occur, and means weighted by support, (D,) each."""
        f1_DC, precision_DC = self.f1(), self.precision()
        return {
            "macro_f1": mean_where(f1_DC, self.occurs),
            "macro_precision": mean_where(precision_DC, self.occurs),
            "macro_recall": mean_where(self.recall(), self.occurs),
            "weighted_f1": weighted_mean(f1_DC, self.support),
            "weighted_precision": weighted_mean(precision_DC, self.support),
        }

    def micro(self) -> dict[str, Float]:
        """F1, precision and recall (D,) of all decisions taken together."""
        hits_D, said_D, have_D = (v.sum(1) for v in (self.hits, self.predicted, self.support))
        return {
            "micro_f1": ratio(2 * hits_D, said_D + have_D),
            "micro_precision": ratio(hits_D, said_D),
            "micro_recall": ratio(hits_D, have_D),
        }


def weighted_mean(values_DC: Float, weights_DC: Float) -> Float:
    """Mean (D,) with a weight per class; a NaN counts nothing, and NaN where no weight is left."""
    known_DC = ~np.isnan(values_DC)
    kept_DC = np.where(known_DC, weights_DC, 0.0)
    return ratio(
        (np.where(known_DC, values_DC, 0.0) * kept_DC).sum(1), kept_DC.sum(1), empty=np.nan
    )


def weighted_sums(values_KN: Float, weights_DN: Weights) -> Float:
    """Sums over clips of each quantity, (K, D), without a copy of all weights."""
    return np.stack([values_KN @ row_N.astype(np.float64) for row_N in weights_DN], axis=1)
