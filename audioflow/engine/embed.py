"""The job `embed`: media -> embeddings, on Ray Data.

One row is one shard of clips. A decode task fetches and decodes its recordings once; the row then
passes the actor pools of all backbones, each of which writes its own shard; what comes out at the
end is a handful of receipts. Tables whose shard is already committed are left alone.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import ray.data
from ray.exceptions import RayError

from audioflow.backbones import BACKBONES
from audioflow.engine.embed_actor import BackboneSpec, EmbedShard
from audioflow.engine.embed_decode import decode_shard
from audioflow.engine.run import Run, Watch, refuse_lost_shards
from audioflow.errors import StalledError, TooManyFailures
from audioflow.media.packing import input_column
from audioflow.recipe import BackboneChoice, EmbedSection
from audioflow.shards import Shard, plan_shards
from audioflow.tables import (
    SCHEMA_VERSION,
    Header,
    Receipt,
    fingerprint,
    package_versions,
)

JOB = "embed"


@dataclass(frozen=True)
class Plan:
    """One embeddings table to be made: its spec, its shards by name, its settings."""

    spec: BackboneSpec
    settings_key: str
    names: tuple[str, ...]
    fingerprint: str
    settings: dict[str, Any]
    choice: BackboneChoice


def embed(run: Run) -> list[Header]:
    """Write `embeddings/<backbone>/` for every backbone of the recipe.

    Raises `TooManyFailures` after the tables are complete, where more clips failed than allowed.
    """
    section = run.recipe.embed
    assert section is not None
    manifest = run.manifest()
    parent = manifest.complete_header()
    shards = plan_shards(manifest.read(), section.clips_per_shard)
    plans, headers = [], []
    for name, choice in section.backbones.items():
        plan = _plan(run, name, choice, parent, shards)
        if old := run.unchanged(JOB, name, run.embeddings(name), plan.fingerprint):
            headers.append(old)
        else:
            plans.append(plan)
    if plans:
        headers += _make(run, section, parent, shards, plans)
    _check_failures(headers, section.max_failed_share)
    return headers


def embeddings_key(choice: BackboneChoice, name: str, section: EmbedSection) -> str:
    """Hash of all settings that determine the vectors of a table, whatever the clips."""
    return fingerprint(_settings(choice, name, section))


def _settings(choice: BackboneChoice, name: str, section: EmbedSection) -> dict[str, Any]:
    plugin = BACKBONES.load(choice.name or name)
    return {
        "schema": SCHEMA_VERSION,
        "backbone": choice.name or name,
        "revision": plugin.revision,
        "settings": plugin.Settings.model_validate(choice.options).model_dump(mode="json"),
        "min_coverage": section.min_coverage,
        "max_duration_s": section.max_duration_s,
    }


def _plan(
    run: Run,
    name: str,
    choice: BackboneChoice,
    manifest: Header,
    shards: Sequence[Shard],
) -> Plan:
    section = run.recipe.embed
    assert section is not None
    key = embeddings_key(choice, name, section)
    names = tuple(shard.name(key) for shard in shards)
    table = run.embeddings(name)
    spec = BackboneSpec(
        name,
        choice.name or name,
        choice.options,
        table.folder.url,
        section.min_coverage,
        choice.num_gpus,
    )
    settings = _settings(choice, name, section)
    return Plan(spec, key, names, fingerprint(key, names, _parents(manifest)), settings, choice)


def _parents(manifest: Header) -> dict[str, str]:
    return {"manifest": manifest.fingerprint}


def _make(
    run: Run, section: EmbedSection, parent: Header, shards: Sequence[Shard], plans: Sequence[Plan]
) -> list[Header]:
    watch = Watch()
    old_stats = {plan.spec.table: _old_stats(run, plan) for plan in plans}
    done = {plan.spec.table: run.embeddings(plan.spec.table).open_for(plan.names) for plan in plans}
    todo = [
        (
            shard,
            [plan for plan in plans if shard.name(plan.settings_key) not in done[plan.spec.table]],
        )
        for shard in shards
    ]
    todo = [(shard, wanting) for shard, wanting in todo if wanting]
    fresh: dict[str, dict[str, Receipt]] = {plan.spec.table: {} for plan in plans}
    if todo:
        _stream(run, section, parent, todo, plans, fresh)
    return [
        _finish(run, plan, parent, fresh[plan.spec.table], watch, old_stats[plan.spec.table])
        for plan in plans
    ]


def _old_stats(run: Run, plan: Plan) -> dict[str, Any]:
    old = run.embeddings(plan.spec.table).header()
    return old.stats if old else {}


def _stream(
    run: Run,
    section: EmbedSection,
    parent: Header,
    todo: Sequence[tuple[Shard, list[Plan]]],
    plans: Sequence[Plan],
    fresh: dict[str, dict[str, Receipt]],
) -> None:
    """Run the pipeline over the shards in `todo`, telling of each one that comes out."""
    total = parent.rows
    clips = total - sum(shard.rows.num_rows for shard, _ in todo)
    failures, media_s = 0, 0.0
    run.tell(JOB, "start", ", ".join(plan.spec.table for plan in plans), total=total, done=clips)
    resources = run.session.ensure()
    for shard, receipts in _pipeline(section, todo, plans, resources):
        for table, receipt in receipts.items():
            fresh[table][receipt.name] = receipt
            failures += receipt.failures
        media_s += max((receipt.media_s for receipt in receipts.values()), default=0.0)
        clips += shard
        run.tell(JOB, "progress", done=clips, total=total, failures=failures, media_s=media_s)


def _pipeline(
    section: EmbedSection,
    todo: Sequence[tuple[Shard, list[Plan]]],
    plans: Sequence[Plan],
    resources: Mapping[str, float],
) -> Iterator[tuple[int, dict[str, Receipt]]]:
    """The receipts of every shard, as (clips in it, table -> receipt), in the order they finish."""
    context = ray.data.DataContext.get_current()
    context.execution_options.preserve_order = False
    context.execution_no_progress_timeout_s = section.stall_timeout_s
    dataset = ray.data.from_arrow([_row(shard, wanting) for shard, wanting in todo])
    dataset = dataset.map_batches(
        decode_shard,
        batch_size=1,
        batch_format="pyarrow",
        num_cpus=min(section.decode_cpus, resources.get("CPU", 1.0)),
        fn_kwargs={
            "inputs": {plan.spec.table: plan.spec.input for plan in plans},
            "timeout_s": section.decode_timeout_s,
            "memory_gb": section.decode_memory_gb,
            "max_duration_s": section.max_duration_s,
        },
        max_retries=3,
    )
    for position, plan in enumerate(plans):
        later = {input_column(p.spec.input) for p in plans[position + 1 :]}
        spent = {input_column(p.spec.input) for p in plans} - later
        dataset = dataset.map_batches(
            EmbedShard,
            fn_constructor_args=(plan.spec, sorted(spent)),
            batch_size=1,
            batch_format="pyarrow",
            compute=ray.data.ActorPoolStrategy(
                size=min(len(todo), _actors(plan.choice, len(plans), resources))
            ),
            num_cpus=0,
            num_gpus=plan.choice.num_gpus,
            max_restarts=3,
            max_task_retries=3,
        )
    try:
        for batch in dataset.iter_batches(batch_size=None, batch_format="pyarrow"):
            for row in batch.to_pylist():
                receipts = json.loads(row["receipts"])
                yield row["clips"], {table: Receipt(**data) for table, data in receipts.items()}
    except RayError as error:
        if "ExecutionTimeout" in type(error).__name__:
            raise StalledError(
                f"no shard moved for {section.stall_timeout_s:g} s (embed.stall_timeout_s); what "
                "is committed stays, run the same command again to go on"
            ) from error
        raise


def _row(shard: Shard, wanting: Sequence[Plan]) -> pa.Table:
    """One work item: the clips of a shard and the tables that still need them."""
    names = {plan.spec.table: shard.name(plan.settings_key) for plan in wanting}
    rows = shard.rows
    columns: dict[str, pa.Array] = {
        "clips": pa.array([rows.num_rows], pa.int64()),
        "todo": pa.array([json.dumps(names)], pa.string()),
        "receipts": pa.array(["{}"], pa.string()),
    }
    for name in ("clip_id", "uri", "start_s", "duration_s"):
        column = rows[name].combine_chunks()
        columns[name] = pa.array([column.to_pylist()], pa.list_(column.type))
    return pa.table(columns)


def _actors(choice: BackboneChoice, pools: int, resources: Mapping[str, float]) -> int:
    if choice.actors:
        return choice.actors
    if choice.num_gpus:
        return max(1, int(resources.get("GPU", 0) / choice.num_gpus))
    return max(1, int(resources.get("CPU", 1) / pools))


def _finish(
    run: Run,
    plan: Plan,
    parent: Header,
    fresh: Mapping[str, Receipt],
    watch: Watch,
    old_stats: Mapping[str, Any],
) -> Header:
    table = run.embeddings(plan.spec.table)
    refuse_lost_shards(table, plan.names)
    receipts = [fresh.get(name) or table.receipt(name) for name in plan.names]
    rows = sum(receipt.rows for receipt in receipts)
    failures = sum(receipt.failures for receipt in receipts)
    clips = sum(receipt.rows + receipt.failures for receipt in fresh.values())
    media_s = sum(receipt.media_s for receipt in fresh.values())
    resumed = len(plan.names) - len(fresh)
    stats = (
        watch.stats(clips, media_s, resumed=resumed) if fresh else {**old_stats, "resumed": resumed}
    )
    if rows + failures != parent.rows:
        raise AssertionError(
            f"{plan.spec.table}: {rows} rows and {failures} failures for {parent.rows} clips"
        )
    header = Header(
        kind="embeddings",
        name=plan.spec.table,
        fingerprint=plan.fingerprint,
        parents=_parents(parent),
        settings=plan.settings | {"layers": plan.spec.layers, "vectors": plan.settings_key},
        rows=rows,
        failures=failures,
        shards=receipts,
        stats=stats,
        versions=package_versions(),
    )
    run.finished(JOB, plan.spec.table, table.finish(header))
    return header


def _check_failures(headers: Sequence[Header], allowed: float) -> None:
    over = [
        header for header in headers if header.failures > allowed * (header.rows + header.failures)
    ]
    if over:
        told = "; ".join(
            f"{header.name}: {header.failures} of {header.rows + header.failures} clips failed"
            f" ({_errors(header)})"
            for header in over
        )
        raise TooManyFailures(
            f"{told}; embed.max_failed_share allows {allowed:.0%}. The tables are complete: see "
            "their failures/, mend the files and run again, or raise embed.max_failed_share"
        )


def _errors(header: Header) -> str:
    counts: dict[str, int] = {}
    for shard in header.shards:
        for error, count in shard.errors.items():
            counts[error] = counts.get(error, 0) + count
    return ", ".join(f"{error} {count}" for error, count in sorted(counts.items()))
