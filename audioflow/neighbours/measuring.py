"""How far vectors are from a query: scaling of columns, and the two distances.

Shapes: N vectors, D width.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from audioflow.errors import InputError
from audioflow.neighbours.streaming import Vectors

Metric = Literal["cosine", "euclidean"]
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Scaling:
    """Mean and deviation (D,) of columns. A column that never changes counts for nothing."""

    mean_D: NDArray[np.float64]
    std_D: NDArray[np.float64]

    def __call__(self, vectors_ND: Floats) -> Floats:
        """Vectors with columns of mean 0 and deviation 1, over those that the scaling is of."""
        factor = np.divide(1.0, self.std_D, out=np.zeros_like(self.std_D), where=self.std_D > 0)
        return ((vectors_ND - self.mean_D) * factor).astype(np.float32)


def scaling_of(parts: Iterable[Vectors]) -> Scaling:
    """The scaling of all vectors, in one pass; parts are added up as Chan et al. (1983) do."""
    count, mean, squares = 0, np.zeros(1), np.zeros(1)
    for part in parts:
        if not len(part):
            continue
        values = part.vectors.astype(np.float64)
        mine = values.mean(axis=0)
        difference, total = mine - mean, count + len(values)
        squares = squares + ((values - mine) ** 2).sum(axis=0)
        squares = squares + difference**2 * (count * len(values) / total)
        mean = mean + difference * (len(values) / total)
        count = total
    if not count:
        raise InputError("the table holds no vector, there is nothing to search")
    std = np.sqrt(squares / count)
    # What rounding leaves of a column that never changes is not to be blown up.
    std[std <= 1e-7 * np.abs(mean)] = 0.0
    return Scaling(mean, std)


def distances(vectors_ND: Floats, query_D: Floats, metric: Metric) -> Floats:
    """Distances (N,): Euclidean, or 1 - cosine (0 to 2; 1 where a vector is zero)."""
    if metric == "euclidean":
        return np.linalg.norm(vectors_ND - query_D, axis=1)
    return np.maximum(1 - unit(vectors_ND) @ unit(query_D[None])[0], 0)


def unit(vectors_ND: Floats) -> Floats:
    """Vectors of length 1; a zero vector stays what it is."""
    norms_N1 = np.linalg.norm(vectors_ND, axis=1, keepdims=True)
    return np.divide(vectors_ND, norms_N1, out=np.zeros_like(vectors_ND), where=norms_N1 > 0)


def centroid(parts: Iterable[Vectors], metric: Metric) -> Floats:
    """The mean (D,) of all vectors; with `cosine` of their directions.

    Raises `InputError` where there is none.
    """
    count, total = 0, np.zeros(1)
    for part in parts:
        if len(part):
            values = unit(part.vectors) if metric == "cosine" else part.vectors
            count, total = count + len(part), total + values.sum(axis=0, dtype=np.float64)
    if not count:
        raise InputError("none of these clips has an embedding, so they have no centre")
    return (total / count).astype(np.float32)
