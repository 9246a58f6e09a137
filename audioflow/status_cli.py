"""`audioflow status RUN_DIR`: how far a run is, seen from any machine that can read its folder."""

import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.console import Console as RichConsole
from rich.markup import escape

from audioflow.console import guarded, plain_out
from audioflow.errors import InputError
from audioflow.planning.text import duration
from audioflow.redaction import masked
from audioflow.run_argument import run_folder
from audioflow.run_status import WRITE_EVERY_S, RunStatus, Step, is_at_work, read_status
from audioflow.storage import Folder
from audioflow.tables import RECEIPTS, Table
from audioflow.verify.places import tables_in
from audioflow.verify.text import one_line, plural

HELP = "Show how far a run is, who is at work on it, and what it has made."

_NOUNS = {"heads": "head", "tune": "trial", "report": "system"}


def status_command(
    run_dir: Annotated[
        str, typer.Argument(help="The run_dir of a recipe, or the recipe.", metavar="RUN_DIR")
    ],
    watch: Annotated[
        bool, typer.Option("--watch", help="Show it anew until the command has ended.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Exit code 0, however the run is; 4 where there is none."""

    def work() -> int:
        folder = run_folder(run_dir)
        if watch:
            _watch(folder, as_json)
        elif as_json:
            typer.echo(json.dumps(_as_data(folder), indent=1))
        else:
            _show(folder)
        return 0

    raise typer.Exit(guarded(work))


@dataclass(frozen=True)
class TableState:
    """A table of a run: complete, with what its header counts, or begun, with shards so far."""

    table: str
    complete: bool
    rows: int = 0
    failures: int = 0
    shards: int = 0
    ended: float | None = None
    seconds: float | None = None


def table_states(folder: Folder) -> list[TableState]:
    """Every table that is there or was begun, in the order of the flow. Raises as `tables_in`."""
    return [_state(folder, name) for name in tables_in(folder)]


def _state(folder: Folder, name: str) -> TableState:
    found = Table(folder / name).header()
    if found is None:
        return TableState(name, complete=False, shards=len((folder / name / RECEIPTS).names()))
    ended, seconds = found.stats.get("ended"), found.stats.get("seconds")
    counts = (found.good, found.failures, len(found.shards))
    return TableState(name, True, *counts, ended, seconds)


def _as_data(folder: Folder) -> dict[str, Any]:
    status, tables = _found(folder)
    told = asdict(status) if status else None
    at_work = bool(status and is_at_work(status))
    return {
        "run_dir": masked(folder.url),
        "at_work": at_work,
        "command": told,
        "tables": [asdict(each) for each in tables],
    }


def _found(folder: Folder) -> tuple[RunStatus | None, list[TableState]]:
    """Raises `InputError` where there is neither."""
    status = read_status(folder)
    try:
        return status, table_states(folder)
    except InputError:
        if status is None:
            raise
        return status, []


def _show(folder: Folder) -> None:
    status, tables = _found(folder)
    out = plain_out()
    out.print(f"[bold]audioflow status[/bold]  {escape(masked(folder.url))}")
    if status is not None:
        for line in command_lines(status):
            out.print(line)
    else:
        out.print("no command has said anything of itself here")
    out.print()
    for line in _table_lines(tables):
        out.print(line)


def _watch(folder: Folder, as_json: bool) -> None:
    out = plain_out()
    while True:
        status = read_status(folder)
        if status is None:
            _found(folder)  # raises where there is no run at all
            raise InputError(
                f"{masked(folder.url)}: no command has said anything of itself here yet"
            )
        if as_json:
            typer.echo(json.dumps(asdict(status), ensure_ascii=False))
        else:
            _again(out, status)
        if not is_at_work(status):
            return
        time.sleep(WRITE_EVERY_S)


def _again(out: RichConsole, status: RunStatus) -> None:
    if out.is_terminal:
        out.clear()
    for line in command_lines(status):
        out.print(line)
    if not out.is_terminal:
        out.print()


def command_lines(status: RunStatus) -> Iterator[str]:
    """The last command, what it does or how it ended, its steps, and what it said last."""
    where = f"{status.host}, process {status.pid}"
    where += f", job {status.submission}" if status.submission else ""
    yield f"{escape(one_line(status.command))}  ({escape(one_line(where))})"
    yield _state_line(status)
    width = max((len(_title(step)) for step in status.steps), default=0)
    for step in status.steps:
        title = escape(f"{one_line(_title(step)):<{width}}")
        yield f"  {title}  {_step_text(step, at_work=is_at_work(status))}"
    for said in status.said[-5:]:
        name = f" {said.name}" if said.name and said.name != said.job else ""
        yield escape(one_line(f"  {_clock(said.time)} {said.job}{name}  {said.text}"))


def _title(step: Step) -> str:
    return step.job if step.name in ("", step.job) else f"{step.job} {step.name}"


def _state_line(status: RunStatus) -> str:
    now = time.time()
    began = f"began {_date(status.began)}"
    if status.ended is not None:
        took, ago = duration(status.ended - status.began), duration(max(0.0, now - status.ended))
        how = "[green]ended well[/green]" if status.exit_code == 0 else "[red]failed[/red]"
        line = f"{began}, {how} {ago} ago after {took}, exit code {status.exit_code}"
        return f"{line}: {escape(one_line(status.error))}" if status.error else line
    if is_at_work(status):
        return f"{began}, [green]at work[/green] for {duration(now - status.began)}"
    heard = duration(max(0.0, now - status.written))
    return (
        f"{began}, [red]not heard of for {heard}[/red]: it was killed, or cannot reach this "
        "folder; what is committed stays, run the same command again to go on"
    )


def _step_text(step: Step, *, at_work: bool) -> str:
    if step.state != "running":
        return {"done": "done", "unchanged": "nothing to do", "failed": "failed"}[step.state]
    if not step.total:
        return "at work" if at_work else "not finished"
    share = f"{100 * step.done / step.total:.0f} %"
    parts = [f"{step.done:,}/{step.total:,} {step.unit} ({share})"]
    if step.per_s:
        parts.append(f"{step.per_s:.1f} {step.unit}/s")
    if step.failures:
        tables = len(step.name.split(", "))
        of = f" in {tables} tables" if tables > 1 else ""
        parts.append(plural(step.failures, "failure") + of)
    if at_work and step.left_s is not None:
        parts.append(f"{duration(step.left_s)} left")
    return ", ".join(parts) if at_work else f"not finished: {', '.join(parts)}"


def _table_lines(tables: list[TableState]) -> Iterator[str]:
    width = max((len(one_line(each.table)) for each in tables), default=0)
    for each in tables:
        name = escape(f"{one_line(each.table):<{width}}")
        yield f"{name}  {_table_text(each)}"


def _table_text(each: TableState) -> str:
    if not each.complete:
        shards = f", {plural(each.shards, 'shard')} so far" if each.shards else ""
        return f"[yellow]begun[/yellow]{shards}"
    text = plural(each.rows, _NOUNS.get(each.table.partition("/")[0], "clip"))
    text += f", {plural(each.failures, 'failure')}" if each.failures else ""
    when = f", {_date(each.ended)}" if each.ended else ""
    took = f", took {duration(each.seconds)}" if each.seconds else ""
    return f"[green]complete[/green]  {text}{when}{took}"


def _date(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")


def _clock(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%H:%M:%S")
