"""The job `train`: a head per system, by Ray Train; with folds, one head per fold, as Ray tasks."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import ray
import ray.train
from pyarrow.fs import FSSpecHandler, PyFileSystem
from ray.exceptions import RayError
from ray.train import (
    CheckpointConfig,
    FailureConfig,
    RunConfig,
    ScalingConfig,
    WorkerGroupError,
)
from ray.train.torch import TorchConfig, TorchTrainer
from ray.util.queue import Empty, Queue

from audioflow.engine.loggers import Logged, Logger, check_loggers, loggers_of, scalars_of
from audioflow.engine.lost import RETRIES
from audioflow.engine.run import Run, Watch
from audioflow.engine.telling import tell_verdict
from audioflow.engine.train_calibrate import calibrate
from audioflow.engine.train_data import check_splits, estimated_bytes, folds_of
from audioflow.engine.train_loop import load_result, train_loop
from audioflow.engine.train_save import JOB, Trained, save_heads
from audioflow.engine.train_stream import READ_CPUS, plan_stream
from audioflow.engine.train_task import (
    Classes,
    TrainTask,
    classes_of,
    head_weights,
    inputs_of,
)
from audioflow.engine.train_where import trainer_facts
from audioflow.engine.train_workers import fit_alone
from audioflow.errors import AudioflowError, InputError, cause_of
from audioflow.heads import HEADS
from audioflow.heads.base import is_estimator
from audioflow.planning.verdict_jobs import trained
from audioflow.recipe import SystemSection
from audioflow.recipe_train import TrainSection
from audioflow.storage import Folder, filesystem
from audioflow.systems.inputs import InputSpec
from audioflow.tables import SCHEMA_VERSION, Header, fingerprint

_ASK_AGAIN_S = 0.5


def train(run: Run) -> list[Header]:
    """Write `heads/<system>/` for every system of the recipe."""
    check_loggers(run)
    found = []
    for name, system in run.recipe.systems.items():
        _train_system(run, name, system)
        found.append(calibrate(run, name, system, JOB))
    return found


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


def _train_system(run: Run, name: str, system: SystemSection) -> Header:
    key, parents = head_fingerprint(run, name, system)
    table = run.head(name)
    if old := run.unchanged(JOB, name, table, key):
        return old
    watch = Watch()
    task = train_task(run, name, system)
    folds = folds_of(run.manifest().read(["fold"])["fold"].to_pylist())
    run.session.ensure()
    estimator = is_estimator(HEADS.load(system.head.name))
    epochs = 1 if estimator else system.train.epochs
    run.tell(
        JOB,
        "start",
        name,
        total=epochs * max(1, len(folds)),
        done=0,
        folds=folds,
        select=system.train.select,
        fitted=estimator,
    )
    table.folder.remove_all()
    check_splits(task, folds)  # before any worker starts: a fault of the input is told at once
    streams = not estimator and _streams(run, task)
    if streams:
        _refuse_no_reader(run, task)
    tasks = [replace(task, fold=fold) for fold in folds or (None,)]
    begun = time.time()
    if streams or (system.train.workers > 1 and not folds and not estimator):
        results = [_fit_distributed(run, one, key, streams=streams) for one in tasks]
    else:
        results = fit_alone_on_ray(run, name, tasks, key)
    where: dict[str, Any] = {}
    if not estimator:
        found = trained(trainer_facts(task, results, begun, streams=streams))
        where = tell_verdict(run, JOB, name, found)
    made = Trained(system, tasks, results, folds, key, parents, where)
    header = save_heads(run, name, made, watch)
    run.finished(JOB, name, header)
    return header


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
    """A head per task, each in a task of Ray; they go on where an earlier run stopped.

    Ray Train, with its controller and its placement groups, takes some 20 s more for one worker.
    """
    section = tasks[0].section.train
    kept = run.folder / "train" / f"{name}-{key[:12]}"
    remote = ray.remote(
        num_cpus=section.cpus_per_worker, num_gpus=section.gpus_per_worker, max_retries=RETRIES
    )(fit_alone)
    with _epochs(run, name, tasks[0].section) as tell:
        pending = [remote.remote(task, tell, kept) for task in tasks]
        try:
            results: list[dict[str, Any]] = ray.get(pending)
        except RayError as error:
            raise cause_of(error) from error
    for result, task in zip(results, tasks, strict=True):
        result["fold"] = task.fold
    kept.remove_all()
    return results


def _fit_distributed(run: Run, task: TrainTask, key: str, *, streams: bool) -> dict[str, Any]:
    """One head by DDP over the recipe's number of workers; resumes where an earlier run stopped."""
    section = task.section.train
    storage = run.folder / "train"
    name = f"{task.system}-{key[:12]}" + (f"-{task.fold}" if task.fold is not None else "")
    stream = plan_stream(task) if streams else None
    with _epochs(run, task.system, task.section) as tell:
        trainer = TorchTrainer(
            train_loop,
            train_loop_config={"task": task, "tell": tell, "stream": stream},
            torch_config=TorchConfig(backend="nccl" if section.gpus_per_worker else "gloo"),
            scaling_config=ScalingConfig(
                num_workers=section.workers,
                use_gpu=section.gpus_per_worker > 0,
                resources_per_worker=_resources(section),
            ),
            run_config=RunConfig(
                name=name,
                **_ray_storage(storage),
                failure_config=FailureConfig(max_failures=2, controller_failure_limit=1),
                checkpoint_config=CheckpointConfig(num_to_keep=1),
            ),
        )
        try:
            result = trainer.fit()
        except WorkerGroupError as error:
            raise _first_of_ours(error) from error
        except RayError as error:
            raise cause_of(error) from error
    with result.checkpoint.as_directory() as folder:
        found = load_result(Path(folder))
    (storage / name).remove_all()
    return found | {"fold": task.fold}


def _first_of_ours(error: WorkerGroupError) -> BaseException:
    """What a worker raised on purpose; else the error as it is."""
    causes = (cause_of(failure) for failure in error.worker_failures.values())
    return next((cause for cause in causes if isinstance(cause, AudioflowError)), error)


def _resources(section: TrainSection) -> dict[str, float]:
    found = {"CPU": section.cpus_per_worker}
    return found | ({"GPU": section.gpus_per_worker} if section.gpus_per_worker else {})


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


def _streams(run: Run, task: TrainTask) -> bool:
    """Whether the examples stream from their shards, and not from memory; told where it is news."""
    section = task.section.train
    if section.ingest != "auto":
        return section.ingest == "stream"
    size_gb = estimated_bytes(task) / 2**30
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


def _ray_storage(folder: Folder) -> dict[str, Any]:
    """Where Ray Train keeps its checkpoints: by our file system where the store needs options."""
    if not folder.options.for_url(folder.url):
        return {"storage_path": folder.url}
    fs, path = filesystem(folder.url, folder.options)
    return {"storage_path": path, "storage_filesystem": PyFileSystem(FSSpecHandler(fs))}


@contextlib.contextmanager
def _epochs(
    run: Run, name: str, section: SystemSection
) -> Iterator[Callable[[dict[str, Any]], None]]:
    """Where workers send epoch records; they are told and logged as they come."""
    queue = Queue(actor_options={"num_cpus": 0})
    ended = threading.Event()

    def listen(loggers: Sequence[Logger]) -> None:
        while True:
            try:
                record = queue.get(block=True, timeout=0.3)
            except (Empty, RayError) as error:
                if ended.is_set():
                    return
                if isinstance(error, RayError):  # its node is in trouble; the job will tell
                    time.sleep(_ASK_AGAIN_S)
                continue
            run.tell(JOB, "epoch", name, **record)
            fold = record.get("fold")
            for logger in loggers:
                inner = "" if fold is None else f"fold-{fold}"
                logger.add(inner, record["epoch"], scalars_of(record))

    logged = Logged(JOB, name, run.head(name).folder, section.model_dump(mode="json"))
    with loggers_of(run, logged) as loggers:
        thread = threading.Thread(target=listen, args=(loggers,), daemon=True)
        thread.start()
        try:
            yield Teller(queue)
        finally:
            ended.set()
            thread.join()
            queue.shutdown(force=True)


class Teller:
    """Sends an epoch's record to the driver; travels to workers."""

    def __init__(self, queue: Queue) -> None:
        self._queue = queue

    def __call__(self, record: dict[str, Any]) -> None:
        self._queue.put(record)
