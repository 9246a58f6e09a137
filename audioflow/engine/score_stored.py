"""Scoring from embeddings: no media is touched, and systems that share a table read it once."""

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from audioflow.engine.embed_plan import embed_shards, shards_of
from audioflow.engine.embed_pool import Pool, room_for
from audioflow.engine.nodes import watched_nodes
from audioflow.engine.run import Run, Watch, refuse_lost_shards
from audioflow.engine.score_clips import ScoredRows, scored_rows
from audioflow.engine.score_systems import System
from audioflow.engine.score_worker import ScoreItem, ScoreWorker
from audioflow.engine.telling import Spent, tell_shard, tell_verdict
from audioflow.errors import TableError
from audioflow.pieces import as_before
from audioflow.planning.verdict_jobs import scored
from audioflow.scores import as_scored
from audioflow.shards import Shard, gathered
from audioflow.tables import Header, Receipt, fingerprint, package_versions

JOB = "score"

CLIPS_PER_SHARD = 16_384
"""Most clips in a shard of scores: they take little time, a task and a file each take some."""

_SENT = ("clip_id", "uri", "labels", "split", "fold")
"""What a worker is told of clips."""

WORKER_BYTES = 600 * 2**20
"""What a worker takes: torch, heads, and the embeddings of a shard."""


@dataclass
class _Plan:
    """One score table to be made. done: names of its shards that are committed. where: what the
    header keeps of where the time went."""

    system: System
    key: str
    parents: dict[str, str]
    names: list[str]
    done: set[str] = field(default_factory=set)
    fresh: dict[str, Receipt] = field(default_factory=dict)
    where: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class _Group:
    """Clips that make one shard of scores, of some shards of embeddings; so many are `scored`."""

    shard: Shard
    parts: Sequence[Shard]
    scored: int


def score_stored(run: Run, manifest: Header, systems: Sequence[System]) -> list[Header]:
    """Score these systems; manifest: the header of the run's manifest."""
    by_table: dict[str, list[System]] = {}
    for system in systems:
        by_table.setdefault(system.table, []).append(system)
    found: dict[str, Header] = {}
    todo: dict[str, list[System]] = {}
    for table, mine in by_table.items():
        for system in mine:
            key, _ = _key(run, manifest, system)
            if old := run.unchanged(JOB, system.name, run.scores(system.name), key):
                found[system.name] = old
            else:
                todo.setdefault(table, []).append(system)
    if todo:
        clips = ScoredShards.of(run, scored_rows(run))
        for table, mine in todo.items():
            found |= {one.name: one for one in _Pass(run, manifest, table, clips).made(mine)}
    return [found[system.name] for system in systems]


def _key(run: Run, manifest: Header, system: System) -> tuple[str, dict[str, str]]:
    """The fingerprint of a score table, and what it is made from."""
    section = run.recipe.score
    assert section is not None
    embeddings = run.embeddings(system.table).complete_header()
    parents = {
        "manifest": manifest.fingerprint,
        f"embeddings/{system.table}": embeddings.fingerprint,
        **system.parents,
    }
    return fingerprint(system.key_of(section), parents, section.splits), parents


@dataclass(frozen=True)
class ScoredShards:
    """The N clips of the manifest, in the shards of every embeddings table.

    mask: bool (N,), which are scored, so many in `total`. folded: the split as which clips in folds
    are. Rows of the manifest are only in memory once, with the shards.
    """

    shards: Sequence[Shard]
    mask: NDArray[np.bool_]
    folded: str
    total: int

    @classmethod
    def of(cls, run: Run, rows: ScoredRows) -> "ScoredShards":
        assert run.recipe.embed is not None
        shards = embed_shards(rows.manifest, run.recipe.embed)
        return cls(shards, rows.mask, rows.folded, int(np.count_nonzero(rows.mask)))

    def scored(self, shard: Shard) -> int:
        """How many clips of a shard are scored."""
        return int(np.count_nonzero(self.mask[shard.indices]))

    def rows(self, shard: Shard) -> pa.Table:
        """The clips of a shard that are scored, with the split as which they are."""
        places = shard.indices[self.mask[shard.indices]]
        rows = shard.manifest.select(_SENT).take(pa.array(places))
        return as_scored(as_before(rows), self.folded)


class _Pass:
    """One pass over a table of embeddings, with all heads that read it."""

    def __init__(self, run: Run, manifest: Header, table: str, clips: ScoredShards) -> None:
        section, embed = run.recipe.score, run.recipe.embed
        assert section is not None
        assert embed is not None
        self._run = run
        self._manifest = manifest
        self._section = section
        self._stall_timeout_s = embed.stall_timeout_s
        self._table = run.embeddings(table)
        self._header = self._table.complete_header()
        self._clips = clips
        # Scores of patches take as much room as embeddings: shards stay as small as theirs.
        most = 1 if section.patches else CLIPS_PER_SHARD
        found = (
            _Group(shard, parts, clips.scored(shard))
            for shard, parts in gathered(clips.shards, most)
        )
        self._groups = [one for one in found if one.scored]
        self._files = shards_of(self._header)
        self._failing = {receipt.name for receipt in self._header.shards if receipt.failures}

    def made(self, systems: Sequence[System]) -> list[Header]:
        """Make the score tables of these systems."""
        watch = Watch()
        plans = [self._plan(system) for system in systems]
        todo = [n for n in range(len(self._groups)) if any(p.names[n] not in p.done for p in plans)]
        self._refuse_other_clips()
        if todo:
            self._score(plans, todo)
        return [self._finish(plan, watch) for plan in plans]

    def _plan(self, system: System) -> _Plan:
        key, parents = _key(self._run, self._manifest, system)
        names = [group.shard.name(key) for group in self._groups]
        done = self._run.scores(system.name).open_for(names)
        return _Plan(system, key, parents, names, done)

    def _refuse_other_clips(self) -> None:
        vectors = self._header.settings["vectors"]
        if any(one.name(vectors) not in self._files for g in self._groups for one in g.parts):
            raise TableError(
                f"embeddings/{self._header.name} is of other clips than the manifest, or in shards "
                "of another size; run the job embed again"
            )

    def _score(self, plans: Sequence[_Plan], todo: Sequence[int]) -> None:
        run, names = self._run, ", ".join(plan.system.name for plan in plans)
        total = self._clips.total
        done = total - sum(self._groups[number].scored for number in todo)
        run.tell(JOB, "start", names, total=total, done=done, shards=len(todo))
        failures, left = 0, len(todo)

        def lost(number: int, tries: int, why: str) -> None:
            shard = self._groups[todo[number]].shard.part or "all"
            run.tell(JOB, "retry", names, shard=shard, tries=tries, reason=why)

        pool, spent = replace(self._pool(plans), lost=lost), Spent()
        results = pool.results(len(todo), lambda n: self._item(plans, todo[n]))
        with watched_nodes(run, JOB) as nodes, closing(results):
            for number, finished in results:
                receipts, left = finished.receipts, left - 1
                spent.add(finished.times)
                part = self._groups[todo[number]].shard.part
                tell_shard(run, JOB, names, part, receipts, finished.times)
                for plan in plans:
                    if receipt := receipts.get(plan.system.name):
                        plan.fresh[receipt.name] = receipt
                failures += max(receipt.failures for receipt in receipts.values())
                done += self._groups[todo[number]].scored
                progress = {"done": done, "total": total, "failures": failures}
                run.tell(JOB, "progress", names, **progress, shards_left=left)
        facts = spent.facts(min(pool.workers, len(todo)))
        found = scored(replace(facts, joined=not run.session.started))
        where = tell_verdict(run, JOB, names, found) | (
            {"nodes": nodes.marks} if nodes.marks else {}
        )
        for plan in plans:
            plan.where = where

    def _pool(self, plans: Sequence[_Plan]) -> Pool:
        section = self._section
        targets = [
            plan.system.target(self._run.scores(plan.system.name), section) for plan in plans
        ]
        names = ", ".join(target.name for target in targets)
        room = room_for(self._run, JOB, names, WORKER_BYTES)
        return Pool(ScoreWorker, (self._table.folder, targets), room, self._stall_timeout_s)

    def _item(self, plans: Sequence[_Plan], number: int) -> ScoreItem:
        group, vectors = self._groups[number], self._header.settings["vectors"]
        clips = self._clips.rows(group.shard)
        sources = [self._files[one.name(vectors)] for one in group.parts]
        names = {
            plan.system.name: plan.names[number]
            for plan in plans
            if plan.names[number] not in plan.done
        }
        failing = [source for source in sources if source in self._failing]
        return ScoreItem(clips.combine_chunks(), sources, failing, names)

    def _finish(self, plan: _Plan, watch: Watch) -> Header:
        name, total = plan.system.name, self._clips.total
        table = self._run.scores(name)
        refuse_lost_shards(table, plan.names, table.committed())
        older = table.receipts([shard for shard in plan.names if shard not in plan.fresh])
        receipts = [plan.fresh.get(shard) or older[shard] for shard in plan.names]
        header = Header(
            kind="scores",
            name=name,
            fingerprint=plan.key,
            parents=plan.parents,
            settings=plan.system.settings(self._section, self._header.settings),
            rows=sum(receipt.rows for receipt in receipts),
            failures=sum(receipt.failures for receipt in receipts),
            shards=receipts,
            classes=list(plan.system.classes),
            stats=watch.stats(total, resumed=len(plan.names) - len(plan.fresh), **plan.where),
            versions=package_versions(),
        )
        if header.rows + header.failures != total:
            raise AssertionError(
                f"{name}: {header.rows} + {header.failures} are not the {total} clips"
            )
        self._run.finished(JOB, name, table.finish(header))
        return header
