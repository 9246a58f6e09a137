"""Writes what a command says of itself into the folder of its run, now and then."""

import json
import os
import socket
import threading
import time
from dataclasses import replace

from audioflow.errors import AudioflowError
from audioflow.event_text import UNITS, text_of
from audioflow.events import Event
from audioflow.pace import Pace
from audioflow.redaction import masked_command
from audioflow.retries import Retrying
from audioflow.run_status import (
    STATUS,
    WRITE_EVERY_S,
    RunStatus,
    Said,
    State,
    Step,
    is_at_work,
    read_status,
)
from audioflow.storage import Folder

_MOST_SAID = 20
_SOON = Retrying(attempts=2, first_wait_s=0.5, most_wait_s=0.5, patience_s=5.0)
_LAST_S = 10.0
_ENDS: dict[str, State] = {"done": "done", "skip": "unchanged", "failed": "failed"}
_COUNTS = ("done", "before", "failures", "media_s")
_OF_RAY = "RAY_JOB_CONFIG_JSON_ENV_VAR"


class StatusWriter:
    """Hears the events of a run, secrets masked, and keeps its status file up to date from a thread
    of its own.

    Nothing waits for it, and a run does not fail because of it. Used by several threads.
    """

    def __init__(self, folder: Folder, job: str, command: str) -> None:
        self._folder = Folder(folder.url, folder.options, _SOON)
        now = time.time()
        self._status = RunStatus(
            command=masked_command(command),
            job=job,
            host=socket.gethostname(),
            pid=os.getpid(),
            submission=submission(),
            began=now,
        )
        self._steps: dict[tuple[str, str], Step] = {}
        self._paces: dict[tuple[str, str], Pace] = {}
        self._said: list[Said] = []
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._keep_writing, daemon=True)
        self.problem = ""
        """Why it could not be written the last time; "" where it could."""

    def other(self) -> RunStatus | None:
        """Another command that is at work on this run."""
        try:
            found = read_status(self._folder)
        except AudioflowError:  # it is of no use, and is written anew
            return None
        return found if found and is_at_work(found) else None

    def begin(self) -> None:
        """Write the first status, and from now on what changes."""
        self._thread.start()

    def __call__(self, event: Event) -> None:
        """Note one event."""
        with self._lock:
            self._note(event, time.time())

    def finish(self, exit_code: int, error: str = "") -> None:
        """Write how the command ended; not for longer than some seconds."""
        with self._lock:
            ended = time.time()
            self._status = replace(self._status, ended=ended, exit_code=exit_code, error=error)
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join(_LAST_S)

    def _keep_writing(self) -> None:
        while True:
            last = self._ended.is_set()
            self._write()
            if last:
                return
            self._ended.wait(WRITE_EVERY_S)

    def _write(self) -> None:
        with self._lock:
            now, said = time.time(), tuple(self._said)
            steps = tuple(self._paced(key, now) for key in self._steps)
            status = replace(self._status, written=now, steps=steps, said=said)
        try:
            self._folder.write(STATUS, status.to_bytes())
            self.problem = ""
        except AudioflowError as error:
            self.problem = str(error)

    def _paced(self, key: tuple[str, str], now: float) -> Step:
        """A step with the rate that it has now."""
        step = self._steps[key]
        at_work = step.state == "running" and key in self._paces
        return replace(step, per_s=round(self._paces[key].per_s(now), 6)) if at_work else step

    def _note(self, event: Event, now: float) -> None:
        if text := text_of(event):
            name = "" if event.kind == "node" else event.name
            self._said = [*self._said, Said(now, event.job, name, text)][-_MOST_SAID:]
        key, data = (event.job, event.name), event.data
        if event.kind == "start":
            total, done = data.get("total", 0), data.get("done", 0)
            unit = UNITS.get(event.job, "clips")
            counts = {"total": total, "done": done, "before": done}
            self._steps[key] = Step(*key, unit=unit, began=now, changed=now, **counts)
            self._paces[key] = Pace(done)
        elif event.kind in _ENDS:
            self._end(key, _ENDS[event.kind], now)
        elif (step := self._steps.get(key)) is not None:
            if (pace := self._paces.get(key)) is not None:  # none where there was nothing to do
                pace.add(event, now)
            self._steps[key] = _further(step, event, now)

    def _end(self, key: tuple[str, str], state: State, now: float) -> None:
        """A table has ended: by itself, or as one of those that were made together."""
        job, table = key
        for (other, names), step in self._steps.items():
            if other == job and table in names.split(", "):
                if step.state == "running":
                    self._steps[other, names] = replace(step, state=state, changed=now)
                return
        self._steps[key] = Step(*key, state=state, began=now, changed=now)


def _further(step: Step, event: Event, now: float) -> Step:
    if event.kind == "trial":
        return replace(step, done=step.done + 1, changed=now)
    if event.kind not in ("epoch", "progress"):
        return step
    told = {key: event.data[key] for key in _COUNTS if key in event.data}
    return replace(step, changed=now, **told)


def submission() -> str:
    """The id that this process has as a job of Ray's; "" where it is none."""
    try:
        told = json.loads(os.environ.get(_OF_RAY, "{}"))
        return str(told.get("metadata", {}).get("job_submission_id", ""))
    except (ValueError, AttributeError):
        return ""
