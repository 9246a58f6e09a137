"""Runs of a recipe in a home of their own, and jobs that are looked at while they run."""

import json
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from audioflow.storage import Folder
from audioflow.tables import Table
from tests.conftest import ROOT
from tests.e2e.conftest import BIN, Cluster, Place, end_group


@dataclass(frozen=True)
class Home:
    """Where a recipe and its run lie, and the cluster that does its jobs."""

    place: Place
    cluster: Cluster

    @property
    def recipe(self) -> Path:
        return self.place.folder / "recipe.yaml"

    @property
    def run(self) -> Path:
        return self.place.folder / "runs" / "it"

    @property
    def events(self) -> Path:
        return self.place.folder / "events.ndjson"

    def command(self, job: str, *overrides: str) -> list[str]:
        """`audioflow JOB` as a user types it."""
        address = f"ray.address={self.cluster.address}"
        return [job, str(self.recipe), address, "--events", str(self.events), *overrides]

    def start(self, *command: str, **environment: str) -> "Job":
        """Start a command of audioflow."""
        with (self.place.folder / "out.txt").open("wb") as out:
            process = subprocess.Popen(
                [BIN / "audioflow", *command],
                cwd=ROOT,
                env=self.place.environment(**environment),
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return Job(self, process)

    def receipts(self, kind: str) -> dict[str, int]:
        """When each receipt of a shard was written, of all tables of a kind."""
        found = self.run.glob(f"{kind}/*/_shards/*.json")
        return {str(path.relative_to(self.run)): path.stat().st_mtime_ns for path in found}

    def rows(self, table: str) -> pa.Table:
        return self.table(table).read().sort_by("clip_id")

    def table(self, table: str) -> Table:
        return Table(Folder(str(self.run / table)))

    def verify(self) -> None:
        self.place.audioflow("verify", str(self.run))


@dataclass(frozen=True)
class Job:
    """A command that runs. It has to be ended (`end`) or to have ended (`done`)."""

    home: Home
    process: subprocess.Popen[bytes]

    def told(self, kind: str, **data: Any) -> list[dict[str, Any]]:
        """Its events of this kind, so far."""
        path = self.home.events
        lines = path.read_text().split("\n")[:-1] if path.exists() else []
        events = [json.loads(line) for line in lines if f'"{kind}"' in line]
        return [
            event
            for event in events
            if event["kind"] == kind and all(event.get(key) == data[key] for key in data)
        ]

    def until(self, condition: Callable[[], Any], seconds: float = 90) -> None:
        """Wait; it must not end meanwhile."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert self.process.poll() is None, f"it ended too early\n{self.text}"
            assert time.monotonic() < deadline, self.text
            time.sleep(0.01)

    def done(self, seconds: float = 240) -> None:
        """Wait until it has ended well."""
        assert self.process.wait(timeout=seconds) == 0, self.text

    def end(self) -> None:
        end_group(self.process)

    @property
    def text(self) -> str:
        """What it has written to its terminal."""
        return (self.home.place.folder / "out.txt").read_text()
