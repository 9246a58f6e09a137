"""Who works on what, so that a job that stands still can name the stage, the clip and the node.

Workers are silent while all goes well: only what takes longer than a few seconds is told.
"""

import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import ray

TELL_EVERY_S = 2.0


@dataclass(frozen=True)
class Busy:
    """One worker, and what it has been at for `seconds`."""

    stage: str
    clip_id: str
    node: str
    seconds: float

    def __str__(self) -> str:
        return f"{self.stage} of clip {self.clip_id!r} on node {self.node} for {self.seconds:.0f} s"


@ray.remote(num_cpus=0, max_restarts=3)
class Board:
    """Keeps the last word of every worker."""

    def __init__(self) -> None:
        self._last: dict[str, tuple[Busy | None, float]] = {}
        self._finished: dict[str, int] = {}

    def tell(self, worker: str, busy: Busy | None, finished: int) -> None:
        """What a worker is at, None for nothing, and how many clips it has finished."""
        self._last[worker] = (busy, time.monotonic())
        self._finished[worker] = finished

    def finished(self) -> int:
        """Clips finished by all workers that ever told."""
        return sum(self._finished.values())

    def busy(self) -> list[Busy]:
        """What workers are at, the one that has been at it longest first."""
        now = time.monotonic()
        found = [
            Busy(busy.stage, busy.clip_id, busy.node, busy.seconds + now - told)
            for busy, told in self._last.values()
            if busy is not None
        ]
        return sorted(found, key=lambda busy: -busy.seconds)


@dataclass(frozen=True)
class BoardRef:
    """A board, and a key by which workers know whether it is the one they tell already."""

    key: str
    actor: Any

    @classmethod
    def new(cls) -> "BoardRef":
        """A board of its own for one run of the pipeline."""
        return cls(uuid.uuid4().hex, Board.remote())  # type: ignore[attr-defined]


class Pulse:
    """Tells the board, from a thread of its own, what this process is at."""

    _of_process: "Pulse | None" = None

    def __init__(self, board: BoardRef) -> None:
        self._board = board
        self._worker = f"{socket.gethostname()}:{os.getpid()}"
        self._node = socket.gethostname()
        self._at: tuple[str, str, float] | None = None
        self._finished = 0
        self._told: tuple[bool, int] = (False, 0)
        self._closed = threading.Event()
        threading.Thread(target=self._keep_telling, daemon=True).start()

    @classmethod
    def of(cls, board: BoardRef) -> "Pulse":
        """This process's pulse for the board of the current run."""
        if cls._of_process is None or cls._of_process._board.key != board.key:
            if cls._of_process is not None:
                cls._of_process._closed.set()
            cls._of_process = Pulse(board)
        return cls._of_process

    @contextmanager
    def at(self, stage: str, clip_id: str) -> Iterator[Callable[[str], None]]:
        """Say that work on a clip begins, and with the function that it gives, what comes next."""

        def on(stage: str) -> None:
            self._at = (stage, clip_id, time.monotonic())

        on(stage)
        try:
            yield on
        finally:
            self._at = None

    def finished(self, clips: int) -> None:
        """Say that so many clips are done."""
        self._finished += clips

    def _keep_telling(self) -> None:
        while not self._closed.wait(TELL_EVERY_S):
            at, finished = self._at, self._finished
            seconds = time.monotonic() - at[2] if at else 0.0
            slow = at is not None and seconds >= TELL_EVERY_S
            busy = Busy(at[0], at[1], self._node, seconds) if at and slow else None
            if slow or (slow, finished) != self._told:
                self._board.actor.tell.remote(self._worker, busy, finished)
                self._told = (slow, finished)
