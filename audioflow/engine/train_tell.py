"""How workers tell the driver of the epochs they end; imported where they begin."""

from typing import Any

import ray

Item = tuple[str, dict[str, Any]]
"""A system, and the record of one of its epochs."""


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
    """Sends the records of a system's epochs to the driver; travels to workers.

    waits: until a record has arrived. A task of Ray must not: while it waits, Ray gives its CPU to
    another one, which needs a process of its own.
    """

    def __init__(self, inbox: Any, system: str, *, waits: bool = False) -> None:
        self._inbox, self._system, self._waits = inbox, system, waits
        self.sent: Any = None
        """The reference of the last record's arrival, where nobody waited for it."""

    def __call__(self, record: dict[str, Any]) -> None:
        sent = self._inbox.put.remote((self._system, record))
        if self._waits:
            ray.get(sent)
        else:
            self.sent = sent
