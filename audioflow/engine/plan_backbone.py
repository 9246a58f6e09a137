"""A backbone as its actor has it, but in this process: what it takes, and what it writes."""

import json
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa
import torch

from audioflow.engine.embed_actor import BackboneSpec, EmbedShard
from audioflow.engine.embed_work import Embedded, Work, clips_in
from audioflow.engine.plan_memory import Growth
from audioflow.parquet import parquet_bytes
from audioflow.planning.figures import ErrorSeen
from audioflow.tables import Receipt, Table

_ROW_BYTES = 24
"""Of the columns of fixed width, in a row."""


@dataclass
class OfTable:
    """What a table got of some clips. raw_bytes: size of their rows in memory."""

    rows: int = 0
    failed: int = 0
    media_s: float = 0.0
    patches: int = 0
    raw_bytes: float = 0.0

    def __add__(self, other: "OfTable") -> "OfTable":
        return OfTable(**{name: value + vars(other)[name] for name, value in vars(self).items()})


@dataclass
class Backbone:
    """One backbone, and what was measured of it so far.

    warm: whether it has embedded anything. seconds: of what came after its first call.
    """

    spec: BackboneSpec
    actor: EmbedShard
    growth: Growth
    load_s: float
    warm: bool = False
    seconds: float = 0.0
    output_bytes: int = 0
    file_bytes: int = 0
    found: OfTable = field(default_factory=OfTable)
    _errors: Counter[str] = field(default_factory=Counter)
    _examples: dict[str, ErrorSeen] = field(default_factory=dict)

    @classmethod
    def load(cls, spec: BackboneSpec) -> "Backbone":
        """Make it ready; `spec.folder` is where it may write."""
        growth = Growth.begin()
        started = time.perf_counter()
        actor = EmbedShard(spec, [], None)
        growth.loaded()
        return cls(spec, actor, growth, time.perf_counter() - started)

    @property
    def device(self) -> str:
        """Where it runs here: as in an actor, on a GPU where the recipe asks for one."""
        return "cuda" if self.spec.num_gpus and torch.cuda.is_available() else "cpu"

    @property
    def errors(self) -> tuple[ErrorSeen, ...]:
        """The classes of failures, the most frequent first."""
        return tuple(
            replace(self._examples[error], clips=count)
            for error, count in self._errors.most_common()
        )

    def embed(self, row: pa.Table) -> None:
        """Embed and write a shard, or a part of one."""
        if not self.warm:
            # A long run does not notice what the first call takes, such as making filters.
            self.warm = _gave_rows(self.actor(row), self.spec.table)
        with self.growth.watched():
            started = time.perf_counter()
            self.actor(row)
            self.seconds += time.perf_counter() - started

    def collect(self, last: pa.Table, parts: int) -> dict[str, OfTable]:
        """What was written of a shard, by clip; `last` is the last of its `parts` rows."""
        table = Table(self.spec.folder)
        receipt = self._receipt(last, parts)
        rows = table.read_shard(receipt.name)
        found = dict(_rows(rows, self.spec.layers))
        for failure in table.shard_failures(receipt.name).to_pylist():
            found[failure["clip_id"]] = OfTable(failed=1)
            self._note(failure)
        for one in found.values():
            self.found += one
        self.file_bytes = len(parquet_bytes(rows.slice(0, 0)))
        self.output_bytes += max(0, receipt.size_bytes - self.file_bytes)
        return found

    def _note(self, failure: Mapping[str, Any]) -> None:
        self._errors[failure["error"]] += 1
        told = {key: failure[key] for key in ("error", "clip_id", "uri", "reason")}
        self._examples.setdefault(failure["error"], ErrorSeen(clips=0, **told))

    def _receipt(self, last: pa.Table, parts: int) -> Receipt:
        """The receipt of the shard; where it came in parts, they are put together first."""
        committer = self.spec.committer
        name = self.spec.table
        works = {name: Work(json.loads(last["todo"][0].as_py())[name]["name"], {})}
        table, shard = committer.keeper(works)
        if parts == 1:
            return table.receipt(shard)
        clips = clips_in(last)
        embedded = [
            Embedded.from_rows(rows, clips, committer.layers)
            for rows in table.read_parts(shard, parts)
        ]
        return committer.commit(works, clips, embedded)[name]


def _gave_rows(row: pa.Table, table: str) -> bool:
    """Whether a row that came out of an actor says of a shard with rows, or of a part."""
    receipt = json.loads(row["receipts"][0].as_py())[table]
    return not receipt or receipt["rows"] > 0


def _rows(rows: pa.Table, layers: Mapping[str, int]) -> Iterator[tuple[str, OfTable]]:
    """Of every clip, all its rows together."""
    columns = {name: _lengths(rows, name) for name in ("patch_start_s", *layers)}
    ids, durations = rows["clip_id"].to_pylist(), rows["duration_s"].to_pylist()
    found: dict[str, OfTable] = {}
    for place, variant in enumerate(rows["variant"].to_pylist()):
        patches = columns["patch_start_s"][place]
        size = _ROW_BYTES + len(ids[place]) + 8 * patches
        size += sum(4 * width * columns[name][place] for name, width in layers.items())
        first = variant == 0
        one = OfTable(int(first), 0, durations[place] if first else 0.0, patches, size)
        found[ids[place]] = found.get(ids[place], OfTable()) + one
    yield from found.items()


def _lengths(rows: pa.Table, name: str) -> list[int]:
    column = rows[name].combine_chunks()
    return [int(length or 0) for length in column.value_lengths().to_pylist()]
