"""The script for Slurm, on a real Ray of two nodes; `srun` and `scontrol` are small stand-ins that
do on this machine what Slurm does on several.

Half-way the time of the job is over: it stops and asks to be queued again. In its second run EC2
announces that it takes the worker away: `spot_watch.py` tells Ray, and the run comes to its end.
"""

import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml

from tests.conftest import ROOT
from tests.e2e.conftest import BIN, Place, end_group, wait_until
from tests.spot_metadata import metadata

JOB = 100_000 + os.getpid()
CLIPS = 24
RECIPE = {
    "run_dir": "runs/birds",
    "manifest": {"reader": "demo", "root": "data/demo", "clips": CLIPS},
    "embed": {
        "backbones": {"openl3": {"weights": "random", "hop_s": 2.0}},  # seconds for each shard
        "clips_per_shard": 3,
        "max_failed_share": 0.5,
    },
}
SRUN = """#!/usr/bin/env bash
# `srun OPTIONS COMMAND`: the options say on which node; there is one machine.
while [[ $1 == --* ]]; do echo "$1" >>"$CALLS"; shift; done
echo "$RAY_AUTH_TOKEN" >"$CALLS.token"
export SLURM_GPUS_ON_NODE=0
exec "$@"
"""
SCONTROL = """#!/usr/bin/env bash
echo "scontrol $*" >>"$CALLS"
if [[ $1 == show ]]; then printf 'node1\\nnode2\\n'; fi
"""


@dataclass(frozen=True)
class Slurm:
    """A folder that all nodes share, and what was asked of Slurm."""

    folder: Path

    @property
    def calls(self) -> list[str]:
        return (self.folder / "calls").read_text().splitlines()

    @property
    def receipts(self) -> dict[str, int]:
        place = self.folder / "runs" / "birds" / "embeddings" / "openl3" / "_shards"
        return {path.name: path.stat().st_mtime_ns for path in place.glob("*.json")}

    def environment(self) -> dict[str, str]:
        slurm = {
            "SLURM_JOB_ID": str(JOB),
            "SLURM_JOB_NUM_NODES": "2",
            "SLURM_JOB_NODELIST": "node[1-2]",
            "SLURM_CPUS_PER_TASK": "1",
            "SLURM_SUBMIT_DIR": str(self.folder),
        }
        ours = {"AUDIOFLOW_VENV": str(BIN.parent), "CALLS": str(self.folder / "calls")}
        own = Place(self.folder).environment(**slurm, **ours)
        del own["RAY_AUTH_MODE"]
        return own | {"PATH": f"{self.folder / 'bin'}:{own['PATH']}"}

    def batch(self, *arguments: str) -> subprocess.Popen[bytes]:
        """The script as Slurm runs it on the first node."""
        return subprocess.Popen(
            ["bash", ROOT / "cluster" / "slurm.sbatch", *arguments],
            cwd=self.folder,
            env=self.environment(),
            stdout=(self.folder / "out.txt").open("ab"),
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    @property
    def text(self) -> str:
        return (self.folder / "out.txt").read_text()


@pytest.fixture
def slurm(tmp_path: Path) -> Slurm:
    for name, text in (("srun", SRUN), ("scontrol", SCONTROL)):
        program = tmp_path / "bin" / name
        program.parent.mkdir(exist_ok=True)
        program.write_text(text)
        program.chmod(0o755)
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(RECIPE))
    return Slurm(tmp_path)


def test_a_job_out_of_time_is_queued_again_and_survives_the_end_of_a_spot_node(
    slurm: Slurm,
) -> None:
    job = slurm.batch("recipe.yaml")
    try:
        wait_until(lambda: bool(slurm.receipts), job, 150)
        job.send_signal(signal.SIGUSR1)
        assert job.wait(timeout=60) == 1, slurm.text
    finally:
        end_group(job)
    assert slurm.calls[-1] == f"scontrol requeue {JOB}"
    assert "stopped by SIGTERM" in slurm.text
    assert not Path(f"/tmp/af-{JOB}").exists(), "the files of a Ray that has ended"
    before = slurm.receipts
    assert before

    job = slurm.batch("recipe.yaml")
    try:
        with metadata() as (notices, place):
            wait_until(lambda: slurm.text.count("audioflow run ") == 2, job, 150)  # all joined
            watch = watching(slurm, place)
            time.sleep(1)
            assert watch.poll() is None, "nothing is announced yet"
            end = datetime.now(UTC) + timedelta(seconds=60)
            notices.notice = {"action": "terminate", "time": f"{end:%Y-%m-%dT%H:%M:%SZ}"}
            _, errors = watch.communicate(timeout=90)
        assert watch.returncode == 0, errors
        assert re.search(r"told Ray to take nothing new on node [0-9a-f]{56}: terminate", errors)
        assert job.wait(timeout=150) == 0, slurm.text
    finally:
        end_group(job)
    now = slurm.receipts
    assert len(now) > len(before), "it was not stopped half-way"
    assert {name: now[name] for name in before} == before, "a committed shard was made again"
    done = Place(slurm.folder).audioflow("verify", str(slurm.folder / "runs" / "birds"))
    assert done.returncode == 0
    asked = [call for call in slurm.calls if call.startswith("--ex")]
    assert "--exclude=node1" in asked


def watching(slurm: Slurm, place: str) -> subprocess.Popen[str]:
    ip = subprocess.check_output(["hostname", "--all-ip-addresses"], text=True).split()[0]
    address = f"{ip}:{21000 + JOB % 5000}"  # as the script says
    token = (slurm.folder / "calls.token").read_text().strip()
    secret = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token}
    script = ROOT / "cluster" / "spot_watch.py"
    return subprocess.Popen(
        [sys.executable, script, "--address", address, "--metadata", place, "--every", "0.2"],
        env=slurm.environment() | secret,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize(
    ("arguments", "more", "told"),
    [
        ((), {}, "usage: sbatch cluster/slurm.sbatch RECIPE"),
        (("recipe.yaml",), {"AUDIOFLOW_VENV": "/nowhere"}, "no audioflow in /nowhere: make it"),
    ],
)
def test_what_cannot_begin_is_told_with_exit_code_2(
    slurm: Slurm, arguments: tuple[str, ...], more: dict[str, str], told: str
) -> None:
    done = subprocess.run(
        ["bash", ROOT / "cluster" / "slurm.sbatch", *arguments],
        check=False,
        cwd=slurm.folder,
        env=slurm.environment() | more,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert told in done.stderr
