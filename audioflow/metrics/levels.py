"""The scores of positives as levels: what lies at and above each, for curves and rankings.

Shapes: P positives, A all scores, U distinct scores of positives (levels, highest first).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from audioflow.ranking import Float


@dataclass(frozen=True)
class Levels:
    """Counts at the distinct scores of positives; between two of them no true positive is added.

    `score` (U,) falls. `positives_at` (U,) counts the positives at least that high, `all_at` (U,)
    everything at least that high, `all_above` (U,) everything higher. `above` (U,) is the lowest
    score higher than the level, infinite where there is none; `lowest` the lowest of all.
    """

    score: Float
    above: Float
    positives_at: NDArray[np.int64]
    all_at: NDArray[np.int64]
    all_above: NDArray[np.int64]
    num_positives: int
    num_all: int
    lowest: float

    @classmethod
    def of(cls, positives_P: NDArray[np.floating], all_A: NDArray[np.floating]) -> "Levels":
        """The levels of scores of positives, which are also among `all_A`."""
        ordered = np.sort(all_A)
        levels, counts = np.unique(positives_P, return_counts=True)
        size = len(ordered)
        first_U = np.asarray(np.searchsorted(ordered, levels, "left"))
        behind_U = np.asarray(np.searchsorted(ordered, levels, "right"))
        higher = np.append(ordered, np.inf)[behind_U]
        return cls(
            score=levels[::-1].astype(np.float64),
            above=higher[::-1].astype(np.float64),
            positives_at=np.cumsum(counts[::-1]),
            all_at=(size - first_U)[::-1],
            all_above=(size - behind_U)[::-1],
            num_positives=len(positives_P),
            num_all=size,
            lowest=float(ordered[0]),
        )

    def ranking(self) -> tuple[float, float]:
        """ROC AUC and average precision; NaN without a positive or without a negative.

        Equal to scikit-learn's `roc_auc_score` and `average_precision_score`, ties included.
        """
        negatives = self.num_all - self.num_positives
        if not self.num_positives or not negatives:
            return float("nan"), float("nan")
        positives_above = np.append(0, self.positives_at[:-1])
        own = self.positives_at - positives_above
        negatives_at = self.all_at - self.positives_at
        negatives_above = self.all_above - positives_above
        # Of the negatives at the same score, half count as lower.
        lower = negatives - (negatives_at + negatives_above) / 2
        auc = (own * lower).sum() / (self.num_positives * negatives)
        precision = (own * (self.positives_at / self.all_at)).sum() / self.num_positives
        return float(auc), float(precision)
