"""The command line: `audioflow JOB RECIPE [section.key=value ...]`.

    audioflow run configs/demo.yaml
    audioflow train configs/demo.yaml systems.audio.train.epochs=5

The only module, with `console`, that reads arguments and prints for people.
"""

import os
import shlex
import signal
import sys
import traceback
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from types import FrameType
from typing import Annotated, Any

import typer

from audioflow import __version__, cli_tools
from audioflow.console import Console
from audioflow.errors import AudioflowError, Terminated
from audioflow.plugins import plugins
from audioflow.recipe import JOBS, Recipe
from audioflow.recipe_file import load_recipe
from audioflow.recipe_yaml import read_text
from audioflow.retries import hearing_waits
from audioflow.status_writer import StatusWriter

HELP = {
    "manifest": "Find the clips, their labels and their splits.",
    "embed": "Decode the media and compute the embeddings of every backbone.",
    "train": "Train the head of every system.",
    "tune": "Search the settings of systems, and make heads of the best.",
    "score": "Score the clips with every system.",
    "fuse": "Fuse the scores of several systems.",
    "report": "Write the HTML report.",
    "run": "Do every job the recipe has a section for, skipping what is complete.",
}

app = typer.Typer(
    name="audioflow",
    help="From folders or buckets of videos and audio to class scores, on Ray.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

RecipeArgument = Annotated[str, typer.Argument(help="The recipe, a YAML file.", metavar="RECIPE")]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(
        help="Values that replace those of the recipe.", metavar="[SECTION.KEY=VALUE]..."
    ),
]
EventsOption = Annotated[
    str | None, typer.Option("--events", help="Also write progress as NDJSON to this file.")
]
RetryOption = Annotated[
    bool,
    typer.Option("--retry-failed", help="Try the clips again that failed before, and only these."),
]


def _version(value: bool) -> None:
    if value:
        typer.echo(f"audioflow {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Options that stand before the job."""


@dataclass(frozen=True)
class Command:
    """One job as it was asked for."""

    job: str
    recipe: str
    overrides: Sequence[str] = ()
    events: str | None = None
    retry_failed: bool = False

    @property
    def text(self) -> str:
        """As typed."""
        retry = ["--retry-failed"] if self.retry_failed else []
        return shlex.join(["audioflow", self.job, self.recipe, *self.overrides, *retry])


def run_command(command: Command) -> int:
    """Do one job and return the exit code (DESIGN: 0, 1, 2, 3 or 4)."""
    console = Console(command.events)
    signal.signal(signal.SIGTERM, _terminate)
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # as with nohup
        signal.signal(signal.SIGHUP, _terminate)  # its terminal was closed
    code, why, fault = 1, "a fault of audioflow: its traceback is on standard error", ""
    try:
        with hearing_waits(console.waits), ExitStack() as stack:
            _do(command, console, stack)
        code, why = 0, ""
    except AudioflowError as error:
        code, why = error.exit_code, str(error)
        console.error(why)
    except KeyboardInterrupt as stopped:
        why = "stopped; what is committed stays, run the same command again to go on"
        if number := str(stopped):
            why = (
                f"stopped by {number}; what is committed stays, run the same command again to go on"
            )
        console.error(why)
    except Exception:  # noqa: BLE001 - click would take an `EOFError` or `OSError` for a wish to end
        fault = traceback.format_exc()
    finally:
        console.finish(command.job, code, why)
        console.close()
    if fault:
        sys.stderr.write(fault)
    return code


def _do(command: Command, console: Console, stack: ExitStack) -> None:
    from audioflow.engine.flow import begin_early, run_job
    from audioflow.engine.run import Run

    runs: list[Run] = []

    def early(recipe: Recipe) -> None:
        console.hide(recipe.storage_options.secrets)
        text = read_text(command.recipe)
        give_up = partial(_give_up, console, command.job)
        run = Run(recipe, console, text, command.text, command.retry_failed, give_up)
        stack.enter_context(run.session)
        runs.append(run)
        begin_early(command.job, run)

    load_recipe(command.recipe, command.overrides, plugins(), command.job, early)
    (run,) = runs
    status = StatusWriter(run.folder, command.job, command.text)
    console.begin(command.job, run.folder.url, command.text, status)
    run_job(command.job, run)
    console.end(command.job, run)


def _give_up(console: Console, job: str, why: str) -> None:
    """End this process now, from any thread: nothing that it waits for may ever come."""
    console.error(why)
    console.finish(job, 1, why)
    console.close()
    sys.stdout.flush()
    os._exit(1)


def _terminate(number: int, frame: FrameType | None) -> None:
    # Ray's handler, which comes first, has the process aborted where it takes 3 s to end.
    signal.alarm(0)
    raise Terminated(signal.Signals(number).name)


def _add(job: str) -> None:
    def plain(
        recipe: RecipeArgument, overrides: Overrides = None, events: EventsOption = None
    ) -> None:
        raise typer.Exit(run_command(Command(job, recipe, overrides or [], events)))

    def with_retry(
        recipe: RecipeArgument,
        overrides: Overrides = None,
        events: EventsOption = None,
        retry_failed: RetryOption = False,
    ) -> None:
        raise typer.Exit(run_command(Command(job, recipe, overrides or [], events, retry_failed)))

    app.command(job, help=HELP[job])(with_retry if job in ("embed", "run") else plain)


for _job in (*JOBS, "run"):
    _add(_job)
cli_tools.register(app)


def main(arguments: Sequence[str] | None = None) -> Any:
    """Entry point of the installed command; `jobs/*.py` call it with their job in front."""
    return app(args=list(arguments) if arguments is not None else sys.argv[1:])
