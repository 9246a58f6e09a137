"""How much memory planning takes: run by `test_planned_memory.py`, in a process of its own.

Prints, as JSON, bytes per clip beside the manifest itself: of the plan of a fresh run, and of a run
that was broken off half way, each with the rows of all work items made one after the other.
"""

import gc
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa

from audioflow.embeddings import ClipEmbedding, embedding_rows
from audioflow.engine.embed_run import Items
from audioflow.engine.embed_todo import works_for
from audioflow.shards import plan_shards
from audioflow.storage import Folder
from audioflow.tables import Content, Table

KEY = "5e77" * 8


def kilobytes(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


def grown_bytes(action: Callable[[], Any]) -> int:
    """By how much memory grows at most while something is done."""
    gc.collect()
    pa.default_memory_pool().release_unused()
    Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here
    before = kilobytes("VmRSS")
    action()
    return 1024 * (kilobytes("VmHWM") - before)


def manifest(clips: int) -> pa.Table:
    ids = [f"clip{number:09d}" for number in range(clips)]
    columns = {
        "clip_id": ids,
        "uri": [f"s3://corpus/videos/{clip_id}.mp4" for clip_id in ids],
        "start_s": np.zeros(clips),
        "duration_s": np.ones(clips),
        "split": ["train"] * clips,
        "size_bytes": np.full(clips, 1000),
        "version": ["1"] * clips,
    }
    return pa.table(columns)


def planned(clips: pa.Table, table: Table) -> None:
    """Plan and give out all the work, as the job does."""
    shards = plan_shards(clips, 2048)
    plan: Any = SimpleNamespace(settings_key=KEY, names=tuple(one.name(KEY) for one in shards))
    works = {"table": works_for(table, plan, shards, retry_failed=False)}
    items = Items(shards, works, np.zeros(clips.num_rows, np.bool_))
    rows = sum(len(items[number].row(number)["clip_id"][0]) for number in range(len(items)))
    assert rows + sum(receipt.clips for receipt in plan.committed.values()) == clips.num_rows


def half_done(clips: pa.Table, table: Table) -> None:
    """Every other shard, and those of an older manifest, too, from which clips are taken over."""
    clip = ClipEmbedding({"embedding": np.zeros((1, 2), np.float32)}, np.zeros(1), 1.0, 1.0)
    older = plan_shards(clips.slice(0, clips.num_rows - 1000), 2000)
    for shard in (*plan_shards(clips, 2048)[::2], *older[1::4]):
        ids = shard.rows["clip_id"].to_pylist()
        rows = embedding_rows(ids, [clip] * len(ids), {"embedding": 2})
        keys = dict(zip(ids, shard.clip_keys, strict=True))
        table.commit_content(shard.name(KEY), Content(rows, (), 1.0, keys))


def main() -> None:
    clips = manifest(int(sys.argv[1]))
    planned(clips.slice(0, 2000), Table(Folder("memory://warm")))  # what is imported on first use
    with tempfile.TemporaryDirectory() as folder:
        table = Table(Folder(folder))
        fresh = grown_bytes(lambda: planned(clips, table))
        half_done(clips, table)
        resumed = grown_bytes(lambda: planned(clips, table))
    found = {"fresh": fresh, "resumed": resumed}
    per_clip = {name: round(size / clips.num_rows) for name, size in found.items()}
    sys.stdout.write(json.dumps(per_clip))


if __name__ == "__main__":
    main()
