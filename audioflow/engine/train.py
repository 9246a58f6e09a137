"""The job `train`: a head per system, by Ray Train; with folds, one head per fold, as Ray tasks."""

import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from audioflow.engine.loggers import check_loggers
from audioflow.engine.nodes import watched_nodes
from audioflow.engine.room import room_of
from audioflow.engine.run import Run, Watch
from audioflow.engine.telling import tell_verdict
from audioflow.engine.train_calibrate import calibrate
from audioflow.engine.train_data import check_splits, estimated_bytes, folds_of
from audioflow.engine.train_epochs import Epochs, epochs_of
from audioflow.engine.train_fits import Fits, Fitted, side_by_side
from audioflow.engine.train_needs import worker_bytes
from audioflow.engine.train_place import placed
from audioflow.engine.train_save import JOB, Trained, save_heads
from audioflow.engine.train_stream import READ_CPUS
from audioflow.engine.train_task import (
    Classes,
    TrainTask,
    classes_of,
    head_weights,
    inputs_of,
)
from audioflow.engine.train_tell import Teller
from audioflow.engine.train_together import fit_together
from audioflow.engine.train_where import epochs_seconds, trainer_facts
from audioflow.errors import InputError
from audioflow.heads import HEADS
from audioflow.heads.base import is_estimator
from audioflow.planning.verdict_jobs import trained
from audioflow.recipe import SystemSection
from audioflow.systems.inputs import InputSpec
from audioflow.tables import SCHEMA_VERSION, Header, fingerprint


@dataclass(frozen=True)
class _Plan:
    """A system that is to be trained: one task, or one per fold.

    examples_bytes: of them in memory. key: of the head that is to be.
    """

    name: str
    section: SystemSection
    tasks: list[TrainTask]
    folds: list[str]
    key: str
    parents: dict[str, str]
    examples_bytes: int
    fitted: bool
    streams: bool

    @property
    def alone(self) -> bool:
        """Whether each of its heads is trained by one worker, from memory."""
        several = self.section.train.workers > 1 and not self.folds
        return self.fitted or not (self.streams or several)


def train(run: Run) -> list[Header]:
    """Write `heads/<system>/` for every system of the recipe.

    Heads that one worker trains are trained side by side. Where a system fails the others go on,
    and what it raised is raised when they are done.
    """
    check_loggers(run)
    plans = {name: _planned(run, name, one) for name, one in run.recipe.systems.items()}
    errors: dict[str, BaseException] = {}
    found: dict[str, Header] = {}

    def failed(name: str, error: BaseException) -> None:
        errors[name] = error
        if len(plans) > 1:
            run.tell(JOB, "failed", name, error=str(error) or type(error).__name__)

    with contextlib.ExitStack() as stack:
        at_work = any(plan is not None for plan in plans.values())
        epochs = stack.enter_context(epochs_of(run)) if at_work else None
        if at_work:
            stack.enter_context(watched_nodes(run, JOB))
        fits = Fits(partial(room_of, run, JOB))
        works = {
            name: partial(_train_system, run, name, plan, epochs, fits)
            for name, plan in plans.items()
        }
        alone = [name for name, plan in plans.items() if plan is None or plan.alone]
        found |= side_by_side({name: works[name] for name in alone}, fits.stop, failed)
        for name in [name for name in plans if name not in alone]:
            try:  # one after the other, since each may take the whole cluster
                found[name] = works[name]()
            except Exception as error:  # noqa: BLE001 - the first of them is raised below
                failed(name, error)
    if errors:
        raise next(iter(errors.values()))
    return [found[name] for name in plans]


def head_fingerprint(run: Run, name: str, system: SystemSection) -> tuple[str, dict[str, str]]:
    """Fingerprint and parents of a system's head, from the tables and weights as they are."""
    parents = {
        "manifest": run.manifest().complete_header().fingerprint,
        f"embeddings/{system.backbone}": run.embeddings(system.backbone)
        .complete_header()
        .fingerprint,
    }
    weights = head_weights(system, run.storage)
    parts = [name, parents, system.of_head, *([weights] if weights else [])]
    return fingerprint("head", SCHEMA_VERSION, *parts), parents


def _planned(run: Run, name: str, system: SystemSection) -> _Plan | None:
    """How a system will be trained; None where its head is there. Raises for faults of the input:
    those of all systems come before the first worker starts."""
    key, parents = head_fingerprint(run, name, system)
    if run.unchanged(JOB, name, run.head(name), key):
        return None
    task = train_task(run, name, system)
    folds = folds_of(run.manifest().read(["fold"])["fold"].unique().to_pylist())
    run.session.ensure()
    check_splits(task, folds)
    examples_bytes = estimated_bytes(task)
    fitted = is_estimator(HEADS.load(system.head.name))
    streams = not fitted and _streams(run, task, examples_bytes)
    if streams:
        _refuse_no_reader(run, task)
    together = streams or not (folds or fitted)
    system = placed(run, JOB, name, system, system.train.workers if together else 1)
    tasks = [replace(task, section=system, fold=fold) for fold in folds or (None,)]
    return _Plan(name, system, tasks, folds, key, parents, examples_bytes, fitted, streams)


def _train_system(
    run: Run, name: str, plan: _Plan | None, epochs: Epochs | None, fits: Fits
) -> Header:
    """Train what is planned of a system, and bring its calibration to what the recipe says."""
    made: Header | None = None
    if plan is not None:
        assert epochs is not None
        made = _fit_system(run, plan, epochs, fits)
    header = calibrate(run, name, run.recipe.systems[name], JOB, fits.get)
    if made is not None:
        run.finished(JOB, name, made)
    return header


def _fit_system(run: Run, plan: _Plan, epochs: Epochs, fits: Fits) -> Header:
    name, system, watch = plan.name, plan.section, Watch()
    total = (1 if plan.fitted else system.train.epochs) * len(plan.tasks)
    run.tell(
        JOB,
        "start",
        name,
        total=total,
        done=0,  # so far: a worker that goes on after some epochs says so when it begins
        folds=plan.folds,
        select=system.train.select,
        fitted=plan.fitted,
    )
    run.head(name).folder.remove_all()
    with epochs.of(name, system, total, waits=not plan.alone) as tell:
        if plan.alone:
            kept = run.folder / "train" / f"{name}-{plan.key[:12]}"
            made = fits.fit(
                plan.tasks, tell, kept, worker_bytes(plan.tasks[0], plan.examples_bytes)
            )
        else:
            made = _fit_distributed(run, plan, tell)
    where: dict[str, Any] = {}
    if not plan.fitted:
        facts = trainer_facts(
            plan.tasks[0], made.results, made.start_s, plan.examples_bytes, streams=plan.streams
        )
        where = tell_verdict(run, JOB, name, trained(facts))
    done = Trained(system, plan.tasks, made.results, plan.folds, plan.key, plan.parents, where)
    return save_heads(run, name, done, watch)


def train_task(
    run: Run, name: str, system: SystemSection, classes: Classes | None = None
) -> TrainTask:
    """The head of a system, to be trained on the tables that are there. classes: where known."""
    table = run.embeddings(system.backbone)
    names = tuple(run.manifest().complete_header().classes)
    inputs = inputs_of(name, system, table.complete_header(), table)
    classes = classes or classes_of(run.manifest(), system, names, name)
    _refuse_several(name, system, inputs, classes)
    return TrainTask(name, system, table.folder, run.manifest().folder, inputs, classes)


def _refuse_several(name: str, system: SystemSection, inputs: InputSpec, classes: Classes) -> None:
    """What cannot be done where clips have several labels, which the recipe alone does not tell."""
    if not classes.multi_label:
        return
    several = f"system {name!r}: clips have several labels or none"
    if inputs.pool is not None and inputs.pool.name == "vote":
        raise InputError(
            f"{several}, but pooling vote gives every patch one class; use pooling on scores: "
            "mean, max or top_k"
        )
    fitted = is_estimator(HEADS.load(system.head.name))
    if fitted and system.train.class_weights != "none":
        raise InputError(
            f"{several}, which train.class_weights ({system.train.class_weights}) cannot weigh for "
            f"the head {system.head.name}; use class_weight beside the head's name"
        )


def fit_alone_on_ray(
    run: Run, name: str, tasks: Sequence[TrainTask], key: str
) -> list[dict[str, Any]]:
    """A head per task, each in a task of Ray; they go on where an earlier run stopped."""
    kept = run.folder / "train" / f"{name}-{key[:12]}"
    total = sum(task.section.train.epochs for task in tasks)
    with epochs_of(run) as epochs, epochs.of(name, tasks[0].section, total) as tell:
        needs = worker_bytes(tasks[0], estimated_bytes(tasks[0]))
        fits = Fits(partial(room_of, run, JOB))
        return fits.fit(tasks, tell, kept, needs).results


def _fit_distributed(run: Run, plan: _Plan, tell: Teller) -> Fitted:
    """Heads by DDP over the recipe's number of workers, one after the other."""
    begun = time.time()
    results = [fit_together(run, task, plan.key, tell, streams=plan.streams) for task in plan.tasks]
    return Fitted(results, max(0.0, time.time() - begun - epochs_seconds(results)))


def _refuse_no_reader(run: Run, task: TrainTask) -> None:
    """Streaming needs a part of a CPU beside those that the workers hold."""
    train = task.section.train
    has, held = run.session.ensure().get("CPU", 0.0), train.workers * train.cpus_per_worker
    if held <= has < held + READ_CPUS:
        raise InputError(
            f"system {task.system!r}: train.workers ({train.workers}) of train.cpus_per_worker "
            f"({train.cpus_per_worker:g}) hold all {has:g} CPUs, and none is left to stream with; "
            f"set train.cpus_per_worker to {(has - READ_CPUS) / train.workers:g} or less, or "
            "train.ingest: memory"
        )


def _streams(run: Run, task: TrainTask, examples_bytes: int) -> bool:
    """Whether the examples stream from their shards, and not from memory; told where it is news."""
    section = task.section.train
    if section.ingest != "auto":
        return section.ingest == "stream"
    size_gb = examples_bytes / 2**30
    if size_gb <= section.memory_gb or section.sampling == "balanced":
        return False
    run.tell(
        JOB,
        "note",
        task.system,
        text=f"the clips take about {size_gb:.1f} GB, more than train.memory_gb "
        f"({section.memory_gb:g}): they stream from their shards in every epoch",
    )
    return True
