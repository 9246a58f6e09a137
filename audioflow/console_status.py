"""How far a job is and how fast it goes: the line that says so, and the bar on a terminal."""

import time

from rich.console import Console as RichConsole
from rich.progress import BarColumn, Progress, TextColumn

from audioflow.event_text import UNITS
from audioflow.events import Event
from audioflow.pace import Pace
from audioflow.planning.text import duration


class Status:
    """How far and how fast a job goes, from its own events."""

    def __init__(self, job: str = "", total: int = 0, done: int = 0, late_s: float = 0.0) -> None:
        """late_s: how long ago it began."""
        self.total, self.done = total, done
        self.unit = UNITS.get(job, "clips")
        self._before = done
        self._failures, self._tables = 0, 1
        self._pace = Pace(done)
        self._started = time.monotonic() - late_s

    def add(self, event: Event, late_s: float = 0.0) -> None:
        """Note that a shard, an epoch or a trial has ended (so long ago), or how far the job is."""
        self._pace.add(event, time.monotonic() - late_s)
        if event.kind == "trial":
            self.done += 1
        self.done = event.data.get("done", self.done)
        self._before = event.data.get("before", self._before)
        self._failures = event.data.get("failures", self._failures)
        self._tables = len(event.name.split(", "))

    def rates(self) -> str:
        """Clips (epochs, trials) per second, times real time, failures, time left: what is known
        of it."""
        now, parts = time.monotonic(), []
        if per_s := self._pace.per_s(now):
            parts.append(f"{per_s:.1f} {self.unit}/s")
            if media_per_s := self._pace.media_per_s(now):
                parts.append(f"{media_per_s:.0f}x real time")
        if self._failures:
            of = f" in {self._tables} tables" if self._tables > 1 else ""
            parts.append(f"{self._failures} failures{of}")
        if per_s:
            parts.append(f"{duration((self.total - self.done) / per_s)} left")
        return "  ".join(parts)

    def text(self) -> str:
        """One status line."""
        seconds = time.monotonic() - self._started
        if not self.total:
            return f"{seconds:.0f} s"
        far = f"{self.done}/{self.total} {self.unit}"
        if self.done == self._before:
            return f"{far}  starting, {seconds:.0f} s"
        return f"{far}  {self.rates()}".rstrip()


def bar(out: RichConsole, unit: str) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn(f"{{task.completed}}/{{task.total}} {unit}"),
        TextColumn("{task.fields[text]}"),
        console=out,
        transient=True,
    )
