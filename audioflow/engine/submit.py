"""A job sent to a cluster: packed, followed, and ended with the exit code of its driver."""

import asyncio
import contextlib
import os
import re
import shlex
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from audioflow.engine.dashboard import connected, dashboard_url, not_let_in, said
from audioflow.engine.joining import set_auth_mode
from audioflow.errors import AudioflowError, Fault, InputError, RecipeError, StoppedError
from audioflow.recipe_yaml import COMMAND_LINE

Say = Callable[[str], None]
"""Takes a piece of the driver's output, line ends included."""

STOP_WAIT_S = 60
"""How long a driver that is stopped may take to leave; Ray's own 3 s are short for a busy one."""

EXCLUDES = (
    *("/.git", "/.venv", "/runs", "/data", "/build", "/dist"),
    *("__pycache__", "*.egg-info", ".pytest_cache", ".ruff_cache", ".mypy_cache"),
)
"""What is never packed, in the words of a `.gitignore`; the folder's own such file counts, too."""

_POLL_S = 0.5
_SILENT_S = 60
_MOST_TOLD = 300
_AUTH_MODE = "RAY_AUTH_MODE"


@dataclass(frozen=True)
class Parcel:
    """What is sent.

    entrypoint: the words of the driver's command.
    folder: is packed, and is the current folder of the driver and of every worker.
    env: environment variables of driver and workers.
    extra: the rest of a `runtime_env`; its excludes are added to ours.
    """

    entrypoint: Sequence[str]
    folder: Path
    env: Mapping[str, str]
    extra: Mapping[str, Any]

    def runtime_env(self) -> dict[str, Any]:
        """As Ray takes it."""
        merged = dict(self.extra)
        merged["working_dir"] = str(self.folder)
        merged["excludes"] = [*EXCLUDES, *self.extra.get("excludes", [])]
        stop = {"RAY_JOB_STOP_WAIT_TIME_S": str(STOP_WAIT_S)}
        merged["env_vars"] = stop | dict(self.extra.get("env_vars", {})) | dict(self.env)
        return merged


@dataclass(frozen=True)
class Outcome:
    """How a job ended: Ray's status, the driver's exit code where it had one, Ray's message."""

    status: str
    driver_exit_code: int | None
    message: str

    @property
    def ended(self) -> bool:
        """Whether nothing of it is left to come."""
        return self.status in ("SUCCEEDED", "FAILED", "STOPPED")

    @property
    def exit_code(self) -> int:
        """That of the driver, as on a terminal; 1 where it was stopped or never began."""
        if self.status == "SUCCEEDED":
            return 0
        code = self.driver_exit_code
        return code if self.status == "FAILED" and code is not None and 0 < code < 128 else 1


class NameTakenError(AudioflowError):
    """A job of this name is there already."""

    exit_code = 2


class _Stream:
    """The output of a job, which begins at its first letter again each time it is opened."""

    def __init__(self, say: Say) -> None:
        self._say = say
        self._said = 0

    async def read(self, pieces: AsyncIterator[str]) -> None:
        """Say what was not said before."""
        passed = 0
        async for piece in pieces:
            new = piece[max(0, self._said - passed) :]
            passed += len(piece)
            if new:
                self._said = passed
                self._say(new)


class Jobs:
    """The jobs of one cluster."""

    def __init__(self, address: str | None) -> None:
        """address: `http://host:8265`, `host:8265` or `host`; else `$RAY_API_SERVER_ADDRESS`, else
        `$RAY_ADDRESS`, else this machine. Raises `InputError` where no jobs are taken."""
        self.address = dashboard_url(address)
        self._env = {"RAY_API_SERVER_ADDRESS": self.address}
        told = _AUTH_MODE in os.environ
        set_auth_mode()
        if not told and os.environ[_AUTH_MODE] == "token":
            self._env[_AUTH_MODE] = "token"
        # Ray warns of half of a limit that is not the one which a job's folder meets.
        os.environ.setdefault("RAY_PACKAGE_SIZE_WARNING_MIB", "-1")
        self._client = connected(self.address)

    def command(self, words: str, name: str) -> str:
        """A command of `ray job`, as it can be typed in any shell: with `--address` alone the job
        would be looked for at what `RAY_ADDRESS` says there."""
        env = (f"{key}={shlex.quote(value)}" for key, value in self._env.items())
        return " ".join((*env, "ray job", words, shlex.quote(name)))

    def submit(self, parcel: Parcel, name: str | None = None) -> str:
        """Send a job; returns the name it has there.

        Raises `NameTakenError` where another job has it, `RecipeError` where Ray does not take the
        file of the environment, `InputError` where the cluster refuses it.
        """
        env = parcel.runtime_env()
        if parcel.extra:
            _taken_by_ray(env)
        try:
            return str(
                self._client.submit_job(
                    entrypoint=shlex.join(parcel.entrypoint), runtime_env=env, submission_id=name
                )
            )
        except (RuntimeError, OSError, ValueError, TypeError) as error:
            if name is not None and f"submission_id {name} already exists" in str(error):
                raise NameTakenError(
                    f"--id {name}: {self.address} has had a job of this name already; give "
                    "another one, or leave --id out"
                ) from error
            raise refused(self.address, error, parcel.folder) from error

    def follow(self, name: str, say: Say) -> Outcome:
        """Hand on what the driver writes until it has ended, also over a broken connection.

        Raises `StoppedError` where the cluster says nothing any more.
        """
        stream = _Stream(say)
        heard = time.monotonic()
        while True:
            try:
                with contextlib.suppress(RuntimeError, OSError, aiohttp.ClientError):
                    asyncio.run(stream.read(self._client.tail_job_logs(name)))
                outcome = self.outcome(name)
                heard = time.monotonic()
                if outcome.ended:
                    return outcome
            except (RuntimeError, OSError) as error:
                if time.monotonic() - heard > _SILENT_S:
                    raise StoppedError(
                        f"the cluster at {self.address} has not answered for {_SILENT_S} s: "
                        f"{said(error)}; what the job {name} committed stays"
                    ) from error
            time.sleep(_POLL_S)

    def outcome(self, name: str) -> Outcome:
        """How a job is now."""
        info = self._client.get_job_info(name)
        return Outcome(str(info.status.value), info.driver_exit_code, info.message or "")

    def stop(self, name: str) -> Outcome:
        """End a job and wait until it has ended: what it committed stays.

        Raises `StoppedError` where that is not to be had.
        """
        try:
            self._client.stop_job(name)
        except (RuntimeError, OSError) as error:
            raise StoppedError(
                f"the job {name} could not be told to stop, and may go on: {said(error)}; "
                f"try again: {self.command('stop', name)}"
            ) from error
        deadline = time.monotonic() + STOP_WAIT_S + 15
        while time.monotonic() < deadline:
            with contextlib.suppress(RuntimeError, OSError):
                if (outcome := self.outcome(name)).ended:
                    return outcome
            time.sleep(_POLL_S)
        raise StoppedError(
            f"the job {name} was told to stop, and still runs; how it is: "
            f"{self.command('status', name)}"
        )


def _taken_by_ray(env: Mapping[str, Any]) -> None:
    """Raise `RecipeError` for what Ray itself would refuse, before anything is sent."""
    from ray.runtime_env import RuntimeEnv

    try:
        RuntimeEnv(**env)
    except (TypeError, ValueError) as error:
        told = " ".join(str(error).split())[:_MOST_TOLD].rstrip(" .")
        problem = f"Ray does not take it: {told}"
        fault = Fault("--runtime-env", problem, place=COMMAND_LINE)
        raise RecipeError("audioflow submit", [fault]) from error


def refused(address: str, error: Exception, folder: Path | None = None) -> InputError:
    """What Ray said, in words that lead on."""
    text = str(error)
    if "uthenticat" in text or "nauthorized" in text or "orbidden" in text:
        return not_let_in(address, error)
    if folder is not None and ("exceeds the maximum size" in text or "status code 413" in text):
        return InputError(
            f"{folder} is too large to be sent: packed it is more than {_limit(text)}; the largest "
            f"in it: {largest(folder)}. "
            "Name what the job does not need in .rayignore, or under `excludes` of --runtime-env"
        )
    return InputError(f"{address} refused the job: {said(error)}")


def _limit(text: str) -> str:
    """How much a cluster takes, as it says when it was sent more."""
    if found := re.search(r"body size (\d+) exceeded", text):
        return f"the {int(found[1]) / 2**20:g} MiB that this cluster takes"
    if found := re.search(r"maximum size of ([\d.]+) ?MiB", text):
        return f"the {float(found[1]):g} MiB that this cluster takes"
    return "this cluster takes"


def largest(folder: Path, count: int = 3) -> str:
    """The largest entries of a folder, with their sizes."""
    skipped = {name.strip("/") for name in EXCLUDES}
    sizes = {
        entry.name: sum(part.stat().st_size for part in entry.rglob("*") if part.is_file())
        if entry.is_dir()
        else entry.stat().st_size
        for entry in folder.iterdir()
        if entry.name not in skipped
    }
    first = sorted(sizes, key=lambda name: -sizes[name])[:count]
    return ", ".join(f"{name} ({sizes[name] / 2**20:,.1f} MiB)" for name in first)
