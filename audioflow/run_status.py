"""What a command that is at work on a run says of itself in the run's own folder.

So that anyone who can read the folder sees how far it is, also where the terminal or the cluster
that it was started from is out of reach; `audioflow status` shows it.
"""

import json
import os
import socket
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, TypeVar

from audioflow.errors import TableError
from audioflow.storage import Folder

STATUS = "_status.json"
WRITE_EVERY_S = 10.0

QUIET_S = 60.0
"""A command that has not written for so long is not at work any more, or out of reach."""

SCHEMA = 1
State = Literal["running", "done", "unchanged", "failed"]


@dataclass(frozen=True)
class Step:
    """What a job has done of one of its tables (or of those that it makes together).

    unit: what is counted, clips, epochs or trials. before: of `done`, what was there when it began.
    media_s: seconds of media since then. began, changed: Unix times. per_s: units per second in its
    last minute, 0 where that is not known yet.
    """

    job: str
    name: str
    state: State = "running"
    unit: str = "clips"
    total: int = 0
    done: int = 0
    before: int = 0
    failures: int = 0
    media_s: float = 0.0
    began: float = 0.0
    changed: float = 0.0
    per_s: float = 0.0

    @property
    def left_s(self) -> float | None:
        """Seconds that the rest takes at this rate; None where it is not known."""
        return (self.total - self.done) / self.per_s if self.per_s else None


@dataclass(frozen=True)
class Said:
    """Something worth reading, with its Unix time."""

    time: float
    job: str
    name: str
    text: str


@dataclass(frozen=True)
class RunStatus:
    """A command and how far it is. submission: the id of its job on Ray, "" where it was not
    submitted. ended: a Unix time, None while it is at work; with its exit code and, where it
    failed, why."""

    command: str
    job: str
    host: str
    pid: int
    submission: str = ""
    began: float = 0.0
    written: float = 0.0
    ended: float | None = None
    exit_code: int | None = None
    error: str = ""
    steps: tuple[Step, ...] = ()
    said: tuple[Said, ...] = ()
    schema: int = SCHEMA

    def to_bytes(self) -> bytes:
        return json.dumps(asdict(self), indent=1, ensure_ascii=False).encode()


def read_status(folder: Folder) -> RunStatus | None:
    """What the last command on a run has said; None where none has.

    Raises `TableError` where the file is damaged, and `InputError` where it cannot be read.
    """
    found = folder.read_many([STATUS]).get(STATUS)
    if found is None:
        return None
    try:
        data: dict[str, Any] = json.loads(found)
        data["steps"] = tuple(_made(Step, each) for each in data.get("steps", ()))
        data["said"] = tuple(_made(Said, each) for each in data.get("said", ()))
        return _made(RunStatus, data)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise TableError(
            f"{folder.file(STATUS)} is damaged: {error}; remove it, the next command writes it anew"
        ) from error


def is_at_work(status: RunStatus) -> bool:
    """Whether its command is at work, as far as can be known from here."""
    if status.ended is not None or time.time() - status.written >= QUIET_S:
        return False
    return status.host != socket.gethostname() or _is_there(status.pid)


def _is_there(pid: int) -> bool:
    with suppress(PermissionError):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
    return True


Made = TypeVar("Made", Step, Said, RunStatus)


def _made(kind: type[Made], data: Mapping[str, Any]) -> Made:
    """One of these from a file that may be of a newer audioflow, and say more."""
    names = {one.name for one in fields(kind)}
    return kind(**{name: value for name, value in data.items() if name in names})
