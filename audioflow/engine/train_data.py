"""What a system is trained on: embeddings read shard by shard, joined to the manifest by id."""

from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from audioflow.engine.train_task import Classes, TrainTask
from audioflow.errors import Fault, InputError, RecipeError
from audioflow.heads import HEADS
from audioflow.heads.base import is_estimator
from audioflow.recipe import SystemSection
from audioflow.registry import nearest
from audioflow.systems.examples import Examples, joined, multi_hot
from audioflow.systems.inputs import ClipRows
from audioflow.tables import Table


@dataclass(frozen=True)
class Membership:
    """Which clips are in which part of a task, and what they are.

    parts: by clip id `train` or `val`. targets: in the head's classes for `train`, in those of the
    manifest for `val`.
    """

    classes: Classes
    parts: Mapping[str, str]
    labels: Mapping[str, list[str]]
    fine: Mapping[str, list[str]] | None

    @cached_property
    def _places(self) -> dict[str, dict[str, int]]:
        return {
            "train": {name: place for place, name in enumerate(self.classes.head)},
            "val": {name: place for place, name in enumerate(self.classes.names)},
        }

    def targets(self, part: str, clip_ids: list[str]) -> Any:
        """Targets of clips: indices int64 (B,), or 0 and 1 float32 (B, C)."""
        source = self.fine if part == "train" and self.fine is not None else self.labels
        places = self._places[part]
        found = [[places[label] for label in source[clip_id]] for clip_id in clip_ids]
        if self.classes.multi_label:
            return multi_hot(found, len(places))
        return np.array([one[0] for one in found], np.int64)


def membership(task: TrainTask) -> Membership:
    """Which clips of the manifest are to be learned from, and which are to select on."""
    section = task.section.train
    columns = ["clip_id", "labels", "split", "fold"]
    extra = (["fine_labels"] if section.fine else []) + (["source"] if section.drop_sources else [])
    rows = Table(task.manifest).read([*columns, *extra])
    if section.drop_sources:
        _refuse_unknown_sources(task, rows)
        dropped = pc.is_in(rows["source"], pa.array(section.drop_sources, pa.string()))
        rows = rows.filter(pc.invert(dropped))
    manifest = rows.to_pydict()
    ids = manifest["clip_id"]
    fine = dict(zip(ids, manifest["fine_labels"], strict=True)) if section.fine else None
    return Membership(
        task.classes,
        _parts(manifest, task, unselected=not selects(task.section)),
        dict(zip(ids, manifest["labels"], strict=True)),
        fine,
    )


def _refuse_unknown_sources(task: TrainTask, rows: pa.Table) -> None:
    there = pc.unique(rows["source"]).to_pylist()
    for name in task.section.train.drop_sources:
        if name not in there:
            key = f"systems.{task.system}.train.drop_sources"
            problem = f"{name!r} is not a source of the manifest"
            fault = Fault(key, problem, name, ", ".join(there), nearest(name, there))
            raise RecipeError("recipe", [fault])


def selects(section: SystemSection) -> bool:
    """Whether training selects something on `val`, so that there has to be some."""
    return section.train.select != "last" and not is_estimator(HEADS.load(section.head.name))


@dataclass(frozen=True)
class ExampleSets:
    """What a task is trained and selected on. clips: how many are in each, variants included."""

    train: Examples
    val: Examples
    clips: Mapping[str, int]


def example_sets(task: TrainTask) -> ExampleSets:
    """The examples of a task; for a fold, `val` is the fold after it and the rest `train`.

    Where nothing is selected, a fold leaves all others to `train`, and there need be no `val`.
    Variants count for `train` only. Raises `InputError` where one that is needed is empty.
    """
    members = membership(task)
    found: dict[str, list[Examples]] = {"train": [], "val": []}
    table = Table(task.embeddings)
    for _, rows in table.shards(task.inputs.columns):
        for part, examples in examples_of(rows, task, members):
            found[part].append(examples)
    none = Examples(
        tuple(
            np.zeros((0, *_row_shape(task, i)), np.float32) for i in range(len(task.inputs.layers))
        ),
        np.zeros(1, np.int64),
        members.targets("val", []) if task.classes.multi_label else np.zeros(0, np.int64),
    )
    sets = {part: joined(parts) if parts else none for part, parts in found.items()}
    clips = {part: len(examples) for part, examples in sets.items()}
    _refuse_empty(task, clips)
    train = sets["train"].per_patch() if task.section.train.unit == "patch" else sets["train"]
    return ExampleSets(train, sets["val"], clips)


def _row_shape(task: TrainTask, layer: int) -> tuple[int, ...]:
    width = task.inputs.shape.widths[layer]
    if task.inputs.takes in ("pictures", "picture_sequences"):
        return (task.inputs.vectors_per_patch, width)
    return (width,)


def examples_of(
    rows: pa.Table, task: TrainTask, members: Membership
) -> Iterator[tuple[str, Examples]]:
    """The examples of a shard's clips, by part, in the order of the shard."""
    parts = [members.parts.get(clip_id) for clip_id in rows["clip_id"].to_pylist()]
    variants = rows["variant"].to_pylist()
    for part in ("train", "val"):
        keep = [
            mine == part and (part == "train" or variant == 0)
            for mine, variant in zip(parts, variants, strict=True)
        ]
        if any(keep):
            clips: ClipRows = task.inputs.read(rows.filter(pa.array(keep)))
            yield part, Examples(clips.rows, clips.offsets, members.targets(part, clips.clip_ids))


def estimated_bytes(task: TrainTask) -> int:
    """About how much memory the examples of a task take, by the first shard that has some."""
    table = Table(task.embeddings)
    members = membership(task)
    header = table.complete_header()
    for receipt in header.shards:
        rows = table.read_shard(receipt.name, task.inputs.columns)
        sizes = [one.nbytes for _, one in examples_of(rows, task, members)]
        if sizes:
            return sum(sizes) * header.rows // max(1, receipt.rows)
    return 0


def check_splits(task: TrainTask, folds: Sequence[str]) -> None:
    """Raise `InputError` where no `train` or no `val` clip has an embedding; reads ids only."""
    ids: set[str] = set()
    for _, rows in Table(task.embeddings).shards(["clip_id"]):
        ids.update(rows["clip_id"].to_pylist())
    for fold in folds or (None,):
        _refuse_empty(task, counted(membership(replace(task, fold=fold)), ids))


def counted(members: Membership, embedded: Container[str]) -> dict[str, int]:
    """How many clips of each part have an embedding."""
    found = {"train": 0, "val": 0}
    for clip_id, part in members.parts.items():
        if part in found and clip_id in embedded:
            found[part] += 1
    return found


def _refuse_empty(task: TrainTask, counts: Mapping[str, int]) -> None:
    asked = selects(task.section) or (task.fold is None and task.section.calibrated)
    for split in ("train", "val"):
        if not counts[split] and (split == "train" or asked):
            raise InputError(
                f"system {task.system!r}: no clip of the split {split} has an embedding in "
                f"{task.embeddings.url}; see its failures/, or give manifest.splits a share "
                f"for {split}"
            )


def _parts(
    manifest: Mapping[str, list[Any]], task: TrainTask, *, unselected: bool
) -> dict[str, str]:
    if task.fold is None:
        return dict(zip(manifest["clip_id"], manifest["split"], strict=True))
    if task.val_fold is not None:
        part = {task.val_fold: "val", task.fold: "test"}
    else:
        names = folds_of(manifest["fold"])
        after = names[(names.index(task.fold) + 1) % len(names)]
        part = {after: "train" if unselected else "val", task.fold: "test"}
    return {
        clip_id: part.get(name, "train") if name is not None else split
        for clip_id, name, split in zip(
            manifest["clip_id"], manifest["fold"], manifest["split"], strict=True
        )
    }


def folds_of(column: list[str | None]) -> list[str]:
    """The folds in a manifest's `fold` column, in order; empty where it is not cross-validated."""
    return sorted({fold for fold in column if fold is not None}, key=lambda fold: (len(fold), fold))
