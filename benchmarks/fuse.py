"""`python benchmarks/fuse.py CLIPS [WAY ...]`: two score tables of 600 classes fused into one.

The tables are made on first use, seeded, shard by shard: `audio` lacks every twentieth clip. Ways:

    hashed     the job `fuse` in bounded memory; tables in the shards that the job `score` makes
    unordered  the same, where rows lie in no order: they are spilled by part first
    memory     the same, in one process
    pandas     read_parquet, merge on clip_id, weighted mean, to_parquet
    ray_data   the same by Dataset.join

All with the same fixed weights; `fitted` is `hashed` with weights and temperatures fitted on val.
Prints seconds from the command to its end, and the most memory of all its processes together.
"""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import yaml
from pipeline import COMMAND, ROOT, Memory

from audioflow.cut import Cut
from audioflow.hashes import clip_hashes
from audioflow.scores import ScoredClips, score_rows
from audioflow.storage import Folder
from audioflow.tables import Failure, Header, Receipt, Table, fingerprint

CLASSES = [f"class{number:03d}" for number in range(600)]
SYSTEMS = ("audio", "video")
WEIGHTS = {"audio": 0.4, "video": 0.6}
FIXED = {"weights": WEIGHTS, "calibrate": "none"}
CLIPS_PER_SHARD = 16_384
DATA = ROOT / "data" / "bench" / "fuse"


def audioflow(folder: Path, **section: object) -> list[str]:
    """The command that fuses the tables in `folder`."""
    systems = {name: {"backbone": "acoustic", "head": "linear"} for name in SYSTEMS}
    recipe = folder / "recipe.yaml"
    recipe.write_text(
        yaml.safe_dump(
            {
                "run_dir": str(folder),
                "ray": {"address": "local"},
                "manifest": {"reader": "folder", "root": str(folder)},
                "embed": {"backbones": {"acoustic": {}}},
                "systems": systems,
                "score": {"splits": ["val", "test"]},
                "fuse": {"fused": {"systems": list(SYSTEMS), **section}},
            }
        )
    )
    Folder(str(folder / "scores" / "fused")).remove_all()
    return [COMMAND, "fuse", str(recipe)]


def here(way: str, folder: Path) -> list[str]:
    """The command that fuses in another way, by a function of this file."""
    return [sys.executable, __file__, "--in", str(folder), way]


WAYS: dict[str, tuple[str, Callable[[Path], list[str]]]] = {
    "hashed": ("hashed", lambda folder: audioflow(folder, engine="stream", **FIXED)),
    "fitted": ("hashed", lambda folder: audioflow(folder, engine="stream")),
    "unordered": ("unordered", lambda folder: audioflow(folder, engine="stream", **FIXED)),
    "memory": ("unordered", lambda folder: audioflow(folder, engine="memory", **FIXED)),
    "pandas": ("unordered", lambda folder: here("pandas", folder)),
    "ray_data": ("unordered", lambda folder: here("ray_data", folder)),
}


def main() -> None:
    count = int(sys.argv[1])
    print("way         clips    seconds   GB at most")
    for way in sys.argv[2:] or WAYS:
        order, command = WAYS[way]
        folder = DATA / f"{count}-{order}"
        make(folder, count, hashed=order == "hashed")
        seconds, peak_gb = measured(command(folder))
        print(f"{way:10s} {count:8d} {seconds:9.1f} {peak_gb:10.2f}", flush=True)


def measured(command: list[str]) -> tuple[float, float]:
    started = time.time()
    with Memory(0.25) as memory:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        memory.root = process.pid
        told, _ = process.communicate()
    if process.returncode:
        raise RuntimeError(told.decode()[-4000:])
    return time.time() - started, memory.peak_bytes / 1e9


def make(folder: Path, count: int, *, hashed: bool) -> None:
    """Both score tables, unless they are there."""
    ids = [f"v_{number:011x}_000010_000020" for number in range(count)]
    if hashed:
        cut = Cut.of(count, len(CLASSES))
        parts = cut.parts(clip_hashes(ids))
        shards = [np.flatnonzero(parts == part) for part in range(cut.count)]
    for seed, name in enumerate(SYSTEMS):
        table = Table(Folder(str(folder / "scores" / name)))
        if table.header() is not None:
            continue
        if not hashed:
            order = np.random.default_rng(seed).permutation(count)
            shards = np.array_split(order, -(-count // CLIPS_PER_SHARD))
        receipts = [
            shard(table, f"{number:05d}", [ids[row] for row in rows], rows, seed)
            for number, rows in enumerate(shards)
        ]
        table.finish(
            Header(
                kind="scores",
                name=name,
                fingerprint=fingerprint(name, count, hashed),
                parents={},
                settings={"splits": ["val", "test"]},
                rows=sum(receipt.rows for receipt in receipts),
                failures=sum(receipt.failures for receipt in receipts),
                shards=receipts,
                classes=CLASSES,
            )
        )


def shard(table: Table, name: str, ids: list[str], rows: np.ndarray, seed: int) -> Receipt:
    """Scores of a system that is right in half of the cases; of `audio` some clips have none."""
    rng = np.random.default_rng([seed, int(rows[0])])
    targets = rows % len(CLASSES)
    logits = rng.standard_normal((len(rows), len(CLASSES)), np.float32)
    logits[np.arange(len(rows)), targets] += 3
    scores = np.exp(logits)
    scores /= scores.sum(axis=1, keepdims=True)
    lacks = (rows % 20 == 0) & (seed == 0)
    good = np.flatnonzero(~lacks)
    clips = ScoredClips(
        [ids[place] for place in good],
        [[CLASSES[targets[place]]] for place in good],
        ["val" if rows[place] % 10 == 1 else "test" for place in good],
    )
    failures = [
        Failure(ids[place], ids[place], "decode", "no_audio", "there is no sound")
        for place in np.flatnonzero(lacks)
    ]
    return table.commit(name, score_rows(clips, scores[good], CLASSES), failures)


def files(folder: Path, name: str) -> list[str]:
    return sorted(str(path) for path in (folder / "scores" / name).glob("*.parquet"))


def pandas(folder: Path) -> None:
    import pandas as pd

    audio, video = (
        pd.concat([pd.read_parquet(path, columns=columns) for path in files(folder, name)])
        for name, columns in (
            ("audio", ["clip_id", "scores"]),
            ("video", ["clip_id", "labels", "split", "scores"]),
        )
    )
    both = video.merge(audio, on="clip_id", how="outer", suffixes=("_video", "_audio"))
    there = both["scores_audio"].notna()
    fused = np.stack(both["scores_video"])
    fused[there] *= WEIGHTS["video"]
    fused[there] += WEIGHTS["audio"] * np.stack(both.loc[there, "scores_audio"])
    both = both.drop(columns=["scores_video", "scores_audio"])
    both["scores"] = list(fused)
    both["predicted"] = [CLASSES[index] for index in fused.argmax(axis=1)]
    both.to_parquet(folder / "pandas.parquet")


def ray_data(folder: Path) -> None:
    import ray
    import ray.data

    ray.init(address="local", include_dashboard=False, log_to_driver=False)
    ray.data.DataContext.get_current().enable_progress_bars = False
    audio = ray.data.read_parquet(files(folder, "audio"), columns=["clip_id", "scores"])
    video = ray.data.read_parquet(
        files(folder, "video"), columns=["clip_id", "labels", "split", "scores"]
    )
    parts = Cut.of(video.count(), len(CLASSES)).count
    both = video.join(
        audio.rename_columns({"scores": "scores_audio"}),
        join_type="left_outer",
        num_partitions=parts,
        on=("clip_id",),
    )
    both.map_batches(_mean, batch_format="pyarrow", batch_size=None).write_parquet(
        str(folder / "ray_data")
    )


def _mean(rows: pa.Table) -> pa.Table:
    video, audio = (rows[name].combine_chunks() for name in ("scores", "scores_audio"))
    fused = np.array(video.flatten()).reshape(len(rows), -1)
    there = np.asarray(audio.is_valid())
    fused[there] *= WEIGHTS["video"]
    fused[there] += WEIGHTS["audio"] * np.asarray(audio.drop_null().flatten()).reshape(
        there.sum(), -1
    )
    flat = pa.array(fused.reshape(-1))
    scores = pa.FixedSizeListArray.from_arrays(flat, len(CLASSES))
    predicted = pa.array([CLASSES[index] for index in fused.argmax(axis=1)])
    kept = rows.select(["clip_id", "labels", "split"])
    return kept.append_column("scores", scores).append_column("predicted", predicted)


if __name__ == "__main__":
    if sys.argv[1] == "--in":
        {"pandas": pandas, "ray_data": ray_data}[sys.argv[3]](Path(sys.argv[2]))
    else:
        main()
