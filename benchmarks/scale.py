"""What the driver takes for millions of clips, where decoding and the backbone cost nothing.

    python benchmarks/scale.py --clips 10000000 --clips-per-shard 4096 [--folder DIR] [--kill]

Writes a manifest of so many clips, then runs the job `embed` with the real planning, scheduling,
commits and resume on a local Ray; its workers fill in zeros instead of decoding and embedding. It
is broken off half way as by Ctrl-C, or with `--kill` by SIGKILL from outside, run again, run once
more where nothing is left, and verified. Each of these is a process of its own, whose memory is
read four times a second. Prints a table for `scale.md`.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
import yaml

from audioflow.backbones import BACKBONES
from audioflow.engine.embed_work import Done, clips_in, works_of
from audioflow.events import Event
from audioflow.media.patches import Patching
from audioflow.plugins import plugins
from audioflow.recipe_file import load_recipe
from audioflow.registry import Settings
from audioflow.storage import Folder
from audioflow.tables import MANIFEST_SCHEMA, Content, Failure, Header, Table, embeddings_schema
from audioflow.timing import Stint, Times

TABLE = "nothing"
WIDTH = 8
BLOCK = 100_000
FAILING = 9_999
"""One clip in ten thousand fails: those whose number ends so."""
LOOK_EVERY_S = 0.25
KILL_WITHIN_S = 0.02


class Nothing:
    """A backbone that is planned with, and never called."""

    Settings = Settings
    revision = 1
    known = ()

    def __init__(self, settings: Settings) -> None:
        pass

    input = Patching(8_000, 1.0, 1.0)
    layers = {"embedding": WIDTH}  # noqa: RUF012

    def to(self, device: torch.device) -> None:
        raise NotImplementedError

    def embed(self, batch: torch.Tensor) -> dict[str, torch.Tensor]:
        raise NotImplementedError


class Filler:
    """In the place of `EmbedWorker`: commits zeros for every clip."""

    def __init__(self, task: Any, specs: Any, board: Any) -> None:
        (self._spec,) = specs
        self._worker = os.getpid()

    def ready(self) -> None:
        """Comes back when this worker can be given work."""

    def do(self, row: pa.Table) -> Done:
        """Commit a shard."""
        began = time.time()
        (work,) = works_of(row).values()
        ids, uris = clips_in(row).ids, clips_in(row).uris
        bad = [place for place, clip_id in enumerate(ids) if clip_id.endswith(str(FAILING))]
        failures = [Failure(ids[n], uris[n], "decode", "truncated", "said to be") for n in bad]
        wanted = set(bad)
        rows = filled([clip_id for place, clip_id in enumerate(ids) if place not in wanted])
        end = time.time()
        times = Times((Stint(f"embed {TABLE}", "here", self._worker, began, end, end - began),))
        content = Content(rows, failures, float(len(rows)), work.clip_keys, lambda: times)
        receipt = Table(self._spec.folder).commit_content(work.name, content)
        return Done({TABLE: receipt}, times)


def filled(ids: list[str]) -> pa.Table:
    """Rows of an embeddings table, of one patch each."""
    count = len(ids)
    vectors = pa.FixedSizeListArray.from_arrays(np.zeros(count * WIDTH, np.float32), WIDTH)
    each = np.arange(count + 1, dtype=np.int32)
    columns = {
        "clip_id": pa.array(ids, pa.string()),
        "variant": np.zeros(count, np.int32),
        "duration_s": np.ones(count),
        "coverage": np.ones(count, np.float32),
        "patch_start_s": pa.ListArray.from_arrays(each, np.zeros(count)),
        "embedding": pa.ListArray.from_arrays(each, vectors),
    }
    schema = embeddings_schema({"embedding": WIDTH})
    return pa.table({name: pa.array(columns[name]) for name in schema.names}).cast(schema)


@dataclass
class Phase:
    """One process: what it did in how long (cpu_s: of its own threads, not of Ray's or workers'),
    and its memory (bytes) before any clip and at most."""

    name: str
    seconds: float = 0.0
    cpu_s: float = 0.0
    start_bytes: int = 0
    peak_bytes: int = 0
    work_s: float = 0.0
    shards: int = 0
    more: dict[str, Any] = field(default_factory=dict)


def memory_bytes() -> int:
    """What this process holds by itself: not the object store, which is all workers'."""
    lines = Path("/proc/self/status").read_text().splitlines()
    kinds = dict(line.split(":", 1) for line in lines if line.startswith(("RssAnon", "RssFile")))
    return sum(int(value.split()[0]) * 1024 for value in kinds.values())


@contextmanager
def watched(phase: Phase) -> Iterator[None]:
    """Notes how long something takes, and the most memory meanwhile."""
    phase.start_bytes = phase.peak_bytes = memory_bytes()
    over = threading.Event()

    def look() -> None:
        while not over.wait(LOOK_EVERY_S):
            phase.peak_bytes = max(phase.peak_bytes, memory_bytes())

    watcher, began = threading.Thread(target=look), time.perf_counter()
    cpu_began = time.process_time()
    watcher.start()
    try:
        yield
    finally:
        phase.seconds = time.perf_counter() - began
        phase.cpu_s = time.process_time() - cpu_began
        over.set()
        watcher.join()


class Marks:
    """A listener that notes when the plan was made, and calls `half` once, half way."""

    def __init__(self, phase: Phase, half: Callable[[], None]) -> None:
        self._phase, self._half = phase, half
        self._began = time.perf_counter()
        self._cpu_began = time.process_time()
        self._first = 0.0
        self._todo = 0

    def __call__(self, event: Event) -> None:
        now, phase = time.perf_counter(), self._phase
        if event.kind == "start":
            self._todo = event.data["shards"]
            phase.more |= {"plan_s": now - self._began, "plan_bytes": memory_bytes()}
            phase.more["plan_peak_bytes"] = phase.peak_bytes
        if event.kind == "progress":
            self._first = self._first or now
            phase.shards += 1
            phase.work_s = now - self._first
            if phase.shards == -(-self._todo // 2):
                phase.seconds = now - self._began
                phase.cpu_s = time.process_time() - self._cpu_began
                self._half()
        if event.kind == "done":
            phase.more["finish_s"] = now - self._first - phase.work_s


def interrupt() -> None:
    """As Ctrl-C does."""
    raise KeyboardInterrupt


def go_on() -> None:
    """Half of a run that is not broken off is nothing to note."""


def embed(folder: Path, phase: Phase, half: Callable[[], None]) -> None:
    """The job, in this process."""
    from audioflow.engine import embed_worker
    from audioflow.engine.embed import embed as job
    from audioflow.engine.run import Run

    object.__setattr__(BACKBONES, "entries", {**BACKBONES.entries, TABLE: "scale:Nothing"})
    embed_worker.EmbedWorker = Filler  # type: ignore[assignment,misc]
    recipe = load_recipe(str(folder / "recipe.yaml"), [], plugins(), "embed")
    run = Run(recipe)
    with run.session:
        run.session.ensure()
        run.listener = Marks(phase, half)
        with watched(phase):
            try:
                job(run)
            except KeyboardInterrupt:
                phase.more["stopped"] = True


def verify(folder: Path, phase: Phase) -> None:
    """`audioflow verify`, in this process."""
    from audioflow.verify import verify as look

    with watched(phase):
        found = look(Folder(str(folder / "run")))
    assert found.ok, found.faults[:3]
    phase.shards = sum(check.shards for check in found.tables)


def manifest(folder: Path, clips: int, phase: Phase) -> None:
    """The table that the job `manifest` would write, in its own schema."""
    with watched(phase):
        blocks = [rows_of(start, min(BLOCK, clips - start)) for start in range(0, clips, BLOCK)]
        rows = pa.concat_tables(blocks)
        table = Table(Folder(str(folder / "run" / "manifest")))
        key = f"{clips:032x}"
        receipt = table.commit(f"00000-{key[:12]}", rows)
        classes = [f"class{number:03d}" for number in range(600)]
        header = Header("manifest", "manifest", key, {}, {}, clips, 0, [receipt], classes)
        table.finish(header)


def rows_of(start: int, count: int) -> pa.Table:
    """Clips as a large corpus in a bucket has them, each a recording of its own."""
    numbers = range(start, start + count)
    ids = [f"clip{number:010d}" for number in numbers]
    labels = [[f"class{number % 600:03d}"] for number in numbers]
    columns = {
        "clip_id": ids,
        "uri": [f"s3://corpus/videos/{n % 1000:03d}/{i}.mp4" for n, i in zip(numbers, ids)],  # noqa: B905
        "start_s": [None] * count,
        "duration_s": [None] * count,
        "labels": labels,
        "split": [("train", "val", "test")[number % 3] for number in numbers],
        "fold": [None] * count,
        "group": ids,
        "size_bytes": [1000] * count,
        "version": [f"{number:032x}" for number in numbers],
        "source": ["main"] * count,
        "fine_labels": labels,
    }
    return pa.table(columns, MANIFEST_SCHEMA)


def files_in(folder: Path) -> int:
    return sum(len(files) for _, _, files in os.walk(folder))


def run_apart(command: list[str], out: Path, *, kill: bool) -> Phase:
    """A phase in a process of its own. kill: by SIGKILL as soon as it has written its figures."""
    out.unlink(missing_ok=True)
    process = subprocess.Popen(command)
    while kill and process.poll() is None and not out.exists():
        time.sleep(KILL_WITHIN_S)
    if kill:
        process.kill()
    expected = -signal.SIGKILL if kill else 0
    if process.wait() != expected:
        raise subprocess.CalledProcessError(process.returncode, command)
    return Phase(**json.loads(out.read_text()))


def written(phase: Phase, out: Path) -> None:
    """Write the figures of a phase at once, for one who waits for the file."""
    unfinished = out.with_suffix(".part")
    unfinished.write_text(json.dumps(asdict(phase)))
    unfinished.rename(out)


def phases(folder: Path, clips: int, clips_per_shard: int, *, kill: bool) -> Iterator[Phase]:
    """Run everything, each in a process of its own."""
    content = {
        "run_dir": str(folder / "run"),
        "ray": {"address": "local", "num_cpus": 2, "dashboard": False},
        "manifest": {"reader": "folder", "root": str(folder)},
        "embed": {"backbones": {TABLE: {}}, "clips_per_shard": clips_per_shard},
    }
    (folder / "recipe.yaml").write_text(yaml.safe_dump(content))
    for name in ("manifest", "embed", "resume", "nothing left", "verify"):
        out = folder / "phase.json"
        command = [sys.executable, __file__, "--clips", str(clips), "--folder", str(folder)]
        killed = kill and name == "embed"
        command += ["--phase", name, "--out", str(out)] + ["--kill"] * killed
        phase = run_apart(command, out, kill=killed)
        phase.more["files"] = files_in(folder / "run")
        with (folder / "phases.ndjson").open("a") as kept:
            kept.write(json.dumps(asdict(phase)) + "\n")
        yield phase


def one(given: argparse.Namespace) -> None:
    """One phase, in this process; its figures go to a file."""
    phase = Phase(given.phase)
    tell = partial(written, phase, given.out)
    if phase.name == "manifest":
        manifest(given.folder, given.clips, phase)
    elif phase.name == "verify":
        verify(given.folder, phase)
    elif phase.name == "embed":
        embed(given.folder, phase, tell if given.kill else interrupt)
    else:
        embed(given.folder, phase, go_on)
    tell()


def told(phase: Phase, clips: int) -> str:
    """A row of the table."""
    more, grown = phase.more, phase.peak_bytes - phase.start_bytes
    plan = f"{more['plan_s']:.1f}" if "plan_s" in more else ""
    rate = f"{phase.shards / phase.work_s:.0f}" if phase.work_s else ""
    finish = f"{more['finish_s']:.1f}" if "finish_s" in more else ""
    cells = [
        phase.name,
        f"{phase.seconds:.1f}",
        f"{phase.cpu_s:.1f}",
        plan,
        f"{phase.shards:,}",
        rate,
        finish,
        f"{phase.peak_bytes / 1e9:.2f}",
        f"{grown / clips:.0f}",
        f"{more['files']:,}",
    ]
    return "| " + " | ".join(cells) + " |"


HEAD = (
    "| phase | seconds | CPU, s | planning, s | shards | shards/s | finishing, s | memory, GB "
    "| bytes per clip | files |\n|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|"
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=1_000_000)
    parser.add_argument("--clips-per-shard", type=int, default=4096)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--kill", action="store_true")
    parser.add_argument("--phase")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    if given.phase:
        one(given)
        return
    with tempfile.TemporaryDirectory(prefix="scale-") as folder:
        where = given.folder or Path(folder)
        print(HEAD, flush=True)
        for phase in phases(where, given.clips, given.clips_per_shard, kill=given.kill):
            print(told(phase, given.clips), flush=True)


if __name__ == "__main__":
    main()
