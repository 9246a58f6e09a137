"""Probing a sample: its recordings are fetched, decoded and embedded as the job `embed` does it,
by its own code, but in this process and into a temporary folder."""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from multiprocessing import active_children

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from audioflow.engine.embed_decode import with_media
from audioflow.engine.embed_pipeline import Item
from audioflow.engine.embed_todo import SYSTEMIC
from audioflow.engine.embed_work import Work
from audioflow.engine.plan_backbone import Backbone, OfTable
from audioflow.engine.plan_memory import peak_bytes
from audioflow.errors import MediaError, TooManyFailures
from audioflow.media.child import DecoderChild
from audioflow.media.packing import Packer, Sources
from audioflow.media.parts import End, Wanted
from audioflow.media.spans import Span
from audioflow.shards import Shard
from audioflow.storage import StorageOptions, local_copy
from audioflow.timing import NO_TIMES

GIVE_UP_AFTER = 16
"""Recordings; where all of these failed for a reason that is not theirs, the others will too."""

Told = Callable[[int, int], None]
"""Called with how many recordings are probed, and how many there are."""


@dataclass(frozen=True)
class Tried:
    """A recording to probe: those of its clips (rows of the manifest) that are tried."""

    clips: tuple[int, ...]


@dataclass
class OfRecording:
    """What one recording took, and what each table got of it."""

    fetch_s: float = 0.0
    decode_s: float = 0.0
    fetched_bytes: int = 0
    tables: dict[str, OfTable] = field(default_factory=dict)

    @property
    def media_s(self) -> float:
        return max((got.media_s for got in self.tables.values()), default=0.0)


@dataclass(frozen=True)
class Way:
    """How recordings are fetched and decoded. augment: of which clips there are variants."""

    storage: StorageOptions
    sources: Sources
    wanted: Wanted
    timeout_s: float
    memory_gb: float
    clips_per_shard: int
    augment: NDArray[np.bool_]


@dataclass(frozen=True)
class _Group:
    """Recordings that are embedded together, as a shard; `found` is filled in."""

    row: pa.Table
    places: Sequence[Sequence[int]]
    found: Sequence[OfRecording]


class Prober:
    """Probes recordings of a manifest. `found` is in the order in which they are given."""

    def __init__(self, manifest: pa.Table, way: Way, backbones: Sequence[Backbone]) -> None:
        self._manifest = manifest
        self._way = way
        self._backbones = backbones
        self._child = DecoderChild(way.timeout_s, way.memory_gb)
        self._others = set(active_children())
        self._errors: list[tuple[str | None, str, str]] = []
        self.found: list[OfRecording] = []
        self.child_bytes = 0
        self.row_bytes = 0

    def probe(self, tried: Sequence[Tried], told: Told) -> None:
        """Raises `TooManyFailures` where all fail for one reason that is not theirs."""
        told(0, len(tried))
        try:
            self._child.warm()
            for number, recordings in enumerate(_grouped(tried, self._way.clips_per_shard)):
                group = self._group(number, recordings)
                self.found += group.found
                self._probe(group, lambda done: told(done, len(tried)))
            self._refuse_systemic(1)
        finally:
            self._child.close()

    def _group(self, number: int, recordings: Sequence[Tried]) -> _Group:
        indices = [index for tried in recordings for index in tried.clips]
        rows = np.array(indices, np.int64)
        shard = Shard(f"probe{number}", np.zeros(0, np.uint64), rows, self._manifest)
        works = {backbone.spec.table: Work(shard.part, {}) for backbone in self._backbones}
        item = Item(shard, works, self._way.augment[rows].tolist())
        ends = np.cumsum([len(tried.clips) for tried in recordings]).tolist()
        places = [
            range(end - len(tried.clips), end) for end, tried in zip(ends, recordings, strict=True)
        ]
        return _Group(item.row(number), places, [OfRecording() for _ in recordings])

    def _probe(self, group: _Group, told: Callable[[int], None]) -> None:
        """Decode and embed a shard; in parts, where the engine would."""
        packer, parts = Packer(self._way.sources), 0
        for places, found in zip(group.places, group.found, strict=True):
            for _ in self._decode(group.row, places, packer, found):
                self._embed(with_media(group.row, packer, parts, NO_TIMES, last=False))
                parts += 1
            told(len(self._errors))
        started = time.perf_counter()
        last = with_media(group.row, packer, parts, NO_TIMES, last=True)
        for found in group.found:
            found.decode_s += (time.perf_counter() - started) / len(group.found)
        self._embed(last)
        ids = group.row["clip_id"][0].as_py()
        for backbone in self._backbones:
            by_clip = backbone.collect(last, parts + 1)
            for places, found in zip(group.places, group.found, strict=True):
                got = sum((by_clip[ids[place]] for place in places), OfTable())
                found.tables[backbone.spec.table] = got

    def _decode(
        self, row: pa.Table, places: Sequence[int], packer: Packer, found: OfRecording
    ) -> Iterator[None]:
        """Fill the packer with one recording, halting where there is enough for a part.

        The time for which it halts is not counted.
        """
        uri, clip_id = row["uri"][0].as_py()[places[0]], row["clip_id"][0].as_py()[places[0]]
        starts, durations = row["start_s"][0].as_py(), row["duration_s"][0].as_py()
        spans = [Span(starts[place], durations[place]) for place in places]
        errors: list[MediaError | None] = []
        stage, started = "fetch", time.perf_counter()
        try:
            with local_copy(uri, self._way.storage) as path:
                found.fetch_s += time.perf_counter() - started
                found.fetched_bytes = os.path.getsize(path)
                stage, started = "decode", time.perf_counter()
                for parts in self._child.decode(path, spans, self._way.wanted):
                    for part in parts:
                        packer.add(replace(part, clip=places[part.clip]))
                        errors += [part.error] if isinstance(part, End) else []
                    if packer.full:
                        found.decode_s += time.perf_counter() - started
                        yield
                        started = time.perf_counter()
                found.decode_s += time.perf_counter() - started
        except MediaError as error:
            errors = [error]
            found.fetch_s += time.perf_counter() - started
            for place in places:
                for source in self._way.wanted.sources:
                    packer.add(End(place, source, error=error), stage)
        self._look_at_child()
        self._note(clip_id, errors)

    def _embed(self, row: pa.Table) -> None:
        self.row_bytes = max(self.row_bytes, row.nbytes)
        for backbone in self._backbones:
            backbone.embed(row)

    def _look_at_child(self) -> None:
        for process in set(active_children()) - self._others:
            self.child_bytes = max(self.child_bytes, peak_bytes(process.pid or 0))

    def _note(self, clip_id: str, errors: Sequence[MediaError | None]) -> None:
        """Keep the one reason for which a recording failed as a whole, None where there is none."""
        classes = {error.error if error else None for error in errors}
        reason = next((error.reason for error in errors if error), "")
        self._errors.append((classes.pop() if len(classes) == 1 else None, clip_id, reason))
        self._refuse_systemic(GIVE_UP_AFTER)

    def _refuse_systemic(self, least: int) -> None:
        classes = {error for error, _, _ in self._errors}
        if len(self._errors) < least or len(classes) != 1 or not classes <= SYSTEMIC:
            return
        error, clip_id, reason = self._errors[0]
        raise TooManyFailures(
            f"all {len(self._errors)} recordings that were probed failed as {error!r}, {clip_id!r} "
            f"for one: {reason}. That is not the clips' fault: see to the credentials, the root of "
            "the media or the network, and run the same command again"
        )


def _grouped(tried: Sequence[Tried], clips_per_shard: int) -> Iterator[list[Tried]]:
    """Recordings in groups of as many clips as the shards of the recipe have at most."""
    group: list[Tried] = []
    for item in tried:
        if group and sum(len(one.clips) for one in [*group, item]) > clips_per_shard:
            yield group
            group = []
        group.append(item)
    if group:
        yield group
