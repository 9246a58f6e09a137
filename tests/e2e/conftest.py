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
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path

import pytest

from tests.conftest import ROOT, free_port

BIN = Path(sys.executable).parent
STARTED = "Ray runtime started"


@dataclass(frozen=True)
class Place:
    """An empty home for a run: where relative paths of a recipe lie."""

    folder: Path

    def environment(self, **more: str) -> dict[str, str]:
        kept = {
            key: value for key, value in os.environ.items() if not key.startswith(("RAY_", "AWS_"))
        }
        own = {"AUDIOFLOW_HOME": str(self.folder), "RAY_AUTH_MODE": "disabled"}
        own |= {"RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0"}  # else it takes seconds to end
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


def processes_of(session: int) -> Iterator[tuple[int, str]]:
    """Number and title of each process of a Unix session; its words end with a null."""
    for folder in Path("/proc").glob("[0-9]*"):
        number = int(folder.name)
        try:
            if os.getsid(number) == session:
                yield number, (folder / "cmdline").read_bytes().decode(errors="replace")
        except OSError:  # it has just ended
            continue


@dataclass(frozen=True)
class Cluster:
    """A Ray started by `ray start --head`, with its own ports, folder and Unix session."""

    place: Place
    dashboard: str
    address: str
    session: int

    def processes(self) -> Iterator[tuple[int, str]]:
        """Number and title of each on its head; other tests may have a Ray of their own."""
        return processes_of(self.session)

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
def running(
    place: Place, *, cpus: int = 2, gpus: int = 1, dashboard: bool = True, **environment: str
) -> Iterator[Cluster]:
    """A cluster while it is needed; it is ended by its own process group, never by name.

    cpus, gpus: of its head, which has none for work where both are 0.
    """
    resources = [f"--num-cpus={cpus}", f"--num-gpus={gpus}", f"--include-dashboard={dashboard}"]
    for attempt in range(3):
        folder = Path(tempfile.mkdtemp(prefix="af-"))  # short: Ray's sockets lie in it
        cluster, process = _started(place, folder, resources, environment)
        try:
            if dashboard:
                wait_for(f"{cluster.dashboard}/api/jobs/", process)
            else:
                wait_until(lambda log=folder / "start.log": STARTED in log.read_text(), process, 90)
        except (EndedError, TimeoutError):  # Ray gives its node 30 s, however busy the machine is
            end_group(process)
            if attempt == 2:
                raise AssertionError((folder / "start.log").read_text()) from None
            shutil.rmtree(folder, ignore_errors=True)
        else:
            break
    try:
        yield cluster
    finally:
        end_group(process)
        shutil.rmtree(folder, ignore_errors=True)


def _started(
    place: Place, folder: Path, resources: Sequence[str], environment: Mapping[str, str]
) -> tuple[Cluster, subprocess.Popen[bytes]]:
    port, dashboard, agent = free_port(), free_port(), free_port()
    command = [
        *(BIN / "ray", "start", "--head", "--block", *resources, "--disable-usage-stats"),
        *(f"--port={port}", f"--dashboard-port={dashboard}", f"--temp-dir={folder}"),
        f"--dashboard-agent-listen-port={agent}",  # another Ray may have the usual one
    ]
    with (folder / "start.log").open("wb") as log:
        process = subprocess.Popen(
            command,
            env=place.environment(**environment),
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    urls = f"http://127.0.0.1:{dashboard}", f"127.0.0.1:{port}"
    return Cluster(place, *urls, process.pid), process


@dataclass(frozen=True)
class Machine:
    """A further node of a cluster: its processes, which are those of one Unix session, and where
    they keep what is theirs."""

    process: subprocess.Popen[bytes]
    folder: Path
    ip: str

    def processes(self) -> Iterator[tuple[int, str]]:
        """Number and title of each."""
        return processes_of(self.process.pid)

    def does(self, *titles: str) -> bool:
        """Whether a worker of Ray here does one of these at this moment."""
        running = [title for _, title in self.processes() if title.startswith("ray::")]
        return any(name in title for title in running for name in titles)

    def lose(self) -> None:
        """As if it lost its power: all processes at once, the raylet first."""
        found = sorted(self.processes(), key=lambda one: "raylet/raylet" not in one[1])
        for number, _ in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(number, signal.SIGKILL)
        self.process.wait()


@dataclass(frozen=True)
class Machines:
    """The further nodes of a cluster, as far as they are started here."""

    cluster: Cluster
    started: list[Machine] = field(default_factory=list)

    def add(
        self, *, cpus: float = 1, gpus: int = 0, tier: str | None = None, **environment: str
    ) -> Machine:
        """Start one, labelled with a tier or not, and wait until it has joined. environment: of all
        that runs there.

        Of several that start at once on a machine, as other tests may start some, one may find its
        ports taken, and ends; it is started again.
        """
        options = [f"--num-cpus={cpus:g}", f"--num-gpus={gpus}"]
        options += [] if tier is None else [f"--labels=audioflow/tier={tier}"]
        for _ in range(3):
            self.started.append(self._start(options, environment))
            path = self.log(len(self.started) - 1)
            try:
                wait_until(
                    lambda path=path: STARTED in path.read_text(),
                    self.started[-1].process,
                    60,
                )
            except EndedError:
                continue
            return self.started[-1]
        raise AssertionError(path.read_text())

    def log(self, number: int) -> Path:
        """What a node has said."""
        return self.cluster.place.folder / f"node-{number}.log"

    def _start(self, options: Sequence[str], environment: Mapping[str, str]) -> Machine:
        number, folder = len(self.started), Path(tempfile.mkdtemp(prefix="af-"))
        ip = f"127.{os.getpid() % 250 + 1}.0.{number + 10}"
        command = [
            *(BIN / "ray", "start", f"--address={self.cluster.address}", "--block", *options),
            *("--disable-usage-stats", f"--object-store-memory={150 * 2**20}"),
            f"--dashboard-agent-listen-port={free_port()}",
            # Of its own, both: a node removes what jobs have brought when it has no use for it,
            # and a driver joins any node that has its address.
            f"--temp-dir={folder}",
            f"--node-ip-address={ip}",
        ]
        with self.log(number).open("wb") as log:
            process = subprocess.Popen(
                command,
                env=self.cluster.place.environment(**environment),
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        return Machine(process, folder, ip)

    def alive(self, least: int = 0) -> list[Machine]:
        """Those that are there; so many at least, with a core each."""
        found = [one for one in self.started if one.process.poll() is None]
        return found + [self.add() for _ in range(least - len(found))]


@contextlib.contextmanager
def joining(cluster: Cluster) -> Iterator[Machines]:
    """Nodes that are added to a cluster; those that are left are lost in the end."""
    machines = Machines(cluster)
    try:
        yield machines
    finally:
        for one in machines.started:
            one.lose()
            shutil.rmtree(one.folder, ignore_errors=True)


def wait_for(url: str, process: subprocess.Popen[bytes], seconds: float = 90) -> None:
    """Wait until something answers there."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise EndedError("ray start ended")
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


class EndedError(AssertionError):
    """A process ended that was to go on."""


def wait_until(
    condition: Callable[[], bool], process: subprocess.Popen[bytes], seconds: float
) -> None:
    """Wait while a process runs; it must not end meanwhile."""
    deadline = time.monotonic() + seconds
    while not condition():
        if process.poll() is not None:
            raise EndedError(f"it ended too early with {process.returncode}")
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
