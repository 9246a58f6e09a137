"""A Ray that is joined leaves the terminal to the command that joins it."""

import subprocess
import sys

import pytest
import ray

pytestmark = pytest.mark.usefixtures("ray_session")

STOPPED = """
import os, signal, sys, time
from audioflow.engine.session import Session
from audioflow.recipe import RaySection

def stop(number, frame):
    raise SystemExit(7)

signal.signal(signal.SIGTERM, stop)
with Session(RaySection(address=sys.argv[1])) as session:
    session.begin()
    session.ensure()
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(30)
"""


def test_a_command_that_is_stopped_says_so_itself_and_ray_prints_no_stack() -> None:
    address = ray.get_runtime_context().gcs_address
    done = subprocess.run(
        [sys.executable, "-c", STOPPED, address],
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 7, done.stderr
    assert "*** SIG" not in done.stdout + done.stderr
