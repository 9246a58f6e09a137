"""How fast a job goes and how long it takes yet: the rate of its last minute.

What a job needs to start, as Ray and networks that are loaded, is no part of that, and a node that
is lost or joins shows within a minute.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from audioflow.events import Event

WINDOW_S = 60.0

_APART_S = 0.5
"""Points in time that are nearer to each other than that are kept as one."""

_REMEMBERED = 20
"""Of so many units, about, the mean duration is known."""


@dataclass(frozen=True)
class _Point:
    """When how much was done since the job began: units, and seconds of media."""

    time: float
    done: int
    media_s: float = 0.0


class Pace:
    """The pace of one job, from its own events; `now` is of any clock, and always of the same.

    The window begins with the first unit of work: where its event tells how long it took, with its
    begin, else with its end. It is longer than a minute where a shard (an epoch, a trial) takes
    longer than half of one, since several workers often end theirs together.
    """

    def __init__(self, before: int = 0) -> None:
        """before: units that were done before the job began."""
        self._before = before
        self._points: list[_Point] = []
        self._mean_s = 0.0
        self._units = 0

    def add(self, event: Event, now: float) -> None:
        """Note one event: a `shard`, an `epoch` or a `trial` ended, or `progress`."""
        data = event.data
        if event.kind in ("shard", "epoch", "trial"):
            self._unit(_seconds_of(data), now)
        self._before = data.get("before", self._before)
        if event.kind == "trial":
            self._reach(_Point(now, self._units))
        elif event.kind in ("epoch", "progress"):
            self._reach(_Point(now, data["done"] - self._before, data.get("media_s", 0.0)))

    def per_s(self, now: float) -> float:
        """Units per second; 0 where that is not known yet."""
        return self._of(now, "done")

    def media_per_s(self, now: float) -> float:
        """Seconds of media per second."""
        return self._of(now, "media_s")

    def _unit(self, seconds: float, now: float) -> None:
        self._units += 1
        self._mean_s += (seconds - self._mean_s) / min(self._units, _REMEMBERED)
        if not self._points and seconds > 0:
            self._points.append(_Point(now - seconds, 0))

    def _reach(self, point: _Point) -> None:
        points = self._points
        if points and point.done < points[-1].done:
            points.clear()  # some of it is done again
        elif point.done == (points[-1].done if points else 0):
            return
        if len(points) > 1 and points[-1].time - points[-2].time < _APART_S:
            points.pop()
        points.append(point)
        self._prune(point.time)

    def _prune(self, now: float) -> None:
        since = now - max(WINDOW_S, 2 * self._mean_s)
        while len(self._points) > 2 and self._points[1].time <= since:
            self._points.pop(0)

    def _of(self, now: float, what: str) -> float:
        self._prune(now)
        if len(self._points) < 2:
            return 0.0
        first, last = self._points[0], self._points[-1]
        seconds = last.time - first.time
        usual = max(self._mean_s, seconds / (len(self._points) - 1))
        seconds += max(0.0, now - last.time - usual)  # it has been silent for longer than it is
        return float(getattr(last, what) - getattr(first, what)) / max(seconds, 1e-3)


def _seconds_of(data: Mapping[str, Any]) -> float:
    """How long a shard, an epoch or a trial took, without what was loaded for it."""
    if "wall_s" in data:
        return float(data["wall_s"] - data["seconds"].get("load", 0.0))
    return float(data["seconds"])
