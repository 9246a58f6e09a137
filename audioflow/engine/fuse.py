"""The job `fuse`: several score tables -> one, joined on `clip_id`.

The clips are cut into parts by the hashes of their ids; each part is joined, fused and committed by
itself. While the tables fit in memory that happens in this process, else in tasks of Ray that read
what they need. The result does not show which of the two it was.
"""

import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from audioflow.cut import Cut
from audioflow.engine.fuse_facts import Facts, QualityTable, manifest_facts, quality_of
from audioflow.engine.fuse_fit import Fitting, fitted, keep_params, kept_params
from audioflow.engine.fuse_inputs import BYTES_PER_GROUP, Inputs
from audioflow.engine.fuse_part import JOB, Fused, Lacking, Work
from audioflow.engine.fuse_sources import Held, Source, Spread
from audioflow.engine.pulse import Pulse
from audioflow.engine.run import Run, Watch, refuse_lost_shards
from audioflow.engine.tasks import Each, here
from audioflow.engine.telling import Spent, tell_shard, tell_verdict
from audioflow.fusion import (
    Fusion,
    QualityColumn,
    missing_error,
    multi_label_of,
    quality_columns,
)
from audioflow.join import class_order
from audioflow.planning.verdict_jobs import JobFacts, fused
from audioflow.recipe import FuseSection
from audioflow.tables import (
    SCHEMA_VERSION,
    Header,
    Receipt,
    fingerprint,
    package_versions,
)

MEMORY_BYTES = 2**30
"""Of rows of all tables: more are not held in one process, unless a recipe says so."""

_BESIDE_BYTES = 100
"""Of a row beside its float32 scores: id, labels, split, and its part."""

_TIMES = 4
"""What a task takes in memory, in multiples of the scores that it reads."""

_STALL_S = 1800.0
"""No task takes so long."""


def fuse_systems(run: Run, each: Each | None = None) -> list[Header]:
    """Write `scores/<fused name>/` for every fused system of the recipe.

    each: who works on what this process is not to hold; by default tasks of Ray.
    """
    return [_fuse(run, name, section, each) for name, section in run.recipe.fuse.items()]


def _fuse(run: Run, name: str, section: FuseSection, each: Each | None) -> Header:
    headers = {system: run.scores(system).complete_header() for system in section.systems}
    parents = {f"scores/{system}": header.fingerprint for system, header in headers.items()}
    if section.quality is not None:
        embeddings = run.embeddings(section.quality.table).complete_header()
        parents[f"embeddings/{section.quality.table}"] = embeddings.fingerprint
    settings = section.model_dump(mode="json", exclude={"engine"})
    key = fingerprint("fused", SCHEMA_VERSION, name, parents, settings)
    if old := run.unchanged(JOB, name, run.scores(name), key):
        return old
    return _Fusing(run, name, section, headers, key, each).made(parents, settings)


@dataclass
class _Fusing:
    """One fused table in the making."""

    run: Run
    name: str
    section: FuseSection
    headers: Mapping[str, Header]
    key: str
    each: Each | None

    def __post_init__(self) -> None:
        self.classes = {system: header.classes for system, header in self.headers.items()}
        self.order = class_order(list(self.classes), self.classes)
        self.total = max(header.rows + header.failures for header in self.headers.values())
        self.table = self.run.scores(self.name)
        self.inputs = Inputs(
            {system: self.run.scores(system).folder for system in self.headers},
            self.section.fit_split,
            Cut.of(self.total, len(self.order)),
            self.run.folder / JOB / self.name / self.key[:12],
        )

    def made(self, parents: dict[str, str], settings: dict[str, Any]) -> Header:
        """Make the table and finish it."""
        watch, cut = Watch(), self.inputs.cut
        parts = {f"{cut.name(part)}-{self.key[:12]}": part for part in range(cut.count)}
        there = self.table.open_for(parts)
        older = self.table.receipts(sorted(there))
        before = sum(receipt.clips for receipt in older.values())
        left = cut.count - len(there)
        self.run.tell(JOB, "start", self.name, total=self.total, done=before, shards=left)
        each = (self.each or self._on_ray()) if self._streams else None
        pulse, spent = Pulse(), Spent()
        todo = {part: name for name, part in parts.items() if name not in there}
        with self._watched():
            with pulse.at("read", self.name) as at:
                source = self._source(each)
                work, facts = self._work(source, each, at)
            receipts = older | self._committed(source.fused(work, todo, facts), older, spent)
        where = self._where(spent, pulse, watch.seconds) if todo else {}
        refuse_lost_shards(self.table, list(parts), self.table.committed())
        rows = sum(receipt.rows for receipt in receipts.values())
        multi_label = work.fusion.task.multi_label
        told = {"fused": True, "multi_label": multi_label, "columns": [], "params": work.params}
        header = Header(
            kind="scores",
            name=self.name,
            fingerprint=self.key,
            parents=parents,
            settings=settings | told,
            rows=rows,
            failures=sum(receipt.failures for receipt in receipts.values()),
            shards=[receipts[name] for name in parts],
            classes=list(self.order),
            stats=watch.stats(rows, resumed=len(there), **where),
            versions=package_versions(),
        )
        self.run.finished(JOB, self.name, self.table.finish(header))
        (self.run.folder / JOB).remove_all()
        return header

    @property
    def _streams(self) -> bool:
        """Whether this process is not to hold all scores."""
        if self.section.engine != "auto":
            return self.section.engine == "stream"
        rows = sum(header.rows for header in self.headers.values())
        return (4 * len(self.order) + _BESIDE_BYTES) * rows > MEMORY_BYTES

    def _on_ray(self) -> Each:
        from audioflow.engine.ray_tasks import OnRay  # it takes a while to import
        from audioflow.engine.resources import ready_for

        # Workers of a Ray that is started for this need no torch, which alone takes 0.2 GB.
        os.environ.setdefault("RAY_preload_python_modules", "audioflow.engine.fuse_part")
        self.run.session.ensure()
        shards = [shard.rows for header in self.headers.values() for shard in header.shards]
        largest = max([BYTES_PER_GROUP, *(4 * rows * len(self.order) for rows in shards)])
        tasks = OnRay(_TIMES * largest, _STALL_S)
        ready_for(self.run, JOB, [tasks.need(JOB)])
        return tasks

    def _watched(self) -> AbstractContextManager[Any]:
        """While it lasts, nodes that come and go are told, where tasks of Ray do the work."""
        if self.each is not None or not self._streams:
            return nullcontext()
        from audioflow.engine.nodes import watched_nodes  # brings Ray

        return watched_nodes(self.run, JOB)

    def _source(self, each: Each | None) -> Source:
        if each is None:
            return Held(self.inputs, self.headers)
        return Spread(self.inputs, self.headers, each)

    def _work(
        self, source: Source, each: Each | None, at: Callable[[str], None]
    ) -> tuple[Work, Facts]:
        """What is done to every part, with parameters that are fitted now or were before.

        at: is told that the fit begins.
        """
        scans = source.scans()
        said = {name: header.settings.get("multi_label") for name, header in self.headers.items()}
        several = [["", ""]] if any(scan.several for scan in scans.values()) else []
        columns = self._quality_columns()
        fusion = Fusion.of(
            self.section,
            self.order,
            multi_label=multi_label_of(said, several),
            quality=[column.name for column in columns],
        )
        known: dict[str, pa.Table] = {}
        if self.section.quality is not None:
            folder = self.run.embeddings(self.section.quality.table).folder
            known["quality"] = quality_of(QualityTable(folder, columns), each or here)
        manifest = self.run.manifest()
        fitting = Fitting(
            fusion,
            self.classes,
            self.section.fit_split,
            manifest if manifest.header() is not None else None,
            known,
        )
        params = kept_params(self.table.folder, self.key)
        if params is None:
            at("fit")
            params = fitted(fitting, source, scans)
            keep_params(self.table.folder, self.key, params)
        if "cross_fit" in params:
            known["fold"] = manifest_facts(manifest)
        work = Work(
            self.inputs, self.classes, fusion, params, self.section.missing, self.table.folder
        )
        return work, Facts.by_part(known, self.inputs.cut)

    def _quality_columns(self) -> list[QualityColumn]:
        choice, embed = self.section.quality, self.run.recipe.embed
        if choice is None or embed is None:
            return []
        from audioflow.backbones import BACKBONES  # torch takes a while to import

        name = embed.backbones[choice.table].name or choice.table
        return quality_columns(choice, BACKBONES.load(name))

    def _where(self, spent: Spent, pulse: Pulse, seconds: float) -> dict[str, Any]:
        """Where the time went, told. What precedes the parts, one process or tasks side by side
        did: their workers count as at it."""
        workers = 1
        if self._streams and self.each is None:
            workers = max(1, int(self.run.session.ensure().get("CPU", 1.0)))
        before, parts = pulse.take_times().seconds, spent.facts(workers)
        all_of = Counter(parts.seconds)
        all_of.update({stage: workers * took for stage, took in before.items()})
        work_s = sum(before.values()) + parts.start_s + parts.work_s
        start_s = max(0.0, seconds - work_s)
        joined = not self.run.session.started
        facts = JobFacts(start_s, work_s, dict(all_of), workers, parts.items, joined)
        found = fused(facts, self.name, streams=self._streams)
        return tell_verdict(self.run, JOB, self.name, found)

    def _committed(
        self,
        outcomes: Iterable[tuple[str, Fused | Lacking]],
        older: Mapping[str, Receipt],
        spent: Spent,
    ) -> dict[str, Receipt]:
        """Receipts of the parts; raises `TableError` where clips lack systems and none may."""
        fresh: dict[str, Receipt] = {}
        lacking: dict[str, Lacking] = {}
        told = {
            "total": self.total,
            "done": sum(receipt.clips for receipt in older.values()),
            "failures": sum(receipt.failures for receipt in older.values()),
        }
        for name, outcome in outcomes:
            if isinstance(outcome, Lacking):
                lacking[name] = outcome
                continue
            receipt = fresh[name] = outcome.receipt
            spent.add(outcome.times)
            told["done"] += receipt.clips
            told["failures"] += receipt.failures
            tell_shard(self.run, JOB, self.name, name, {self.name: receipt}, outcome.times)
            left = self.inputs.cut.count - len(older) - len(fresh)
            self.run.tell(JOB, "progress", self.name, **told, shards_left=left)
        if lacking:
            found = [lacking[name] for name in sorted(lacking)]
            rows = sum(receipt.rows for receipt in [*older.values(), *fresh.values()])
            first = [clip for one in found for clip in one.first]
            raise missing_error(
                first, sum(one.count for one in found), rows + sum(one.clips for one in found)
            )
        return fresh
