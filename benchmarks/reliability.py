"""Faults put into real runs of `embed`, and what was lost.

    python benchmarks/reliability.py [CASE]...

Cases: kills (driver, workers, actors), media (files that crash, hang, bloat), corrupt (one file in
a hundred is damaged: the rate beside that of the clean run), long (three hours in one file), skip
(a million finished clips). Without one, all of them. Prints a Markdown table for `reliability.md`.
"""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import pyarrow as pa
import yaml

from audioflow.datasets.demo_corpus import make_corpus
from audioflow.embeddings import ClipEmbedding, embedding_rows
from audioflow.manifest import manifest_fingerprint
from audioflow.shards import plan_shards
from audioflow.storage import Folder
from audioflow.tables import MANIFEST_SCHEMA, Content, Header, Table

ROOT = Path(__file__).resolve().parent.parent
COMMAND = Path(sys.executable).parent / "audioflow"
EMBED = {
    "backbones": {"acoustic": {}},
    "clips_per_shard": 4,
    "decode_cpus": 0.5,
    "max_failed_share": 0.9,
    "decode_timeout_s": 10,
    "decode_memory_gb": 1.0,
}
KILLS = 6


def main() -> None:
    cases = {"kills": kills, "media": media, "corrupt": corrupt, "long": long, "skip": skip}
    for name in sys.argv[1:] or cases:
        with tempfile.TemporaryDirectory(prefix="reliability-") as folder:
            for row in cases[name](Path(folder)):
                print("| " + " | ".join(map(str, row)) + " |", flush=True)


def recipe(folder: Path, root: Path, **embed: object) -> Path:
    path = folder / "recipe.yaml"
    content = {
        "run_dir": str(folder / "run"),
        "manifest": {"reader": "folder", "root": str(root)},
        "embed": EMBED | embed,
    }
    path.write_text(yaml.safe_dump(content))
    return path


def audioflow(job: str, path: Path, *more: str) -> str:
    done = subprocess.run(
        [COMMAND, job, path, *more], check=False, capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def table(folder: Path) -> Table:
    return Table(Folder(str(folder / "run" / "embeddings" / "acoustic")))


def content(folder: Path) -> tuple[pa.Table, list[dict]]:
    rows = table(folder).read().sort_by("clip_id")
    failures = table(folder).read_failures().sort_by("clip_id").drop_columns(["node", "attempts"])
    return rows, failures.to_pylist()


def lost(folder: Path, expected: tuple[pa.Table, list[dict]]) -> str:
    """What is missing, there twice or different, in words."""
    rows, failures = content(folder)
    verified = subprocess.run(
        [COMMAND, "verify", folder / "run"], check=False, capture_output=True, text=True
    )
    same = rows.equals(expected[0]) and failures == expected[1] and verified.returncode == 0
    return "nothing" if same else f"{expected[0].num_rows - rows.num_rows} rows differ"


def commits(folder: Path) -> int:
    return len(list(folder.glob("run/embeddings/*/_shards/*.json")))


def workers(name: str) -> list[int]:
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            title = (process / "cmdline").read_bytes().decode(errors="replace")
        except OSError:
            continue
        if title.startswith("ray::") and name in title:
            found.append(int(process.name))
    return found


def undisturbed(folder: Path, root: Path) -> tuple[pa.Table, list[dict]]:
    path = recipe(folder, root)
    audioflow("manifest", path)
    audioflow("embed", path, "ray.address=local")
    return content(folder)


@contextmanager
def fresh(folder: Path, root: Path) -> Iterator[tuple[Path, subprocess.Popen[bytes]]]:
    """A run that has just begun."""
    shutil.rmtree(folder / "run" / "embeddings", ignore_errors=True)
    path = recipe(folder, root)
    driver = subprocess.Popen(
        [COMMAND, "embed", path, "ray.address=local"],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield path, driver
    finally:
        if driver.poll() is None:
            os.killpg(driver.pid, signal.SIGKILL)
        driver.wait()


def until(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.005)


def kills(folder: Path) -> Iterator[tuple[object, ...]]:
    """SIGKILL at random moments: the driver (then run again), decode workers, backbone actors."""
    root = make_corpus(folder / "media", clips=120, seed=5)
    expected = undisturbed(folder, root)
    shards = commits(folder)
    dice = random.Random(0)
    told = []
    for _ in range(KILLS):
        with fresh(folder, root) as (path, driver):
            moment = dice.randrange(shards)
            until(lambda moment=moment: commits(folder) >= moment)
            driver.kill()
            driver.wait()
        before = commits(folder)
        audioflow("embed", path, "ray.address=local")
        told.append((before, lost(folder, expected)))
    result = "; ".join(sorted({what for _, what in told}))
    moments = ", ".join(str(before) for before, _ in told)
    yield "driver, SIGKILL, run again", f"{KILLS} (after {moments} of {shards} shards)", result
    for title, what in (("decode_shard", "decode worker"), ("EmbedShard", "backbone actor")):
        killed, results = 0, set()
        for _ in range(2):
            with fresh(folder, root) as (_, driver):
                for _ in range(3):
                    until(lambda title=title: bool(workers(title)))
                    time.sleep(dice.random() * (1 if title == "decode_shard" else 4))
                    for number in workers(title)[:1]:
                        os.kill(number, signal.SIGKILL)
                        killed += 1
                assert driver.wait() == 0
            results.add(lost(folder, expected))
        yield f"{what}, SIGKILL, the run goes on", killed, "; ".join(sorted(results))


def media(folder: Path) -> Iterator[tuple[object, ...]]:
    """Files cut off, overwritten in the middle, of nothing, of text, and of hours of silence."""
    root = make_corpus(folder / "media", clips=120, seed=6)
    expected = undisturbed(folder, root)
    good = sorted(str(p) for p in root.rglob("*.mp4") if "no_sound" not in p.name)[:40]
    dice = random.Random(1)
    for name in good:
        path = Path(name)
        data = bytearray(path.read_bytes())
        for turn, spoil in enumerate((_cut, _overwrite, _empty, _text)):
            bad = path.with_name(f"{path.stem}_bad{turn}.mp4")
            bad.write_bytes(spoil(data, dice))
    path = recipe(folder, root)
    audioflow("manifest", path)
    audioflow("embed", path, "ray.address=local")
    rows, failures = content(folder)
    kept = rows.filter(pa.compute.is_in(rows["clip_id"], expected[0]["clip_id"]))
    same = "nothing" if kept.equals(expected[0]) else "rows of other clips differ"
    accounted = rows.num_rows + len(failures) == len(list(root.rglob("*.*"))) - _hidden(root)
    errors: dict[str, int] = {}
    for failure in failures:
        if "_bad" in failure["clip_id"]:
            errors[failure["error"]] = errors.get(failure["error"], 0) + 1
    partly = sum("_bad" in clip for clip in rows["clip_id"].to_pylist())
    told = ", ".join(f"{error} {count}" for error, count in sorted(errors.items()))
    yield (
        "files cut off, overwritten, emptied, replaced by text",
        4 * len(good),
        f"{same}; every clip accounted for: {accounted}; {told}; rows with coverage {partly}",
    )


def _hidden(root: Path) -> int:
    return sum(path.name.startswith(".") for path in root.rglob("*.*"))


def _cut(data: bytearray, dice: random.Random) -> bytes:
    return bytes(data[: dice.randrange(len(data) // 10, len(data))])


def _overwrite(data: bytearray, dice: random.Random) -> bytes:
    start = dice.randrange(len(data) // 4, len(data) // 2)
    return (
        bytes(data[:start]) + dice.randbytes(len(data) // 8) + bytes(data[start + len(data) // 8 :])
    )


def _empty(data: bytearray, dice: random.Random) -> bytes:
    return b""


def _text(data: bytearray, dice: random.Random) -> bytes:
    return b"<html><body>404 Not Found</body></html>"


def corrupt(folder: Path) -> Iterator[tuple[object, ...]]:
    """The rate of a run in which one file in a hundred is damaged, beside that of a clean one."""
    source = make_corpus(folder / "source", clips=120, seed=0)
    good = [p for p in sorted(source.rglob("*.mp4")) if "no_sound" not in p.name]
    good = [p for p in good if "cut_off" not in p.name and "not_media" not in p.name]
    rates: dict[str, list[float]] = {"clean": [], "1 % corrupt": []}
    for turn in range(3):
        for name, found in rates.items():
            place = folder / f"{name}-{turn}".replace(" ", "").replace("%", "")
            _fill(place / "media", good, 1200, every=100 if name != "clean" else 0)
            path = recipe(place, place / "media", clips_per_shard=32)
            audioflow("manifest", path)
            events = place / "events.ndjson"
            audioflow("embed", path, "ray.address=local", "--events", str(events))
            found.append(_steady(events))
            shutil.rmtree(place)
    clean, bad = (sorted(values)[1] for values in rates.values())
    yield (
        "one file in 100 damaged, 1,200 clips",
        12,
        f"nothing; {bad / clean:.3f} of the clean rate",
    )


def _fill(root: Path, files: list[Path], count: int, every: int) -> None:
    dice = random.Random(2)
    for number in range(count):
        source = files[number % len(files)]
        target = root / source.parent.name / f"{number:05d}.mp4"
        target.parent.mkdir(parents=True, exist_ok=True)
        if every and number % every == 0:
            spoil = (_cut, _overwrite, _empty, _text)[number // every % 4]
            target.write_bytes(spoil(bytearray(source.read_bytes()), dice))
        else:
            os.link(source, target)


def _steady(events: Path) -> float:
    """Clips per second from the first shard to the last."""
    told = [json.loads(line) for line in events.read_text().splitlines()]
    steps = [event for event in told if event["job"] == "embed" and event["kind"] == "progress"]
    seconds = _clock(steps[-1]["time"]) - _clock(steps[0]["time"])
    return (steps[-1]["done"] - steps[0]["done"]) / seconds


def _clock(text: str) -> float:
    from datetime import datetime

    return datetime.fromisoformat(text).timestamp()


class Peaks(threading.Thread):
    """The largest resident memory of any process of a run, by kind, in GB."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.found: dict[str, float] = {}
        self.start()

    def run(self) -> None:
        while True:
            for name in ("decode_shard", "EmbedShard", "multiprocessing.forkserver"):
                for number in _processes(name):
                    gb = _resident_gb(number)
                    self.found[name] = max(self.found.get(name, 0.0), gb)
            time.sleep(0.1)


def _processes(name: str) -> list[int]:
    if name.startswith("multi"):
        return [
            int(p.name)
            for p in Path("/proc").glob("[0-9]*")
            if name.encode() in _read(p / "cmdline")
        ]
    return workers(name)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def _resident_gb(number: int) -> float:
    for line in _read(Path("/proc", str(number), "status")).decode().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 2**20
    return 0.0


def long(folder: Path) -> Iterator[tuple[object, ...]]:
    """Three hours of stereo at 44.1 kHz in one file, as wav, flac, mp3 and m4a."""
    seconds = 3 * 3600
    for codec, suffix in (("pcm_s16le", "wav"), ("flac", "flac"), ("mp3", "mp3"), ("aac", "m4a")):
        target = folder / "media" / ("a" if suffix in ("wav", "mp3") else "b") / f"long.{suffix}"
        target.parent.mkdir(parents=True, exist_ok=True)
        _write_long(target, codec, seconds)
    path = recipe(folder, folder / "media", backbones={"acoustic": {"hop_s": 10}})
    text = path.read_text().replace("reader: folder", "reader: folder\n  splits: {train: 1.0}")
    path.write_text(text)
    audioflow("manifest", path)
    peaks = Peaks()
    started = time.perf_counter()
    audioflow("embed", path, "ray.address=local")
    seconds_taken = time.perf_counter() - started
    rows, failures = content(folder)
    told = ", ".join(f"{name.split('.')[-1]} {gb:.2f} GB" for name, gb in peaks.found.items())
    good = all(abs(row - seconds) < 30 for row in rows["duration_s"].to_pylist())
    yield (
        "recording of 3 hours (wav, flac, mp3, m4a)",
        4,
        f"{'nothing' if good and not failures else failures}; peak resident memory {told}; "
        f"{seconds_taken:.0f} s for 12 h of sound",
    )


def _write_long(target: Path, codec: str, seconds: int) -> None:
    """Noise in stereo at 44.1 kHz; a minute of it is encoded, and its packets repeated."""
    import av
    import numpy as np

    rate, minute = 44_100, 60
    noise = np.random.default_rng(0).normal(0, 6000, (rate * minute, 2)).astype(np.int16)
    with av.open(str(target), "w") as out:
        stream = out.add_stream(codec, rate=rate, layout="stereo")
        frame = av.AudioFrame.from_ndarray(noise.reshape(1, -1), "s16", "stereo")
        frame.sample_rate, frame.pts, frame.time_base = rate, 0, Fraction(1, rate)
        found = [*stream.encode(frame), *stream.encode(None)]
        found = [packet for packet in found if packet.size and packet.pts is not None]
        step = found[-1].pts + found[-1].duration - found[0].pts
        for turn in range(seconds // minute):
            for packet in found:
                copy = av.Packet(bytes(packet))
                copy.stream, copy.time_base, copy.duration = (
                    stream,
                    packet.time_base,
                    packet.duration,
                )
                copy.pts = copy.dts = packet.pts + turn * step
                out.mux(copy)


def skip(folder: Path) -> Iterator[tuple[object, ...]]:
    """A million clips all of which are done: complete, and killed just before the header."""
    count = 1_000_000
    columns: dict[str, list[object]] = {
        "clip_id": [f"{i // 1000:04d}/{i:07d}.wav" for i in range(count)],
        "uri": [f"/data/{i // 1000:04d}/{i:07d}.wav" for i in range(count)],
        "start_s": [None] * count,
        "duration_s": [None] * count,
        "labels": [["a" if i % 2 else "b"] for i in range(count)],
        "split": ["train"] * count,
        "fold": [None] * count,
        "group": [str(i) for i in range(count)],
        "size_bytes": [160_000] * count,
        "version": ["1"] * count,
    }
    rows = pa.table(columns, schema=MANIFEST_SCHEMA)
    path = recipe(folder, folder / "media", clips_per_shard=32)
    manifest = Table(Folder(str(folder / "run" / "manifest")))
    receipt = manifest.commit("00000-all", rows)
    key = manifest_fingerprint(rows)
    manifest.finish(Header("manifest", "manifest", key, {}, {}, count, 0, [receipt], ["a", "b"]))
    header = _finished(folder, rows, key)
    started = time.perf_counter()
    out = audioflow("embed", path, "ray.address=local")
    assert "nothing to do" in out
    complete = time.perf_counter() - started
    table(folder).reopen()
    started = time.perf_counter()
    out = audioflow("embed", path, "ray.address=local")
    resumed = time.perf_counter() - started
    again = table(folder).complete_header()
    assert again.shards == header.shards
    yield (
        "a million finished clips, skipped",
        f"{len(header.shards)} shards",
        f"nothing; {complete:.1f} s where the table is complete, {resumed:.1f} s where the header "
        "is missing",
    )


def _finished(folder: Path, rows: pa.Table, manifest_key: str) -> Header:
    """A table of `acoustic` with a row for every clip, in the shards that a run would make."""
    import numpy as np

    from audioflow.cli import plugins
    from audioflow.engine.embed_plan import table_plan
    from audioflow.engine.run import Run
    from audioflow.recipe_file import load_recipe

    run = Run(load_recipe(str(folder / "recipe.yaml"), [], plugins(), "embed"))
    parent = run.manifest().complete_header()
    shards = plan_shards(rows, 32)
    assert run.recipe.embed is not None
    choice = run.recipe.embed.backbones["acoustic"]
    plan = table_plan(run, "acoustic", choice, parent, shards)
    clip = ClipEmbedding({"embedding": np.zeros((1, 108), np.float32)}, np.zeros(1), 1.0, 1.0)
    receipts = []
    out = table(folder)
    for shard, name in zip(shards, plan.names, strict=True):
        ids = shard.rows["clip_id"].to_pylist()
        content = embedding_rows(ids, [clip] * len(ids), {"embedding": 108})
        keys = dict(zip(ids, shard.clip_keys, strict=True))
        receipts.append(out.commit_content(name, Content(content, (), len(ids), keys)))
    header = Header(
        "embeddings",
        "acoustic",
        plan.fingerprint({}),
        plan.parents,
        plan.settings | {"layers": {"embedding": 108}, "vectors": plan.settings_key},
        rows.num_rows,
        0,
        receipts,
    )
    return out.finish(header)


if __name__ == "__main__":
    main()
