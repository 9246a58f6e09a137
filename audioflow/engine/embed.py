"""The job `embed`: media -> embeddings, on Ray Data.

One row is one shard of clips. A decode task fetches and decodes its recordings once; the row then
passes the actor pools of all backbones, each of which writes its own shard; what comes out at the
end is a handful of receipts. What is committed is left alone, also where the clips around it have
changed.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing
from typing import Any

from audioflow.engine.embed_pipeline import Item, Pipeline
from audioflow.engine.embed_plan import (
    TablePlan,
    augmented_clips,
    counts,
    embed_shards,
    is_systemic,
    shards_of,
    table_plan,
    works_for,
)
from audioflow.engine.embed_tally import Tally
from audioflow.engine.embed_work import Work
from audioflow.engine.imports import import_tables
from audioflow.engine.run import Run, Watch, refuse_lost_shards
from audioflow.errors import TooManyFailures
from audioflow.recipe import EmbedSection
from audioflow.shards import Shard, base_name
from audioflow.tables import Header, Receipt, package_versions

JOB = "embed"


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
    clips = manifest.read()
    shards = embed_shards(clips, section)
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
    _check_failures(headers, section.max_failed_share)
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
    works: dict[str, dict[str, Work]] = {}
    for plan in plans:
        table = run.embeddings(plan.spec.table)
        old = table.header()
        plan.old_stats = old.stats if old else {}
        table.reopen()
        works[plan.spec.table] = works_for(table, plan, shards, retry_failed=run.retry_failed)
    items = _items(shards, plans, works, section)
    fresh: dict[str, dict[str, Receipt]] = {plan.spec.table: {} for plan in plans}
    where = _stream(run, section, plans, items, fresh) if items else {}
    return [_finish(run, plan, fresh[plan.spec.table], watch, where) for plan in plans]


def _items(
    shards: Sequence[Shard],
    plans: Sequence[TablePlan],
    works: Mapping[str, Mapping[str, Work]],
    section: EmbedSection,
) -> list[Item]:
    """The shards in which any table lacks something."""
    augment = augmented_clips(shards[0].manifest, section) if shards else []
    found = []
    for number, shard in enumerate(shards):
        mine = {
            plan.spec.table: works[plan.spec.table][plan.names[number]]
            for plan in plans
            if plan.names[number] in works[plan.spec.table]
        }
        if mine:
            found.append(Item(shard, mine, [augment[index] for index in shard.indices]))
    return found


def _stream(
    run: Run,
    section: EmbedSection,
    plans: Sequence[TablePlan],
    items: Sequence[Item],
    fresh: dict[str, dict[str, Receipt]],
) -> dict[str, Any]:
    """Run the pipeline over the items, telling of each that comes out; where the time went."""
    total = plans[0].manifest.rows
    clips = total - sum(len(item.shard) for item in items)
    failures, media_s = 0, 0.0
    run.tell(JOB, "start", ", ".join(plan.spec.table for plan in plans), total=total, done=clips)
    first = _FirstClips(run, section.give_up_after)
    tally = Tally()
    pipeline = Pipeline(section, plans, run.session.ensure(), run.storage)
    with closing(pipeline.results(items)) as finished:  # so that giving up ends the workers too
        for item, done in finished:
            receipts = done.receipts
            tally.add(done.seconds)
            for table, receipt in receipts.items():
                fresh[table][item.works[table].name] = receipt
                failures += receipt.failures
            first.look(receipts)
            media_s += max((receipt.media_s for receipt in receipts.values()), default=0.0)
            clips += len(item.shard)
            run.tell(JOB, "progress", done=clips, total=total, failures=failures, media_s=media_s)
    found = tally.verdict(pipeline, len(items))
    run.tell(JOB, "note", text=found.text, verdict=found.kind, shares=dict(found.shares))
    return {"start_s": round(tally.start_s, 3), "verdict": found.text} | {
        "shares": {stage: round(share, 4) for stage, share in found.shares.items()}
    }


class _FirstClips:
    """Gives up where the first clips of a table all fail for a reason that is not theirs.

    The next run tries such shards again (`embed_plan.is_systemic`).
    """

    def __init__(self, run: Run, least: int) -> None:
        self._run = run
        self._least = least
        self._seen: dict[str, list[Receipt]] = {}
        self._sound: set[str] = set()

    def look(self, receipts: Mapping[str, Receipt]) -> None:
        """Raises `TooManyFailures` once the first clips of a table have failed."""
        for table, receipt in receipts.items():
            if table in self._sound:
                continue
            seen = self._seen.setdefault(table, [])
            seen.append(receipt)
            _, failures = counts(seen)
            errors = {error for each in seen for error in each.errors}
            if not is_systemic(receipt) or len(errors) > 1:
                self._sound.add(table)
            elif failures >= self._least:
                self._give_up(table, errors.pop(), failures)

    def _give_up(self, name: str, error: str, failures: int) -> None:
        table = self._run.embeddings(name)
        example = table.shard_failures(self._seen[name][0].name).to_pylist()[0]
        raise TooManyFailures(
            f"gave up: the first {failures} clips all failed as {error!r}, {example['clip_id']!r} "
            f"for one: {example['reason']}. That is not the clips' fault: see to the credentials, "
            "the root of the media or the network, and run the same command again; these clips "
            "are then tried again (embed.give_up_after says after how many clips to give up)"
        )


def _finish(
    run: Run,
    plan: TablePlan,
    fresh: Mapping[str, Receipt],
    watch: Watch,
    where: Mapping[str, Any],
) -> Header:
    table = run.embeddings(plan.spec.table)
    receipts = _receipts(plan, fresh)
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
        stats=_stats(plan, fresh, watch, where),
        versions=package_versions(),
    )
    run.finished(JOB, plan.spec.table, table.finish(header))
    return header


def _stats(
    plan: TablePlan, fresh: Mapping[str, Receipt], watch: Watch, where: Mapping[str, Any]
) -> dict[str, Any]:
    """What was done in this run; where nothing was, what the table said of the run before."""
    resumed = len(plan.names) - len(fresh)
    if not fresh:
        return {**plan.old_stats, "resumed": resumed}
    done, _ = counts(fresh.values())
    if plan.taken_over:
        return watch.stats(
            done - plan.taken_over, resumed=resumed, taken_over=plan.taken_over, **where
        )
    media_s = sum(receipt.media_s for receipt in fresh.values())
    return watch.stats(done, media_s, resumed=resumed, **where)


def _receipts(plan: TablePlan, fresh: Mapping[str, Receipt]) -> list[Receipt]:
    """The receipts of all shards of a table, in the order of the plan."""
    newest = plan.committed | {base_name(receipt.name): receipt for receipt in fresh.values()}
    return [newest[name] for name in plan.names]


def _check_failures(headers: Sequence[Header], allowed: float) -> None:
    over = []
    for header in headers:
        clips, failures = counts(header.shards)
        if failures > allowed * clips:
            errors: Counter[str] = Counter()
            for shard in header.shards:
                errors.update(shard.errors)
            told = ", ".join(f"{error} {count}" for error, count in sorted(errors.items()))
            over.append(f"{header.name}: {failures} of {clips} clips failed ({told})")
    if over:
        raise TooManyFailures(
            f"{'; '.join(over)}; embed.max_failed_share allows {allowed:.0%}. The tables are "
            "complete: `audioflow failures RUN_DIR` shows why; mend the files and run again with "
            "--retry-failed, or raise embed.max_failed_share"
        )
