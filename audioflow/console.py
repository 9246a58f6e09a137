"""What a person sees of a run: a progress bar on a terminal, status lines elsewhere, NDJSON."""

import json
import threading
import time
import uuid
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, TextIO

from rich.console import Console as RichConsole
from rich.markup import escape
from rich.progress import Progress, TaskID

from audioflow.console_results import results_table
from audioflow.console_status import Status, bar
from audioflow.console_tables import EpochTable, Line
from audioflow.console_trials import TrialTable
from audioflow.console_turns import Turns
from audioflow.errors import AudioflowError, InputError
from audioflow.event_text import text_of
from audioflow.events import Event
from audioflow.redaction import masked, masked_command, masked_faults, masked_values
from audioflow.retries import Wait, hearing_waits
from audioflow.status_writer import StatusWriter
from audioflow.verify.text import plural

STATUS_EVERY_S = 10.0


class Console:
    """Shows the events of a run. Called from several threads."""

    def __init__(self, events: str | None = None) -> None:
        self._out = RichConsole(highlight=False, soft_wrap=True)
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._status = Status()
        self._current: Event | None = None
        self._table: EpochTable | TrialTable | None = None
        self._turns = Turns()
        self._late_s = 0.0
        self._made = self._told = time.monotonic()
        self._lock = threading.Lock()
        self._stream = _open(events)
        self._id = uuid.uuid4().hex[:12]
        self._status_file: StatusWriter | None = None
        self._ended = threading.Event()
        self._job = ""
        self._waited = -STATUS_EVERY_S
        self._secrets: frozenset[str] = frozenset()

    def hide(self, secrets: Iterable[str]) -> None:
        """Mask these in all that is shown from now on, beside those of urls and environment."""
        self._secrets = frozenset(secrets)

    def _masked(self, text: str) -> str:
        return masked(text, self._secrets)

    def begin(
        self, job: str, run_dir: str, command: str = "", status: StatusWriter | None = None
    ) -> None:
        """Say what is about to run and where its tables lie; status: says so in the folder, too."""
        self._out.print(f"[bold]audioflow {job}[/bold]  {escape(self._masked(run_dir))}")
        told = {"run_dir": run_dir, "command": masked_command(command)}
        self._job = job
        self._record(Event(job, "begin", "", told))
        if not self._out.is_terminal:
            threading.Thread(target=self._keep_telling, daemon=True).start()
        if status is not None:
            self._begin_status(job, status)

    def _begin_status(self, job: str, status: StatusWriter) -> None:
        if other := status.other():
            heard = f"last heard of {max(0.0, time.time() - other.written):.0f} s ago"
            where = f"{other.host}, process {other.pid}, {heard}"
            text = f"another command may be at work on this run: {other.command} ({where})"
            self(
                Event(job, "note", job, {"text": f"{text}; both do what is open, and one in vain"})
            )
        self._status_file = status
        status.begin()

    def __call__(self, event: Event) -> None:
        """Show one event."""
        with self._lock:
            for told in self._turns.add(self._record(event)):
                self._late_s = told.late_s
                show = getattr(self, f"_{told.event.kind}")
                show(told.event, told.event.data)
            self._late_s = 0.0

    def _record(self, event: Event) -> Event:
        """Write an event to the event file, if there is one; gives it without secrets."""
        event = replace(event, data=masked_values(event.data, self._secrets))
        if self._stream:
            _write(self._stream, self._id, event)
        if self._status_file:
            self._status_file(event)
        return event

    def finish(self, job: str, exit_code: int, error: str = "") -> None:
        """Write down how the command ended; nothing more is told of it."""
        told: dict[str, Any] = {"exit_code": exit_code}
        told["seconds"] = round(time.monotonic() - self._made, 3)
        if error:
            told["error"] = self._masked(masked_faults(error))
        with self._lock:
            self._record(Event(job, "end", "", told))
        if self._status_file:
            self._status_file.finish(exit_code, told.get("error", ""))
            if problem := self._status_file.problem:
                self.error(f"the state of the run could not be written down: {problem}")

    def waits(self, wait: Wait) -> None:
        """Say that a store does not answer as it should; once in a while, of all that wait."""
        now = time.monotonic()
        with self._lock:
            if now - self._waited < STATUS_EVERY_S:
                return
            self._waited = now
        if self._job:
            self(Event(self._job, "note", self._job, {"text": masked(wait.text)}))
        else:
            RichConsole(stderr=True, highlight=False, soft_wrap=True).print(
                f"[yellow]waiting:[/yellow] {escape(self._masked(wait.text))}"
            )

    def error(self, message: str) -> None:
        """Show why the run ended; on standard error."""
        self._stopbar()
        RichConsole(stderr=True, highlight=False, soft_wrap=True).print(
            f"[red bold]error:[/red bold] {escape(self._masked(masked_faults(message)))}"
        )

    def end(self, job: str, run: Any) -> None:
        """Show the outcome: the metrics of every system, and where the report is."""
        if run.recipe.report is None or job not in ("run", "report"):
            return
        folder = run.report().folder
        results = json.loads(folder.read("report.json"))
        table = results_table(results)
        if table.row_count:
            self._out.print(table)
        self._out.print(f"report: {escape(self._masked(folder.file('index.html')))}")

    def close(self) -> None:
        """End the progress bar, the status lines and the event file."""
        self._ended.set()
        self._stopbar()
        if self._stream:
            self._stream.close()
            self._stream = None

    def _keep_telling(self) -> None:
        """Without a terminal: a status line whenever a running job has said nothing for a while."""
        while not self._ended.wait(1.0):
            with self._lock:
                due = time.monotonic() - self._told >= STATUS_EVERY_S
                if due and self._current is not None:
                    self._line(self._current, self._status.text())

    def _start(self, event: Event, data: dict[str, Any]) -> None:
        self._end_table()
        self._stopbar()
        self._current = event
        self._status = Status(event.job, data.get("total", 0), data.get("done", 0), self._late_s)
        self._table = _table_of(event)
        if not data.get("total"):
            return
        self._line(event, _announced(data, self._status.unit))
        if self._out.is_terminal and event.job != "train":
            self._bar = bar(self._out, self._status.unit)
            self._task = self._bar.add_task(
                event.job, total=data["total"], completed=data.get("done", 0), text=""
            )
            self._bar.start()

    def _progress(self, event: Event, data: dict[str, Any]) -> None:
        if self._current is None or event.job != self._current.job:
            return  # of the best head of a search, which is trained at its end
        self._status.add(event, self._late_s)
        if self._bar is not None and self._task is not None:
            text = self._status.rates()
            self._bar.update(self._task, completed=self._status.done, text=text)

    def _epoch(self, event: Event, data: dict[str, Any]) -> None:
        if isinstance(self._table, EpochTable):
            self._status.add(event, self._late_s)
            self._rows(self._table.add(data))

    def _trial(self, event: Event, data: dict[str, Any]) -> None:
        if isinstance(self._table, TrialTable):
            self._progress(event, data)
            self._rows(self._table.add(data))

    def _shard(self, event: Event, data: dict[str, Any]) -> None:
        """How long it took; progress says the rest."""
        self._status.add(event)

    def _retry(self, event: Event, data: dict[str, Any]) -> None:
        self._line(event, text_of(event))

    def _node(self, event: Event, data: dict[str, Any]) -> None:
        self._line(replace(event, name=""), text_of(event))

    def _verdict(self, event: Event, data: dict[str, Any]) -> None:
        self._line(event, text_of(event))

    def _note(self, event: Event, data: dict[str, Any]) -> None:
        self._line(event, text_of(event))

    def _skip(self, event: Event, data: dict[str, Any]) -> None:
        self._stopbar()
        self._current = None
        self._line(event, f"nothing to do: complete and unchanged ({_counts(event, data)})")

    def _done(self, event: Event, data: dict[str, Any]) -> None:
        self._end_table()
        self._stopbar()
        self._current = None
        parts = [_counts(event, data)]
        if data.get("x_real_time"):
            parts.append(f"{data['clips_per_s']:.1f} clips/s, {data['x_real_time']:.0f}x real time")
        if data.get("taken_over"):
            parts.append(f"{data['clips']} clips embedded, {data['taken_over']} unchanged")
        if data.get("resumed"):
            parts.append(f"{data['resumed']} shards were done before")
        if "seconds" in data:
            parts.append(f"{data['seconds']:.1f} s")
        self._line(event, "done: " + ", ".join(parts))

    def _failed(self, event: Event, data: dict[str, Any]) -> None:
        self._end_table()
        self._current = None
        self._line(event, text_of(event))

    def _line(self, event: Event, text: str) -> None:
        self._told = time.monotonic()
        name = "" if event.name in ("", event.job) else f" {event.name}"
        clock = (datetime.now(UTC) - timedelta(seconds=self._late_s)).strftime("%H:%M:%S")
        self._out.print(
            f"[dim]{clock}[/dim] [cyan]{event.job}[/cyan]{escape(name)}  {escape(text)}"
        )

    def _rows(self, lines: Iterable[Line]) -> None:
        for line in lines:
            self._told = time.monotonic()
            self._out.print(escape(line.text), style=line.style or None)

    def _end_table(self) -> None:
        if self._table is not None:
            self._rows(self._table.rest())
            self._table = None

    def _stopbar(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def guarded(work: Callable[[], int], stopped: str = "stopped") -> int:
    """The exit code of what a tool does, or of the error that ended it, which is told."""
    console = Console()
    try:
        with hearing_waits(console.waits):
            return work()
    except AudioflowError as error:
        console.error(str(error))
        return error.exit_code
    except KeyboardInterrupt:
        console.error(stopped)
        return 1
    finally:
        console.close()


def plain_out() -> RichConsole:
    """Where tools write: no colours guessed from words, no lines broken."""
    return RichConsole(highlight=False, soft_wrap=True)


def _open(path: str | None) -> TextIO | None:
    if path is None:
        return None
    try:
        return open(path, "a", encoding="utf-8", buffering=1)  # noqa: PTH123
    except OSError as error:
        raise InputError(f"--events {path} cannot be written: {error.strerror}") from error


def _write(stream: TextIO, command: str, event: Event) -> None:
    """command: tells its lines from those of others in the same file."""
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    record = {"time": now, "id": command, "job": event.job, "kind": event.kind, "name": event.name}
    record |= event.data
    stream.write(json.dumps(record) + "\n")


def _announced(data: dict[str, Any], unit: str) -> str:
    """What a job has before it, in words."""
    folds = f" in {len(data['folds'])} folds" if data.get("folds") else ""
    if data.get("fitted"):
        return f"fitted in one go{folds}"
    text = f"{data['total']} {unit}{folds}"
    if data.get("done"):
        text += f", {data['done']} of them done before"
    if select := data.get("select"):
        kept = "last one" if select == "last" else f"best one by {select.replace('_', ' ')}"
        text += f", the {kept} is kept"
    return text


def _table_of(event: Event) -> EpochTable | TrialTable | None:
    """What shows the rows that are to come, in the jobs that have some."""
    data, total = event.data, event.data.get("total", 0)
    if event.job == "train":
        told = {key: data[key] for key in ("folds", "select", "fitted") if key in data}
        return EpochTable(total, **told)
    if event.job == "tune":
        return TrialTable(total - data.get("done", 0), data.get("select", ""), data.get("default"))
    return None


def _counts(event: Event, data: dict[str, Any]) -> str:
    unit = {"report": "system", "train": "head", "tune": "trial"}.get(event.job, "clip")
    failures = f", {plural(data['failures'], 'failure')}" if data.get("failures") else ""
    return plural(data["rows"], unit) + failures
