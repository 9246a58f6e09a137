"""How workers tell the driver where they begin and of the epochs they end; imported there."""

from dataclasses import dataclass
from typing import Any

import ray


@dataclass(frozen=True)
class Begun:
    """A worker begins with a head (of a fold), which so many epochs were done of before."""

    fold: str | None
    epochs: int


Said = dict[str, Any] | Begun
"""The record of an epoch, or that training begins."""

Item = tuple[str, Said]
"""A system, and what is said of it."""


class Inbox:
    """What was sent and not yet taken; an actor, which does in order what one worker asks of it."""

    def __init__(self) -> None:
        self._items: list[Item] = []

    def put(self, item: Item) -> None:
        self._items.append(item)

    def take(self) -> list[Item]:
        items, self._items = self._items, []
        return items


class Teller:
    """Sends what is said of a system's training to the driver; travels to workers.

    waits: until it has arrived. A task of Ray must not: while it waits, Ray gives its CPU to
    another one, which needs a process of its own.
    """

    def __init__(self, inbox: Any, system: str, *, waits: bool = False) -> None:
        self._inbox, self._system, self._waits = inbox, system, waits
        self.sent: Any = None
        """The reference of the last one's arrival, where nobody waited for it."""

    def __call__(self, said: Said) -> None:
        sent = self._inbox.put.remote((self._system, said))
        if self._waits:
            ray.get(sent)
        else:
            self.sent = sent
