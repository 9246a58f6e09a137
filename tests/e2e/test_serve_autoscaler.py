"""`audioflow serve` on a cluster whose only node for work is started when it is asked for."""

import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
import yaml

from audioflow.datasets.demo_corpus import make_corpus
from tests.conftest import ROOT, free_port
from tests.e2e.autoscaled import Autoscaled, autoscaling, kind
from tests.e2e.conftest import BIN, Place, end_group, wait_until

SPLITS = {"train": 0.5, "val": 0.25, "test": 0.25}
RECIPE: dict[str, Any] = {
    "run_dir": "runs/it",
    "ray": {"address": "local", "dashboard": False},
    "embed": {"backbones": {"acoustic": {}}, "max_failed_share": 0.5},
    "systems": {"audio": {"backbone": "acoustic", "head": "logistic_regression"}},
}
WAITS = "waiting for nodes, 600 s at most: --replicas: a replica needs 0.5 CPU"


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """A home with a head."""
    corpus = make_corpus(tmp_path / "media", clips=24, seed=3)
    manifest = {"reader": "folder", "root": str(corpus), "splits": SPLITS}
    recipe = RECIPE | {"manifest": manifest}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    found = Place(tmp_path)
    found.audioflow("run", str(tmp_path / "recipe.yaml"))
    return found


class Server:
    """The command, and what it said."""

    def __init__(self, place: Place, cluster: Autoscaled, *more: str) -> None:
        self.url, self._log = f"http://127.0.0.1:{(port := free_port())}", place.folder / "log"
        where = ("--address", cluster.address, "--port", str(port))
        with self._log.open("w") as out:
            self.process = subprocess.Popen(
                [BIN / "audioflow", "serve", place.folder / "runs" / "it", *where, *more],
                cwd=ROOT,
                env=place.environment(),
                stdout=out,
                stderr=out,
                start_new_session=True,
            )

    @property
    def said(self) -> str:
        return self._log.read_text()

    def ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/ping", timeout=10) as answer:
                return bool(answer.status == HTTPStatus.OK)
        except (urllib.error.URLError, OSError):
            return False


@contextmanager
def serving(place: Place, cluster: Autoscaled, *more: str) -> Iterator[Server]:
    server = Server(place, cluster, *more)
    try:
        yield server
    finally:
        end_group(server.process)


@pytest.mark.slow
def test_a_server_waits_for_its_node_as_jobs_do(place: Place) -> None:
    with autoscaling(place, "v2", {"small": kind(1, CPU=1)}, start_s=20.0) as cluster:
        with serving(place, cluster, "--replicas", "3") as server:
            assert server.process.wait(120) == 2, server.said
            assert "3 times a replica have to be there at once" in server.said
            assert "Its autoscaler may start up to 1 small with 1 CPU" in server.said
        with serving(place, cluster) as server:
            wait_until(lambda: WAITS in server.said, server.process, 120)
            began = time.monotonic()
            server.process.send_signal(signal.SIGTERM)
            assert server.process.wait(60) == 0, server.said
            assert time.monotonic() - began < 45  # and not after the 600 s
            assert "Traceback" not in server.said
            assert "loading" not in server.said
        with serving(place, cluster) as server:
            wait_until(server.ready, server.process, 240)
            assert WAITS in server.said
            server.process.send_signal(signal.SIGINT)
            assert server.process.wait(90) == 0, server.said
            assert "Traceback" not in server.said
        assert cluster.nodes("start").count("small") >= 1
