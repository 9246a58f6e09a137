"""Scoring straight from media: decoded, embedded and scored in one pass, by the pipeline of the job
`embed`; no embeddings are written. Resume, retries and failures are as there."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audioflow.engine.embed_actor import BackboneSpec
from audioflow.engine.embed_crew import AtWork
from audioflow.engine.embed_pipeline import pipeline_for
from audioflow.engine.embed_plan import augmented_clips, shards_of
from audioflow.engine.embed_run import (
    Items,
    Made,
    check_failures,
    receipts_of,
    stats_of,
    stream,
)
from audioflow.engine.embed_todo import counts, works_for
from audioflow.engine.run import Run, Watch, refuse_lost_shards
from audioflow.engine.score_clips import scored_rows
from audioflow.engine.score_systems import System, Vectors
from audioflow.recipe import EmbedSection, ScoreSection
from audioflow.shards import Shard, plan_shards, short_key
from audioflow.tables import Header, Receipt, fingerprint, package_versions

JOB = "score"


@dataclass
class ScorePlan:
    """One score table to be made; beside what `embed_plan.Planned` says."""

    system: System
    settings: dict[str, Any]
    settings_key: str
    names: tuple[str, ...]
    parents: dict[str, str]
    committed: dict[str, Receipt] = field(default_factory=dict)
    taken_over: int = 0
    old_stats: Mapping[str, Any] = field(default_factory=dict)

    def fingerprint(self, chosen: Mapping[str, str]) -> str:
        """The fingerprint of the table with these shards."""
        names = [chosen.get(name, name) for name in self.names]
        return fingerprint(self.settings_key, names, self.parents)


def score_media(
    run: Run,
    manifest: Header,
    systems: Sequence[System],
    backbones: tuple[Mapping[str, BackboneSpec], Vectors],
) -> list[Header]:
    """Score these systems; manifest: the header of the run's manifest.

    backbones: by table, the backbone whose vectors a system reads; and their settings. Raises
    `TooManyFailures` after the tables are complete, where more clips failed than
    `embed.max_failed_share` allows, and at once where the first ones all fail for a reason that is
    not theirs.
    """
    section, embed = run.recipe.score, run.recipe.embed
    assert section is not None
    assert embed is not None
    clips = _Clips.of(run, section, embed)
    headers: dict[str, Header] = {}
    plans = []
    for system in systems:
        plan = _plan(manifest, system, section, clips, backbones[1][system.table])
        if old := _unchanged(run, plan):
            headers[system.name] = old
        else:
            plans.append(plan)
    if plans:
        headers |= {one.name: one for one in _make(run, clips, plans, backbones[0])}
    check_failures(list(headers.values()), embed.max_failed_share)
    return [headers[system.name] for system in systems]


@dataclass(frozen=True)
class _Clips:
    """The N clips that are scored, in shards; augment: bool (N,), of which there are variants."""

    shards: Sequence[Shard]
    augment: NDArray[np.bool_]

    @classmethod
    def of(cls, run: Run, section: ScoreSection, embed: EmbedSection) -> "_Clips":
        rows = scored_rows(run)
        augment = np.zeros(np.count_nonzero(rows.mask), np.bool_)
        if section.variants == "mean":
            augment = augmented_clips(rows.manifest, embed)[rows.mask]
        scored = rows.scored()
        del rows  # many millions of them need not be in memory twice
        shards = plan_shards(scored, embed.clips_per_shard, augment)
        # In another fold a clip is another one: another head scores it.
        return cls([replace(shard, in_folds=True) for shard in shards], augment)


def _plan(
    manifest: Header,
    system: System,
    section: ScoreSection,
    clips: _Clips,
    vectors: Mapping[str, Any],
) -> ScorePlan:
    key = fingerprint(system.key_of(section), vectors["vectors"])
    names = tuple(_shard_name(shard, key) for shard in clips.shards)
    parents = {"manifest": manifest.fingerprint, **system.parents}
    settings = system.settings(section, vectors) | {"vectors": vectors["vectors"]}
    return ScorePlan(system, settings, key, names, parents)


def _shard_name(shard: Shard, settings_key: str) -> str:
    """As `Shard.name`, but labels and splits count: they stand in the table, too."""
    rows = shard.rows.select(["labels", "split"]).to_pydict()
    content = fingerprint(shard.clip_keys, rows)
    return f"{shard.part or 'all'}-{short_key(settings_key)}-{content[:12]}"


def _unchanged(run: Run, plan: ScorePlan) -> Header | None:
    """The header of a table in which nothing is to be done (told), else None."""
    name = plan.system.name
    table = run.scores(name)
    old = table.header()
    if old is None or (run.retry_failed and old.failures):
        return None
    return run.unchanged(JOB, name, table, plan.fingerprint(shards_of(old)))


def _make(
    run: Run, clips: _Clips, plans: Sequence[ScorePlan], specs: Mapping[str, BackboneSpec]
) -> list[Header]:
    watch = Watch()
    works = {}
    for plan in plans:
        table = run.scores(plan.system.name)
        old = table.header()
        plan.old_stats = old.stats if old else {}
        table.reopen()
        works[plan.system.name] = works_for(
            table, plan, clips.shards, retry_failed=run.retry_failed
        )
    items = Items(clips.shards, works, clips.augment, scored=True)
    at_work = list(_at_work(run, plans, specs))
    pipeline = pipeline_for(run, JOB, at_work, len(items))
    made = stream(run, JOB, pipeline, items, {name: run.scores(name) for name in works})
    return [_finish(run, plan, len(clips.augment), made, watch) for plan in plans]


def _at_work(
    run: Run, plans: Sequence[ScorePlan], specs: Mapping[str, BackboneSpec]
) -> Iterable[AtWork]:
    """The backbones that are needed, each with the score tables that its embeddings fill."""
    section, embed = run.recipe.score, run.recipe.embed
    assert section is not None
    assert embed is not None
    for table in dict.fromkeys(plan.system.table for plan in plans):
        targets = tuple(
            plan.system.target(run.scores(plan.system.name), section)
            for plan in plans
            if plan.system.table == table
        )
        augment = specs[table].augment if section.variants == "mean" else None
        spec = replace(specs[table], targets=targets, augment=augment)
        yield AtWork(spec, embed.backbones[table])


def _finish(run: Run, plan: ScorePlan, total: int, made: Made, watch: Watch) -> Header:
    name = plan.system.name
    table, fresh = run.scores(name), made.fresh[name]
    receipts = receipts_of(plan, fresh)
    names = [receipt.name for receipt in receipts]
    listing = table.listing()
    refuse_lost_shards(table, names, listing.committed)
    table.keep_only(names, listing)
    clips, failures = counts(receipts)
    if clips != total:
        raise AssertionError(f"{name}: its shards have {clips} clips, to be scored were {total}")
    header = Header(
        kind="scores",
        name=name,
        fingerprint=plan.fingerprint(dict(zip(plan.names, names, strict=True))),
        parents=plan.parents,
        settings=plan.settings,
        rows=sum(receipt.rows for receipt in receipts),
        failures=failures,
        shards=receipts,
        classes=list(plan.system.classes),
        stats=stats_of(plan, fresh, watch, made.where),
        versions=package_versions(),
    )
    run.finished(JOB, name, table.finish(header))
    return header
