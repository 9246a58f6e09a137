"""What a training job leaves: the bundles of a system's heads and, last, their header."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from audioflow.engine.run import Run, Watch
from audioflow.engine.train_task import Classes, TrainTask
from audioflow.heads import HEADS
from audioflow.recipe import SystemSection
from audioflow.storage import Folder
from audioflow.systems.bundle import HeadBundle, HeadSpec
from audioflow.systems.ensemble import save_ensemble
from audioflow.tables import Header, package_versions
from audioflow.weights import RANDOM, weights_fields

JOB = "train"

_COUNTED = (".running_mean", ".running_var", ".num_batches_tracked")
"""What batch normalisation keeps and nothing trains."""


@dataclass(frozen=True)
class Trained:
    """A trained system: one task and its result, or one per fold."""

    section: SystemSection
    tasks: list[TrainTask]
    results: list[dict[str, Any]]
    folds: list[str]
    key: str
    parents: dict[str, str]
    more: Mapping[str, Any] = field(default_factory=dict)
    """Further stats of the header."""


def save_heads(run: Run, name: str, trained: Trained, watch: Watch) -> Header:
    """Write the bundles of a system and, last, its header."""
    table, system = run.head(name), trained.section
    vectors = run.embeddings(system.backbone).complete_header().settings["vectors"]
    files: dict[str, str] = {}
    for task, result in zip(trained.tasks, trained.results, strict=True):
        files |= _save(table.folder, task, result, vectors)
    if trained.folds:
        files |= save_ensemble(table.folder, trained.folds)
    for result in trained.results:
        for text in result.get("warnings", []):
            run.tell(JOB, "note", name, text=text)
    header = Header(
        kind="head",
        name=name,
        fingerprint=trained.key,
        parents=trained.parents,
        settings=system.of_head | {"folds": trained.folds},
        rows=len(trained.results),
        failures=0,
        shards=[],
        classes=list(trained.tasks[0].classes.names),
        stats=watch.stats(sum(result["clips"]["train"] for result in trained.results))
        | {"results": [_summary(result) for result in trained.results]}
        | {"workers": system.train.workers, "files": files}
        | dict(trained.more),
        versions=package_versions(),
    )
    return table.finish(header)


def _summary(result: dict[str, Any]) -> dict[str, Any]:
    best = result["records"][result["best_epoch"] - 1]
    weights = result["weights"]
    parameters = None
    if not isinstance(weights, bytes):
        parameters = sum(
            value.numel()
            for name, value in weights.items()
            if not name.startswith("normalise.") and not name.endswith(_COUNTED)
        )
    return {
        "fold": result.get("fold"),
        "best_epoch": result["best_epoch"],
        "epochs": len(result["records"]),
        "metrics": best["metrics"] | {"val_loss": best["val_loss"]},
        "temperature": result["temperature"],
        "num_parameters": parameters,
        "seconds": round(sum(record["seconds"] for record in result["records"]), 3),
        "clips": result["clips"],
    }


def _save(folder: Folder, task: TrainTask, result: dict[str, Any], vectors: str) -> dict[str, str]:
    """Write the bundle; returns the SHA-256 of its files by their path in the table."""
    fold = result.get("fold")
    inputs, classes, network = task.inputs, task.classes, task.network
    pool = inputs.pool
    learned = _summary(result) | {"classes": result["classes"]}
    spec = HeadSpec(
        system=task.system,
        backbone=task.section.backbone,
        embeddings=vectors,
        layers=dict(zip(inputs.layers, inputs.widths, strict=True)),
        vectors_per_patch=inputs.vectors_per_patch,
        pooling=None if pool is None else {"name": pool.name, "on": pool.on} | dict(pool.options),
        head=without_weights(network.head),
        classes=list(classes.names),
        head_classes=list(classes.head),
        merge=_merge(classes),
        multi_label=classes.multi_label,
        temperature=result["temperature"],
        normalised=network.normalised,
        trained_on=learned | {"train": task.section.train.model_dump(mode="json")},
        fold=fold,
    )
    inner = f"fold-{fold}/" if fold is not None else ""
    target = folder / f"fold-{fold}" if fold is not None else folder
    files = HeadBundle(spec, result["weights"]).save(target, result["records"])
    return {f"{inner}{name}": sha256 for name, sha256 in files.items()}


def without_weights(head: Mapping[str, Any]) -> dict[str, Any]:
    """Name and settings of a head; what it began with is no matter once it is trained."""
    fields = weights_fields(HEADS.load(head["name"]).Settings)
    return dict(head) | dict.fromkeys(fields, RANDOM)


def _merge(classes: Classes) -> dict[str, str] | None:
    if classes.merge is None:
        return None
    return {name: classes.names[to] for name, to in zip(classes.head, classes.merge, strict=True)}
