"""Training a head on clip vectors, in plain torch: the one loop that everything uses.

Shapes: N clips, D width of their vectors, C classes, B clips of a global batch. With several
workers, each takes its share of every global batch and weighs its loss so that the averaged
gradient is that of the whole batch: one worker and many take the same steps (dropout apart).
"""

import copy
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from audioflow.events import EpochRecord
from audioflow.recipe import TrainSection


@dataclass(frozen=True)
class ClipSet:
    """Vectors (N, D) float32 and class indices (N,) int64 of one split."""

    vectors: NDArray[np.float32]
    targets: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.targets)


@dataclass
class FitState:
    """Everything that a training run carries from one epoch to the next."""

    model: dict[str, Tensor]
    optimizer: dict[str, Any]
    best: dict[str, Tensor]
    best_epoch: int = 0
    records: list[EpochRecord] = field(default_factory=list)


@dataclass(frozen=True)
class Workers:
    """This process among those that train together."""

    rank: int = 0
    count: int = 1
    wrap: Callable[[nn.Module], nn.Module] = lambda module: module


OnEpoch = Callable[[EpochRecord, FitState], None]


def normalisation(vectors_ND: NDArray[np.float32]) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (D,) of the train vectors; constant columns get deviation 1."""
    mean = vectors_ND.mean(axis=0, dtype=np.float64)
    std = vectors_ND.std(axis=0, dtype=np.float64)
    std = np.where(std < 1e-6 * np.maximum(1.0, np.abs(mean)), 1.0, std)
    return torch.from_numpy(mean.astype(np.float32)), torch.from_numpy(std.astype(np.float32))


def fit(
    model: nn.Module,
    train: ClipSet,
    val: ClipSet,
    section: TrainSection,
    *,
    on_epoch: OnEpoch,
    workers: Workers | None = None,
    resume: FitState | None = None,
) -> FitState:
    """Train `model` on normalised vectors; the state returned holds the best epoch's parameters.

    The best epoch is that of the highest `section.select` on `val` (of the lowest loss for
    `val_loss`), the lower validation loss deciding ties; `last` is the last one.
    `on_epoch` is called on every rank.
    """
    workers = workers or Workers()
    task = _Task.of(model, train, section, workers)
    wrapped = workers.wrap(model)
    optimizer = _optimizer(model, section)
    state = resume or FitState({}, {}, {})
    if resume:
        model.load_state_dict(resume.model)
        optimizer.load_state_dict(resume.optimizer)
    for epoch in range(len(state.records) + 1, section.epochs + 1):
        started = time.perf_counter()
        torch.manual_seed(section.seed * 1_000_003 + epoch * 1_009 + workers.rank)
        wrapped.train()
        order = epoch_order(len(train), section.seed, epoch)
        total = 0.0
        for batch in torch.split(order, section.batch_size):
            total += _step(wrapped, optimizer, batch, task)
        record = _record(model, val, epoch, total / len(train), section, started)
        state.records.append(record)
        state.model = _copy(model.state_dict())
        state.optimizer = copy.deepcopy(optimizer.state_dict())
        best = state.records[state.best_epoch - 1] if state.best_epoch else None
        if better(record, best, section):
            state.best, state.best_epoch = state.model, epoch
        on_epoch(record, state)
    return state


def epoch_order(count: int, seed: int, epoch: int) -> Tensor:
    """The order of the clips in one epoch, the same on every worker."""
    generator = torch.Generator().manual_seed(seed * 7_919 + epoch)
    return torch.randperm(count, generator=generator)


def class_weights(targets_N: NDArray[np.int64], rule: str, num_classes: int) -> Tensor:
    """(C,) weight of each class in the loss: 1 (`none`), or inverse to the class's frequency with
    mean 1 over clips (`balanced`)."""
    if rule == "none":
        return torch.ones(num_classes)
    counts = np.bincount(targets_N, minlength=num_classes).astype(np.float64)
    present = np.maximum(counts, 1)
    weights = len(targets_N) / (np.count_nonzero(counts) * present)
    return torch.from_numpy(weights.astype(np.float32))


def _optimizer(model: nn.Module, section: TrainSection) -> torch.optim.Optimizer:
    kinds = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam, "sgd": torch.optim.SGD}
    extra = {"momentum": 0.9} if section.optimizer == "sgd" else {}
    kind: Any = kinds[section.optimizer]
    optimizer: torch.optim.Optimizer = kind(
        model.parameters(), lr=section.lr, weight_decay=section.weight_decay, **extra
    )
    return optimizer


@dataclass(frozen=True)
class _Task:
    """What stays the same over all steps of a training run."""

    vectors: Tensor
    targets: Tensor
    weights: Tensor
    label_smoothing: float
    workers: Workers

    @classmethod
    def of(
        cls, model: nn.Module, train: ClipSet, section: TrainSection, workers: Workers
    ) -> "_Task":
        model.eval()
        with torch.inference_mode():
            num_classes = model(torch.from_numpy(train.vectors[:1])).shape[1]
        return cls(
            torch.from_numpy(train.vectors),
            torch.from_numpy(train.targets),
            class_weights(train.targets, section.class_weights, num_classes),
            section.label_smoothing,
            workers,
        )


def _step(model: nn.Module, optimizer: torch.optim.Optimizer, batch: Tensor, task: _Task) -> float:
    """One optimiser step on this worker's share of the global batch `batch` (indices of clips).

    Returns the loss summed over the whole batch, estimated from the share.
    """
    share = batch[task.workers.rank :: task.workers.count]
    logits = model(task.vectors[share])
    targets = task.targets[share]
    losses = F.cross_entropy(
        logits, targets, reduction="none", label_smoothing=task.label_smoothing
    )
    scale = task.workers.count / task.weights[task.targets[batch]].sum()
    # The last term keeps an empty share in the graph, so that no worker waits for its gradient.
    loss = (losses * task.weights[targets]).sum() * scale + 0.0 * logits.sum()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return float(losses.detach().mean()) * len(batch) if len(share) else 0.0


def _record(
    model: nn.Module,
    val: ClipSet,
    epoch: int,
    train_loss: float,
    section: TrainSection,
    started: float,
) -> EpochRecord:
    metrics: dict[str, float] = {}
    val_loss = None
    if len(val):
        model.eval()
        with torch.inference_mode():
            logits = model(torch.from_numpy(val.vectors))
            val_loss = float(F.cross_entropy(logits, torch.from_numpy(val.targets)))
        predicted = logits.argmax(dim=1).numpy()
        metrics = {
            "val_accuracy": float((predicted == val.targets).mean()),
            "val_macro_f1": _macro_f1(predicted, val.targets),
        }
    seconds = time.perf_counter() - started
    return EpochRecord(epoch, train_loss, val_loss, metrics, section.lr, seconds)


def _macro_f1(predicted_N: NDArray[np.int64], targets_N: NDArray[np.int64]) -> float:
    """Mean F1 over the classes that occur among the targets or the predictions."""
    scores = []
    for index in np.union1d(predicted_N, targets_N):
        hits = np.sum((predicted_N == index) & (targets_N == index))
        scores.append(2 * hits / (np.sum(predicted_N == index) + np.sum(targets_N == index)))
    return float(np.mean(scores))


def better(record: EpochRecord, best: EpochRecord | None, section: TrainSection) -> bool:
    """Whether `record` is of a better epoch than `best` by the metric that selects."""
    if best is None:
        return True
    return _quality(record, section) > _quality(best, section)


def _quality(record: EpochRecord, section: TrainSection) -> tuple[float, float]:
    if section.select == "last":
        return float(record.epoch), 0.0
    loss = record.train_loss if record.val_loss is None else record.val_loss
    loss = math.inf if math.isnan(loss) else loss
    if section.select not in record.metrics:  # val_loss, or no clip to validate on
        return -loss, 0.0
    return record.metrics[section.select], -loss


def _copy(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {key: value.detach().clone() for key, value in state.items()}
