"""`audioflow submit RECIPE`: a job on a cluster, as if it ran on this terminal.

    audioflow submit configs/demo.yaml --address http://HEAD:8265
    audioflow submit configs/demo.yaml --job embed embed.clips_per_shard=16

What `ray job submit` does, and what it leaves out: the recipe is checked before anything is sent,
the exit code is that of the job, and Ctrl-C says what becomes of it.
"""

import re
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer

from audioflow.console import guarded
from audioflow.errors import AudioflowError, Fault, InputError, RecipeError, StoppedError
from audioflow.plugins import plugins
from audioflow.recipe import JOBS
from audioflow.recipe_file import load_recipe
from audioflow.stores import is_local
from audioflow.submit_env import handed_on, read_runtime_env, wrong

if TYPE_CHECKING:
    from audioflow.engine.submit import Jobs, Outcome

HELP = "Run a job on a Ray cluster: check, pack, send, follow, and end with its exit code."

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
"""It becomes the name of a file on the head, and part of urls."""


@dataclass(frozen=True)
class SubmitCommand:
    """`audioflow submit` as it was asked for."""

    recipe: str
    overrides: Sequence[str] = ()
    job: str = "run"
    address: str | None = None
    folder: str = "."
    runtime_env: str | None = None
    env: Sequence[str] = ()
    name: str | None = None
    wait: bool = True
    stop_on_interrupt: bool = False
    retry_failed: bool = False
    check: bool = True


def submit_command(  # noqa: PLR0913 - one parameter per option
    recipe: Annotated[
        str,
        typer.Argument(help="The recipe: a file below --folder, or a url.", metavar="RECIPE"),
    ],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            help="Values that replace those of the recipe.", metavar="[SECTION.KEY=VALUE]..."
        ),
    ] = None,
    *,
    job: Annotated[str, typer.Option(help="The job: run, manifest, embed, ...")] = "run",
    address: Annotated[
        str | None,
        typer.Option(
            help="The dashboard, as http://HEAD:8265; else RAY_API_SERVER_ADDRESS, RAY_ADDRESS, or "
            "this machine."
        ),
    ] = None,
    folder: Annotated[
        str, typer.Option(help="What is packed: the recipe, and the lists it names.")
    ] = ".",
    runtime_env: Annotated[
        str | None,
        typer.Option(help="A runtime_env of Ray, a YAML file: more excludes, pip.", metavar="PATH"),
    ] = None,
    env: Annotated[
        list[str] | None,
        typer.Option(help="Hand on this environment variable; may be repeated.", metavar="NAME"),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(
            "--id", help="The name of the job on the cluster: letters, digits, and . _ - in it."
        ),
    ] = None,
    wait: Annotated[bool, typer.Option(help="Follow the job to its end.")] = True,
    stop_on_interrupt: Annotated[
        bool, typer.Option("--stop-on-interrupt", help="Ctrl-C stops the job, too.")
    ] = False,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="As of the jobs embed and run.")
    ] = False,
    check: Annotated[
        bool,
        typer.Option(
            help="Read and check the recipe here, before it is sent; the job does so in any case."
        ),
    ] = True,
) -> None:
    """Exit code of the job; 1 where it was stopped, 2 wrong arguments, 4 no cluster takes it."""
    command = SubmitCommand(
        recipe,
        overrides or [],
        job,
        address,
        folder,
        runtime_env,
        env or [],
        name,
        wait,
        stop_on_interrupt,
        retry_failed,
        check,
    )
    raise typer.Exit(guarded(lambda: submit(command)))


def submit(command: SubmitCommand) -> int:
    """Check, send and follow; returns the exit code of the job, 0 where nobody waits for it."""
    folder = Path(command.folder).expanduser().resolve()
    entrypoint = entrypoint_of(command, folder)
    extra = read_runtime_env(command.runtime_env)
    env = handed_on(command.env)
    if command.check:
        _check(command)

    from audioflow.engine.submit import Jobs, Parcel

    signal.signal(signal.SIGTERM, _interrupted)
    jobs = Jobs(command.address)
    name = jobs.submit(Parcel(entrypoint, folder, env, extra), command.name)
    stop = jobs.command("stop", name)
    try:
        typer.echo(f"job {name} on {jobs.address}")
        typer.echo(f"  follow  {jobs.command('logs --follow', name)}")
        typer.echo(f"  stop    {stop}")
        sys.stdout.flush()
        if not command.wait:
            return 0
        outcome = jobs.follow(name, _say)
    except KeyboardInterrupt:
        if not command.stop_on_interrupt:
            raise StoppedError(
                f"this command stopped, the job {name} goes on; what ends it: {stop}"
            ) from None
        outcome = _stopped(jobs, name)
    if outcome.status == "STOPPED":
        raise StoppedError(
            f"the job {name} was stopped; what is committed stays, run the same command again to "
            "go on"
        )
    if outcome.status == "FAILED" and outcome.driver_exit_code is None:
        raise StoppedError(f"the job {name} did not begin, or was lost: {outcome.message}")
    typer.echo(f"job {name} ended with exit code {outcome.exit_code}")
    return outcome.exit_code


def _stopped(jobs: "Jobs", name: str) -> "Outcome":
    """End a job; who does not wait for its end is told what is left to do."""
    try:
        return jobs.stop(name)
    except KeyboardInterrupt:
        raise StoppedError(
            f"this command stopped while the job {name} was being ended; how it is: "
            f"{jobs.command('status', name)}; what ends it: {jobs.command('stop', name)}; what is "
            "committed stays, run the same command again to go on"
        ) from None


def _check(command: SubmitCommand) -> None:
    """Raise `RecipeError` for what is wrong with the recipe, `InputError` where that cannot be
    known on this machine."""
    try:
        load_recipe(command.recipe, command.overrides, plugins(), command.job)
    except RecipeError:
        raise
    except AudioflowError as error:
        raise InputError(
            f"the recipe cannot be read on this machine: {error}. --no-check sends it unread, and "
            "the job, which runs where the keys are, checks it before anything else"
        ) from error


def _say(piece: str) -> None:
    sys.stdout.write(piece)
    sys.stdout.flush()


def _interrupted(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def entrypoint_of(command: SubmitCommand, folder: Path) -> list[str]:
    """The driver's command: `jobs/JOB.py` of the packed folder, or the installed command where
    the folder is no checkout. Raises `RecipeError` for what cannot be sent."""
    if command.job not in (*JOBS, "run"):
        raise wrong("--job", f"{command.job!r} is no job", ", ".join((*JOBS, "run")))
    if command.retry_failed and command.job not in ("embed", "run"):
        problem = f"does not go with --job {command.job}"
        raise wrong("--retry-failed", problem, "--job embed, --job run")
    if command.name is not None and not _ID.fullmatch(command.name):
        raise wrong(
            "--id",
            f"{command.name!r} is no name of a job",
            "128 letters, digits, and . _ - at most, the first a letter or digit",
        )
    if not folder.is_dir():
        raise wrong("--folder", f"{folder} is no folder")
    recipe = command.recipe
    if is_local(recipe):
        path = Path(recipe).expanduser().resolve()
        if not path.is_file():
            raise RecipeError(recipe, [Fault("(file)", "does not exist")])
        if not path.is_relative_to(folder):
            problem = f"{recipe} lies outside of {folder}, which is what is sent"
            raise wrong("RECIPE", problem, "a file below --folder, or a url")
        recipe = str(path.relative_to(folder))
    script = f"jobs/{command.job}.py"
    program = ["python", script] if (folder / script).is_file() else ["audioflow", command.job]
    retry = ["--retry-failed"] if command.retry_failed else []
    return [*program, recipe, *command.overrides, *retry]
