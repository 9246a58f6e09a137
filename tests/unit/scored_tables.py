"""Score tables in a run folder, written as the jobs write them, in shards cut as a test wants."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from audioflow.engine.run import Run
from audioflow.events import Event
from audioflow.recipe import Recipe
from audioflow.scores import ScoredClips, score_rows
from audioflow.storage import Folder
from audioflow.tables import MANIFEST_SCHEMA, Failure, Header, Receipt, Table, fingerprint

CLASSES = ("cat", "dog", "owl")


@dataclass(frozen=True)
class Clips:
    """Clips of a manifest, in no order of their ids; `targets` are indices of `classes`."""

    ids: list[str]
    targets: np.ndarray
    splits: list[str]
    classes: Sequence[str] = CLASSES
    folds: Sequence[str | None] | None = None

    def labels(self, row: int) -> list[str]:
        return [self.classes[self.targets[row]]]


def make_clips(
    count: int,
    splits: Sequence[str] = ("val", "test"),
    classes: Sequence[str] = CLASSES,
    name: str = "clip{:06}",
) -> Clips:
    """Clips whose splits take turns."""
    rng = np.random.default_rng(count)
    ids = [name.format(number) for number in rng.permutation(count)]
    targets = rng.integers(len(classes), size=count)
    return Clips(ids, targets, [splits[row % len(splits)] for row in range(count)], classes)


def softmax_scores(clips: Clips, seed: int, skill: float = 1.5) -> np.ndarray:
    """Scores (N, C) of a system of some skill, float32, rows that sum to 1."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(len(clips.ids), len(clips.classes)))
    logits[np.arange(len(clips.ids)), clips.targets] += skill
    scores = np.exp(logits)
    return (scores / scores.sum(1, keepdims=True)).astype(np.float32)


def write_manifest(run: Folder, clips: Clips) -> None:
    folds = clips.folds or [None] * len(clips.ids)
    rows = [
        {
            "clip_id": clip_id,
            "uri": f"/data/{clip_id}.mp4",
            "labels": clips.labels(row),
            "fine_labels": clips.labels(row),
            "split": clips.splits[row] if folds[row] is None else "folds",
            "fold": folds[row],
            "group": clip_id,
            "source": "main",
        }
        for row, clip_id in enumerate(clips.ids)
    ]
    table = Table(run / "manifest")
    receipt = table.commit("m", pa.Table.from_pylist(rows, schema=MANIFEST_SCHEMA))
    _finish(table, "manifest", [receipt], [], {}, clips.classes)


def write_scores(
    run: Folder,
    name: str,
    clips: Clips,
    scores: np.ndarray,
    *,
    failed: Sequence[int] = (),
    shards: int = 3,
    **settings: Any,
) -> Header:
    """A table of all clips, in shards of neighbours; those at the places `failed` are failures."""
    table, lost = Table(run / "scores" / name), set(failed)
    receipts = []
    for number, places in enumerate(np.array_split(np.arange(len(clips.ids)), shards)):
        good = [place for place in places.tolist() if place not in lost]
        scored = ScoredClips(
            [clips.ids[place] for place in good],
            [clips.labels(place) for place in good],
            [clips.splits[place] for place in good],
        )
        failures = [
            Failure(
                clips.ids[place],
                f"/{clips.ids[place]}",
                "decode",
                "no_audio",
                f"{name} has no sound",
            )
            for place in places.tolist()
            if place in lost
        ]
        rows = score_rows(scored, scores[good], clips.classes)
        receipts.append(table.commit(f"{number:05}-{name}", rows, failures))
    settings = {"splits": sorted({*clips.splits}), "system": {}} | settings
    parents = ["manifest", f"heads/{name}"]
    return _finish(table, name, receipts, parents, settings, clips.classes)


def _finish(
    table: Table,
    name: str,
    receipts: list[Receipt],
    parents: Sequence[str],
    settings: dict[str, Any],
    classes: Sequence[str],
) -> Header:
    return table.finish(
        Header(
            kind="manifest" if name == "manifest" else "scores",
            name=name,
            fingerprint=fingerprint(name, [receipt.sha256 for receipt in receipts]),
            parents=dict.fromkeys(parents, "0"),
            settings=settings,
            rows=sum(receipt.rows for receipt in receipts),
            failures=sum(receipt.failures for receipt in receipts),
            shards=receipts,
            classes=list(classes),
        )
    )


class Told(list[Event]):
    """A listener that keeps what it hears."""

    def __call__(self, event: Event) -> None:
        self.append(event)


def fusing(folder: Path | str, **fused: Any) -> Run:
    """A run in `folder` whose recipe fuses `audio` and `video`."""
    section = {"systems": ["audio", "video"]} | fused
    recipe = Recipe.model_validate(
        {
            "run_dir": str(folder),
            "manifest": {"reader": "folder", "root": str(folder)},
            "embed": {"backbones": {"acoustic": {}}},
            "fuse": {"fused": section},
        }
    )
    return Run(recipe, Told())


def bytes_of(table: Table) -> Mapping[str, bytes]:
    """Every Parquet file of a table, its failures included."""

    def files() -> Iterator[tuple[str, bytes]]:
        for folder in (table.folder, table.failures_folder):
            for name in folder.names():
                if name.endswith(".parquet"):
                    yield f"{folder.url.rsplit('/', 1)[-1]}/{name}", folder.read(name)

    return dict(files())
