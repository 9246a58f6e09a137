"""What this process is at, and since when: its pulse."""

import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from audioflow.engine.node_names import this_node
from audioflow.timing import Stint, Times, joined


@dataclass(frozen=True)
class Busy:
    """One worker, and what it has been at for `seconds`."""

    stage: str
    clip_id: str
    node: str
    seconds: float

    def __str__(self) -> str:
        return f"{self.stage} of clip {self.clip_id!r} on node {self.node} for {self.seconds:.0f} s"


class Pulse:
    """Keeps the time of what this process is at, how many clips it has finished, and counts."""

    def __init__(self) -> None:
        self.finished = 0
        self._node = this_node()
        self._process = os.getpid()
        self._at: tuple[str, str, float] | None = None
        self._stints: dict[str, Stint] = {}
        self._counts: Counter[str] = Counter()
        self._since = (0.0, "")

    @contextmanager
    def at(self, stage: str, clip_id: str, table: str = "") -> Iterator[Callable[[str], None]]:
        """Say that work on a clip begins, and with the function that it gives, what comes next.

        Work that begins meanwhile takes its place; it is for the caller to say when it goes on.
        """

        def on(stage: str) -> None:
            self._turn(f"{stage} {table}".rstrip())
            self._at = (stage, clip_id, time.monotonic())

        on(stage)
        try:
            yield on
        finally:
            self._turn("")
            self._at = None

    def _turn(self, what: str) -> None:
        now = time.time()
        since, before = self._since
        if before:
            self._stints[before] = self._stint(before, since, now)
        self._since = (now, what)

    def _stint(self, stage: str, since: float, now: float) -> Stint:
        """What was done of a stage so far, and from `since` to `now`."""
        now = max(since, now)  # the clock may be set back
        old = self._stints.get(stage)
        begin, busy_s = (since, 0.0) if old is None else (old.begin, old.busy_s)
        return Stint(stage, self._node, self._process, begin, now, busy_s + now - since)

    def count(self, what: str, number: int) -> None:
        """Count something, as bytes that were read."""
        self._counts[what] += number

    def times(self) -> Times:
        """Stints per stage (with its table, where it has one) and counts since they were last
        taken, what is being done now up to now."""
        (since, stage), stints = self._since, dict(self._stints)
        if stage:
            stints[stage] = self._stint(stage, since, time.time())
        return Times(joined(stints.values()), dict(self._counts))

    def take_times(self) -> Times:
        """As `times`, once; what is being done now is counted when it ends."""
        stints, self._stints = self._stints, {}
        counts, self._counts = self._counts, Counter()
        return Times(joined(stints.values()), dict(counts))

    def busy(self) -> Busy | None:
        """What this process is at; None for nothing."""
        at = self._at
        return Busy(at[0], at[1], self._node, time.monotonic() - at[2]) if at else None
