"""Who of a pool does which item: what a lost worker was at, and what a node cannot read, is given
to others."""

import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import ray
from ray.exceptions import RayActorError

from audioflow.engine.embed_doubts import Doubts
from audioflow.engine.embed_work import PLAIN, Done, Trial
from audioflow.engine.lost import RETRIES
from audioflow.errors import LostWorkersError, cause_of

Lost = Callable[[int, int, str], None]
"""Told of an item whose worker was lost: its number, how often that was so, and why."""

LOOK_EVERY_S = 1.0

_HOPE_S = 60.0
"""So long what one node could not read waits for workers that still load, on other nodes perhaps;
longer than that they may wait for room that never comes."""

_AHEAD = 2
"""Items given to a worker: one that it is at, and one so that it need not wait for the driver."""


class Deal:
    """Deals items out to actors as they become ready, and as they finish.

    What a lost actor was at is given to others: one whose node is gone may never find another. So
    is what an actor could not read, where others are on another node. alone: whether it is known
    that there is none; left: items that are not finished.
    """

    def __init__(
        self,
        actors: Sequence[Any],
        count: int,
        row: Callable[[int], Any],
        lost: Lost,
        began: Callable[[], None],
        tell: Callable[[str], None],
    ) -> None:
        """began: is called whenever an actor is ready for work. tell: is told in words of nodes
        that read nothing."""
        self.left = count
        self.alone = False
        self._lost = lost
        self._began = began
        self._actors: list[Any] = []
        self._row = row
        self._todo = deque(range(count))
        self._doubts = Doubts(tell)
        self._tries: Counter[int] = Counter()
        self._given: list[int] = []
        self._idle: set[int] = set()
        self._gone: set[int] = set()
        self._loading: set[int] = set()
        self._awaited = 0.0
        self._node_of: list[str] = []
        self._nodes: frozenset[str] = frozenset()
        self._at: dict[Any, tuple[int, int | None]] = {}
        for actor in actors:
            self.add(actor)

    @property
    def waiting(self) -> int:
        """Items that nobody is given yet."""
        return len(self._todo) + len(self._doubts)

    @property
    def loading(self) -> int:
        """Actors that are not ready yet."""
        return len(self._loading)

    @property
    def workers(self) -> int:
        """Actors that are there, or may come back."""
        return len(self._actors) - len(self._gone)

    def add(self, actor: Any) -> None:
        """One more, which gets work as soon as it is ready."""
        self._actors.append(actor)
        self._given.append(0)
        self._node_of.append("")
        self._await(len(self._actors) - 1)

    def _await(self, place: int) -> None:
        """Be told when this actor can be given work."""
        self._at[self._actors[place].ready.remote()] = (place, None)
        self._loading.add(place)
        self._is_on(place, "")
        self._awaited = time.monotonic()

    def finished(self) -> Iterator[tuple[int, Done]]:
        """What has finished, waited for some time, and new work for who finished it."""
        refs, _ = ray.wait(list(self._at), timeout=LOOK_EVERY_S)
        for ref in refs:
            place, number = self._at.pop(ref)
            if number is None:
                self._begin(ref, place)
                continue
            self._given[place] -= 1
            try:
                done = ray.get(ref)
            except (RayActorError, LostWorkersError) as error:  # the latter of its decoder child
                self._take_back(place, number, error)
                continue
            last = self._doubts.hear(number, self._node_of[place], done)
            self.left -= last
            self._give(place)
            if last:
                yield number, done
        if self._doubts:
            self._give_idle()

    def _begin(self, ref: Any, place: int) -> None:
        """Work for an actor that is ready; one that will not come back is done without."""
        self._loading.discard(place)
        try:
            self._is_on(place, ray.get(ref) or "")
        except RayActorError:
            if not self._at:
                raise
            self._gone.add(place)
            return
        self._began()
        self._give(place)

    def _is_on(self, place: int, node: str) -> None:
        """Note the node of an actor, "" for none that is known."""
        self._node_of[place] = node
        self._nodes = frozenset(filter(None, self._node_of))

    def _take_back(self, place: int, number: int, error: Exception) -> None:
        self._tries[number] += 1
        if self._tries[number] > RETRIES:
            raise error
        self._lost(number, self._tries[number], str(cause_of(error)).strip().splitlines()[0])
        if number in self._doubts:
            self._doubts.put_back(number)
        else:
            self._todo.appendleft(number)
        if not self._given[place]:
            self._await(place)
        self._give_idle()

    def _give_idle(self) -> None:
        for place in sorted(self._idle):
            self._give(place)

    def _give(self, place: int) -> None:
        # Near the end nobody is given what another could begin with at once.
        most = _AHEAD if self.waiting > len(self._actors) else 1
        while self._given[place] < most and (number := self._next(place)) is not None:
            what = self._row(number), *self._told(number, place)
            self._at[self._actors[place].do.remote(*what)] = (place, number)
            self._given[place] += 1
        if self._given[place]:
            self._idle.discard(place)
        else:
            self._idle.add(place)

    def _next(self, place: int) -> int | None:
        """The item that an actor is given next."""
        if self._doubts:
            node = self._node_of[place]
            number = self._doubts.take(node, self._nodes, hoped=self._hoped)
            if number is not None:
                return number
        return self._todo.popleft() if self._todo else None

    def _told(self, number: int, place: int) -> tuple[Trial, ...]:
        """What an actor is told of an item, where there is something to tell."""
        node = self._node_of[place]
        if not node:
            return ()
        trial = self._doubts.trial(number, node, self._nodes, hoped=self._hoped)
        return () if trial == PLAIN else (trial,)

    @property
    def _hoped(self) -> bool:
        """Whether there may soon be another node."""
        return bool(self._loading) and not self.alone and time.monotonic() - self._awaited < _HOPE_S

    def end(self) -> None:
        """End the actors, whatever they are at."""
        for ref in self._at:
            ray.cancel(ref)  # else Ray tells the user that what is killed here will be tried again
        for actor in self._actors:
            ray.kill(actor)
