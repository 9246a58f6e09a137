"""Small systems to train: examples that can be told apart, networks, and a run in one line.

Shapes: B examples, P patches of a clip, V vectors of a patch, D width of a vector, C classes.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from audioflow.events import EpochRecord
from audioflow.heads import HEADS
from audioflow.recipe_train import TrainSection
from audioflow.systems.examples import Examples
from audioflow.systems.inputs import InputSpec, Pool
from audioflow.systems.network import NetworkSpec, SystemNetwork, network_for
from audioflow.systems.readout import Readout
from audioflow.training import FitState, Judge, Material, MemorySource, Workers, fit

CLASSES, WIDTH = 3, 4


def blobs(
    count: int = 60, classes: int = CLASSES, width: int = WIDTH, seed: int = 0, spread: float = 0.3
) -> Examples:
    """Vectors around one corner per class: separable for a small spread."""
    return clips([1] * count, classes, width, seed, spread)


def clips(
    patches: Sequence[int],
    classes: int = CLASSES,
    width: int = WIDTH,
    seed: int = 0,
    spread: float = 0.3,
) -> Examples:
    """Clips of so many patches each, all around the corner of the clip's class."""
    generator = np.random.default_rng(seed)
    targets = np.arange(len(patches), dtype=np.int64) % classes
    offsets = np.concatenate([[0], np.cumsum(patches)]).astype(np.int64)
    corners = 2 * np.eye(classes, width)[np.repeat(targets, patches)]
    rows = corners + spread * generator.normal(size=(offsets[-1], width))
    return Examples((rows.astype(np.float32),), offsets, targets)


def of_several_labels(examples: Examples, classes: int = CLASSES, every: int = 4) -> Examples:
    """The same with targets of 0 and 1: every so many examples have no label, others a second."""
    found = np.eye(classes, dtype=np.float32)[examples.targets]
    found[::every] = 0
    found[1::every, 0] = 1
    return Examples(examples.rows, examples.offsets, found)


def pictures(
    patches: Sequence[int], size: tuple[int, int], classes: int = CLASSES, seed: int = 0
) -> Examples:
    """Clips of pictures (V, D) of noise."""
    generator = np.random.default_rng(seed)
    offsets = np.concatenate([[0], np.cumsum(patches)]).astype(np.int64)
    rows = generator.normal(size=(offsets[-1], *size)).astype(np.float32)
    return Examples((rows,), offsets, np.arange(len(patches), dtype=np.int64) % classes)


def network(
    head: str = "linear",
    *,
    pool: Pool | None = None,
    widths: Sequence[int] = (WIDTH,),
    vectors_per_patch: int = 1,
    classes: int = CLASSES,
    normalised: bool = False,
    multi_label: bool = False,
    seed: int = 0,
    **options: Any,
) -> SystemNetwork:
    """A fresh network of a system."""
    layers = tuple(f"layer{place}" for place in range(len(widths)))
    inputs = InputSpec(layers, tuple(widths), HEADS.load(head).takes, pool, vectors_per_patch)
    spec = NetworkSpec(inputs, {"name": head} | options, classes, normalised, multi_label)
    return network_for(spec, seed)


def section(**options: Any) -> TrainSection:
    """Few epochs of small batches, unless told otherwise."""
    return TrainSection(**({"epochs": 5, "lr": 0.05, "batch_size": 16} | options))


def source(
    train: Examples, options: TrainSection, classes: int = CLASSES, workers: Workers | None = None
) -> MemorySource:
    """Where `train` comes from, for one worker of some."""
    workers = workers or Workers()
    return MemorySource(train, options, classes, workers.rank, workers.count)


def judge_of(made: SystemNetwork, val: Examples, options: TrainSection) -> Judge:
    """Who judges a network on `val`, where no classes are merged."""
    readout = Readout(made.spec.num_classes, made.spec.multi_label)
    return Judge(readout, val.targets, options.select)


def silent(_record: EpochRecord, _state: FitState) -> None:
    """Listens to epochs and does nothing."""


def run(
    made: SystemNetwork,
    options: TrainSection,
    *,
    train: Examples | None = None,
    val: Examples | None = None,
    resume: FitState | None = None,
    workers: Workers | None = None,
    listen: Callable[[EpochRecord, FitState], None] = silent,
) -> FitState:
    """Train a network, on blobs where nothing else is given."""
    train = blobs(seed=1) if train is None else train
    val = blobs(seed=2) if val is None else val
    return fit(
        made,
        Material(
            source(train, options, made.spec.num_classes, workers),
            val,
            judge_of(made, val, options),
        ),
        options,
        on_epoch=listen,
        workers=workers,
        resume=resume,
    )


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    """Whether two states of a network are equal to the last bit."""
    return one.keys() == other.keys() and all(one[key].equal(other[key]) for key in one)


def comparable(records: Sequence[EpochRecord]) -> list[tuple[Any, ...]]:
    """Everything of records but how long they took."""
    return [(r.epoch, r.train_loss, r.val_loss, tuple(r.metrics.items()), r.lr) for r in records]
