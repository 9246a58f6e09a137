"""What workers of the distributed training tests run, each in a process of its own."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from audioflow.systems.examples import Examples
from audioflow.systems.inputs import Pool
from audioflow.training import Material, Share, Source, Workers, fit
from tests.unit.small_training import (
    blobs,
    clips,
    judge_of,
    network,
    of_several_labels,
    section,
    silent,
    source,
)

UNEVEN = [2, 1, 4, 1, 1, 3, 1, 2, 1, 1, 5, 1, 2, 1, 1]


@dataclass(frozen=True)
class Case:
    """A kind of system to train: its network, its clips, and settings beside the usual ones.

    told: whether the weight of a whole batch is known beforehand.
    """

    network: dict[str, Any]
    clips: Callable[[int], Examples]
    section: dict[str, Any] = field(default_factory=dict)
    told: bool = True


def _blobs(count: int) -> Examples:
    return blobs(count, seed=1, spread=1.0)


def _patchy(count: int) -> Examples:
    return clips(UNEVEN[:count], seed=1, spread=1.0)


def _single(count: int) -> Examples:
    return clips([1] * count, seed=1, spread=1.0)


def _labels(count: int) -> Examples:
    return of_several_labels(_blobs(count))


_MLP = {"head": "mlp", "hidden": [8], "dropout": 0.0}
_SEQUENCE = {"head": "attention", "num_heads": 2, "dropout": 0.0}
_SGD = {"optimizer": "sgd"}
"""Adam makes whole steps of the rounding of gradients that are zero: those of keys' biases."""

CASES = {
    "one label": Case(_MLP, _blobs),
    "smoothing": Case(_MLP, _blobs, {"label_smoothing": 0.1}),
    "class weights": Case(_MLP, _blobs, {"class_weights": "balanced"}),
    "weights told late": Case(_MLP, _blobs, {"class_weights": "balanced"}, told=False),
    "balanced sampling": Case(_MLP, _blobs, {"sampling": "balanced"}),
    "several labels": Case(
        _MLP | {"multi_label": True}, _labels, {"class_weights": "balanced", "loss": "focal"}
    ),
    "focal loss, clipped": Case(_MLP, _blobs, {"loss": "focal", "clip_norm": 0.05}),
    "layer norm": Case(_MLP | {"norm": "layer"}, _blobs),
    "patches by themselves": Case(_MLP, lambda count: _patchy(count).per_patch()),
    "mean of logits": Case(_MLP | {"pool": Pool("mean", "logits", {})}, _patchy),
    "max of scores": Case(_MLP | {"pool": Pool("max", "scores", {})}, _patchy),
    "attention on logits": Case(_MLP | {"pool": Pool("attention", "logits", {})}, _patchy),
    "attention, single patches": Case(_MLP | {"pool": Pool("attention", "scores", {})}, _single),
    "learned on embeddings": Case(_MLP | {"pool": Pool("learned", "embeddings", {})}, _patchy),
    "sequences": Case(_SEQUENCE, _patchy, {"class_weights": "balanced"} | _SGD),
    "gated sequences": Case({"head": "gated_attention", "hidden": 4}, _patchy),
}


@dataclass(frozen=True)
class ToldLate:
    """A source whose workers know only the weight of their own share."""

    inner: Source

    @property
    def num_examples(self) -> int:
        return self.inner.num_examples

    @property
    def steps(self) -> int:
        return self.inner.steps

    @property
    def weights(self) -> Tensor:
        return self.inner.weights

    def epoch(self, epoch: int) -> Iterator[Share]:
        for share in self.inner.epoch(epoch):
            yield replace(share, weight=None)


def trained(
    case: Case, count: int, options: dict[str, Any], workers: Workers | None = None
) -> tuple[nn.Module, dict[str, np.ndarray], list[float]]:
    """The network, its parameters at the end and the validation losses, of so many clips."""
    told = section(**case.section, **options)
    made, examples = network(**case.network, seed=5), case.clips(count)
    given: Source = source(examples, told, workers=workers)
    given = given if case.told else ToldLate(given)
    material = Material(given, examples, judge_of(made, examples, told))
    state = fit(made, material, told, on_epoch=silent, workers=workers)
    parameters = {name: value.numpy().copy() for name, value in state.model.items()}
    return made, parameters, [record.val_loss or 0.0 for record in state.records]


def train_as_worker(
    rank: int, count: int, store: str, clips: int, options: dict[str, Any]
) -> dict[str, tuple[dict[str, np.ndarray], list[float]]]:
    """Train every case with DDP: its parameters at the end, and its validation losses."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", store=dist.FileStore(store, count), rank=rank, world_size=count)

    def total(value: float) -> float:
        found = torch.tensor(value, dtype=torch.float64)
        dist.all_reduce(found)
        return float(found)

    def agree(value: Any) -> Any:
        found = [value]
        dist.broadcast_object_list(found, src=0)
        return found[0]

    workers = Workers(rank, count, DistributedDataParallel, total, agree)
    found = {name: trained(case, clips, options, workers)[1:] for name, case in CASES.items()}
    dist.destroy_process_group()
    return found
