"""The tool `search`: from what was asked for to the nearest clips of a run. Without Ray."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from audioflow.errors import InputError
from audioflow.media.spans import Span
from audioflow.neighbours.measuring import Floats, Metric, Scaling, centroid, scaling_of
from audioflow.neighbours.ranking import Asked, Hit, nearest
from audioflow.neighbours.streaming import Source, Vectors, locate
from audioflow.registry import nearest as nearest_name
from audioflow.shards import may_hold
from audioflow.storage import Folder
from audioflow.tables import Header, Table
from audioflow.verify.places import subfolders

Told = Callable[[str, int, int], None]
"""Called with what is being read, how many of its shards are done, and how many there are."""

_MANIFEST = ["clip_id", "uri", "start_s", "duration_s", "labels", "split"]


@dataclass(frozen=True)
class Question:
    """What is searched for: exactly one of `clip`, `file` and `label`.

    layer: the first one where it is not named. start_s, duration_s: the part of the clip or file
    that counts. standardise: columns are brought to mean 0 and deviation 1 over the table first;
    None for those of a backbone without weights alone, whose columns are in units of their own
    (on ESC-10 that helps such descriptors, and costs what networks have learned to weigh).
    far: the least typical clips of the class `label`, instead of what lies next to its centre.
    """

    backbone: str
    clip: str | None = None
    file: str | None = None
    label: str | None = None
    layer: str | None = None
    start_s: float | None = None
    duration_s: float | None = None
    top: int = 20
    metric: Metric = "cosine"
    standardise: bool | None = None
    patches: bool = False
    far: bool = False
    split: str | None = None


@dataclass(frozen=True)
class Neighbour:
    """One result. start_s: where in the recording the clip begins, or the patch; None where that
    is at its begin."""

    rank: int
    distance: float
    clip_id: str
    labels: list[str]
    split: str
    uri: str
    start_s: float | None


@dataclass(frozen=True)
class Answer:
    """What was found, in which layer, and the labels of what was asked for, where it has any."""

    neighbours: list[Neighbour]
    layer: str
    standardised: bool
    labels: list[str]
    read: int
    """How many clips the table holds."""


def search(
    folder: Folder, question: Question, told: Told = lambda what, done, total: None
) -> Answer:
    """The nearest clips of a run.

    Raises `InputError` where there is no such table, layer, clip or class, or nothing is heard of a
    file; `TableError` where a table is not complete.
    """
    _refuse_conflicts(question)
    table, header = _table(folder, question.backbone)
    layer = _layer(header, question.layer)
    if question.standardise is None:
        descriptors = "backbone" in header.settings and not header.settings["weights"]
        question = replace(question, standardise=descriptors)
    run = _Run(folder, table, header, Source(table, layer, question.patches), question, told)
    hits, labels = run.hits()
    found = list(_told_of(run.manifest, hits))
    return Answer(found, layer, bool(question.standardise), labels, header.good)


def _refuse_conflicts(question: Question) -> None:
    given = {"--clip": question.clip, "--file": question.file, "--class": question.label}
    named = [name for name, value in given.items() if value is not None]
    if len(named) != 1:
        raise InputError(f"give one of {', '.join(given)}; got {', '.join(named) or 'none'}")
    if question.far and question.label is None:
        raise InputError("--far is for --class: it lists the least typical clips of a class")
    if question.label is not None and (question.start_s, question.duration_s) != (None, None):
        raise InputError("--start and --duration are for --clip and --file, not for --class")


def _table(folder: Folder, backbone: str) -> tuple[Table, Header]:
    there = subfolders(folder / "embeddings")
    if backbone not in there:
        hint = nearest_name(backbone, there)
        raise InputError(
            f"{folder.url} has no embeddings/{backbone}; there are: {', '.join(there) or 'none'}"
            + (f"; did you mean {hint!r}?" if hint else "")
        )
    table = Table(folder / "embeddings" / backbone)
    return table, table.complete_header()


def _layer(header: Header, layer: str | None) -> str:
    layers = list(header.settings["layers"])
    if layer is None:
        return layers[0]
    if layer not in layers:
        raise InputError(
            f"embeddings/{header.name} has no layer {layer!r}; there are: {', '.join(layers)}"
        )
    return layer


@dataclass(frozen=True)
class _Run:
    """One search."""

    folder: Folder
    table: Table
    header: Header
    source: Source
    question: Question
    told: Told

    @property
    def manifest(self) -> Table:
        return Table(self.folder / "manifest")

    def hits(self) -> tuple[list[Hit], list[str]]:
        """What is found, and the labels of what was asked for."""
        asked = self.question
        query, labels = self._query()
        scaling = scaling_of(self._streamed("scale")) if asked.standardise else None
        only = self._ids("split", asked.split) if asked.split else None
        if asked.label is not None:
            members = self._ids("labels", asked.label)
            query = self._centre(members, scaling)
            only = (only & members if only is not None else members) if asked.far else only
        elif scaling is not None:
            query = scaling(query[None])[0]
        found = nearest(
            self._streamed("compare"),
            query,
            Asked(asked.top, asked.metric, asked.far, scaling, asked.clip, only),
        )
        return found, labels

    def _streamed(self, what: str) -> Iterator[Vectors]:
        return self.source.streamed(partial(self.told, what))

    def _query(self) -> tuple[Floats, list[str]]:
        """The vector that was asked for, not scaled; none yet for a class."""
        asked = self.question
        if asked.label is not None:
            return np.zeros(0, np.float32), [asked.label]
        if asked.file is not None:
            from audioflow.engine.listening import Listening  # torch takes a while to import

            span = Span(asked.start_s, asked.duration_s)
            heard = Listening(self.header, self.folder.options).embedding(asked.file, span)
            return heard.layers[self.source.layer].mean(axis=0), []
        assert asked.clip is not None
        row = _rows(self.manifest, {asked.clip}).get(asked.clip)
        if row is None:
            example = next(iter(self.manifest.shards(["clip_id"])))[1]["clip_id"][0].as_py()
            raise InputError(
                f"the manifest has no clip {asked.clip!r}; its clips are called like {example!r}"
            )
        return self._of_clip(asked.clip), row["labels"]

    def _of_clip(self, clip: str) -> Floats:
        asked = self.question
        partly = (asked.start_s, asked.duration_s) != (None, None)
        source = Source(self.table, self.source.layer, patches=partly)
        found = locate(source, clip, lambda name: may_hold(name, clip))
        if found is None:
            why = self._failure(clip)
            raise InputError(f"clip {clip!r} has no embedding in {self.header.name}: {why}")
        if partly:
            assert found.time_s is not None
            begin = asked.start_s or 0.0
            end = np.inf if asked.duration_s is None else begin + asked.duration_s
            there = (found.time_s >= begin) & (found.time_s < end)
            if not there.any():
                raise InputError(
                    f"no patch of clip {clip!r} begins between {begin:g} s and {end:g} s; they "
                    f"begin at {found.time_s[0]:g} s to {found.time_s[-1]:g} s"
                )
            found = found.where(there)
        return found.vectors.mean(axis=0, dtype=np.float64).astype(np.float32)

    def _failure(self, clip: str) -> str:
        for row in self.table.read_failures().to_pylist():
            if row["clip_id"] == clip:
                return f"it failed as {row['error']} ({row['reason']})"
        return "it is not in the table; run the job embed again"

    def _ids(self, column: str, value: str) -> set[str]:
        """The clips of a split, or with a label."""
        found: set[str] = set()
        there: set[str] = set()
        for _, rows in self.manifest.shards(["clip_id", column]):
            if column == "split":
                mask = pc.equal(rows[column], value)
                there.update(rows[column].unique().to_pylist())
            else:
                mask = pa.array([value in labels for labels in rows[column].to_pylist()])
                there.update(rows[column].combine_chunks().flatten().unique().to_pylist())
            found.update(rows.filter(mask)["clip_id"].to_pylist())
        if not found:
            what = "split" if column == "split" else "class"
            hint = nearest_name(value, sorted(there))
            raise InputError(
                f"no clip is of the {what} {value!r}; there are: {', '.join(sorted(there)[:40])}"
                + (f"; did you mean {hint!r}?" if hint else "")
            )
        return found

    def _centre(self, members: set[str], scaling: Scaling | None) -> Floats:
        def of_members() -> Iterator[Vectors]:
            for part in self._streamed("centre"):
                keep = np.array([clip_id in members for clip_id in part.clip_ids], np.bool_)
                mine = part.where(keep)
                if scaling is not None:
                    mine = Vectors(mine.clip_ids, scaling(mine.vectors), mine.time_s)
                yield mine

        return centroid(of_members(), self.question.metric)


def _rows(manifest: Table, ids: set[str]) -> dict[str, dict[str, Any]]:
    """The rows of the manifest of a few clips."""
    wanted = pa.array(sorted(ids), pa.string())
    found: dict[str, dict[str, Any]] = {}
    for _, rows in manifest.shards(_MANIFEST):
        for row in rows.filter(pc.is_in(rows["clip_id"], wanted)).to_pylist():
            found[row["clip_id"]] = row
        if len(found) == len(ids):
            break
    return found


def _told_of(manifest: Table, hits: list[Hit]) -> Iterator[Neighbour]:
    rows = _rows(manifest, {hit.clip_id for hit in hits})
    for rank, hit in enumerate(hits, 1):
        row = rows[hit.clip_id]
        start_s = row["start_s"]
        if hit.time_s is not None:
            start_s = (start_s or 0.0) + hit.time_s
        yield Neighbour(
            rank, hit.distance, hit.clip_id, row["labels"], row["split"], row["uri"], start_s
        )
