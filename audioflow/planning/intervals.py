"""Intervals of what is told from a sample."""

from dataclasses import dataclass
from math import sqrt
from statistics import NormalDist

import numpy as np

from audioflow.planning.sample import Floats


@dataclass(frozen=True)
class Interval:
    """An estimate and the bounds that hold it with a stated confidence."""

    value: float
    low: float
    high: float

    def scaled(self, factor: float) -> "Interval":
        """In another unit."""
        return Interval(self.value * factor, self.low * factor, self.high * factor)


def wilson(share: float, count: float, confidence: float = 0.95) -> Interval:
    """Interval of a share seen in `count` draws (Wilson 1927).

    `count` may be infinite (all were seen), or no whole number (draws of unequal weight).
    """
    if count == float("inf"):
        return Interval(share, share, share)
    if count <= 0:
        return Interval(share, 0.0, 1.0)
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z * sqrt(share * (1 - share) / count + z * z / (4 * count**2)) / (1 + z * z / count)
    return Interval(share, max(0.0, min(middle - half, share)), min(1.0, max(middle + half, share)))


def effective_count(weights: Floats, population: int) -> float:
    """How many equal draws from an endless population say as much (Kish 1965, with the
    correction for a population of which much was drawn)."""
    if len(weights) >= population:
        return float("inf")
    if not len(weights):
        return 0.0
    alike = float(weights.sum() ** 2 / np.square(weights).sum())
    return alike * (population - 1) / (population - len(weights))
