"""Runs whose clips are vectors from the start: a manifest and embeddings tables without any media.

Shapes: N clips, P patches of a clip, V vectors of a patch, D width of a vector.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import ray
import yaml
from numpy.typing import NDArray

from audioflow.cli import plugins
from audioflow.embeddings import ClipEmbedding, embedding_rows
from audioflow.engine.embed_plan import embed_shards
from audioflow.engine.run import Run
from audioflow.engine.train_tell import Begun, Said, Teller
from audioflow.events import Event
from audioflow.recipe_file import load_recipe
from audioflow.storage import local_path
from audioflow.systems.bundle import HeadBundle
from audioflow.tables import MANIFEST_SCHEMA, Header, Receipt, Table, fingerprint
from tests.conftest import ROOT

CLASSES = ["ant", "bee", "cat"]
VECTORS = "c0ffee" * 5
LAYERS = ["pool5", "pool1", "conv6", "conv7"]
"""Of the backbone that the recipes name; what is there of them is up to the corpus."""


class Heard(list[Event]):
    """A listener that keeps what it hears."""

    def __call__(self, event: Event) -> None:
        self.append(event)

    def of(self, kind: str, name: str | None = None) -> list[dict[str, Any]]:
        return [e.data for e in self if e.kind == kind and name in (None, e.name)]


@dataclass(frozen=True)
class Corpus:
    """Clips of noise around a corner for each of their labels.

    splits: train, val and test in turn, unless given. patches: P of each clip, in turn. layers:
    widths by name. spread: of the noise, the corners being 2 apart.
    """

    count: int = 240
    classes: Sequence[str] = tuple(CLASSES)
    labels: Sequence[Sequence[str]] = ()
    splits: Sequence[str] = ("train", "train", "val", "test")
    folds: Sequence[str | None] = (None,)
    sources: Sequence[str] = ("main",)
    fine: Sequence[Sequence[str]] = ()
    merge: Mapping[str, str] = field(default_factory=dict)
    patches: Sequence[int] = (1,)
    layers: Mapping[str, int] = field(default_factory=lambda: {"pool5": 8})
    vectors_per_patch: int = 1
    spread: float = 1.0
    seed: int = 0

    @property
    def ids(self) -> list[str]:
        return [f"clip{number:05d}" for number in range(self.count)]

    def labels_of(self, number: int) -> list[str]:
        if self.labels:
            return list(self.labels[number % len(self.labels)])
        return [self.classes[number // 4 % len(self.classes)]]

    def fine_of(self, number: int) -> list[str]:
        if not self.fine:
            return self.labels_of(number)
        return list(self.fine[number % len(self.fine)])

    def manifest(self) -> pa.Table:
        rows = [
            {
                "clip_id": clip_id,
                "uri": f"/nowhere/{clip_id}.wav",
                "labels": self.labels_of(number),
                "split": self.splits[number % len(self.splits)],
                "fold": self.folds[number % len(self.folds)],
                "group": clip_id,
                "source": self.sources[number % len(self.sources)],
                "fine_labels": self.fine_of(number),
            }
            for number, clip_id in enumerate(self.ids)
        ]
        return pa.Table.from_pylist(rows, schema=MANIFEST_SCHEMA)

    def embeddings(self) -> dict[str, ClipEmbedding]:
        generator = np.random.default_rng(self.seed)
        names = sorted({label for number in range(self.count) for label in self.fine_of(number)})
        found = {}
        for number, clip_id in enumerate(self.ids):
            patches = self.patches[number % len(self.patches)]
            places = [names.index(label) for label in self.fine_of(number)]
            layers = {
                name: self._noise(generator, places, patches * self.vectors_per_patch, width)
                for name, width in self.layers.items()
            }
            starts = np.arange(patches, dtype=np.float64)
            found[clip_id] = ClipEmbedding(layers, starts, float(patches), 1.0)
        return found

    def _noise(
        self, generator: np.random.Generator, places: list[int], count: int, width: int
    ) -> NDArray[np.float32]:
        corner = 2 * np.eye(max(width, len(self.classes)))[places].sum(axis=0)[:width]
        noise = self.spread * generator.normal(size=(count, width))
        return (corner + noise).astype(np.float32)


def write_tables(
    run: Run, corpus: Corpus, *, shards: Sequence[int] | None = None, table: str = "feats"
) -> None:
    """Write what the jobs manifest and embed would have written.

    shards: so many clips in each, instead of as the recipe says; such a table cannot be scored.
    """
    rows = corpus.manifest()
    manifest = run.manifest()
    receipt = manifest.commit("00000-clips", rows)
    manifest.finish(
        _header(
            "manifest",
            "manifest",
            [receipt],
            {},
            settings={"merge": dict(corpus.merge)},
            classes=sorted(corpus.classes),
        )
    )
    clips = corpus.embeddings()
    there = run.embeddings(table)
    receipts = [
        there.commit(name, embedding_rows(ids, [clips[i] for i in ids], corpus.layers))
        for name, ids in _shards(run, rows, shards)
    ]
    parents = {"manifest": manifest.complete_header().fingerprint}
    settings = {"layers": dict(corpus.layers), "vectors": VECTORS}
    there.finish(_header("embeddings", table, receipts, parents, settings=settings))


def _shards(run: Run, rows: pa.Table, sizes: Sequence[int] | None) -> list[tuple[str, list[str]]]:
    if sizes is None:
        assert run.recipe.embed is not None
        planned = embed_shards(rows, run.recipe.embed)
        return [(one.name(VECTORS), one.rows["clip_id"].to_pylist()) for one in planned]
    ids, ends = rows["clip_id"].to_pylist(), np.cumsum(sizes)
    assert ends[-1] == len(ids)
    return [
        (f"{place:05d}-made", ids[end - size : end])
        for place, (size, end) in enumerate(zip(sizes, ends, strict=True))
    ]


def _header(
    kind: str, name: str, receipts: list[Receipt], parents: dict[str, str], **more: Any
) -> Header:
    values: dict[str, Any] = {
        "kind": kind,
        "name": name,
        "fingerprint": fingerprint(kind, name, [receipt.sha256 for receipt in receipts]),
        "parents": parents,
        "rows": sum(receipt.rows for receipt in receipts),
        "failures": 0,
        "shards": receipts,
    }
    return Header(**(values | more))


def recipe_file(folder: Path, run_dir: str, **sections: Any) -> Path:
    """A recipe over an embeddings table `feats` of some layers."""
    recipe: dict[str, Any] = {
        "run_dir": run_dir,
        "manifest": {"reader": "folder", "root": str(folder)},
        "embed": {"backbones": {"feats": {"name": "soundnet", "layers": LAYERS}}},
    }
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe | sections, sort_keys=False))
    return path


def make_run(
    folder: Path, *, run_dir: str | None = None, job: str = "train", **sections: Any
) -> Run:
    """A run of `sections` in a folder of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    path = recipe_file(folder, run_dir or str(folder / "run"), **sections)
    return Run(load_recipe(str(path), [], plugins(), job), Heard(), path.read_text(), "test")


def heard(run: Run) -> Heard:
    assert isinstance(run.listener, Heard)
    return run.listener


def bundle_of(run: Run, system: str, fold: str | None = None) -> HeadBundle:
    """A head that was saved."""
    folder = run.head(system).folder
    return HeadBundle.load(folder / f"fold-{fold}" if fold else folder)


def weights_of(run: Run, system: str, fold: str | None = None) -> dict[str, NDArray[np.float32]]:
    """The tensors of a head that was saved."""
    weights = bundle_of(run, system, fold).weights
    assert not isinstance(weights, bytes)
    return {name: value.numpy() for name, value in weights.items()}


def most_apart(one: Mapping[str, Any], other: Mapping[str, Any]) -> float:
    """The largest difference between the tensors of two heads."""
    assert one.keys() == other.keys()
    return max(float(np.abs(one[name] - other[name]).max()) for name in one)


def records_of(run: Run, system: str, fold: str | None = None) -> list[dict[str, Any]]:
    """The epochs of a head that was saved."""
    folder = run.head(system).folder
    data = (folder / f"fold-{fold}" if fold else folder).read("epochs.json")
    found: list[dict[str, Any]] = json.loads(data)
    return found


def scored(run: Run, system: str) -> dict[str, dict[str, Any]]:
    """Rows of a score table by clip."""
    return {row["clip_id"]: row for row in Table(run.scores(system).folder).read().to_pylist()}


class FatalTeller(Teller):
    """Kills the worker that tells of this epoch, once: `mark` is the file that says it happened."""

    def __init__(self, inbox: Any, system: str, *, epoch: int, mark: Path, waits: bool) -> None:
        super().__init__(inbox, system, waits=waits)
        self._epoch, self._mark = epoch, mark

    def __call__(self, said: Said) -> None:
        super().__call__(said)
        now = None if isinstance(said, Begun) else said["epoch"]
        if now == self._epoch and not self._mark.exists():
            self._mark.touch()
            ray.get(self.sent or [])
            os.kill(os.getpid(), signal.SIGKILL)


def kill_when(
    run: Run, job: str, seen: Callable[[Path], bool], how: int = signal.SIGKILL
) -> tuple[int, str]:
    """Start the command in a process of its own, on the same Ray, and end that by a signal when
    something is seen in the folder of checkpoints; its exit code and what it said."""
    folder = Path(local_path(run.folder.url))
    address = ray.get_runtime_context().gcs_address
    executable = Path(sys.executable).parent / "audioflow"
    # Whoever runs the tests in the background of a shell ignores Ctrl-C, and so would this.
    listens = ["env", "--default-signal=INT"]
    command = [*listens, str(executable), job, str(folder.parent / "recipe.yaml")]
    with (folder.parent / "out.txt").open("wb") as out:
        driver = subprocess.Popen(
            [*command, f"ray.address={address}"], cwd=ROOT, stdout=out, stderr=subprocess.STDOUT
        )
    deadline = time.monotonic() + 300
    try:
        while not seen(folder / "train"):
            assert driver.poll() is None, (folder.parent / "out.txt").read_text()
            assert time.monotonic() < deadline, (folder.parent / "out.txt").read_text()
            time.sleep(0.01)
        driver.send_signal(how)
        driver.wait(timeout=60)
    finally:
        driver.kill()
        driver.wait()
    return driver.returncode, (folder.parent / "out.txt").read_text()
