"""A pool of workers on Ray actors: for embedding where no backbone needs a GPU, and for scoring.

Nothing but work items and receipts travels here, so there is nothing for Ray Data to hold back or
to place; and asked for by the driver itself, the workers load while Ray Data would still be
starting (2.8 s on two cores).
"""

from collections import Counter, deque
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import RayActorError

from audioflow.engine.embed_pulse import BoardRef
from audioflow.engine.embed_watch import StallWatch
from audioflow.engine.embed_work import Done
from audioflow.engine.lost import RETRIES, in_our_words

Lost = Callable[[int, int, str], None]
"""Told of an item whose worker was lost: its number, how often that was so, and why."""

_LOOK_EVERY_S = 1.0
_AHEAD = 2
"""Items given to a worker: one that it is at, and one so that it need not wait for the driver."""


@dataclass(frozen=True)
class Pool:
    """How many workers there are, and the share of a CPU that each takes of the cluster.

    worker: the class of the actors, with the methods `ready` and `do`. arguments: of its
    constructor, which gets the board of the run, too. lost: is told of items that are given to
    others because their worker was lost.
    """

    worker: type[Any]
    arguments: Sequence[Any]
    workers: int
    cpus: float
    stall_timeout_s: float
    lost: Lost = lambda number, tries, why: None

    def results(self, count: int, row: Callable[[int], Any]) -> Generator[tuple[int, Done]]:
        """What became of every work item, by its number, in the order they finish.

        row: gives the item of a number, when a worker is about to get it.

        Raises `StalledError` where no clip is finished for longer than the recipe allows,
        `LostWorkersError` where workers are lost more often than they are replaced.
        """
        options: dict[str, Any] = {
            "num_cpus": self.cpus,
            "max_restarts": RETRIES,
            "scheduling_strategy": "SPREAD",
        }
        board = BoardRef()
        worker = ray.remote(**options)(self.worker)
        actors = [worker.remote(*self.arguments, board) for _ in range(min(self.workers, count))]
        needs = f"each of {len(actors)} workers needs {self.cpus:g} CPU"
        watch = StallWatch(self.stall_timeout_s, board, needs)
        deal = _Deal(actors, count, row, self.lost)
        try:
            with in_our_words():
                while deal.left:
                    for number, done in deal.finished():
                        watch.moved()
                        yield number, done
                    watch.check()
        finally:
            deal.end()


class _Deal:
    """Deals items out to actors as they become ready, and as they finish.

    What a lost actor was at is given to others: one whose node is gone may never find another.
    """

    def __init__(
        self, actors: Sequence[Any], count: int, row: Callable[[int], Any], lost: Lost
    ) -> None:
        self.left = count
        self._lost = lost
        self._actors = actors
        self._row = row
        self._todo = deque(range(count))
        self._tries: Counter[int] = Counter()
        self._given = [0] * len(actors)
        self._idle: set[int] = set()
        self._at: dict[Any, tuple[int, int | None]] = {}
        for place in range(len(actors)):
            self._await(place)

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
            return
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
