"""How many clips per second and core `score` takes, from embeddings to a score table."""

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import yaml
from pipeline import run_job

from audioflow.embeddings import ClipEmbedding, embedding_rows
from audioflow.engine.embed_plan import embed_shards
from audioflow.plugins import plugins
from audioflow.recipe_file import load_recipe
from audioflow.storage import Folder
from audioflow.systems.bundle import HeadBundle, HeadSpec
from audioflow.systems.network import network_for
from audioflow.tables import MANIFEST_SCHEMA, Header, Receipt, Table, fingerprint

CLIPS, PATCHES, WIDTH, CLASSES = 200_000, 10, 128, 10
VECTORS = "5e77" * 8


def measure(folder: Path) -> dict[str, Any]:
    """Clips per second of a run of the job, from its first progress to its last, per core."""
    recipe = folder / "recipe.yaml"
    content = {
        "run_dir": str(folder / "run"),
        "ray": {"address": "local"},
        "manifest": {"reader": "folder", "root": str(folder)},
        "embed": {"backbones": {"acoustic": {}}},
        "systems": {"sound": {"backbone": "acoustic", "head": "linear"}},
        "score": {"splits": ["test"]},
    }
    recipe.write_text(yaml.safe_dump(content))
    _make(Folder(str(folder / "run")), str(recipe))
    rates = {}
    for cpus in (1, 2):
        events = folder / f"events{cpus}.ndjson"
        Folder(str(folder / "run" / "scores")).remove_all()
        run_job("score", recipe, ["--events", str(events), f"ray.num_cpus={cpus}"], cpus)
        told = [json.loads(line) for line in events.read_text().splitlines()]
        steps = [one for one in told if one["kind"] == "progress"]
        took = _clock(steps[-1]) - _clock(steps[0])
        rates[cpus] = (steps[-1]["done"] - steps[0]["done"]) / took / cpus
    lines = [
        (f"{cpus} core{'s' if cpus > 1 else ''}", f"{rate:,.0f} clips/s per core")
        for cpus, rate in rates.items()
    ]
    return {"lines": lines, "clips_per_s_per_core": {k: round(v) for k, v in rates.items()}}


def _clock(event: dict[str, Any]) -> float:
    return datetime.fromisoformat(event["time"]).timestamp()


def _make(run: Folder, recipe: str) -> None:
    """A manifest, embeddings of 10 x 128 and an untrained head, written as the jobs write them."""
    checked = load_recipe(recipe, [], plugins(), "score")
    assert checked.embed is not None
    classes = [f"class{number}" for number in range(CLASSES)]
    ids = [f"clip{number:06d}" for number in range(CLIPS)]
    rows = pa.Table.from_pylist(
        [
            {
                "clip_id": clip_id,
                "uri": f"/data/{clip_id}.wav",
                "labels": [classes[number % CLASSES]],
                "fine_labels": [classes[number % CLASSES]],
                "split": "test",
                "group": clip_id,
                "size_bytes": 1000,
                "version": "1",
                "source": "main",
            }
            for number, clip_id in enumerate(ids)
        ],
        schema=MANIFEST_SCHEMA,
    )
    manifest = Table(run / "manifest")
    _finish(manifest, "manifest", [manifest.commit("m", rows)], {}, {})
    table, layers, rng = Table(run / "embeddings" / "acoustic"), {"embedding": WIDTH}, None
    rng = np.random.default_rng(0)
    times = np.arange(PATCHES) / 2
    receipts = []
    for shard in embed_shards(rows, checked.embed):
        mine = shard.rows["clip_id"].to_pylist()
        vectors = rng.standard_normal((len(mine), PATCHES, WIDTH), np.float32)
        clips = [ClipEmbedding({"embedding": one}, times, 5.0, 1.0) for one in vectors]
        receipts.append(table.commit(shard.name(VECTORS), embedding_rows(mine, clips, layers)))
    _finish(table, "embeddings", receipts, {}, {"vectors": VECTORS, "layers": layers})
    spec = HeadSpec(
        system="sound",
        backbone="acoustic",
        embeddings=VECTORS,
        layers={"embedding": WIDTH},
        vectors_per_patch=1,
        pooling={"name": "mean", "on": "embeddings"},
        head={"name": "linear"},
        classes=classes,
        head_classes=classes,
        merge=None,
        multi_label=False,
        temperature=1.0,
        normalised=True,
        trained_on={},
    )
    HeadBundle(spec, network_for(spec.network, 0).state_dict()).save(run / "heads" / "sound", [])
    _finish(Table(run / "heads" / "sound"), "head", [], {}, {"folds": []}, classes)


def _finish(
    table: Table,
    kind: str,
    receipts: list[Receipt],
    parents: dict[str, str],
    settings: dict[str, Any],
    classes: list[str] | None = None,
) -> None:
    table.finish(
        Header(
            kind=kind,
            name=kind,
            fingerprint=fingerprint(kind, [receipt.sha256 for receipt in receipts]),
            parents=parents,
            settings=settings,
            rows=sum(receipt.rows for receipt in receipts),
            failures=0,
            shards=receipts,
            classes=classes or [],
        )
    )
