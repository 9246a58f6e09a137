"""Heads that plain tasks of Ray fit, those of several systems side by side.

How many are fitted at once is Ray's to say: each task asks for the CPUs, the GPUs and the memory
that it needs, and waits for its turn.
"""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import ray
from ray.exceptions import RayError

from audioflow.engine.lost import RETRIES, in_our_words
from audioflow.engine.resources import look
from audioflow.engine.room import Room
from audioflow.engine.train_needs import alone_cpus
from audioflow.engine.train_task import TrainTask
from audioflow.engine.train_tell import Teller
from audioflow.engine.train_workers import fit_timed
from audioflow.errors import LostWorkersError, cause_of
from audioflow.planning.machines import Need
from audioflow.storage import Folder

_LOOK_S = 5.0
_AWAKE_S = 1.0

_MOST_AT_ONCE = 64
"""Systems that are under way, most of them waiting: each has a thread of the driver."""

Made = TypeVar("Made")
Rooms = Callable[[Sequence[Need], str], Room]
"""The room that tasks of a table need, which is told by its name where it is waited for."""


@dataclass(frozen=True)
class Fitted:
    """What came of a system's tasks. start_s: what of their time was none of the epochs', and how
    long the first waited for its worker once there was room for it."""

    results: list[dict[str, Any]]
    start_s: float


class Stopped(Exception):
    """Nothing more is to be begun."""


class Fits:
    """The tasks of a job that are under way. Used from several threads."""

    def __init__(self, room: Rooms) -> None:
        """room: for what each task needs."""
        self._room = room
        self._lock = threading.Lock()
        self._pending: set[ray.ObjectRef] = set()
        self._ends: list[float] = []
        self._stopped = False

    def fit(
        self, tasks: Sequence[TrainTask], tell: Teller, kept: Folder, needs_bytes: int
    ) -> Fitted:
        """A head per task; they go on where an earlier run stopped. kept: where checkpoints are.

        Ray Train, with its controller and its placement groups, takes some 20 s more for one
        worker. needs_bytes: of each worker.
        """
        asked, need = time.time(), need_of(tasks[0], needs_bytes)
        takes = need.resources
        remote = ray.remote(
            num_cpus=takes["CPU"],
            num_gpus=takes["GPU"],
            memory=int(takes["memory"]),
            max_retries=RETRIES,
        )(fit_timed)
        with in_our_words():
            results: list[dict[str, Any]] = self.get(
                [remote.remote(task, tell, kept) for task in tasks],
                self._room([need], tasks[0].system),
            )
        for result, task in zip(results, tasks, strict=True):
            result["fold"] = task.fold
            if sent := result.pop("sent"):
                with suppress(RayError):  # an epoch that nobody hears of is no reason to fail
                    ray.get(sent)
        kept.remove_all()
        return Fitted(results, self._start_s(results, asked))

    def get(self, refs: Sequence[Any], room: Room) -> list[Any]:
        """The results of tasks; raises what one of them raised, and then cancels the others.

        room: what each of them needs, which may be lost with a node.
        """
        with self._lock:
            if self._stopped:
                raise Stopped
            self._pending.update(refs)
        waiting, found = list(refs), {}
        try:
            while waiting:
                ready, waiting = ray.wait(waiting, timeout=_LOOK_S)
                if not ready:
                    room.check()
                for ref in ready:
                    self._ends.append(time.time())
                    found[ref] = ray.get(ref)
        except LostWorkersError:
            for ref in waiting:
                ray.cancel(ref)
            raise
        except RayError as error:
            for ref in waiting:
                ray.cancel(ref)
            raise cause_of(error) from error
        finally:
            with self._lock:
                self._pending.difference_update(refs)
        return [found[ref] for ref in refs]

    def stop(self) -> None:
        """Begin nothing more, and end what runs: its checkpoints stay."""
        with self._lock:
            self._stopped = True
            pending = list(self._pending)
        for ref in pending:
            ray.cancel(ref, force=True)

    def _start_s(self, results: Sequence[Mapping[str, Any]], asked: float) -> float:
        """While others were at work, a task waited for them and not for its own start."""
        began = min(result["began"] for result in results)
        free = max([asked, *(end for end in list(self._ends) if end <= began)])
        rest = (
            result["wall_s"] - sum(record["seconds"] for record in result["records"])
            for result in results
        )
        return max(0.0, began - free) + sum(max(0.0, seconds) for seconds in rest)


def need_of(task: TrainTask, needs_bytes: int) -> Need:
    """What a worker takes that trains a head alone, of the memory no more than half of what a node
    has that could do it."""
    section = task.section.train
    takes = {"CPU": alone_cpus(section), "GPU": section.gpus}
    need = Need(f"systems.{task.system}.train", "a worker", takes)
    memory = min(needs_bytes, look().roomiest(need) / 2)
    return replace(need, resources={**takes, "memory": memory})


def side_by_side(
    works: Mapping[str, Callable[[], Made]],
    stop: Callable[[], None],
    failed: Callable[[str, BaseException], None],
) -> dict[str, Made]:
    """What every one of some works makes, by its name, each done in a thread.

    Where one fails the others go on; it is told at once. Where this thread is interrupted, `stop`
    has to end them all.
    """
    made: dict[str, Made] = {}
    with ThreadPoolExecutor(min(_MOST_AT_ONCE, len(works) or 1)) as pool:
        futures: dict[Future[Made], str] = {pool.submit(do): name for name, do in works.items()}
        try:
            while futures:
                # Not for ever: polars has a way of handling Ctrl-C that does not end such a wait.
                for future in wait(futures, _AWAKE_S, FIRST_COMPLETED).done:
                    name = futures.pop(future)
                    if (error := future.exception()) is None:
                        made[name] = future.result()
                    else:
                        failed(name, error)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            stop()
            raise
    return made
