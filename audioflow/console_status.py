"""How far a job is and how fast it goes: the line that says so, and the bar on a terminal."""

import time
from typing import Any

from rich.console import Console as RichConsole
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from audioflow.event_text import UNITS


class Status:
    """How far and how fast a job goes, from its own events."""

    def __init__(self, job: str = "", total: int = 0, done: int = 0, late_s: float = 0.0) -> None:
        self.total = total
        self.unit = UNITS.get(job, "clips")
        self.data: dict[str, Any] = {"done": done}
        self._before = done
        self._started = time.monotonic() - late_s

    @property
    def _seconds(self) -> float:
        return max(time.monotonic() - self._started, 1e-6)

    def rates(self) -> str:
        """Clips (epochs, trials) per second, times real time, failures."""
        text = f"{(self.data['done'] - self._before) / self._seconds:.1f} {self.unit}/s"
        if self.data.get("media_s"):
            text += f"  {self.data['media_s'] / self._seconds:.0f}x real time"
        return text + (f"  {self.data['failures']} failures" if self.data.get("failures") else "")

    def text(self) -> str:
        """One status line."""
        if not self.total:
            return f"{self._seconds:.0f} s"
        done = self.data["done"]
        if done == self._before:
            return f"{done}/{self.total} {self.unit}  starting, {self._seconds:.0f} s"
        left = (self.total - done) * self._seconds / (done - self._before)
        return f"{done}/{self.total} {self.unit}  {self.rates()}  {left:.0f} s left"


def bar(out: RichConsole, unit: str) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn(f"{{task.completed}}/{{task.total}} {unit}"),
        TextColumn("{task.fields[text]}"),
        TimeRemainingColumn(compact=True),
        console=out,
        transient=True,
    )
