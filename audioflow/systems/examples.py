"""Clips (or patches) as arrays: what a head is trained on and what it scores.

Shapes: B examples, N rows of all of them together, V vectors of a patch, D width of a vector,
C classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Examples:
    """Examples with their rows in one array per layer.

    rows: per layer float32 (N, D), or (N, V, D) of pictures. offsets: int64 (B + 1,), where in them
    an example begins and ends. targets: class indices int64 (B,), or float32 (B, C) of 0 and 1
    where a clip may have several labels.
    """

    rows: tuple[Floats, ...]
    offsets: NDArray[np.int64]
    targets: NDArray[Any]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def flat(self) -> bool:
        """Whether every example has exactly one row."""
        return len(self) == len(self.rows[0])

    @property
    def nbytes(self) -> int:
        return sum(rows.nbytes for rows in self.rows)

    def take(self, indices: NDArray[np.int64]) -> "Examples":
        """The examples at these places, in this order."""
        if self.flat:
            rows = tuple(layer[indices] for layer in self.rows)
            return Examples(rows, np.arange(len(indices) + 1), self.targets[indices])
        counts = np.diff(self.offsets)[indices]
        offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        places = np.arange(offsets[-1]) + np.repeat(self.offsets[indices] - offsets[:-1], counts)
        return Examples(tuple(layer[places] for layer in self.rows), offsets, self.targets[indices])

    def per_patch(self) -> "Examples":
        """Every row an example of its own, with the target of the one that it is of."""
        targets = np.repeat(self.targets, np.diff(self.offsets), axis=0)
        return Examples(self.rows, np.arange(len(targets) + 1), targets)


def joined(parts: Sequence[Examples]) -> Examples:
    """The examples of several parts, one after the other; of one part at least."""
    if len(parts) == 1:
        return parts[0]
    counts = np.concatenate([np.diff(part.offsets) for part in parts])
    return Examples(
        tuple(np.concatenate(layers) for layers in zip(*(p.rows for p in parts), strict=True)),
        np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        np.concatenate([part.targets for part in parts]),
    )


def multi_hot(indices: Sequence[Sequence[int]], num_classes: int) -> Floats:
    """Targets (B, C) of examples that have these classes."""
    found = np.zeros((len(indices), num_classes), np.float32)
    for row, mine in enumerate(indices):
        found[row, list(mine)] = 1.0
    return found
