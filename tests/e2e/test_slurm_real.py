"""The script for Slurm, on a Slurm of two nodes that are both this machine.

Debian has it: `apt-get install slurm-wlm munge`.
"""

import contextlib
import getpass
import os
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from tests.conftest import ROOT, free_port
from tests.e2e.conftest import BIN, Place
from tests.e2e.test_slurm import RECIPE

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "scontrol", "scancel")
MUNGE_FILES = ("key-file", "socket", "pid-file", "log-file", "seed-file")
SEARCHED = f"{os.environ['PATH']}:/usr/sbin"
CONFIGURATION = """\
ClusterName=trial
SlurmctldHost={host}
SlurmctldPort={controller}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/controller.pid
SlurmdPidFile={folder}/%n.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SlurmdParameters=config_overrides
MpiDefault=none
KillWait=30
NodeName=node[1-2] NodeHostname={host} NodeAddr=127.0.0.1 Port={ports} CPUs=2 RealMemory=16000
PartitionName=main Nodes=node[1-2] Default=YES MaxTime=INFINITE State=UP
"""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not all(shutil.which(name, path=SEARCHED) for name in PROGRAMS),
        reason="no Slurm here: apt-get install slurm-wlm munge",
    ),
]


@dataclass(frozen=True)
class Slurm:
    """A Slurm that runs, and a folder that its nodes share."""

    folder: Path
    shared: Path

    def asked(self, *command: str) -> str:
        """What one of Slurm's commands answers."""
        own = {"SLURM_CONF": str(self.folder / "slurm.conf"), "AUDIOFLOW_VENV": str(BIN.parent)}
        environment = Place(self.shared).environment(**own)
        done = subprocess.run(
            command, check=True, cwd=self.shared, env=environment, capture_output=True, text=True
        )
        return done.stdout.strip()

    def batch(self, recipe: str) -> str:
        """The number of the job that `sbatch` made of the script."""
        asked = ("--parsable", "--cpus-per-task=1", "--mem=6G")
        return self.asked("sbatch", *asked, str(ROOT / "cluster" / "slurm.sbatch"), recipe)

    def job(self, number: str) -> dict[str, str]:
        """What Slurm says of a job: JobState, ExitCode, Restarts and so on."""
        words = self.asked("scontrol", "show", "job", number).split()
        return dict(word.split("=", 1) for word in words if "=" in word)

    def wait(self, number: str, state: str, seconds: float) -> dict[str, str]:
        """The job, as soon as it is in this state; another end than that is a fault."""
        self.wait_until(number, lambda: self.job(number)["JobState"] == state, seconds)
        return self.job(number)

    def wait_until(self, number: str, condition: Callable[[], bool], seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            told = f"{self.job(number)}\n{self.log(number)}"
            assert time.monotonic() < deadline, told
            assert self.job(number)["JobState"] not in ("FAILED", "NODE_FAIL", "TIMEOUT"), told
            time.sleep(0.2)

    def log(self, number: str) -> str:
        path = self.shared / f"audioflow-{number}.log"
        return path.read_text(errors="replace") if path.exists() else ""

    @property
    def receipts(self) -> dict[str, int]:
        place = self.shared / "runs" / "birds" / "embeddings" / "openl3" / "_shards"
        return {path.name: path.stat().st_mtime_ns for path in place.glob("*.json")}


@pytest.fixture
def slurm(tmp_path: Path) -> Iterator[Slurm]:
    folder = Path(tempfile.mkdtemp(prefix="af-slurm-"))  # short: a socket lies in it
    (folder / "state").mkdir()
    key = folder / "munge.key"
    key.touch(mode=0o600)
    key.write_bytes(secrets.token_bytes(64))
    first = free_port()
    (folder / "slurm.conf").write_text(
        CONFIGURATION.format(
            folder=folder,
            host=socket.gethostname().partition(".")[0],
            user=getpass.getuser(),
            controller=free_port(),
            ports=f"[{first}-{first + 1}]",
        )
    )
    munge = [f"--{name}={folder}/munge.{name.partition('-')[0]}" for name in MUNGE_FILES]
    configured = ("-f", str(folder / "slurm.conf"), "-D")
    commands = (
        ("munged", "--foreground", "--force", *munge),
        ("slurmctld", *configured),
        *(("slurmd", *configured, "-N", f"node{number}") for number in (1, 2)),
    )
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(RECIPE))
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        for command in commands:
            stack.enter_context(running(folder, *command))
        made = Slurm(folder, tmp_path)
        deadline = time.monotonic() + 30
        while "2 idle" not in made.asked("sinfo", "--noheader", "--format=%D %t"):
            assert time.monotonic() < deadline, (folder / "log").read_text()
            time.sleep(0.5)
        yield made


@contextlib.contextmanager
def running(folder: Path, *command: str) -> Iterator[None]:
    """A daemon, while it is needed."""
    with (folder / "log").open("ab") as log:
        found = shutil.which(command[0], path=SEARCHED)
        assert found
        daemon = subprocess.Popen([found, *command[1:]], stdout=log, stderr=log)
    try:
        time.sleep(1)
        assert daemon.poll() is None, (folder / "log").read_text()
        yield
    finally:
        daemon.terminate()
        daemon.wait(timeout=60)


def test_a_job_out_of_time_and_a_cancelled_one_leave_nothing_and_go_on(slurm: Slurm) -> None:
    first = slurm.batch("recipe.yaml")
    slurm.wait_until(first, lambda: bool(slurm.receipts), 150)
    slurm.asked("scancel", "--signal=USR1", "--batch", first)  # as near the end of its time
    job = slurm.wait(first, "PENDING", 60)
    assert job["Restarts"] == "1"
    assert "out of time: back into the queue" in slurm.log(first)
    before = slurm.receipts
    assert not Path(f"/tmp/af-{first}").exists(), "the files of a Ray that has ended"

    time.sleep(5)  # Slurm would take the end of the script for that of the next start
    slurm.asked("scontrol", "update", f"JobId={first}", "StartTime=now")  # else two minutes later
    slurm.wait_until(first, lambda: len(slurm.receipts) > len(before), 150)
    slurm.asked("scancel", first)
    ended = time.monotonic()
    slurm.wait(first, "CANCELLED", 60)
    assert time.monotonic() - ended < 25, "Slurm had to kill it"
    assert not Path(f"/tmp/af-{first}").exists(), "the files of a Ray that has ended"

    second = slurm.batch("recipe.yaml")
    job = slurm.wait(second, "COMPLETED", 200)
    assert job["ExitCode"] == "0:0"
    now = slurm.receipts
    assert {name: now[name] for name in before} == before, "a committed shard was made again"
    assert "error" not in slurm.log(second)
    Place(slurm.shared).audioflow("verify", str(slurm.shared / "runs" / "birds"))
