"""Many small heads trained together: their parameters lie in one tensor, and every step is one.

What a setting may differ in: learning rate, weight decay, label smoothing, dropout, class weights.
Each head takes the steps that it would take alone (dropout apart, whose draws are others).

Shapes: K heads, N clips, B clips of a batch, D width of a vector, H of a hidden layer, C classes.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from audioflow.events import EpochRecord
from audioflow.recipe_train import TrainSection
from audioflow.systems.examples import Examples
from audioflow.systems.network import SystemNetwork
from audioflow.training.batches import class_weights, epoch_order
from audioflow.training.judge import Judge, better, stopped
from audioflow.training.schedule import epoch_rate, learning_rate, warmed_up

_EPS, _BETAS = 1e-8, (0.9, 0.999)
_NEGATIVE_SLOPE = 0.2
_QUICK = ("val_loss", "val_accuracy", "val_macro_f1", "last")

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "gelu": F.gelu,
    "leaky_relu": lambda values: F.leaky_relu(values, _NEGATIVE_SLOPE),
}
Keeps = Callable[[NDArray[np.float64], int], NDArray[np.bool_]]
"""Scores of heads and the epoch -> which of them go on."""


@dataclass(frozen=True)
class StackedSetting:
    """One head of a stack: how it is trained, and its share of hidden values set to 0."""

    section: TrainSection
    dropout: float = 0.0


@dataclass
class StackedHead:
    """How one head of a stack did. stopped: it did not go on to the last epoch."""

    records: list[EpochRecord] = field(default_factory=list)
    best_epoch: int = 0
    stopped: bool = False

    @property
    def best(self) -> EpochRecord:
        return self.records[self.best_epoch - 1]


class Stack:
    """Affine layers with an activation between, K times side by side."""

    def __init__(self, network: SystemNetwork, count: int, activation: str) -> None:
        """Every head begins as the head of `network`: affine layers, in their order."""
        state = network.head.state_dict()
        names = [name.removesuffix("weight") for name in state if name.endswith("weight")]
        self.parameters: list[Tensor] = []
        for name in names:
            weight_KOI = state[f"{name}weight"].detach().expand(count, -1, -1).clone()
            bias_K1O = state[f"{name}bias"].detach().expand(count, 1, -1).clone()
            self.parameters += [weight_KOI.requires_grad_(), bias_K1O.requires_grad_()]
        self._activation = ACTIVATIONS[activation]

    def logits(self, vectors_ND: Tensor, dropout_K: Tensor | None = None) -> Tensor:
        """(K, N, C)."""
        weight_KOI, bias_K1O = self.parameters[:2]
        count, width, _ = weight_KOI.shape
        flat = vectors_ND @ weight_KOI.reshape(count * width, -1).T  # one product for all heads
        values = flat.reshape(-1, count, width).transpose(0, 1) + bias_K1O
        for weight, bias in zip(self.parameters[2::2], self.parameters[3::2], strict=True):
            values = self._activation(values)
            if dropout_K is not None:
                keep_K11 = (1 - dropout_K)[:, None, None]
                values = values * (torch.rand_like(values) < keep_K11) / keep_K11
            values = torch.baddbmm(bias, values, weight.transpose(1, 2))
        return values

    def keep(self, places: Tensor) -> None:
        """Go on with some of the heads."""
        self.parameters = [value.detach()[places].requires_grad_() for value in self.parameters]


class _Optimizer:
    """AdamW, Adam or SGD with momentum, with a rate and a decay for every head; as torch's."""

    def __init__(self, kind: str, stack: Stack, momentum: float) -> None:
        self._kind, self._momentum = kind, momentum
        self._first = [torch.zeros_like(value) for value in stack.parameters]
        self._second = [torch.zeros_like(value) for value in stack.parameters]
        self._steps = 0

    @torch.no_grad()
    def step(
        self, stack: Stack, gradients: Sequence[Tensor], lr_K: Tensor, decay_K: Tensor
    ) -> None:
        self._steps += 1
        lr, decay = lr_K[:, None, None], decay_K[:, None, None]
        for place, (value, gradient) in enumerate(zip(stack.parameters, gradients, strict=True)):
            if self._kind == "adamw":
                value.mul_(1 - lr * decay)
            else:
                gradient.addcmul_(decay, value)
            first = self._first[place]
            if self._kind == "sgd":
                first.mul_(self._momentum).add_(gradient)
                value.addcmul_(lr, first, value=-1)
                continue
            second = self._second[place]
            first.lerp_(gradient, 1 - _BETAS[0])
            second.mul_(_BETAS[1]).addcmul_(gradient, gradient, value=1 - _BETAS[1])
            # The gradient is not needed any more: its memory takes what the step divides by.
            torch.sqrt(second, out=gradient)
            gradient.div_(math.sqrt(1 - _BETAS[1] ** self._steps)).add_(_EPS)
            torch.div(first, gradient, out=gradient)
            value.addcmul_(lr, gradient, value=-1 / (1 - _BETAS[0] ** self._steps))

    def keep(self, places: Tensor) -> None:
        self._first = [value[places] for value in self._first]
        self._second = [value[places] for value in self._second]


def fit_stacked(
    network: SystemNetwork,
    train: Examples,
    val: Examples,
    judge: Judge,
    settings: Sequence[StackedSetting],
    *,
    activation: str = "relu",
    keeps: Keeps | None = None,
) -> list[StackedHead]:
    """Train a head per setting, all at once, each beginning as `network`; how each did.

    The settings agree in everything that is not named above. Examples have one row each. keeps: is
    asked after every epoch which heads go on.
    """
    run = _Run(network, train, val, judge, settings, activation)
    for epoch in range(1, settings[0].section.epochs + 1):
        if not run.alive:
            break
        run.epoch(epoch)
        run.leave_out(epoch, keeps)
    return run.heads


class _Run:
    def __init__(
        self,
        network: SystemNetwork,
        train: Examples,
        val: Examples,
        judge: Judge,
        settings: Sequence[StackedSetting],
        activation: str,
    ) -> None:
        self._section = settings[0].section
        self._settings = list(settings)
        self._judge = judge
        self._train, self._train_targets = _normalised(network, train)
        self._val, _ = _normalised(network, val)
        self._stack = Stack(network, len(settings), activation)
        self._optimizer = _Optimizer(self._section.optimizer, self._stack, self._section.momentum)
        classes = network.spec.num_classes
        self._weights_KC = torch.stack(
            [class_weights(train.targets, one.section.class_weights, classes) for one in settings]
        )
        self.heads = [StackedHead() for _ in settings]
        self.alive = list(range(len(settings)))

    def epoch(self, epoch: int) -> None:
        """Train every head that is alive for an epoch, and judge it."""
        section = self._section
        torch.manual_seed(section.seed * 1_000_003 + epoch * 1_009)
        order = torch.from_numpy(epoch_order(len(self._train), section.seed, epoch))
        batches = torch.split(order, section.batch_size)
        mine = [(self._settings[k].section, self.heads[k].records) for k in self.alive]
        lr_K = torch.tensor([epoch_rate(one, epoch, records) for one, records in mine])
        total_K = torch.zeros(len(self.alive))
        for step, batch in enumerate(batches):
            risen = warmed_up(1.0, section, epoch, (step + 1) / len(batches))
            total_K += self._step(batch, lr_K * risen)
        rates = [learning_rate(one, epoch, records) for one, records in mine]
        self._record(epoch, (total_K / len(order)).tolist(), rates)

    def _step(self, batch: Tensor, lr_K: Tensor) -> Tensor:
        """One step of every head; the loss of each, summed over the batch (K,)."""
        mine = [self._settings[k] for k in self.alive]
        dropout_K = torch.tensor([one.dropout for one in mine])
        smoothing_K = torch.tensor([one.section.label_smoothing for one in mine])
        logits_KBC = self._stack.logits(self._train[batch], dropout_K if dropout_K.any() else None)
        targets_B = self._train_targets[batch]
        logs_KBC = torch.log_softmax(logits_KBC, dim=2)
        own_KB = logs_KBC.gather(2, targets_B.expand(len(mine), -1)[..., None])[..., 0]
        smooth = smoothing_K[:, None]
        losses_KB = -(1 - smooth) * own_KB - smooth * logs_KBC.mean(dim=2)
        weights_KB = self._weights_KC[self.alive][:, targets_B]
        loss = ((losses_KB * weights_KB).sum(dim=1) / weights_KB.sum(dim=1)).sum()
        gradients = list(torch.autograd.grad(loss, self._stack.parameters))
        if self._section.clip_norm is not None:
            gradients = _clipped(gradients, self._section.clip_norm)
        decay_K = torch.tensor([one.section.weight_decay for one in mine])
        self._optimizer.step(self._stack, gradients, lr_K, decay_K)
        return losses_KB.detach().sum(dim=1)

    def _record(self, epoch: int, losses: Sequence[float], rates: Sequence[float]) -> None:
        with torch.inference_mode():
            logits_KNC = self._stack.logits(self._val)
        judged = self._judged(logits_KNC)
        for place, k in enumerate(self.alive):
            loss, metrics = judged[place]
            head = self.heads[k]
            record = EpochRecord(epoch, losses[place], loss, metrics, rates[place], 0.0)
            best = head.best if head.best_epoch else None
            head.records.append(record)
            if better(record, best, self._settings[k].section):
                head.best_epoch = epoch

    def _judged(self, logits_KNC: Tensor) -> list[tuple[float | None, dict[str, float]]]:
        if not len(self._val):
            return [(None, {})] * len(logits_KNC)
        if self._section.select not in _QUICK:
            return [self._judge(logits_NC[None]) for logits_NC in logits_KNC]
        targets_N = torch.from_numpy(self._judge.targets)
        own = targets_N.expand(len(logits_KNC), -1)[..., None]
        losses_K = -torch.log_softmax(logits_KNC, dim=2).gather(2, own).mean(dim=(1, 2))
        predicted_KN = logits_KNC.argmax(dim=2)
        accuracy_K = (predicted_KN == targets_N).float().mean(dim=1)
        f1_K = _macro_f1(predicted_KN, targets_N, logits_KNC.shape[2])
        return [
            (loss, {"val_accuracy": accuracy, "val_macro_f1": f1})
            for loss, accuracy, f1 in zip(
                losses_K.tolist(), accuracy_K.tolist(), f1_K.tolist(), strict=True
            )
        ]

    def leave_out(self, epoch: int, keeps: Keeps | None) -> None:
        """Leave out the heads that have ended, and those that do not go on."""
        go_on = np.ones(len(self.alive), bool)
        for place, k in enumerate(self.alive):
            head = self.heads[k]
            go_on[place] = not stopped(head.records, head.best_epoch, self._settings[k].section)
        if keeps is not None:
            scores = np.array([score_of(self.heads[k].best, self._section) for k in self.alive])
            kept = keeps(scores, epoch)
            for place, k in enumerate(self.alive):
                self.heads[k].stopped = bool(go_on[place] and not kept[place])
            go_on &= kept
        if go_on.all():
            return
        places = torch.from_numpy(np.flatnonzero(go_on))
        self._stack.keep(places)
        self._optimizer.keep(places)
        self.alive = [k for k, mine in zip(self.alive, go_on, strict=True) if mine]


def score_of(record: EpochRecord, section: TrainSection) -> float:
    """What trials are compared by, higher being better: the metric that selects, or minus the loss;
    NaN where it is not known."""
    if section.select in record.metrics:
        return record.metrics[section.select]
    loss = record.train_loss if record.val_loss is None else record.val_loss
    return -loss if math.isfinite(loss) else math.nan


def _normalised(network: SystemNetwork, examples: Examples) -> tuple[Tensor, Tensor]:
    if not examples.flat:
        raise ValueError("stacked heads take one vector per example")
    vectors_ND = torch.from_numpy(np.ascontiguousarray(examples.rows[0]))
    if len(network.normalise):
        with torch.inference_mode():
            vectors_ND = network.normalise[0](vectors_ND).clone()
    return vectors_ND.clone(), torch.from_numpy(examples.targets)


def _macro_f1(predicted_KN: Tensor, targets_N: Tensor, num_classes: int) -> Tensor:
    """Macro F1 (K,) over the classes that occur among targets or predictions."""
    said_KNC = F.one_hot(predicted_KN, num_classes).float()
    is_NC = F.one_hot(targets_N, num_classes).float()
    hits_KC = (said_KNC * is_NC).sum(dim=1)
    either_KC = said_KNC.sum(dim=1) + is_NC.sum(dim=0)
    f1_KC = torch.where(either_KC > 0, 2 * hits_KC / either_KC.clamp(min=1), 0.0)
    return f1_KC.sum(dim=1) / (either_KC > 0).sum(dim=1)


def _clipped(gradients: list[Tensor], most: float) -> list[Tensor]:
    """Gradients of which each head's norm is at most `most` (as torch's clip_grad_norm_)."""
    squares_K: Any = sum(value.square().sum(dim=(1, 2)) for value in gradients)
    factor = (most / (squares_K.sqrt() + 1e-6)).clamp(max=1.0)[:, None, None]
    return [value * factor for value in gradients]
