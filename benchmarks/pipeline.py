"""The job `embed` as a user runs it, in a process of its own, and what its events say of it."""

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent
COMMAND = str(Path(sys.executable).parent / "audioflow")
_MIDDLE = (0.1, 0.9)
"""The steady state: from when so much of the media is done, to when so much is."""
_FEW_SHARDS = 20
"""So few, of one recording each, come in rounds, one per core: only whole rounds are counted."""


@dataclass(frozen=True)
class Outcome:
    """What a run took. first_shard_s: from the command to the first committed shard. seconds: from
    the command to its end. steady: x real time in the middle of the run. peak_gb: of all processes
    together, shared memory counted once. verdict: what the job says of where the time went."""

    first_shard_s: float
    seconds: float
    media_s: float
    steady: float
    failures: int
    peak_gb: float
    verdict: str

    @property
    def whole(self) -> float:
        """x real time over all of it."""
        return self.media_s / self.seconds


def embed(
    folder: Path,
    manifest: dict[str, Any],
    section: dict[str, Any],
    cpus: int,
    *,
    fresh: bool = False,
) -> Outcome:
    """Run `manifest`, then `embed`, which is what is timed. fresh: drop what was there before."""
    if fresh:
        shutil.rmtree(folder / "run", ignore_errors=True)
    recipe = folder / "recipe.yaml"
    content = {
        "run_dir": str(folder / "run"),
        "ray": {"address": "local", "num_cpus": cpus},
        "manifest": manifest,
        "embed": {"max_failed_share": 1.0} | section,
    }
    recipe.write_text(yaml.safe_dump(content))
    events = folder / "events.ndjson"
    events.unlink(missing_ok=True)
    run_job("manifest", recipe, [], cpus)
    started = time.time()
    with Memory() as memory:
        run_job("embed", recipe, ["--events", str(events)], cpus, memory)
    seconds = time.time() - started
    told = [json.loads(line) for line in events.read_text().splitlines()]
    shards = [(_clock(one), one) for one in told if one["kind"] == "progress"]
    verdicts = [one["text"] for one in told if one["kind"] == "verdict"]
    return Outcome(
        first_shard_s=shards[0][0] - started,
        seconds=seconds,
        media_s=shards[-1][1]["media_s"],
        steady=_steady(shards, cpus),
        failures=shards[-1][1]["failures"],
        peak_gb=memory.peak_bytes / 1e9,
        verdict=verdicts[-1] if verdicts else "",
    )


def run_job(
    job: str, recipe: Path, more: Sequence[str], cpus: int, memory: "Memory | None" = None
) -> None:
    pinned = ["taskset", "-c", ",".join(map(str, range(cpus)))]
    command = [*pinned, COMMAND, job, str(recipe), *more]
    process = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    if memory:
        memory.root = process.pid
    told, _ = process.communicate()
    if process.returncode:
        raise RuntimeError(told)


def _steady(shards: Sequence[tuple[float, dict[str, Any]]], cpus: int) -> float:
    """x real time between a tenth and nine tenths of the media; of few shards, from the end of the
    first round of all cores to the end of the last whole one."""
    if len(shards) < _FEW_SHARDS:
        low, high = shards[cpus - 1], shards[len(shards) // cpus * cpus - 1]
    else:
        total = shards[-1][1]["media_s"]
        low, high = (
            next(one for one in shards if one[1]["media_s"] >= share * total) for share in _MIDDLE
        )
    took = high[0] - low[0]
    return (high[1]["media_s"] - low[1]["media_s"]) / took if took > 0 else 0.0


def _clock(event: dict[str, Any]) -> float:
    return datetime.fromisoformat(event["time"]).timestamp()


class Memory:
    """Looks every so often at how much memory a process and its descendants have."""

    def __init__(self, every_s: float = 2.0) -> None:
        self.root: int | None = None
        self._every_s = every_s
        self.peak_bytes = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "Memory":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(self._every_s):
            if self.root:
                now = sum(_pss_bytes(number) for number in _family(self.root))
                self.peak_bytes = max(self.peak_bytes, now)


def _family(root: int) -> Iterator[int]:
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                stat = Path("/proc", entry, "stat").read_text()
            except OSError:
                continue
            parent = int(stat.rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(entry))
    todo = [root]
    while todo:
        number = todo.pop()
        yield number
        todo += children.get(number, [])


def _pss_bytes(number: int) -> int:
    try:
        for line in Path("/proc", str(number), "smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0
