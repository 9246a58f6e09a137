"""A cluster as a user starts one, and the commands a user types, each in a process of its own."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path

import pytest

from tests.conftest import ROOT, free_port

BIN = Path(sys.executable).parent


@dataclass(frozen=True)
class Place:
    """An empty home for a run: where relative paths of a recipe lie."""

    folder: Path

    def environment(self, **more: str) -> dict[str, str]:
        kept = {
            key: value for key, value in os.environ.items() if not key.startswith(("RAY_", "AWS_"))
        }
        own = {"AUDIOFLOW_HOME": str(self.folder), "RAY_AUTH_MODE": "disabled"}
        return kept | own | {"PATH": f"{BIN}:{os.environ['PATH']}"} | more

    def audioflow(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run the installed command to its end."""
        done = subprocess.run(
            [BIN / "audioflow", *arguments],
            check=False,
            cwd=ROOT,
            env=self.environment(),
            capture_output=True,
            text=True,
            timeout=540,
        )
        if check:
            assert done.returncode == 0, done.stdout + done.stderr
        return done


@dataclass(frozen=True)
class Cluster:
    """A Ray started by `ray start --head`, with its own ports and folder."""

    place: Place
    dashboard: str
    address: str

    def submit(self, *entrypoint: str) -> subprocess.CompletedProcess[str]:
        """`ray job submit --working-dir . -- ENTRYPOINT` from the project's folder."""
        return subprocess.run(
            [BIN / "ray", "job", "submit", "--working-dir", ".", "--", *entrypoint],
            check=False,
            cwd=ROOT,
            env=self.place.environment(RAY_ADDRESS=self.dashboard),
            capture_output=True,
            text=True,
            timeout=540,
        )


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """One cluster for the session."""
    with running(Place(tmp_path_factory.mktemp("home"))) as started:
        yield started


@contextlib.contextmanager
def running(place: Place, **environment: str) -> Iterator[Cluster]:
    """A cluster while it is needed; it is ended by its own process group, never by name."""
    folder = Path(tempfile.mkdtemp(prefix="af-"))  # short: Ray's sockets lie in it
    port, dashboard, agent = free_port(), free_port(), free_port()
    command = [
        *(
            BIN / "ray",
            "start",
            "--head",
            "--block",
            "--num-cpus=2",
            "--num-gpus=1",
            "--disable-usage-stats",
        ),
        *(f"--port={port}", f"--dashboard-port={dashboard}", f"--temp-dir={folder}"),
        f"--dashboard-agent-listen-port={agent}",  # another Ray may have the usual one
    ]
    log = (folder / "start.log").open("w")
    process = subprocess.Popen(
        command,
        env=place.environment(**environment),
        stdout=log,
        stderr=log,
        start_new_session=True,
    )
    url = f"http://127.0.0.1:{dashboard}"
    try:
        _wait_for(f"{url}/api/jobs/", process)
        yield Cluster(place, url, f"127.0.0.1:{port}")
    finally:
        end_group(process)
        log.close()
        shutil.rmtree(folder, ignore_errors=True)


def _wait_for(url: str, process: subprocess.Popen[bytes], seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        assert process.poll() is None, "ray start ended"
        try:
            urllib.request.urlopen(url, timeout=2).close()
            return
        except urllib.error.HTTPError as error:
            if error.code == HTTPStatus.UNAUTHORIZED:  # it is there, and wants a token
                return
            time.sleep(0.2)
        except OSError:
            time.sleep(0.2)
    raise TimeoutError(url)


def wait_until(
    condition: Callable[[], bool], process: subprocess.Popen[bytes], seconds: float
) -> None:
    """Wait while a process runs; it must not end meanwhile."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, "it ended too early"
        assert time.monotonic() < deadline
        time.sleep(0.05)


def end_group(process: subprocess.Popen[bytes]) -> None:
    """End a process and everything in its session."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            break
        try:
            process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            continue
    process.wait()
