"""Vectors and targets for training: embeddings pooled per clip, joined to the manifest by id."""

from collections.abc import Container, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audioflow.embeddings import layer_rows
from audioflow.errors import InputError
from audioflow.manifest import CROSS_VALIDATED
from audioflow.pooling import POOLINGS
from audioflow.recipe import PluginChoice, SystemSection
from audioflow.scores import target_indices
from audioflow.storage import Folder
from audioflow.tables import Table
from audioflow.training import ClipSet


@dataclass(frozen=True)
class TrainTask:
    """One head to train: where its inputs lie and how it is made. `fold` is the one held out."""

    system: str
    section: SystemSection
    embeddings: Folder
    manifest: Folder
    layer: str
    width: int
    classes: tuple[str, ...]
    fold: str | None = None


def build_pooling(choice: PluginChoice) -> Any:
    """The pooling a recipe names."""
    return POOLINGS.build(choice.name, choice.options)


def pooled_vectors(task: TrainTask) -> dict[str, list[NDArray[np.float32]]]:
    """By clip id, the pooled vectors of every clip that has a row: as recorded, then its variants.

    Read shard by shard.
    """
    pooling = build_pooling(task.section.pooling)
    found: dict[str, list[NDArray[np.float32]]] = {}
    table = Table(task.embeddings)
    for _, rows in table.shards(["clip_id", "variant", task.layer]):
        layer = layer_rows(rows, task.layer)
        for clip_id, vector in zip(layer.clip_ids, pooling.pool(layer), strict=True):
            found.setdefault(clip_id, []).append(vector)
    return found


def clip_sets(task: TrainTask) -> dict[str, ClipSet]:
    """The `train` and `val` clips; for a fold, `val` is the fold after it and the rest is `train`.

    Where the last epoch is kept, a fold leaves all others to `train`, and there need be no `val`.
    Variants count for `train` only. Raises `InputError` where one that is needed is empty.
    """
    vectors = pooled_vectors(task)
    manifest = Table(task.manifest).read(["clip_id", "labels"])
    labels = dict(zip(manifest["clip_id"].to_pylist(), manifest["labels"].to_pylist(), strict=True))
    sets = {}
    for split, ids in _split_ids(task, vectors.keys()).items():
        rows = [
            (clip_id, vector)
            for clip_id in ids
            for vector in vectors[clip_id][: None if split == "train" else 1]
        ]
        clips = [clip_id for clip_id, _ in rows]
        targets = target_indices(clips, [labels[clip_id] for clip_id in clips], task.classes)
        stacked = np.array([vector for _, vector in rows], np.float32)
        sets[split] = ClipSet(stacked.reshape(len(rows), task.width), targets)
    return sets


def check_splits(task: TrainTask) -> None:
    """Raise `InputError` where no `train` or no `val` clip has an embedding; reads ids only."""
    ids: set[str] = set()
    for _, rows in Table(task.embeddings).shards(["clip_id"]):
        ids.update(rows["clip_id"].to_pylist())
    _split_ids(task, ids)


def _split_ids(task: TrainTask, embedded: Container[str]) -> dict[str, list[str]]:
    manifest = Table(task.manifest).read(["clip_id", "split", "fold"])
    unselected = task.section.train.select == "last"
    parts = _parts(manifest.to_pydict(), task.fold, unselected=unselected)
    found = {}
    for split in ("train", "val"):
        ids = [clip_id for clip_id, part in parts.items() if part == split and clip_id in embedded]
        if not ids and not (unselected and split == "val"):
            raise InputError(
                f"system {task.system!r}: no clip of the split {split} has an embedding in "
                f"{task.embeddings.url}; see its failures/, or give manifest.splits a share "
                f"for {split}"
            )
        found[split] = ids
    return found


def _parts(
    manifest: Mapping[str, list[Any]], fold: str | None, *, unselected: bool
) -> dict[str, str]:
    if fold is None:
        return dict(zip(manifest["clip_id"], manifest["split"], strict=True))
    names = folds_of(manifest["fold"])
    after = names[(names.index(fold) + 1) % len(names)]
    part = {after: "train" if unselected else "val", fold: "test"}
    return {
        clip_id: part.get(name, "train")
        for clip_id, name in zip(manifest["clip_id"], manifest["fold"], strict=True)
    }


def folds_of(column: list[str | None]) -> list[str]:
    """The folds in a manifest's `fold` column, in order; empty where it is not cross-validated."""
    return sorted({fold for fold in column if fold is not None}, key=lambda fold: (len(fold), fold))


def is_cross_validated(splits: list[str]) -> bool:
    """Whether a manifest's clips are divided by `fold`."""
    return bool(splits) and splits[0] == CROSS_VALIDATED
