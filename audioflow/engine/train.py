"""The job `train`: a head per system, by Ray Train; with folds, one head per fold, as Ray tasks."""

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import ray
import ray.train
from pyarrow.fs import FSSpecHandler, PyFileSystem
from ray.exceptions import RayError
from ray.train import CheckpointConfig, FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer
from ray.util.queue import Empty, Queue

from audioflow.engine.board import Board
from audioflow.engine.run import Run, Watch
from audioflow.engine.train_data import (
    TrainTask,
    build_pooling,
    check_splits,
    folds_of,
    is_cross_validated,
)
from audioflow.engine.train_workers import (
    fit_fold,
    load_result,
    train_loop,
)
from audioflow.errors import AudioflowError, Fault, RecipeError
from audioflow.heads.bundle import HeadBundle, HeadSpec
from audioflow.recipe import SystemSection
from audioflow.registry import nearest
from audioflow.storage import Folder, filesystem
from audioflow.tables import SCHEMA_VERSION, Header, fingerprint, package_versions

JOB = "train"


def train(run: Run) -> list[Header]:
    """Write `heads/<system>/` for every system of the recipe."""
    return [_train_system(run, name, system) for name, system in run.recipe.systems.items()]


def head_fingerprint(run: Run, name: str, system: SystemSection) -> tuple[str, dict[str, str]]:
    """Fingerprint and parents of a system's head, from the tables as they are."""
    parents = {
        "manifest": run.manifest().complete_header().fingerprint,
        f"embeddings/{system.backbone}": run.embeddings(system.backbone)
        .complete_header()
        .fingerprint,
    }
    return fingerprint(
        "head", SCHEMA_VERSION, name, parents, system.model_dump(mode="json")
    ), parents


def _train_system(run: Run, name: str, system: SystemSection) -> Header:
    key, parents = head_fingerprint(run, name, system)
    table = run.head(name)
    if old := run.unchanged(JOB, name, table, key):
        return old
    watch = Watch()
    task = train_task(run, name, system)
    manifest = run.manifest().read(["split", "fold"])
    folds = folds_of(manifest["fold"].to_pylist())
    crossed = is_cross_validated(manifest["split"].to_pylist())
    epochs = system.train.epochs
    run.session.ensure()
    run.tell(JOB, "start", name, total=epochs * max(1, len(folds)), done=0, folds=folds)
    table.folder.remove_all()
    results = _fit_folds(run, task, folds) if crossed else [_fit_distributed(run, task, key)]
    vectors = run.embeddings(system.backbone).complete_header().settings["vectors"]
    files: dict[str, str] = {}
    for result in results:
        files |= _save(table.folder, task, result, vectors)
    header = Header(
        kind="head",
        name=name,
        fingerprint=key,
        parents=parents,
        settings=system.model_dump(mode="json") | {"folds": folds},
        rows=len(results),
        failures=0,
        shards=[],
        classes=list(task.classes),
        stats=watch.stats(sum(result["clips"]["train"] for result in results))
        | {"results": [_summary(result) for result in results], "workers": system.train.workers}
        | {"files": files},
        versions=package_versions(),
    )
    run.finished(JOB, name, table.finish(header))
    return header


def train_task(run: Run, name: str, system: SystemSection) -> TrainTask:
    """The head of a system, to be trained on the tables that are there."""
    header = run.embeddings(system.backbone).complete_header()
    layers: dict[str, int] = header.settings["layers"]
    layer = system.layer or next(iter(layers))
    if layer not in layers:
        problem = f"{layer!r} is not a layer of {system.backbone}"
        fault = Fault(
            f"systems.{name}.layer", problem, layer, ", ".join(layers), nearest(layer, layers)
        )
        raise RecipeError("recipe", [fault])
    return TrainTask(
        name,
        system,
        run.embeddings(system.backbone).folder,
        run.manifest().folder,
        layer,
        build_pooling(system.pooling).width(layers[layer]),
        tuple(run.manifest().complete_header().classes),
    )


def _summary(result: dict[str, Any]) -> dict[str, Any]:
    best = result["records"][result["best_epoch"] - 1]
    parameters = sum(
        value.numel() for name, value in result["weights"].items() if name.startswith("head.")
    )
    return {
        "fold": result.get("fold"),
        "best_epoch": result["best_epoch"],
        "metrics": best["metrics"] | {"val_loss": best["val_loss"]},
        "num_parameters": parameters,
        "seconds": round(sum(record["seconds"] for record in result["records"]), 3),
        "clips": result["clips"],
    }


def _save(folder: Folder, task: TrainTask, result: dict[str, Any], vectors: str) -> dict[str, str]:
    """Write the bundle; returns the SHA-256 of its files by their path in the table."""
    fold = result.get("fold")
    spec = HeadSpec(
        system=task.system,
        backbone=task.section.backbone,
        embeddings=vectors,
        layer=task.layer,
        width=task.width,
        pooling=task.section.pooling.model_dump(mode="json"),
        head=task.section.head.model_dump(mode="json"),
        classes=list(task.classes),
        trained_on=_summary(result) | {"train": task.section.train.model_dump(mode="json")},
        fold=fold,
    )
    inner = f"fold-{fold}/" if fold is not None else ""
    target = folder / f"fold-{fold}" if fold is not None else folder
    files = HeadBundle(spec, result["weights"]).save(target, result["records"])
    return {f"{inner}{name}": sha256 for name, sha256 in files.items()}


def _fit_folds(run: Run, task: TrainTask, folds: Sequence[str]) -> list[dict[str, Any]]:
    cpus = task.section.train.cpus_per_worker
    remote = ray.remote(num_cpus=cpus, max_retries=2)(fit_fold)
    with _epochs(run, task) as tell:
        pending = [remote.remote(replace(task, fold=fold), tell) for fold in folds]
        try:
            results: list[dict[str, Any]] = ray.get(pending)
        except RayError as error:
            raise _cause(error) from error
    for result, fold in zip(results, folds, strict=True):
        result["fold"] = fold
    return results


def _fit_distributed(run: Run, task: TrainTask, key: str) -> dict[str, Any]:
    """One head by DDP over the recipe's number of workers; resumes where an earlier run stopped."""
    section = task.section.train
    check_splits(task)  # before any worker starts, so that a fault of the input is told at once
    storage = run.folder / "train"
    name = f"{task.system}-{key[:12]}"
    with _epochs(run, task) as tell:
        trainer = TorchTrainer(
            train_loop,
            train_loop_config={"task": task, "tell": tell},
            torch_config=TorchConfig(backend="gloo"),
            scaling_config=ScalingConfig(
                num_workers=section.workers,
                resources_per_worker={"CPU": section.cpus_per_worker},
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
        except RayError as error:
            raise _cause(error) from error
    with result.checkpoint.as_directory() as folder:
        found = load_result(Path(folder))
    (storage / name).remove_all()
    return found


def _ray_storage(folder: Folder) -> dict[str, Any]:
    """Where Ray Train keeps its checkpoints: by our file system where the store needs options."""
    if not folder.options.for_url(folder.url):
        return {"storage_path": folder.url}
    fs, path = filesystem(folder.url, folder.options)
    return {"storage_path": path, "storage_filesystem": PyFileSystem(FSSpecHandler(fs))}


def _cause(error: BaseException) -> BaseException:
    """The audioflow error inside what Ray raised, or what Ray raised."""
    inner: BaseException | None = error
    while inner is not None:
        if isinstance(inner, AudioflowError):
            return inner
        inner = getattr(inner, "cause", None) or inner.__cause__
    return error


@contextlib.contextmanager
def _epochs(run: Run, task: TrainTask) -> Iterator[Callable[[dict[str, Any]], None]]:
    """Where workers send epoch records; they are told and put on the board as they come."""
    queue = Queue(actor_options={"num_cpus": 0})
    ended = threading.Event()
    board = Board(run.head(task.system).folder)

    def listen() -> None:
        while True:
            try:
                record = queue.get(block=True, timeout=0.3)
            except Empty:
                if ended.is_set():
                    return
                continue
            board.add(record)
            run.tell(JOB, "epoch", task.system, **record)

    thread = threading.Thread(target=listen, daemon=True)
    thread.start()
    try:
        yield Teller(queue)
    finally:
        ended.set()
        thread.join()
        board.close()
        queue.shutdown(force=True)


class Teller:
    """Sends an epoch's record to the driver; travels to workers."""

    def __init__(self, queue: Queue) -> None:
        self._queue = queue

    def __call__(self, record: dict[str, Any]) -> None:
        self._queue.put(record)
