"""A pool of workers on Ray actors: for embedding where no backbone needs a GPU, and for scoring.

Nothing but work items and receipts travels here, so there is nothing for Ray Data to hold back or
to place; and asked for by the driver itself, the workers load while Ray Data would still be
starting (2.8 s on two cores).
"""

import time
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import RayActorError, RayError

from audioflow.engine.embed_pulse import BoardRef
from audioflow.engine.embed_watch import StallWatch
from audioflow.engine.embed_work import Done
from audioflow.engine.lost import RETRIES, in_our_words
from audioflow.engine.resources import look, nodes_within_s, ready_for
from audioflow.engine.run import Run
from audioflow.planning.machines import Machines, Need

Lost = Callable[[int, int, str], None]
"""Told of an item whose worker was lost: its number, how often that was so, and why."""

_LOOK_EVERY_S = 1.0
_GROW_EVERY_S = 5.0
_AHEAD = 2
"""Items given to a worker: one that it is at, and one so that it need not wait for the driver."""


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

    worker: the class of the actors, with the methods `ready` and `do`. arguments: of its
    constructor, which gets the board of the run, too. lost: is told of items that are given to
    others because their worker was lost.
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
        deal = _Deal(actors, count, row, self.lost, watch.moved)
        growth = _Growth(self.room, deal, more)
        try:
            with in_our_words():
                while deal.left:
                    for number, done in deal.finished():
                        watch.moved()
                        yield number, done
                    growth.look()
                    if growth.waits:
                        watch.held()
                    watch.check()
        finally:
            deal.end()


class _Growth:
    """Starts more workers when there is room for more. waits: whether there is none for any, and an
    autoscaler is starting a node."""

    def __init__(self, room: Room, deal: "_Deal", more: Callable[[], Any]) -> None:
        self._room, self._deal, self._more = room, deal, more
        self._looked = self._had = time.monotonic() - _GROW_EVERY_S
        self.waits = False

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
        self._wait(machines, now)
        if self._deal.waiting and not self._room.fixed:
            self._grow(machines)

    def _wait(self, machines: Machines, now: float) -> None:
        """Notice whether the last node with room has gone, of those that are started as needed."""
        if not machines.grows or machines.room(self._room.worker):
            self._had, self.waits = now, False
            return
        waited, self.waits = self.waits, now - self._had < self._room.wait_s
        if self.waits and not waited:
            self._room.tell(
                f"waiting for nodes, {self._room.wait_s:g} s at most: "
                + machines.lack([self._room.worker])
            )

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


class _Deal:
    """Deals items out to actors as they become ready, and as they finish.

    What a lost actor was at is given to others: one whose node is gone may never find another.
    """

    def __init__(
        self,
        actors: Sequence[Any],
        count: int,
        row: Callable[[int], Any],
        lost: Lost,
        began: Callable[[], None],
    ) -> None:
        """began: is called whenever an actor is ready for work."""
        self.left = count
        self._lost = lost
        self._began = began
        self._actors: list[Any] = []
        self._row = row
        self._todo = deque(range(count))
        self._tries: Counter[int] = Counter()
        self._given: list[int] = []
        self._idle: set[int] = set()
        self._gone: set[int] = set()
        self._at: dict[Any, tuple[int, int | None]] = {}
        for actor in actors:
            self.add(actor)

    @property
    def waiting(self) -> int:
        """Items that nobody is given yet."""
        return len(self._todo)

    @property
    def loading(self) -> int:
        """Actors that are not ready yet."""
        return sum(number is None for _, number in self._at.values())

    @property
    def workers(self) -> int:
        """Actors that are there, or may come back."""
        return len(self._actors) - len(self._gone)

    def add(self, actor: Any) -> None:
        """One more, which gets work as soon as it is ready."""
        self._actors.append(actor)
        self._given.append(0)
        self._await(len(self._actors) - 1)

    def _await(self, place: int) -> None:
        """Be told when this actor can be given work."""
        self._at[self._actors[place].ready.remote()] = (place, None)

    def finished(self) -> Iterator[tuple[int, Done]]:
        """What has finished, waited for some time, and new work for who finished it."""
        refs, _ = ray.wait(list(self._at), timeout=_LOOK_EVERY_S)
        for ref in refs:
            place, number = self._at.pop(ref)
            if number is None:
                self._begin(ref, place)
                continue
            self._given[place] -= 1
            try:
                done = ray.get(ref)
            except RayActorError as error:
                self._take_back(place, number, error)
                continue
            self.left -= 1
            self._give(place)
            yield number, done

    def _begin(self, ref: Any, place: int) -> None:
        """Work for an actor that is ready; one that will not come back is done without."""
        try:
            ray.get(ref)
        except RayActorError:
            if not self._at:
                raise
            self._gone.add(place)
            return
        self._began()
        self._give(place)

    def _take_back(self, place: int, number: int, error: RayActorError) -> None:
        self._tries[number] += 1
        if self._tries[number] > RETRIES:
            raise error
        self._lost(number, self._tries[number], str(error).strip().splitlines()[0])
        self._todo.appendleft(number)
        if not self._given[place]:
            self._await(place)
        for other in sorted(self._idle):
            self._give(other)

    def _give(self, place: int) -> None:
        # Near the end nobody is given what another could begin with at once.
        most = _AHEAD if len(self._todo) > len(self._actors) else 1
        while self._todo and self._given[place] < most:
            number = self._todo.popleft()
            self._at[self._actors[place].do.remote(self._row(number))] = (place, number)
            self._given[place] += 1
        if self._given[place]:
            self._idle.discard(place)
        else:
            self._idle.add(place)

    def end(self) -> None:
        """End the actors, whatever they are at."""
        for ref in self._at:
            ray.cancel(ref)  # else Ray tells the user that what is killed here will be tried again
        for actor in self._actors:
            ray.kill(actor)
