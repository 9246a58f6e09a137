"""The job `embed`: media -> embeddings, on Ray Data.

One row is one shard of clips. A decode task fetches and decodes its recordings once; the row then
passes the actor pools of all backbones, each of which writes its own shard; what comes out at the
end is a handful of receipts. What is committed is left alone, also where the clips around it have
changed.
"""

from collections.abc import Sequence

from audioflow.engine.embed_crew import AtWork
from audioflow.engine.embed_pipeline import pipeline_for
from audioflow.engine.embed_plan import (
    TablePlan,
    augmented_clips,
    embed_shards,
    shards_of,
    table_plan,
)
from audioflow.engine.embed_run import (
    Items,
    Made,
    check_failures,
    receipts_of,
    stats_of,
    stream,
)
from audioflow.engine.embed_todo import counts, works_for
from audioflow.engine.imports import import_tables
from audioflow.engine.run import Run, Watch, refuse_lost_shards
from audioflow.pieces import in_one_piece
from audioflow.recipe import EmbedSection
from audioflow.shards import Shard
from audioflow.tables import Header, package_versions

JOB = "embed"

_COLUMNS = "clip_id uri start_s duration_s split size_bytes version".split()
"""Of the manifest: what shards are planned by, and what is decoded."""


def embed(run: Run) -> list[Header]:
    """Write `embeddings/<name>/` for every import and every backbone of the recipe.

    Raises `TooManyFailures` after the
    tables are complete, where more clips failed than allowed, and at once where the first ones all
    fail for a reason that is not theirs.
    """
    section = run.recipe.embed
    assert section is not None
    manifest = run.manifest()
    parent = manifest.complete_header()
    shards = embed_shards(in_one_piece(manifest.read(_COLUMNS)), section)
    headers = import_tables(run, parent, shards)  # first: they take seconds, or are wrong at once
    plans = []
    for name, choice in section.backbones.items():
        plan = table_plan(run, name, choice, parent, shards)
        if old := _unchanged(run, plan):
            headers.append(old)
        else:
            plans.append(plan)
    if plans:
        headers += _make(run, section, shards, plans)
    check_failures(headers, section.max_failed_share)
    return headers


def _unchanged(run: Run, plan: TablePlan) -> Header | None:
    """The header of a table in which nothing is to be done (told), else None."""
    table = run.embeddings(plan.spec.table)
    old = table.header()
    if old is None or (run.retry_failed and old.failures):
        return None
    return run.unchanged(JOB, plan.spec.table, table, plan.fingerprint(shards_of(old)))


def _make(
    run: Run, section: EmbedSection, shards: Sequence[Shard], plans: Sequence[TablePlan]
) -> list[Header]:
    watch = Watch()
    works = {}
    for plan in plans:
        table = run.embeddings(plan.spec.table)
        old = table.header()
        plan.old_stats = old.stats if old else {}
        table.reopen()
        works[plan.spec.table] = works_for(table, plan, shards, retry_failed=run.retry_failed)
    augment = augmented_clips(shards[0].manifest, section)
    items = Items(shards, works, augment)
    at_work = [AtWork(plan.spec, plan.choice) for plan in plans]
    pipeline = pipeline_for(run, JOB, at_work, len(items))
    made = stream(run, JOB, pipeline, items, {name: run.embeddings(name) for name in works})
    return [_finish(run, plan, made, watch) for plan in plans]


def _finish(run: Run, plan: TablePlan, made: Made, watch: Watch) -> Header:
    table, fresh = run.embeddings(plan.spec.table), made.fresh[plan.spec.table]
    receipts = receipts_of(plan, fresh)
    names = [receipt.name for receipt in receipts]
    listing = table.listing()
    refuse_lost_shards(table, names, listing.committed)
    table.keep_only(names, listing)
    clips, failures = counts(receipts)
    if clips != plan.manifest.rows:
        raise AssertionError(
            f"{plan.spec.table}: its shards have {clips} clips, the manifest {plan.manifest.rows}"
        )
    chosen = dict(zip(plan.names, names, strict=True))
    header = Header(
        kind="embeddings",
        name=plan.spec.table,
        fingerprint=plan.fingerprint(chosen),
        parents=plan.parents,
        settings=plan.settings
        | {"layers": plan.spec.layers, "vectors": plan.settings_key}
        | {"weights": {key: used.to_json() for key, used in plan.spec.ready.weights.items()}},
        rows=sum(receipt.rows for receipt in receipts),
        failures=failures,
        shards=receipts,
        stats=stats_of(plan, fresh, watch, made.where),
        versions=package_versions(),
    )
    run.finished(JOB, plan.spec.table, table.finish(header))
    return header
