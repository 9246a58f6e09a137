"""What runs on the workers of the job `train`: one head, as a task of Ray.

Workers begin by importing this: what only some heads need is imported where it is used.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch

from audioflow.engine.train_checkpoints import Checkpoints
from audioflow.engine.train_data import example_sets
from audioflow.engine.train_task import TrainTask
from audioflow.engine.train_tell import Begun, Said, Teller
from audioflow.events import EpochRecord
from audioflow.heads import HEADS
from audioflow.heads.base import is_estimator
from audioflow.recipe_train import TrainSection
from audioflow.storage import Folder
from audioflow.systems.examples import Examples
from audioflow.systems.network import Batch, SystemNetwork, all_logits, network_for
from audioflow.training import (
    FitState,
    Judge,
    Material,
    MemorySource,
    Source,
    Workers,
    class_weights,
    fit,
    normalise,
    stopped,
)
from audioflow.training.temperature import fitted_temperature

_CHECKPOINT_S = 30.0
_CHECKPOINT_EPOCHS = 10
_LOOKED_AT = 4096

Tell = Callable[[Said], None]


@dataclass(frozen=True)
class Prepared:
    """What a task trains on: a fresh network, where its examples come from, and who judges it."""

    task: TrainTask
    network: SystemNetwork
    source: Source
    val: Examples
    judge: Judge
    clips: Mapping[str, int]

    @classmethod
    def of(cls, task: TrainTask, rank: int = 0, count: int = 1) -> "Prepared":
        """Everything in memory."""
        section = task.section.train
        sets = example_sets(task)
        network = network_for(task.network, section.seed)
        normalise(network, sets.train.rows)
        source = MemorySource(sets.train, section, len(task.classes.head), rank, count)
        return cls(task, network, source, sets.val, judge_of(task, sets.val), sets.clips)

    @property
    def material(self) -> Material:
        """What the network is trained and judged on."""
        return Material(self.source, self.val, self.judge)

    def result(self, state: FitState) -> dict[str, Any]:
        """The trained head: its weights with the normalisation, and how it went."""
        self.network.load_state_dict(state.best)
        told = {
            "weights": {name: value.cpu() for name, value in self.network.state_dict().items()},
            "records": [asdict(record) for record in state.records],
            "best_epoch": state.best_epoch,
            "clips": dict(self.clips),
        }
        return told | judged(self.task, self.network, self.val, self.judge)


def judge_of(task: TrainTask, val: Examples) -> Judge:
    """Who judges a task's network on its `val` clips."""
    layers = task.inputs.layers
    names = layers if task.inputs.takes == "layers" and len(layers) > 1 else ()
    return Judge(task.classes.readout, val.targets, task.section.train.select, names)


def judged(task: TrainTask, network: SystemNetwork, val: Examples, judge: Judge) -> dict[str, Any]:
    """Temperature, and the results of every class on `val`, of a network that is trained."""
    wanted = task.section.train.temperature
    votes = task.inputs.pool is not None and task.inputs.pool.name == "vote"
    if not len(val):
        return {"temperature": 1.0 if isinstance(wanted, str) else float(wanted), "classes": []}
    logits = all_logits(network.to("cpu"), val)
    if not isinstance(wanted, str):
        temperature = float(wanted)
    else:
        temperature = 1.0 if votes else fitted_temperature(logits, val.targets, judge.readout)
    scores = replace(judge.readout, temperature=temperature).scores(logits).numpy()
    return {"temperature": temperature, "classes": judge.by_class(scores, task.classes.names)}


def use_cores(section: TrainSection) -> None:
    """Let torch use this worker's cores; numbers below the smallest normal one would slow it 5x."""
    torch.set_num_threads(max(1, int(section.cpus_per_worker)))
    torch.set_flush_denormal(True)


def fit_timed(task: TrainTask, tell: Teller, kept: Folder) -> dict[str, Any]:
    """As `fit_alone`, with when it began (Unix time), the seconds it took, and what says that the
    last epoch was told."""
    began, started = time.time(), time.perf_counter()
    result = fit_alone(task, tell, kept)
    return result | {
        "began": began,
        "wall_s": time.perf_counter() - started,
        "sent": tell.sent,
    }


def fit_alone(task: TrainTask, tell: Tell, kept: Folder) -> dict[str, Any]:
    """One head in a plain task of Ray. kept: where its checkpoints are, from which it goes on."""
    section = task.section.train
    use_cores(section)
    if is_estimator(HEADS.load(task.section.head.name)):
        return fit_estimator(task, tell)
    data = Prepared.of(task)
    checkpoints, due = Checkpoints(kept, task.fold), Due()
    resume = checkpoints.load()
    tell(Begun(task.fold, len(resume.records) if resume else 0))

    def on_epoch(record: EpochRecord, state: FitState) -> None:
        tell({"fold": task.fold, "best": record.epoch == state.best_epoch} | asdict(record))
        if due.now(record, state, section):
            checkpoints.save(state)

    state = fit(
        data.network,
        data.material,
        section,
        on_epoch=on_epoch,
        workers=Workers(device="cuda" if section.gpus else "cpu"),
        resume=resume,
    )
    return data.result(state)


class Due:
    """When a checkpoint is due: after the last epoch, or when much would have to be done again."""

    def __init__(self) -> None:
        self._kept = time.monotonic()

    def now(self, record: EpochRecord, state: FitState, section: TrainSection) -> bool:
        late = time.monotonic() - self._kept > _CHECKPOINT_S
        due = late or record.epoch % _CHECKPOINT_EPOCHS == 0 or is_last(record, state, section)
        if due:
            self._kept = time.monotonic()
        return due


def is_last(record: EpochRecord, state: FitState, section: TrainSection) -> bool:
    """Whether training ends with this epoch."""
    ended = stopped(state.records, state.best_epoch, section)
    return ended or record.epoch == section.epochs


def fit_estimator(task: TrainTask, tell: Tell) -> dict[str, Any]:
    """A head that scikit-learn fits: one "epoch"."""
    from audioflow.heads import estimators
    from audioflow.systems.estimator import EstimatorModule

    started = time.perf_counter()
    section, choice = task.section.train, task.section.head
    sets = example_sets(task)
    train = sets.train
    made = HEADS.build(choice.name, choice.options).estimator(section.seed)
    if task.classes.multi_label:
        made = estimators.multi_label(made)
    weights = _sample_weights(task, train)
    warnings = estimators.fit(made, train.rows[0], train.targets, weights)
    head = EstimatorModule(made, len(task.classes.head), task.classes.multi_label)
    network = SystemNetwork(task.network, head).eval()
    judge = judge_of(task, sets.val)
    loss: float | None = None
    metrics: dict[str, float] = {}
    if len(sets.val):
        loss, metrics = judge(all_logits(network, sets.val))
    train_loss = _train_loss(task, network, train)
    seconds = time.perf_counter() - started
    record = EpochRecord(1, train_loss, loss, metrics, 0.0, seconds)
    tell({"fold": task.fold, "best": True} | asdict(record))
    return {
        "weights": estimators.save(made),
        "records": [asdict(record)],
        "best_epoch": 1,
        "clips": dict(sets.clips),
        "warnings": warnings,
    } | judged(task, network, sets.val, judge)


def _train_loss(task: TrainTask, network: SystemNetwork, train: Examples) -> float:
    """The mean loss on at most some thousand examples, evenly taken: scores can be slow."""
    places = np.unique(np.linspace(0, len(train) - 1, _LOOKED_AT).astype(np.int64))
    some = train.take(places)
    readout = replace(task.classes.readout, merge=None, num_classes=len(task.classes.head))
    return Judge(readout, some.targets)(network.patches(Batch.of(some)))[0]


def _sample_weights(task: TrainTask, train: Examples) -> Any:
    if task.section.train.class_weights == "none" or task.classes.multi_label:
        return None
    weights = class_weights(train.targets, "balanced", len(task.classes.head))
    return weights.numpy()[train.targets].astype(np.float32)
