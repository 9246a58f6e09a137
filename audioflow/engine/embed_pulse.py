"""Who works on what: for whoever wants to know where the time goes, and so that a job that stands
still can name the stage, the clip and the node."""

import os
import threading
import time
import uuid
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import ray

from audioflow.engine.pulse import Busy, Pulse

TELL_EVERY_S = 2.0


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
    """The board of one run of the pipeline, known by a name.

    It is a process that nothing waits for: it is put up when it is asked for the first time, and
    workers find it when they have something to tell.
    """

    name: str = field(default_factory=lambda: f"audioflow-board-{uuid.uuid4().hex}")

    def put_up(self) -> Any:
        """Make the board; the actor lives as long as this handle of the driver's."""
        return Board.options(name=self.name).remote()  # type: ignore[attr-defined]

    def find(self) -> Any | None:
        """The board, None where it is not there (yet)."""
        with suppress(ValueError):
            return ray.get_actor(self.name)
        return None


class TellingPulse(Pulse):
    """A pulse that tells a board, from a thread of its own; silent while all goes well."""

    _of_process: "TellingPulse | None" = None

    def __init__(self, board: BoardRef) -> None:
        super().__init__()
        self._board = board
        self._actor: Any | None = None
        self._worker = f"{self._node}:{os.getpid()}"
        self._told: tuple[bool, int] = (False, 0)
        self._closed = threading.Event()
        threading.Thread(target=self._keep_telling, daemon=True).start()

    @classmethod
    def of(cls, board: BoardRef) -> "TellingPulse":
        """This process's pulse for the board of the current run."""
        if cls._of_process is None or cls._of_process._board != board:
            if cls._of_process is not None:
                cls._of_process._closed.set()
            cls._of_process = TellingPulse(board)
        return cls._of_process

    def _keep_telling(self) -> None:
        while not self._closed.wait(TELL_EVERY_S):
            busy, finished = self.busy(), self.finished
            slow = busy is not None and busy.seconds >= TELL_EVERY_S
            if slow or (slow, finished) != self._told:
                self._actor = self._actor or self._board.find()
                if self._actor is not None:
                    self._actor.tell.remote(self._worker, busy if slow else None, finished)
                    self._told = (slow, finished)
