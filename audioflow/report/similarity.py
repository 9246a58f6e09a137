"""Classes in an order in which those that are taken for each other stand side by side.

Shapes: C classes.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

MOST_ORDERED = 1000
"""With more classes the best of all orders of the tree takes too long; any of them is taken."""


def class_order(affinity_CC: ArrayLike) -> tuple[int, ...]:
    """The classes' places in a tree of average linkage, neighbours as alike as the tree allows.

    `affinity_CC[a, b] >= 0` says how much of class a is taken for class b; both directions count
    alike and the diagonal not at all. Classes without any affinity come last, as given.
    """
    affinity = np.asarray(affinity_CC, np.float64)
    both = (affinity + affinity.T) / 2
    np.fill_diagonal(both, 0.0)
    known = np.flatnonzero(both.sum(axis=1) > 0)
    rest = np.flatnonzero(both.sum(axis=1) <= 0)
    return (*known[_leaves(both[np.ix_(known, known)])].tolist(), *rest.tolist())


def _leaves(both_CC: NDArray[np.float64]) -> NDArray[np.intp]:
    if len(both_CC) < 3:
        return np.arange(len(both_CC))
    from scipy.cluster.hierarchy import leaves_list, linkage
    from scipy.spatial.distance import squareform

    # On a scale of logarithms a rare confusion still brings two classes closer than none does.
    least = both_CC[both_CC > 0].min() / 2
    distance_CC = np.log(both_CC.max() / np.maximum(both_CC, least))
    np.fill_diagonal(distance_CC, 0.0)
    condensed = squareform(distance_CC, checks=False)
    best = len(both_CC) <= MOST_ORDERED
    return np.asarray(leaves_list(linkage(condensed, "average", optimal_ordering=best)))
