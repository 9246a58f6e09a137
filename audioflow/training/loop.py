"""The training loop.

Shapes: R readouts, B examples of a worker's share, N clips, C classes, D width of a vector.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from audioflow.events import EpochRecord
from audioflow.recipe_train import TrainSection
from audioflow.systems.examples import Examples
from audioflow.systems.network import Batch, SystemNetwork, all_logits
from audioflow.training.batches import Share, Source, loss_weights
from audioflow.training.judge import Judge, better, stopped
from audioflow.training.losses import Loss, Mixed, masked, mixed
from audioflow.training.schedule import epoch_rate, learning_rate, warmed_up

_ROWS_AT_ONCE = 65_536
"""Of which deviations are summed up, so that no second copy of all rows is made."""


@dataclass
class FitState:
    """Everything that a training run carries from one epoch to the next.

    `model` and `optimizer` are those that train on: who wants to keep them copies or writes them.
    """

    model: dict[str, Tensor]
    optimizer: dict[str, Any]
    best: dict[str, Tensor]
    best_epoch: int = 0
    records: list[EpochRecord] = field(default_factory=list)


@dataclass(frozen=True)
class Workers:
    """This process among those that train together.

    total: a number summed over all of them. agree: what the first of them has, on all.
    """

    rank: int = 0
    count: int = 1
    wrap: Callable[[nn.Module], nn.Module] = lambda module: module
    total: Callable[[float], float] = lambda value: value
    agree: Callable[[Any], Any] = lambda value: value
    device: str = "cpu"


@dataclass(frozen=True)
class Material:
    """What a network is trained on, and by whom it is judged on which clips."""

    source: Source
    val: Examples
    judge: Judge


OnEpoch = Callable[[EpochRecord, FitState], None]


def normalise(network: SystemNetwork, rows: tuple[Any, ...]) -> None:
    """Let a network shift and scale its inputs by mean and deviation of the rows per layer, (N, D)
    or of pictures (N, V, D); columns that do not change keep their scale."""
    if not len(network.normalise):
        return
    means, stds = [], []
    for layer in rows:
        rows_ND = layer.reshape(-1, layer.shape[-1])
        mean = rows_ND.mean(axis=0, dtype=np.float64)
        std = np.sqrt(_squares(rows_ND, mean) / len(rows_ND))
        means.append(torch.from_numpy(mean.astype(np.float32)))
        stds.append(torch.from_numpy(usable_deviation(mean, std).astype(np.float32)))
    network.set_normalisation(means, stds)


def _squares(rows_ND: Any, mean_D: Any) -> Any:
    starts = range(0, len(rows_ND), _ROWS_AT_ONCE)
    blocks = (rows_ND[start : start + _ROWS_AT_ONCE] for start in starts)
    return sum(np.square(block_ND - mean_D).sum(axis=0) for block_ND in blocks)


def usable_deviation(mean: Any, std: Any) -> Any:
    """Standard deviations, 1 for constant columns."""
    return np.where(std < 1e-6 * np.maximum(1.0, np.abs(mean)), 1.0, std)


def fit(
    network: SystemNetwork,
    material: Material,
    section: TrainSection,
    *,
    on_epoch: OnEpoch,
    workers: Workers | None = None,
    resume: FitState | None = None,
) -> FitState:
    """Train; the state returned holds the best epoch's parameters.

    The best epoch is that of the highest `section.select` on `val` (of the lowest loss for
    `val_loss`), the lower validation loss deciding ties; `last` is the last one. `on_epoch` is
    called on every worker.
    """
    state = resume or FitState({}, {}, {})
    for record in epochs(network, material, section, workers=workers, state=state):
        on_epoch(record, state)
    return state


def epochs(
    network: SystemNetwork,
    material: Material,
    section: TrainSection,
    *,
    state: FitState,
    workers: Workers | None = None,
) -> Iterator[EpochRecord]:
    """As `fit`, an epoch at a time: `state` is where it stands after each record."""
    workers = workers or Workers()
    resume = state if state.records else None
    if resume:
        network.load_state_dict(resume.model)
    network.to(workers.device)
    optimizer = _optimizer(network, section)
    if resume:
        optimizer.load_state_dict(resume.optimizer)
    trainer = _Trainer(workers.wrap(network), optimizer, material.source, section, workers)
    for epoch in range(len(state.records) + 1, section.epochs + 1):
        if stopped(state.records, state.best_epoch, section):
            break
        started = time.perf_counter()
        torch.manual_seed(section.seed * 1_000_003 + epoch * 1_009 + workers.rank)
        train_loss = trainer.epoch(epoch, state)
        record = None
        if workers.rank == 0:
            stepped = time.perf_counter()
            val_loss, metrics = _judged(network, material, section, workers)
            rate = learning_rate(section, epoch, state.records)
            ended = time.perf_counter()
            record = EpochRecord(
                *(epoch, train_loss, val_loss, metrics, rate, ended - started),
                examples=material.source.num_examples,
                ingest_s=trainer.ingest_s,
                judge_s=ended - stepped,
            )
        record = workers.agree(record)
        best = state.records[state.best_epoch - 1] if state.best_epoch else None
        state.records.append(record)
        state.model = dict(network.state_dict())
        state.optimizer = optimizer.state_dict()
        if better(record, best, section):
            state.best, state.best_epoch = _copy(state.model), epoch
        yield record


def _optimizer(network: SystemNetwork, section: TrainSection) -> torch.optim.Optimizer:
    """One group of parameters per factor of the rate; those of factor 0 are frozen."""
    rates = network.rates()
    groups: dict[float, list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        factor = next((rates[key] for key in rates if name.startswith(key)), 1.0)
        parameter.requires_grad_(factor > 0)
        if factor > 0:
            groups.setdefault(factor, []).append(parameter)
    params = [{"params": mine, "factor": factor} for factor, mine in groups.items()]
    kinds = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam, "sgd": torch.optim.SGD}
    extra = {"momentum": section.momentum} if section.optimizer == "sgd" else {}
    kind: Any = kinds[section.optimizer]
    optimizer: torch.optim.Optimizer = kind(
        params, lr=section.lr, weight_decay=section.weight_decay, **extra
    )
    return optimizer


class _Trainer:
    """What stays the same over all steps of a training run."""

    def __init__(
        self,
        wrapped: nn.Module,
        optimizer: torch.optim.Optimizer,
        source: Source,
        section: TrainSection,
        workers: Workers,
    ) -> None:
        self._wrapped = wrapped
        self._optimizer = optimizer
        self._source = source
        self._section = section
        self._workers = workers
        self._loss = Loss(section, source.weights.to(workers.device))
        self.ingest_s = 0.0

    def epoch(self, epoch: int, state: FitState) -> float:
        """One pass; the mean loss, as far as this worker knows it.

        `ingest_s` is then how long it waited for its share of the examples.
        """
        self._wrapped.train()
        self.ingest_s = 0.0
        total, steps = 0.0, 0
        rate_of_epoch = epoch_rate(self._section, epoch, state.records)
        for share in self._waited_for(self._source.epoch(epoch)):
            steps += 1
            progress = steps / self._source.steps
            rate = warmed_up(rate_of_epoch, self._section, epoch, progress)
            for group in self._optimizer.param_groups:
                group["lr"] = rate * group["factor"]
            total += self._step(share)
        if steps != self._source.steps:
            raise AssertionError(
                f"worker {self._workers.rank} took {steps} steps in epoch {epoch}, "
                f"{self._source.steps} were agreed"
            )
        return total / max(1, self._source.num_examples)

    def _waited_for(self, shares: Iterator[Share]) -> Iterator[Share]:
        while True:
            asked = time.perf_counter()
            share = next(shares, None)
            self.ingest_s += time.perf_counter() - asked
            if share is None:
                return
            yield share

    def _step(self, share: Share) -> float:
        """One optimiser step; the loss summed over the global batch, estimated from the share."""
        section, workers = self._section, self._workers
        targets = torch.from_numpy(share.examples.targets).to(workers.device)
        batch = Batch.of(share.examples, workers.device)
        rows, mixing = self._prepared(batch)
        with _precision(section, workers.device):
            logits_RBC = self._wrapped(Batch(rows, batch.counts))
        logits_RBC = logits_RBC.float()
        losses_B = self._loss(logits_RBC, targets)
        weights_B = loss_weights(self._source.weights, share.examples.targets).to(workers.device)
        weighted_B = losses_B * weights_B
        if mixing is not None:
            other_B = self._loss(logits_RBC, targets[mixing.partners])
            weighted_B = mixing.blend(weighted_B, other_B * weights_B[mixing.partners])
            losses_B = mixing.blend(losses_B, other_B)
        whole = share.weight
        if whole is None:
            whole = workers.total(float(weights_B.sum()))
        # The last term keeps an empty share in the graph, so that no worker waits for its gradient.
        loss = weighted_B.sum() * (workers.count / whole) + 0.0 * logits_RBC.sum()
        self._optimizer.zero_grad()
        loss.backward()
        if section.clip_norm is not None:
            nn.utils.clip_grad_norm_(self._wrapped.parameters(), section.clip_norm)
        self._optimizer.step()
        mine = len(share.examples)
        return float(losses_B.detach().mean()) * share.whole if mine else 0.0

    def _prepared(self, batch: Batch) -> tuple[tuple[Tensor, ...], Mixed | None]:
        section, rows = self._section, batch.rows
        if section.spec_augment is not None:
            rows = tuple(masked(layer, section.spec_augment) for layer in rows)
        if section.mixup > 0 and len(rows[0]):
            if not batch.flat:
                raise ValueError(
                    f"mixup ({section.mixup:g}) mixes examples of one patch each, not "
                    f"{len(batch.counts)} clips of {len(rows[0])} patches; use train.unit: patch"
                )
            mixing = mixed(rows, section.mixup)
            return mixing.rows, mixing
        return rows, None


def _precision(section: TrainSection, device: str) -> AbstractContextManager[Any]:
    if section.precision == "float32":
        return nullcontext()
    return torch.autocast(device.partition(":")[0], dtype=torch.bfloat16)


def _judged(
    network: SystemNetwork, material: Material, section: TrainSection, workers: Workers
) -> tuple[float | None, dict[str, float]]:
    if not len(material.val):
        return None, {}
    with _precision(section, workers.device):
        logits = all_logits(network, material.val, workers.device)
    return material.judge(logits)


def _copy(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {key: value.detach().cpu().clone() for key, value in state.items()}
