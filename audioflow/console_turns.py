"""Systems that are trained side by side, told one after the other: each reads as one piece."""

import time
from dataclasses import dataclass, replace

from audioflow.events import Event

_ENDS = ("done", "failed")
_LONG_S = 30.0


@dataclass(frozen=True)
class Told:
    """An event to show. late_s: how long it was kept back."""

    event: Event
    late_s: float = 0.0


class Turns:
    """Lets one system at a time speak, and keeps back what others say meanwhile.

    The first that began speaks until it has ended; then come those that ended meanwhile, and then
    the next. Where that takes long, it is told at once that another one has ended.
    """

    def __init__(self) -> None:
        self._kept: dict[str, list[tuple[Event, float]]] = {}
        self._ended: list[str] = []
        self._spoken_since = 0.0
        self._begun: tuple[Event, float] | None = None
        """The start of the one that speaks, as long as it has said nothing else: it may wait."""

    def add(self, event: Event) -> list[Told]:
        """What is to be shown now that something has happened."""
        now, name = time.monotonic(), event.name
        if event.job != "train":
            return [Told(event)]
        if event.kind == "start":
            if not self._kept:
                self._spoken_since, self._begun = now, (event, now)
            self._kept.setdefault(name, [])
        if name not in self._kept:
            return [Told(event)]
        if name != next(iter(self._kept)):
            self._kept[name].append((event, now))
            if event.kind == "epoch" and self._begun is not None:
                return self._instead(name, self._begun, now)
            return self._ended_meanwhile(event, now) if event.kind in _ENDS else []
        found = [Told(event)]
        if event.kind != "start":
            self._begun = None
        if event.kind in _ENDS:
            del self._kept[name]
            found += self._next(now)
        return found

    def _instead(self, name: str, begun: tuple[Event, float], now: float) -> list[Told]:
        """This one speaks before the one that has only begun, which begins again in its turn."""
        self._begun, self._spoken_since = None, now
        mine = self._kept.pop(name)
        self._kept[begun[0].name] = [begun]
        self._kept = {name: [], **self._kept}
        return [Told(event, now - then) for event, then in mine]

    def _ended_meanwhile(self, event: Event, now: float) -> list[Told]:
        self._ended.append(event.name)
        if now - self._spoken_since < _LONG_S:
            return []
        speaks = next(iter(self._kept))
        ended = "is done" if event.kind == "done" else f"failed: {event.data['error']}"
        text = f"{ended}; more of it when {speaks} has ended"
        return [Told(replace(event, kind="note", data={"text": text}))]

    def _next(self, now: float) -> list[Told]:
        """What was kept back of those that have ended, and of the one whose turn it is."""
        names, self._ended = [*self._ended], []
        kept = [pair for name in names for pair in self._kept.pop(name)]
        if self._kept:
            speaks = next(iter(self._kept))
            kept += self._kept[speaks]
            self._kept[speaks] = []
            self._spoken_since = now
        return [Told(event, now - then) for event, then in kept]
