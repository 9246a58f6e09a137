"""Shared fixtures: the real data beside the project, and one Ray for the whole test session."""

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SHARED_DATA = ROOT.parent / "shared" / "data"

LONGEST = (
    "test_node_loss test_recipes_transfer test_train test_recipes_sound test_submit test_tune"
    " test_flow test_demo test_slurm test_kills test_esc10 test_s3_faults test_serve test_score"
).split()
"""Files with a Ray, those that take longest first: two processes that share them out end together
when nothing long is left to the end."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    places = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.stem, len(places)))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real media from public repositories; tests that need it are skipped where it is not."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"real test data is not at {SHARED_DATA}")
    return SHARED_DATA


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def aws_server() -> Iterator[str]:
    """A server of S3, EC2 and IAM over HTTP on this machine; its url."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _wait_for(url)
        yield url
    finally:
        server.terminate()
        server.wait()


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """A real S3 server over HTTP on this machine; the environment points every client at it."""
    with aws_server() as url:
        os.environ |= {
            "AWS_ENDPOINT_URL": url,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
        }
        yield url


def _wait_for(url: str, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while True:
        try:
            urllib.request.urlopen(url, timeout=2).close()
            return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


@pytest.fixture(scope="session")
def ray_session(s3_server: str) -> Iterator[None]:
    """One local Ray with two CPUs and a GPU, both logical, started by the first test that needs it.

    A backbone that asks for the GPU takes the way of those on GPUs, and computes on a CPU.
    """
    import ray

    os.environ["RAY_AUTH_MODE"] = "disabled"
    os.environ["RAY_TRAIN_HEALTH_CHECK_INTERVAL_S"] = "0.2"
    ray.init(
        address="local",
        num_cpus=2,
        num_gpus=1,
        include_dashboard=False,
        log_to_driver=False,
        _system_config={
            "metrics_report_interval_ms": 1000,  # what is measured is soon to be had
            "num_workers_soft_limit": 4,  # else it ends idle ones, and new ones import torch again
        },
    )
    yield
    ray.shutdown()
