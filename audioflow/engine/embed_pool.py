"""A pool of workers on Ray actors: for embedding where no backbone needs a GPU, and for scoring.

Nothing but work items and receipts travels here, so there is nothing for Ray Data to hold back or
to place; and asked for by the driver itself, the workers load while Ray Data would still be
starting (2.8 s on two cores).
"""

import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import RayError

from audioflow.engine.embed_deal import Deal, Lost
from audioflow.engine.embed_pulse import BoardRef
from audioflow.engine.embed_watch import StallWatch
from audioflow.engine.embed_work import Done
from audioflow.engine.lost import RETRIES, in_our_words
from audioflow.engine.resources import look, nodes_within_s, ready_for
from audioflow.engine.run import Run
from audioflow.planning.machines import Machines, Need

_GROW_EVERY_S = 5.0


def _silent(text: str) -> None:
    """A listener for those who want none."""


@dataclass(frozen=True)
class Room:
    """What a worker takes, and how many there are at first.

    fixed: no more are started when nodes join. tell: is told in words when more are. wait_s: how
    long a node may take that an autoscaler starts in place of the last.
    """

    worker: Need
    first: int
    fixed: bool = False
    tell: Callable[[str], None] = _silent
    wait_s: float = 0.0

    def now(self, machines: Machines) -> int:
        """How many workers there may be by now. Where nodes are started as they are needed, some
        beyond those that fit: what waits for a node is what brings one."""
        room = machines.room(self.worker)
        most = machines.most_room(self.worker)
        return max(self.first, 2 * room if most is None else most)

    @property
    def options(self) -> dict[str, Any]:
        """For Ray."""
        found: dict[str, Any] = {
            "num_cpus": self.worker.resources["CPU"],
            "memory": int(self.worker.resources.get("memory", 0)) or None,
        }
        if self.worker.labels:
            found["label_selector"] = dict(self.worker.labels)
        return found


def room_for(run: Run, job: str, name: str, takes: int) -> Room:
    """A worker for every CPU, as far as memory goes. takes: bytes of each.

    Raises `ClusterError` where there is none, and none comes.
    """
    share = min(1.0, run.session.ensure().get("CPU", 0.0) or 1.0)
    worker = Need(job, "a worker", {"CPU": share})
    memory = min(float(takes), ready_for(run, job, [worker]).roomiest(worker))
    worker = Need(job, "a worker", {"CPU": share, "memory": memory})
    machines = ready_for(run, job, [worker])
    return Room(
        worker,
        max(1, machines.room(worker)),
        tell=lambda text: run.tell(job, "note", name, text=text),
        wait_s=nodes_within_s(run),
    )


@dataclass(frozen=True)
class Pool:
    """How many workers there are, and what each takes of the cluster.

    worker: the class of the actors, with the methods `ready` and `do`; where `ready` gives its
    node, `do` takes a `Trial`, too. arguments: of its constructor, which gets the board of the run,
    too. lost: is told of items that are given to others because their worker was lost.
    """

    worker: type[Any]
    arguments: Sequence[Any]
    room: Room
    stall_timeout_s: float
    lost: Lost = lambda number, tries, why: None

    @property
    def workers(self) -> int:
        """How many there are at first."""
        return self.room.first

    def results(self, count: int, row: Callable[[int], Any]) -> Generator[tuple[int, Done]]:
        """What became of every work item, by its number, in the order they finish.

        row: gives the item of a number, when a worker is about to get it.

        Raises `StalledError` where no clip is finished for longer than the recipe allows,
        `LostWorkersError` where workers are lost more often than they are replaced.
        """
        options = {"max_restarts": RETRIES, "scheduling_strategy": "SPREAD"} | self.room.options
        board = BoardRef()
        worker = ray.remote(**options)(self.worker)

        def more() -> Any:
            return worker.remote(*self.arguments, board)

        actors = [more() for _ in range(min(self.workers, count))]
        needs = f"each of {len(actors)} workers needs {self.room.worker}"
        watch = StallWatch(self.stall_timeout_s, board, needs)
        deal = Deal(actors, count, row, self.lost, watch.moved, self.room.tell)
        growth = _Growth(self.room, deal, more)
        try:
            with in_our_words():
                while deal.left:
                    growth.look()
                    for number, done in deal.finished():
                        watch.moved()
                        yield number, done
                    if growth.waits:
                        watch.held()
                    watch.check()
        finally:
            deal.end()


class _Growth:
    """Starts more workers when there is room for more. waits: whether there is none for any, and an
    autoscaler is starting a node."""

    def __init__(self, room: Room, deal: Deal, more: Callable[[], Any]) -> None:
        self._room, self._deal, self._more = room, deal, more
        self._looked = self._had = time.monotonic() - _GROW_EVERY_S
        self.waits = self._told = False

    def look(self) -> None:
        """Look at the nodes now and then."""
        now = time.monotonic()
        if now - self._looked < _GROW_EVERY_S:
            return
        self._looked = now
        try:
            machines = look()
        except RayError:  # the head is in trouble; what is awaited will tell
            return
        self._deal.alone = len(machines.nodes) < 2
        self._wait(machines, now)
        if self._deal.waiting and not self._room.fixed:
            self._grow(machines)

    def _wait(self, machines: Machines, now: float) -> None:
        """Notice whether the last node with room has gone; others are waited for where nodes are
        started as they are needed, elsewhere as long as a job may stand still."""
        if machines.room(self._room.worker):
            self._had, self.waits, self._told = now, False, False
            return
        self.waits = machines.grows and now - self._had < self._room.wait_s
        if self._told or not (self.waits or not machines.grows):
            return
        self._told = True
        lacking = machines.lack([self._room.worker])
        most = f", {self._room.wait_s:g} s at most" if machines.grows else ""
        self._room.tell(f"waiting for nodes{most}: {lacking}")

    def _grow(self, machines: Machines) -> None:
        room = self._room.now(machines)
        before = self._deal.workers
        # A worker without an item would be of no use: those that still load take one each.
        wanted = min(room, before + self._deal.waiting - self._deal.loading)
        for _ in range(wanted - before):
            self._deal.add(self._more())
        if wanted > before:
            why = (
                "nodes are started as they are asked for" if machines.grows else "nodes have joined"
            )
            self._room.tell(f"{wanted} workers instead of {before}: {why}")
