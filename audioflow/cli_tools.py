"""The tools of the command line: `audioflow verify RUN_DIR`, `audioflow failures RUN_DIR`, which
look at what a run wrote and need no recipe, no Ray and no torch; and `audioflow plan RECIPE`.
"""

import csv
import json
import textwrap
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich.console import Console as RichConsole
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn

from audioflow import (
    compare_cli,
    datasets_cli,
    doctor_cli,
    explain_cli,
    export_cli,
    search_cli,
    serve_cli,
    status_cli,
    submit_cli,
    weights_cli,
)
from audioflow.codebook_cli import codebook_command
from audioflow.console import STATUS_EVERY_S, guarded, plain_out
from audioflow.errors import StorageError
from audioflow.failures import Chosen, FailureGroup, TableFailures, all_failures, summarise
from audioflow.planning_cli import PlanCommand, run_plan
from audioflow.redaction import masked
from audioflow.run_argument import run_folder
from audioflow.tables import FAILURES_SCHEMA, Failure
from audioflow.verify import verify
from audioflow.verify.text import one_line, plural, verification_lines

WIDEST = 100
"""Columns that a hint may take."""

RunDir = Annotated[
    str,
    typer.Argument(
        help="The run_dir of a recipe (a folder or s3:// url), or the recipe.", metavar="RUN_DIR"
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


TOOLS = {
    "status": status_cli.HELP,
    "verify": "Prove that every table of a run is whole, or list what is not.",
    "failures": "Show which clips of a run failed, why, and what to do.",
    "plan": "Probe a small sample, and say what the job embed will take.",
    "doctor": "Check this machine: golden vectors, versions, Ray, stores, weights.",
    "search": search_cli.HELP,
    "explain": explain_cli.HELP,
    "export": export_cli.HELP,
    "compare": compare_cli.HELP,
    "datasets": datasets_cli.HELP,
    "serve": serve_cli.HELP,
    "submit": submit_cli.HELP,
    "weights": weights_cli.HELP,
}
"""The tools and what they do, in words."""


def register(app: typer.Typer) -> None:
    """Add the tools to the command line."""
    app.command("status", help=TOOLS["status"])(status_cli.status_command)
    app.command("verify", help=TOOLS["verify"])(verify_command)
    app.command("failures", help=TOOLS["failures"])(failures_command)
    app.command("plan", help=TOOLS["plan"])(plan_command)
    app.command("doctor", help=TOOLS["doctor"])(doctor_cli.doctor)
    app.command("search", help=TOOLS["search"])(search_cli.search_command)
    app.command("explain", help=TOOLS["explain"])(explain_cli.explain_command)
    app.command("export", help=TOOLS["export"])(export_cli.export_command)
    app.command("compare", help=TOOLS["compare"])(compare_cli.compare_command)
    app.command("datasets", help=TOOLS["datasets"])(datasets_cli.datasets_command)
    app.command("serve", help=TOOLS["serve"])(serve_cli.serve_command)
    app.command("submit", help=TOOLS["submit"])(submit_cli.submit_command)
    weights_cli.app.command("codebook")(codebook_command)
    app.add_typer(weights_cli.app, name="weights")


def verify_command(run_dir: RunDir, as_json: AsJson = False) -> None:
    """Exit code 0 where all is well, 1 where there is a fault, 4 where there is no table."""
    raise typer.Exit(guarded(lambda: _verify(run_dir, as_json)))


def failures_command(
    run_dir: RunDir,
    table: Annotated[
        str | None, typer.Option(help="Only this table, such as embeddings/acoustic.")
    ] = None,
    error: Annotated[str | None, typer.Option(help="Only this error class, as no_audio.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Every failure, one per line.")] = False,
    csv_path: Annotated[
        str | None,
        typer.Option("--csv", help="Also write every failure to this file.", metavar="PATH"),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Exit code 0, also where there are failures; 4 where there is no table."""
    chosen = Chosen(table, error)
    raise typer.Exit(guarded(lambda: _failures(run_dir, chosen, every, csv_path, as_json)))


def plan_command(  # noqa: PLR0913 - one parameter per option
    recipe: Annotated[str, typer.Argument(help="The recipe, a YAML file.", metavar="RECIPE")],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            help="Values that replace those of the recipe.", metavar="[SECTION.KEY=VALUE]..."
        ),
    ] = None,
    *,
    sample: Annotated[int, typer.Option(min=1, help="Recordings to probe.")] = 40,
    cpus: Annotated[
        float | None, typer.Option(min=0.1, help="CPUs of the cluster; as here if not given.")
    ] = None,
    gpus: Annotated[
        float | None, typer.Option(min=0, help="GPUs of the cluster; as here if not given.")
    ] = None,
    machines: Annotated[int, typer.Option(min=1, help="Machines these are in.")] = 1,
    price: Annotated[
        float | None, typer.Option(min=0, help="Price of one machine for an hour.")
    ] = None,
    currency: Annotated[str, typer.Option(help="What the price is in, as EUR.")] = "",
    as_json: AsJson = False,
) -> None:
    """Exit code 0; 2 for a wrong recipe, 3 where all of the sample fails alike, 4 for no clip."""
    cluster = (cpus, gpus, machines)
    asked = PlanCommand(recipe, overrides or [], sample, *cluster, price, currency, as_json)
    raise typer.Exit(guarded(lambda: _plan(asked)))


# verify


def _verify(run_dir: str, as_json: bool) -> int:
    folder = run_folder(run_dir)
    with _Bar("verify", "shards") as bar:
        found = verify(folder, bar)
    if as_json:
        typer.echo(
            json.dumps({"run_dir": masked(folder.url), "ok": found.ok} | asdict(found), indent=1)
        )
    else:
        out = plain_out()
        for line in verification_lines(found, masked(folder.url)):
            out.print(line)
    return 0 if found.ok else 1


class _Bar:
    """How far a tool is: a bar on a terminal, else a line now and then; on standard error."""

    def __init__(self, tool: str, units: str) -> None:
        self._units = units
        self._out = RichConsole(stderr=True, highlight=False, soft_wrap=True)
        text = TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/")
        self._bar = Progress(
            *text, TextColumn("{task.total} " + units), console=self._out, transient=True
        )
        self._task = self._bar.add_task(tool, total=None)
        self._told = time.monotonic()

    def __enter__(self) -> "_Bar":
        if self._out.is_terminal:
            self._bar.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Make room for what is printed next."""
        if self._out.is_terminal:
            self._bar.stop()

    def __call__(self, table: str, done: int, total: int) -> None:
        self._bar.update(self._task, description=escape(table), completed=done, total=total)
        if not self._out.is_terminal and time.monotonic() - self._told >= STATUS_EVERY_S:
            self._told = time.monotonic()
            self._out.print(f"{escape(table)}  {done}/{total} {self._units}")


# plan


def _plan(command: PlanCommand) -> int:
    with _Bar("plan", "recordings") as bar:

        def told(done: int, total: int) -> None:
            bar("plan", done, total)
            if done == total:
                bar.stop()

        return run_plan(command, told)


# failures


def _failures(
    run_dir: str, chosen: Chosen, every: bool, csv_path: str | None, as_json: bool
) -> int:
    folder = run_folder(run_dir)
    tables = summarise(folder, chosen)
    if csv_path is not None:
        _write_csv(csv_path, all_failures(folder, chosen))
    if as_json:
        found: dict[str, Any] = {"run_dir": masked(folder.url), "tables": list(map(asdict, tables))}
        if every:
            rows = all_failures(folder, chosen)
            found["failures"] = [{"table": table} | asdict(failure) for table, failure in rows]
        typer.echo(json.dumps(found, indent=1))
        return 0
    if every:
        for table, failure in all_failures(folder, chosen):
            typer.echo(_line(table, failure))
        _warn(tables)
        return 0
    out = plain_out()
    out.print(f"[bold]audioflow failures[/bold]  {escape(masked(folder.url))}")
    for found_in in tables:
        _show_table(out, found_in)
    if csv_path is not None:
        out.print(f"\nall of them: {escape(csv_path)}")
    for job in _retrying(tables):
        out.print(f"\nto try them again: audioflow {job} RECIPE --retry-failed")
    return 0


def _retrying(tables: Sequence[TableFailures]) -> list[str]:
    """The jobs that try clips again: those in whose tables media failed."""
    places = {
        found_in.table.partition("/")[0]
        for found_in in tables
        if any(group.stage in ("fetch", "decode", "embed") for group in found_in.groups)
    }
    return [job for place, job in (("embeddings", "embed"), ("scores", "score")) if place in places]


def _line(table: str, failure: Failure) -> str:
    """One failure on one line."""
    parts = [table, failure.stage, failure.error, failure.clip_id, failure.uri or "-"]
    return one_line("  ".join([*parts, failure.reason, _tries(failure)]))


def _show_table(out: RichConsole, found: TableFailures) -> None:
    count = f"{found.count} of {found.clips} clips failed"
    if found.count and found.clips:
        count += f" ({_percent(found.count / found.clips)})"
    if not found.complete:
        count += ", [yellow]not complete yet[/yellow]"
    out.print(f"\n[bold]{escape(one_line(found.table))}[/bold]  {count}")
    if found.following:
        clips = plural(found.following, "clip")
        out.print(f"  beside {clips} that failed in the tables it was made from: see there")
    for what in found.unreadable:
        out.print(f"  [red]{escape(one_line(what))}[/red]")
    if found.unreadable:
        out.print("  [cyan]->[/cyan] audioflow verify says what is wrong and what to do")
    for group in found.groups:
        _show_group(out, group)


def _warn(tables: Iterable[TableFailures]) -> None:
    """Say on standard error which lists of failures are not whole."""
    for found in tables:
        whats = [] if found.complete else [f"{found.table} is not complete yet"]
        for what in [*whats, *found.unreadable]:
            typer.echo(one_line(what), err=True)


def _show_group(out: RichConsole, group: FailureGroup) -> None:
    head = f"[yellow]{escape(one_line(group.error))}[/yellow]"
    share = _percent(group.share)
    out.print(f"\n  {head}  {plural(group.count, 'clip')} ({share}) at {escape(group.stage)}")
    example = group.example
    out.print(f"    clip    {escape(one_line(example.clip_id))}")
    out.print(f"    file    {escape(one_line(example.uri or '-'))}")
    out.print(f"    reason  {escape(one_line(example.reason))}, {_tries(example)}")
    if group.hint:
        width = min(out.width, WIDEST)
        hint = textwrap.fill(
            group.hint, width, initial_indent="    hint    ", subsequent_indent=" " * 12
        )
        out.print(hint, style="cyan", markup=False)


def _tries(failure: Failure) -> str:
    node = f" on {failure.node}" if failure.node else ""
    return f"{plural(failure.attempts, 'attempt')}{node}"


def _write_csv(path: str, failures: Iterable[tuple[str, Failure]]) -> None:
    try:
        with open(path, "w", encoding="utf-8", newline="") as stream:  # noqa: PTH123
            writer = csv.DictWriter(stream, ["table", *FAILURES_SCHEMA.names])
            writer.writeheader()
            for table, failure in failures:
                writer.writerow({"table": table} | asdict(failure))
    except OSError as error:
        raise StorageError(f"--csv {path} cannot be written: {error.strerror}") from error


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
