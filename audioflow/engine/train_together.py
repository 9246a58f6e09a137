"""One head that several workers train together, by Ray Train.

Ray Train can begin again by itself, but with as many workers as before: for those whose node is
lost it would wait in vain. So it is begun again here, with as many as there is room for; the
gradients are those of one worker however many there are.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from pyarrow.fs import FSSpecHandler, PyFileSystem
from ray.train import (
    CheckpointConfig,
    ControllerError,
    FailureConfig,
    RunConfig,
    ScalingConfig,
    WorkerGroupError,
)
from ray.train.torch import TorchConfig, TorchTrainer

from audioflow.engine.lost import LOST, RETRIES, causes_of, in_our_words, ours_in
from audioflow.engine.nodes import settled_nodes
from audioflow.engine.resources import look
from audioflow.engine.room import room_of
from audioflow.engine.run import Run
from audioflow.engine.train_loop import load_result, train_loop
from audioflow.engine.train_save import JOB
from audioflow.engine.train_stream import READ_CPUS, StreamTask, plan_stream
from audioflow.engine.train_task import TrainTask
from audioflow.engine.train_tell import Teller
from audioflow.errors import LostWorkersError, StalledError
from audioflow.planning.machines import Need
from audioflow.recipe_train import TrainSection
from audioflow.storage import Folder, filesystem

MOST_FAULTS = 2
"""How often training is begun again though no node was lost: a fault of the program comes again."""


def fit_together(
    run: Run, task: TrainTask, key: str, tell: Teller, *, streams: bool
) -> dict[str, Any]:
    """One head by Ray Train; goes on where an earlier run, or workers that were lost, stopped.

    Raises what a worker raised on purpose, and `LostWorkersError` where no node is left for any
    worker, or too many were lost.
    """
    storage = run.folder / "train"
    name = f"{task.system}-{key[:12]}" + (f"-{task.fold}" if task.fold is not None else "")
    rooms = partial(room_of, run, JOB, name=task.system)
    stream = plan_stream(task, rooms) if streams else None
    together = _Together(task, storage, name, tell, stream)

    def lost(tries: int, workers: int, why: str) -> None:
        wanted, name = task.section.train.workers, task.system
        run.tell(JOB, "retry", name, tries=tries, workers=workers, wanted=wanted, reason=why)

    def room() -> int:
        return _room(run, task, streams=streams)

    crew = Crew(task.section.train.workers, settled_nodes, room, lost)
    with in_our_words():
        found = crew.train(together.fit)
    (storage / name).remove_all()
    return found | {"fold": task.fold}


@dataclass(frozen=True)
class Crew:
    """Workers that train a head together, and what is to be known when some of them are lost.

    nodes: the ids of those that are there. room: for how many workers. lost: is told how often
    workers were lost, with how many it goes on, and why.
    """

    workers: int
    nodes: Callable[[], set[str]]
    room: Callable[[], int]
    lost: Callable[[int, int, str], None]

    def train(self, fit: Callable[[int], dict[str, Any]]) -> dict[str, Any]:
        """What `fit` gives with so many workers, or with those for whom there is still room.

        Raises as `fit_together`, and what is a fault of the program as it came.
        """
        tries = faults = 0
        workers, nodes = self.workers, self.nodes()
        while True:
            tries += 1
            try:
                return fit(workers)
            except (WorkerGroupError, ControllerError) as error:
                if (ours := ours_in(error)) is not None:
                    raise ours from error
                left = self.nodes()
                faults += nodes <= left
                why = _why(error, len(nodes - left))
                if faults > MOST_FAULTS or tries > RETRIES:
                    _give_up(error, tries, why)
                nodes, workers = left, min(self.workers, self.room())
            self.lost(tries, workers, why)


@dataclass(frozen=True)
class _Together:
    """Training of one head. name: of the folder below `storage` that has its checkpoints."""

    task: TrainTask
    storage: Folder
    name: str
    tell: Teller
    stream: StreamTask | None

    def fit(self, workers: int) -> dict[str, Any]:
        section = self.task.section.train
        trainer = TorchTrainer(
            train_loop,
            train_loop_config={"task": self.task, "tell": self.tell, "stream": self.stream},
            torch_config=TorchConfig(backend="nccl" if section.gpus else "gloo"),
            scaling_config=ScalingConfig(
                num_workers=workers,
                use_gpu=section.gpus > 0,
                resources_per_worker=_resources(section),
            ),
            run_config=RunConfig(
                name=self.name,
                **_ray_storage(self.storage),
                failure_config=FailureConfig(max_failures=0, controller_failure_limit=0),
                checkpoint_config=CheckpointConfig(num_to_keep=1),
            ),
        )
        # Ray's own stays after training, and would then end later jobs as if they were done.
        trainer._register_sigint_handler = lambda controller: None
        with trainer.fit().checkpoint.as_directory() as folder:
            return load_result(Path(folder))


def _room(run: Run, task: TrainTask, *, streams: bool) -> int:
    """For how many of its workers the nodes have room, one at least. Raises `LostWorkersError`
    where there is none, and none comes for as long as the recipe waits."""
    section = task.section.train
    key = f"systems.{task.system}.train.workers"

    def needs(workers: int) -> list[Need]:
        reader = [Need(key, "a reader", {"CPU": READ_CPUS})] if streams else []
        return [Need(key, "a worker", _resources(section), count=workers), *reader]

    room_of(run, JOB, needs(1), task.system).wait()
    machines = look()
    fits = (n for n in range(section.workers, 1, -1) if not machines.lack(needs(n)))
    return next(fits, 1)


def _give_up(error: Exception, tries: int, why: str) -> NoReturn:
    """Raise what tells the user why training is not begun again."""
    stays = f"{why.removesuffix('.')}. What is committed stays, run the same command again to go on"
    if isinstance(error, ControllerError):
        raise StalledError(f"workers could not be started ({tries} times): {stays}") from error
    if any(isinstance(cause, LOST) for cause in causes_of(error)):
        raise LostWorkersError(f"workers were lost {tries} times: {stays}") from error
    raise error


def _why(error: Exception, gone: int) -> str:
    """Why training did not go on, in a line."""
    if gone:
        return f"{gone} {'node was' if gone == 1 else 'nodes were'} lost."
    causes = list(causes_of(error))
    lost = next((cause for cause in causes if isinstance(cause, LOST)), None)
    lines = str(lost or causes[-1]).strip().splitlines()
    return lines[0 if lost else -1] if lines else type(causes[-1]).__name__


def _resources(section: TrainSection) -> dict[str, float]:
    found = {"CPU": section.cpus_per_worker}
    return found | ({"GPU": section.gpus} if section.gpus else {})


def _ray_storage(folder: Folder) -> dict[str, Any]:
    """Where Ray Train keeps its checkpoints: by our file system where the store needs options."""
    if not folder.options.for_url(folder.url):
        return {"storage_path": folder.url}
    fs, path = filesystem(folder.url, folder.options)
    return {"storage_path": path, "storage_filesystem": PyFileSystem(FSSpecHandler(fs))}
