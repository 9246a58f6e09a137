"""Who works on what: for whoever wants to know where the time goes, and so that a job that stands
still can name the stage, the clip and the node."""

import os
import socket
import threading
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
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


class Pulse:
    """Keeps the time of what this process is at, and how many clips it has finished."""

    def __init__(self) -> None:
        self.finished = 0
        self._node = socket.gethostname()
        self._at: tuple[str, str, float] | None = None
        self._spent: defaultdict[str, float] = defaultdict(float)
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
        now = time.monotonic()
        since, before = self._since
        if before:
            self._spent[before] += now - since
        self._since = (now, what)

    def take_spent(self) -> dict[str, float]:
        """Seconds per stage (with its table, where it has one) since the last time this was asked;
        what is being done now is counted when it ends."""
        spent, self._spent = self._spent, defaultdict(float)
        return dict(spent)

    def busy(self) -> Busy | None:
        """What this process is at; None for nothing."""
        at = self._at
        return Busy(at[0], at[1], self._node, time.monotonic() - at[2]) if at else None


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
