"""How long `audioflow search` takes on a million clips of 128 numbers, and the memory it takes.

python benchmarks/search.py FOLDER [CLIPS]
"""

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from audioflow.embeddings import ClipEmbedding, embedding_rows
from audioflow.shards import plan_shards
from audioflow.storage import Folder
from audioflow.tables import MANIFEST_SCHEMA, Header, Table, fingerprint

CLIPS, WIDTH = 1_000_000, 128
KEY = "5e77" * 8
_RUN = (
    "import resource, sys; from audioflow.cli import app\n"
    "try: app(args=sys.argv[1:])\n"
    "finally: print('PEAK_KB', resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
)


def measure(folder: Path, clips: int = CLIPS) -> dict[str, Any]:
    """Seconds and peak memory of searches, in large shards and in those of the default size."""
    lines = []
    for shard in (4096, 48):
        run = folder / f"run{shard}"
        _make(Folder(str(run)), clips, shard)
        for words in (["--no-standardise"], ["--standardise"]):
            seconds, peak_gb = _searched(run, words)
            lines.append(
                (
                    f"{clips:,} clips in shards of {shard} {words[0]}",
                    f"{seconds:.1f} s, {peak_gb:.2f} GB",
                )
            )
    return {"lines": lines}


def _searched(run: Path, words: list[str]) -> tuple[float, float]:
    where = [str(run), "--backbone", "sound", "--clip", "clip0000123"]
    command = [sys.executable, "-c", _RUN, "search", *where, *words]
    began = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    seconds = time.perf_counter() - began
    return seconds, int(done.stdout.rsplit("PEAK_KB", 1)[1]) / 1e6


def _make(run: Folder, clips: int, shard: int) -> None:
    ids = [f"clip{number:07d}" for number in range(clips)]
    rows = pa.table(
        {
            "clip_id": ids,
            "uri": [f"/data/{clip_id}.wav" for clip_id in ids],
            "start_s": pa.nulls(clips, pa.float64()),
            "duration_s": pa.nulls(clips, pa.float64()),
            "labels": [["a"]] * clips,
            "split": ["test"] * clips,
            "fold": pa.nulls(clips, pa.string()),
            "group": ids,
            "size_bytes": pa.nulls(clips, pa.int64()),
            "version": pa.nulls(clips, pa.string()),
            "source": ["main"] * clips,
            "fine_labels": [["a"]] * clips,
        },
        schema=MANIFEST_SCHEMA,
    )
    manifest = Table(run / "manifest")
    receipts = [manifest.commit("m", rows)]
    manifest.finish(Header("manifest", "manifest", KEY, {}, {}, clips, 0, receipts, ["a"]))
    table, rng = Table(run / "embeddings" / "sound"), np.random.default_rng(0)
    start = np.zeros(1)
    receipts = []
    for part in plan_shards(rows, shard):
        mine = part.rows["clip_id"].to_pylist()
        vectors = rng.standard_normal((len(mine), 1, WIDTH), np.float32)
        made = [ClipEmbedding({"embedding": one}, start, 1.0, 1.0) for one in vectors]
        rows_of = embedding_rows(mine, made, {"embedding": WIDTH})
        receipts.append(table.commit(part.name(KEY), rows_of))
    settings = {"layers": {"embedding": WIDTH}, "vectors": KEY}
    key = fingerprint(settings, clips, shard)
    table.finish(Header("embeddings", "sound", key, {}, settings, clips, 0, receipts))


if __name__ == "__main__":
    count = int(sys.argv[2]) if len(sys.argv) > 2 else CLIPS
    for name, figure in measure(Path(sys.argv[1]), count)["lines"]:
        print(name, figure, sep="  ")
