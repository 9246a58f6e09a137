"""When what was done, by whom: a run's time, its workers, and how fast it went.

Times are seconds of Unix time; x is a share in [0, 1] of the width of a chart. B = bins.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from audioflow.timing import Stint

Floats = NDArray[np.float64]

GAP_LEAST_S = 10.0
_GAP_SHARE = 0.05
"""Of the time at work: a longer pause is a gap, which takes the same room whatever it lasted."""
_GAP_WIDTH = 0.03
_MOST_GAPS_WIDTH = 0.3


@dataclass(frozen=True)
class ShardTimes:
    """One shard: its table (several where they were filled in one go), its clips, who made it."""

    job: str
    table: str
    name: str
    clips: int
    failures: int
    stints: tuple[Stint, ...]

    @property
    def begin(self) -> float:
        return min(stint.begin for stint in self.stints)

    @property
    def end(self) -> float:
        return max(stint.end for stint in self.stints)


@dataclass(frozen=True)
class TableTime:
    """When a job made a table, in the session in which it became complete."""

    job: str
    table: str
    begin: float
    end: float


@dataclass(frozen=True)
class NodeMark:
    """A node that `joined` or was `lost`."""

    at: float
    what: str
    node: str


@dataclass(frozen=True)
class Timeline:
    """All that is known of when a run did what; `every`: each so-many-th shard is here alone."""

    tables: tuple[TableTime, ...] = ()
    shards: tuple[ShardTimes, ...] = ()
    marks: tuple[NodeMark, ...] = ()
    every: int = 1


@dataclass(frozen=True)
class Gap:
    """A pause between two periods: where it is drawn, and how long it was."""

    left: float
    right: float
    seconds: float


@dataclass(frozen=True)
class TimeAxis:
    """The periods in which something was done, side by side, with a narrow gap for each pause."""

    periods: tuple[tuple[float, float], ...]
    gap_width: float = 0.0

    @classmethod
    def of(cls, intervals: Iterable[tuple[float, float]]) -> "TimeAxis":
        """The axis on which all of these intervals have a place."""
        periods = united(intervals)
        active = sum(end - begin for begin, end in periods)
        least = max(GAP_LEAST_S, _GAP_SHARE * active)
        joined: list[tuple[float, float]] = []
        for begin, end in periods:
            if joined and begin - joined[-1][1] < least:
                joined[-1] = (joined[-1][0], end)
            else:
                joined.append((begin, end))
        pauses = len(joined) - 1
        return cls(tuple(joined), min(_GAP_WIDTH, _MOST_GAPS_WIDTH / pauses) if pauses > 0 else 0)

    @property
    def active_s(self) -> float:
        return sum(end - begin for begin, end in self.periods)

    @property
    def _per_second(self) -> float:
        room = 1 - self.gap_width * (len(self.periods) - 1)
        return room / self.active_s if self.active_s > 0 else 0.0

    def at(self, time: float) -> float:
        """Where a time stands."""
        left = 0.0
        for begin, end in self.periods:
            if time <= end:
                return min(left + max(0.0, time - begin) * self._per_second, 1.0)
            left += (end - begin) * self._per_second + self.gap_width
        return 1.0

    def gaps(self) -> list[Gap]:
        """The pauses, in order."""
        found, left = [], 0.0
        for (begin, end), (after, _) in zip(self.periods, self.periods[1:], strict=False):
            left += (end - begin) * self._per_second
            found.append(Gap(left, left + self.gap_width, after - end))
            left += self.gap_width
        return found

    def edges(self, bins: int) -> Floats:
        """`at` of all edges of so many bins is even; here their times are (B + 1)."""
        xs, times = [0.0], [self.periods[0][0]]
        for begin, end in self.periods:
            xs += [self.at(begin), self.at(end)]
            times += [begin, end]
        return np.interp(np.linspace(0, 1, bins + 1), xs, times)


def axis_of(timeline: Timeline) -> TimeAxis | None:
    """The time axis of a run; None where nothing is known of when it did what."""
    intervals = [(stint.begin, stint.end) for shard in timeline.shards for stint in shard.stints]
    intervals += [(table.begin, table.end) for table in timeline.tables]
    axis = TimeAxis.of(intervals)
    return axis if axis.active_s > 0 else None


def united(intervals: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    """Intervals in order, those that touch as one."""
    found: list[tuple[float, float]] = []
    for begin, end in sorted(intervals):
        if found and begin <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], end))
        else:
            found.append((begin, end))
    return found


def clip_rates(shards: Iterable[ShardTimes], edges: Floats, every: int = 1) -> Floats:
    """Clips per second in every bin (B,): those of a shard are spread over its time."""
    found = np.zeros(len(edges) - 1)
    for shard in shards:
        spread = overlap(shard.begin, shard.end, edges)
        if spread.sum() > 0:
            found += shard.clips * spread / spread.sum()
    return every * found / np.maximum(np.diff(edges), 1e-9)


def failure_counts(shards: Iterable[ShardTimes], edges: Floats) -> NDArray[np.int64]:
    """Failures in every bin (B,), at the ends of their shards."""
    found = np.zeros(len(edges) - 1, np.int64)
    for shard in shards:
        if shard.failures:
            place = int(np.searchsorted(edges, shard.end, side="right")) - 1
            found[min(max(place, 0), len(found) - 1)] += shard.failures
    return found


def overlap(begin: float, end: float, edges: Floats) -> Floats:
    """Seconds of an interval in every bin."""
    end = max(end, begin + 1e-6)
    first = max(0, int(np.searchsorted(edges, begin, side="right")) - 1)
    last = min(len(edges) - 1, int(np.searchsorted(edges, end, side="left")))
    found = np.zeros(len(edges) - 1)
    low, high = edges[first:last], edges[first + 1 : last + 1]
    found[first:last] = np.maximum(0.0, np.minimum(high, end) - np.maximum(low, begin))
    return found
