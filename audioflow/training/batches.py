"""Which examples every step of an epoch takes, and which of them are a worker's.

Shapes: N examples, C classes, B examples of a global batch. Each worker takes its share of every
global batch and weighs its loss so that the averaged gradient is that of the whole batch: one
worker and many take the same steps (dropout, batch norm and mixing apart).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from audioflow.recipe_train import TrainSection
from audioflow.systems.examples import Examples


@dataclass(frozen=True)
class Share:
    """A worker's part of a global batch.

    whole: examples of the global batch; weight: of all of them together in the loss, None where
    only the other workers know theirs.
    """

    examples: Examples
    whole: int
    weight: float | None = None


class Source(Protocol):
    """Where the examples of an epoch come from.

    num_examples: of an epoch, over all workers. steps: of an epoch, the same on every worker, known
    before it begins. weights: of every class in the loss (C,).
    """

    @property
    def num_examples(self) -> int: ...

    @property
    def steps(self) -> int: ...

    @property
    def weights(self) -> Tensor: ...

    def epoch(self, epoch: int) -> Iterator[Share]:
        """This worker's share of every step; epochs count from 1."""
        ...


class MemorySource:
    """All examples in memory, in a new random order in every epoch."""

    def __init__(
        self,
        examples: Examples,
        section: TrainSection,
        num_classes: int,
        rank: int = 0,
        count: int = 1,
    ) -> None:
        self._examples = examples
        self._batch_size = section.batch_size
        self._seed = section.seed
        self._rank, self._count = rank, count
        self._weights = class_weights(examples.targets, section.class_weights, num_classes)
        self._odds: NDArray[np.float64] | None = None
        if section.sampling == "balanced":
            self._odds = sampling_odds(examples.targets, num_classes)

    @property
    def num_examples(self) -> int:
        return len(self._examples)

    @property
    def steps(self) -> int:
        return -(-len(self._examples) // self._batch_size)

    @property
    def weights(self) -> Tensor:
        return self._weights

    def epoch(self, epoch: int) -> Iterator[Share]:
        order = epoch_order(len(self._examples), self._seed, epoch, self._odds)
        for start in range(0, len(order), self._batch_size):
            batch = order[start : start + self._batch_size]
            whole = loss_weights(self._weights, self._examples.targets[batch])
            mine = self._examples.take(batch[self._rank :: self._count])
            yield Share(mine, len(batch), float(whole.sum()))


def epoch_order(
    count: int, seed: int, epoch: int, odds: NDArray[np.float64] | None = None
) -> NDArray[np.int64]:
    """The order of the examples in one epoch, the same on every worker.

    With odds (N,) examples are drawn with replacement, by those.
    """
    if odds is not None:
        generator = np.random.default_rng([seed, epoch])
        return generator.choice(count, count, p=odds / odds.sum())
    shuffle = torch.Generator().manual_seed(seed * 7_919 + epoch)
    return torch.randperm(count, generator=shuffle).numpy()


def class_weights(targets: NDArray[Any], rule: str, num_classes: int) -> Tensor:
    """Weight of each class in the loss (C,): 1 (`none`), or inverse to how often it occurs
    (`balanced`): with mean 1 over clips of single labels, negatives over positives of several."""
    if rule == "none":
        return torch.ones(num_classes)
    if targets.ndim == 2:
        positive = targets.sum(axis=0, dtype=np.float64)
        odds = np.maximum(len(targets) - positive, 1) / np.maximum(positive, 1)
        return torch.from_numpy(odds.astype(np.float32))
    counts = np.bincount(targets, minlength=num_classes).astype(np.float64)
    weights = len(targets) / (max(1, np.count_nonzero(counts)) * np.maximum(counts, 1))
    return torch.from_numpy(weights.astype(np.float32))


def loss_weights(weights: Tensor, targets: NDArray[Any]) -> Tensor:
    """What every example counts in the loss (B,): the weight of its class. Of several labels the
    loss weighs classes by itself, and every example counts 1."""
    if targets.ndim == 2:
        return torch.ones(len(targets))
    return weights[torch.from_numpy(targets)]


def sampling_odds(targets: NDArray[Any], num_classes: int) -> NDArray[np.float64]:
    """How often examples are to be drawn (N,) so that all classes come equally often; one with
    several labels as often as its classes on average, one with none as often as the others."""
    if targets.ndim == 1:
        counts = np.bincount(targets, minlength=num_classes)
        return np.asarray(1 / counts[targets])
    counts, labels = targets.sum(axis=0, dtype=np.float64), targets.sum(axis=1)
    odds = targets @ (1 / np.maximum(counts, 1)) / np.maximum(labels, 1)
    return np.where(labels > 0, odds, odds[labels > 0].mean() if labels.any() else 1.0)
