"""What runs on the workers of the job `tune`: trials one by one, and many small heads as one."""

import json
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np

from audioflow.engine.train_data import example_sets
from audioflow.engine.train_task import TrainTask
from audioflow.engine.train_workers import (
    Prepared,
    fit_estimator,
    is_last,
    judge_of,
    use_cores,
)
from audioflow.errors import InputError, RecipeError
from audioflow.heads import HEADS
from audioflow.heads.base import is_estimator
from audioflow.recipe import SystemSection
from audioflow.search.halving import Halving
from audioflow.systems.network import network_for
from audioflow.training import FitState, Workers, epochs, normalise
from audioflow.training.stacked import Keeps, StackedSetting, fit_stacked, score_of

RATES = (
    "train.lr",
    "train.weight_decay",
    "train.label_smoothing",
    "train.class_weights",
    "train.temperature",
    "head.dropout",
)
"""Keys of a system in which heads of one stack may differ."""


REFUSALS = (InputError, RecipeError, RuntimeError, ValueError)
"""What says that settings cannot be, or not on these clips; all else may be better another time."""


@dataclass(frozen=True)
class Outcome:
    """How a trial ended: a score per place where it was judged, higher being better.

    state: `finished`, `stopped` (before its last epoch) or `failed`, with the reason.
    """

    number: int
    scores: list[float]
    epochs: int
    seconds: float
    state: str = "finished"
    reason: str | None = None

    @property
    def score(self) -> float | None:
        """The mean; None where it failed."""
        if self.state == "failed" or not self.scores or any(map(math.isnan, self.scores)):
            return None
        return float(np.mean(self.scores))

    @classmethod
    def failed(cls, number: int, error: BaseException) -> "Outcome":
        """Of a trial whose settings cannot be."""
        return cls(number, [], 0, 0.0, "failed", " ".join(str(error).split()))

    def to_json(self) -> str:
        return json.dumps(asdict(self))


def section_of(written: str) -> SystemSection:
    """A system as JSON; its numbers and texts are checked as those of a recipe are."""
    return SystemSection.model_validate_json(written, strict=True)


def stack_key(section: SystemSection, task: TrainTask) -> str | None:
    """What heads must have in common to be trained as one; None where this one cannot."""
    train, head = section.train, section.head
    options = HEADS.load(head.name).Settings.model_validate(head.options)
    plain = head.name == "linear" or (
        head.name == "mlp" and options.norm == "none" and not options.residual
    )
    pool = task.inputs.pool
    fits = (
        plain
        and pool is not None
        and pool.while_reading
        and len(task.inputs.layers) == 1
        and not task.classes.multi_label
        and task.classes.merge is None
        and train.loss == "cross_entropy"
        and train.sampling == "shuffle"
        and train.mixup == 0
        and train.precision == "float32"
        and train.gpus == 0
    )
    if not fits:
        return None
    common = {
        "system": section.model_dump(mode="json", exclude={"train", "head"}),
        "train": train.model_dump(mode="json"),
        "head": {"name": head.name} | options.model_dump(mode="json"),
    }
    for key in RATES:
        part, _, name = key.partition(".")
        common[part].pop(name, None)
    return json.dumps(common, sort_keys=True)


def fit_stack(
    tasks: Sequence[TrainTask], numbers: Sequence[int], halving: Halving | None
) -> list[Outcome]:
    """Heads of one stack, on the same clips: how each did there."""
    started = time.perf_counter()
    first = tasks[0]
    use_cores(first.section.train)
    sets = example_sets(first)
    network = network_for(first.network, first.section.train.seed)
    normalise(network, sets.train.rows)
    settings = [_setting(task) for task in tasks]
    keeps: Keeps | None = None if halving is None else halving.survivors
    judge = judge_of(first, sets.val)
    options = HEADS.load(first.section.head.name).Settings.model_validate(
        first.section.head.options
    )
    activation = getattr(options, "activation", "relu")
    heads = fit_stacked(
        network, sets.train, sets.val, judge, settings, activation=activation, keeps=keeps
    )
    seconds = (time.perf_counter() - started) / len(tasks)
    return [
        Outcome(
            number,
            [score_of(head.best, task.section.train)],
            len(head.records),
            seconds,
            "stopped" if head.stopped else "finished",
        )
        for number, task, head in zip(numbers, tasks, heads, strict=True)
    ]


def _setting(task: TrainTask) -> StackedSetting:
    choice = task.section.head
    options = HEADS.load(choice.name).Settings.model_validate(choice.options)
    return StackedSetting(task.section.train, getattr(options, "dropout", 0.0))


def steps_of_trial(tasks: Sequence[TrainTask]) -> Iterator[tuple[int, list[float], bool]]:
    """Train a trial on several divisions of the clips, side by side; after every epoch, how far it
    is, the best score so far on each, and whether that was the last one."""
    section = tasks[0].section.train
    use_cores(section)
    if is_estimator(HEADS.load(tasks[0].section.head.name)):
        yield 1, [_estimator_score(task) for task in tasks], True
        return
    runs = [_Running(task) for task in tasks]
    epoch = 0
    while True:
        went_on = [run.step() for run in runs]
        if not any(went_on):
            return
        epoch += 1
        yield epoch, [run.score for run in runs], all(run.over for run in runs)


def _estimator_score(task: TrainTask) -> float:
    result = fit_estimator(task, lambda record: None)
    record = result["records"][0]
    loss = record["val_loss"]
    metrics: Mapping[str, float] = record["metrics"]
    select = task.section.train.select
    return metrics.get(select, math.nan if loss is None else -loss)


class _Running:
    """One head in training."""

    def __init__(self, task: TrainTask) -> None:
        section = task.section.train
        data = Prepared.of(task)
        device = "cuda" if section.gpus else "cpu"
        self._section = section
        self._state = FitState({}, {}, {})
        self._epochs = epochs(
            data.network,
            data.material,
            section,
            state=self._state,
            workers=Workers(device=device),
        )

    def step(self) -> bool:
        """Train for an epoch; False where none is left."""
        return next(self._epochs, None) is not None

    @property
    def over(self) -> bool:
        """Whether that was the last epoch."""
        return is_last(self._state.records[-1], self._state, self._section)

    @property
    def score(self) -> float:
        return score_of(self._state.records[self._state.best_epoch - 1], self._section)


def divisions(task: TrainTask, folds: Sequence[str], inner: int | None) -> list[TrainTask]:
    """The tasks on which a setting is judged: with folds, for each that is held out so many others
    to judge on; else the one division that there is."""
    if not folds:
        return [task]
    found = []
    for place, fold in enumerate(folds):
        others = [*folds[place + 1 :], *folds[:place]]
        found += [replace(task, fold=fold, val_fold=val) for val in others[:inner]]
    return found
