"""A small run with every kind of table, written as the jobs write it, to look at and to damage."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch

from audioflow.scores import ScoredClips, score_rows
from audioflow.storage import Folder, local_path
from audioflow.systems.bundle import HeadBundle, HeadSpec
from audioflow.systems.network import network_for
from audioflow.tables import (
    MANIFEST_SCHEMA,
    Failure,
    Header,
    Receipt,
    Table,
    embeddings_schema,
    fingerprint,
)
from audioflow.verify import verify
from audioflow.verify.faults import TableFault

SOUND = "embeddings/acoustic"
PICTURES = "embeddings/color"
CLASSES = ["cat", "dog"]
CLIPS = [f"clip{number:02d}" for number in range(12)]
SPLITS = ["train"] * 6 + ["val"] * 3 + ["test"] * 3
SILENT = "clip07"
"""The clip that has no sound, and so no row in embeddings/acoustic."""
LATE = "clip05"
"""The clip that ends early: a failure of both backbones."""


def manifest_rows(clips: Sequence[str], splits: Sequence[str]) -> pa.Table:
    rows = [
        {
            "clip_id": clip,
            "uri": f"/data/{clip}.mp4",
            "labels": [CLASSES[number % 2]],
            "fine_labels": [CLASSES[number % 2]],
            "split": split,
            "group": clip,
            "source": "main",
        }
        for number, (clip, split) in enumerate(zip(clips, splits, strict=True))
    ]
    return pa.Table.from_pylist(rows, schema=MANIFEST_SCHEMA)


def embedding_row(clip: str, variant: int = 0, value: float = 1.0) -> dict:
    return {
        "clip_id": clip,
        "variant": variant,
        "duration_s": 1.0,
        "coverage": 1.0,
        "patch_start_s": [0.0, 0.5],
        "pool": [[value, 2.0], [3.0, 4.0]],
        "embedding": [[5.0, value, 7.0]] * 2,
    }


LAYERS = {"pool": 2, "embedding": 3}


def embedding_rows(clips: Sequence[str], variants: int = 0, value: float = 1.0) -> pa.Table:
    rows = [
        embedding_row(clip, variant, value) for clip in clips for variant in range(variants + 1)
    ]
    return pa.Table.from_pylist(rows, schema=embeddings_schema(LAYERS))


def failure(clip: str, error: str, stage: str = "decode") -> Failure:
    return Failure(clip, f"/data/{clip}.mp4", stage, error, f"{error} it is", 2, "node-1")


def header(
    run: Folder,
    table: str,
    receipts: Sequence[Receipt],
    parents: Sequence[str] = (),
    **more: object,
) -> Header:
    kinds = {"heads": "head"}
    kind, _, name = table.partition("/")
    values: dict = {
        "kind": kinds.get(kind, kind),
        "name": name or kind,
        "fingerprint": fingerprint(table, [receipt.sha256 for receipt in receipts]),
        "parents": {one: Table(run / one).complete_header().fingerprint for one in parents},
        "settings": {},
        "rows": sum(receipt.rows for receipt in receipts),
        "failures": sum(receipt.failures for receipt in receipts),
        "shards": list(receipts),
    }
    return Header(**(values | more))


def make_manifest(run: Folder) -> None:
    table = Table(run / "manifest")
    receipts = [
        table.commit("m-0", manifest_rows(CLIPS[:7], SPLITS[:7])),
        table.commit("m-1", manifest_rows(CLIPS[7:], SPLITS[7:])),
    ]
    table.finish(header(run, "manifest", receipts, classes=CLASSES))


def make_embeddings(run: Folder, name: str, failed: dict[str, str], variants: int) -> None:
    table = Table(run / "embeddings" / name)
    receipts = []
    for number in range(3):
        clips = CLIPS[number::3]
        rows = embedding_rows([clip for clip in clips if clip not in failed], variants)
        lost = [failure(clip, failed[clip]) for clip in clips if clip in failed]
        receipts.append(table.commit(f"e-{number}", rows, lost, media_s=float(rows.num_rows)))
    settings = {"layers": LAYERS, "vectors": "f" * 32}
    path = f"embeddings/{name}"
    table.finish(header(run, path, receipts, ["manifest"], settings=settings))


def make_head(run: Folder, name: str, parent: str, folds: Sequence[str] = ()) -> None:
    table = Table(run / "heads" / name)
    spec = HeadSpec(
        system=name,
        backbone=parent,
        embeddings="f" * 32,
        layers={"pool": 2},
        vectors_per_patch=1,
        pooling={"name": "mean", "on": "embeddings"},
        head={"name": "linear"},
        classes=CLASSES,
        head_classes=CLASSES,
        merge=None,
        multi_label=False,
        temperature=1.0,
        normalised=True,
        trained_on={},
    )
    state = network_for(spec.network, 0).state_dict()
    weights = {key: torch.ones_like(value) for key, value in state.items()}
    for fold in folds or [None]:
        bundle = HeadBundle(replace(spec, fold=fold), weights)
        bundle.save(table.folder / f"fold-{fold}" if fold else table.folder, [{"epoch": 1}])
    settings = {"folds": list(folds), "backbone": parent}
    parents = ["manifest", f"embeddings/{parent}"]
    more = {"settings": settings, "rows": len(folds) or 1, "classes": CLASSES}
    table.finish(header(run, f"heads/{name}", [], parents, **more))


def scored_rows(clips: Sequence[str], available: list[list[str]] | None = None) -> pa.Table:
    places = [CLIPS.index(clip) for clip in clips]
    scored = ScoredClips(
        clips, [[CLASSES[place % 2]] for place in places], [SPLITS[place] for place in places]
    )
    scores = np.tile(np.array([0.25, 0.75], np.float32), (len(clips), 1))
    return score_rows(scored, scores, CLASSES, available)


def make_scores(run: Folder, name: str, parent: str, failed: dict[str, str]) -> None:
    table = Table(run / "scores" / name)
    receipts = []
    for number, split in enumerate(("val", "test")):
        clips = [clip for clip, its in zip(CLIPS, SPLITS, strict=True) if its == split]
        lost = [failure(clip, failed[clip]) for clip in clips if clip in failed]
        rows = scored_rows([clip for clip in clips if clip not in failed])
        receipts.append(table.commit(f"s-{number}", rows, lost))
    settings = {"splits": ["val", "test"], "system": {}}
    parents = ["manifest", f"embeddings/{parent}", f"heads/{name}"]
    more = {"settings": settings, "classes": CLASSES}
    table.finish(header(run, f"scores/{name}", receipts, parents, **more))


def make_fused(run: Folder) -> None:
    table = Table(run / "scores" / "fused")
    clips = CLIPS[6:]
    available = [["video"] if clip == SILENT else ["audio", "video"] for clip in clips]
    receipt = table.commit("f-0", scored_rows(clips, available))
    settings = {"systems": ["audio", "video"], "fused": True}
    parents = ["scores/audio", "scores/video"]
    more = {"settings": settings, "classes": CLASSES}
    table.finish(header(run, "scores/fused", [receipt], parents, **more))


def make_report(run: Folder) -> None:
    table = Table(run / "report")
    for name in ("index.html", "report.json"):
        table.folder.write(name, b"{}")
    parents = ["manifest", "embeddings/acoustic", "scores/fused"]
    stats = {"files": ["index.html", "report.json"]}
    table.finish(header(run, "report", [], parents, stats=stats, rows=3))


def make_small_run(run: Folder) -> Folder:
    """Twelve clips, two backbones (one with two variants of each), two systems, their fusion."""
    make_manifest(run)
    sound, pictures = {SILENT: "no_audio", LATE: "truncated"}, {LATE: "truncated"}
    make_embeddings(run, "acoustic", sound, variants=2)
    make_embeddings(run, "color", pictures, variants=0)
    make_head(run, "audio", "acoustic")
    make_head(run, "video", "color", folds=["1", "2"])
    make_scores(run, "audio", "acoustic", sound)
    make_scores(run, "video", "color", pictures)
    make_fused(run)
    make_report(run)
    return run


def path_of(folder: Folder, name: str) -> Path:
    return Path(local_path(folder.file(name)))


def edit_header(run: Folder, table: str, **changes: object) -> None:
    data = json.loads((run / table).read("_header.json")) | changes
    (run / table).write("_header.json", json.dumps(data).encode())


def recommit(run: Folder, table: str, name: str, rows: pa.Table, *failures: Failure) -> None:
    """Write a shard anew, with its receipt and in the header: all fits but the content."""
    there = Table(run / table)
    old = there.complete_header()
    receipt = there.commit(name, rows, failures)
    shards = [receipt if one.name == name else one for one in old.shards]
    rows_now = sum(one.rows for one in shards)
    failures_now = sum(one.failures for one in shards)
    there.finish(replace(old, shards=shards, rows=rows_now, failures=failures_now))


def found(run: Folder) -> list[tuple[str, str, str]]:
    """Table, kind and place of every fault."""
    return [(fault.table, fault.kind, fault.where) for fault in verify(run).faults]


def of_kind(run: Folder, kind: str) -> list[TableFault]:
    return [fault for fault in verify(run).faults if fault.kind == kind]
