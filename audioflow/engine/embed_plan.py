"""What the job `embed` has to do: tables, shards, and what of older shards can be taken over."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import pyarrow as pa

from audioflow.backbones.ready import made_ready
from audioflow.division import CROSS_VALIDATED
from audioflow.engine.embed_actor import BackboneSpec
from audioflow.engine.embed_work import Work
from audioflow.engine.run import Run
from audioflow.media.augment import REVISION
from audioflow.media.patches import Patching
from audioflow.places import input_url
from audioflow.recipe_embed import BackboneChoice, EmbedSection
from audioflow.shards import Shard, base_name, made_with, plan_shards, retry_name, retry_number
from audioflow.tables import SCHEMA_VERSION, Header, Receipt, Table, fingerprint
from audioflow.weights import WeightsError

SYSTEMIC = frozenset(("permission", "not_found", "network", "out_of_memory"))
"""Errors that say nothing about a clip when every clip has them."""

_READERS = 16


def embed_shards(manifest: pa.Table, section: EmbedSection) -> list[Shard]:
    """The shards of every embeddings table."""
    return plan_shards(manifest, section.clips_per_shard, augmented_clips(manifest, section))


def augmented_clips(manifest: pa.Table, section: EmbedSection) -> list[bool]:
    """Of which clips there are variants."""
    if not section.augment or not section.augment.variants:
        return [False] * manifest.num_rows
    wanted: set[str] = {*section.augment.splits}
    wanted |= {CROSS_VALIDATED} if "train" in wanted else set()
    return [split in wanted for split in manifest["split"].to_pylist()]


class Planned(Protocol):
    """The shards of a table that is made from media.

    settings_key: the fingerprint of all that determines its rows but the clips. names: its shards
    as planned. committed: the receipts of those that are committed. taken_over: how many clips of
    the others are taken from older shards. old_stats: what its header said before.
    """

    settings_key: str
    names: tuple[str, ...]
    committed: dict[str, Receipt]
    taken_over: int
    old_stats: Mapping[str, Any]


@dataclass
class TablePlan:
    """One embeddings table to be made; beside what `Planned` says."""

    spec: BackboneSpec
    choice: BackboneChoice
    settings: dict[str, Any]
    settings_key: str
    names: tuple[str, ...]
    manifest: Header
    committed: dict[str, Receipt] = field(default_factory=dict)
    taken_over: int = 0
    old_stats: Mapping[str, Any] = field(default_factory=dict)

    @property
    def parents(self) -> dict[str, str]:
        return {"manifest": self.manifest.fingerprint}

    def fingerprint(self, chosen: Mapping[str, str]) -> str:
        """The fingerprint of the table with these shards."""
        return fingerprint(
            self.settings_key, [chosen.get(name, name) for name in self.names], self.parents
        )


def table_plan(
    run: Run, name: str, choice: BackboneChoice, manifest: Header, shards: Sequence[Shard]
) -> TablePlan:
    """The plan of one table of the recipe."""
    spec, settings = backbone_spec(run, name, choice)
    key = fingerprint(settings)
    names = tuple(shard.name(key) for shard in shards)
    return TablePlan(spec, choice, settings, key, names, manifest)


def backbone_spec(
    run: Run, name: str, choice: BackboneChoice
) -> tuple[BackboneSpec, dict[str, Any]]:
    """A backbone of the recipe, and all settings that determine its vectors, whatever the clips."""
    section = run.recipe.embed
    assert section is not None
    spec = BackboneSpec(
        name,
        choice.name or name,
        choice.options,
        run.embeddings(name).folder,
        section.min_coverage,
        choice.num_gpus,
        section.augment if section.augment and section.augment.variants else None,
    )
    spec = replace(spec, weights=spec.ready.hashes)
    return spec, _settings(spec, section)


def check_weights(run: Run) -> None:
    """Raise `WeightsError`, before anything is done, for all weights that are not to be had."""
    section = run.recipe.embed
    faults: list[WeightsError] = []
    for name, choice in section.backbones.items() if section else ():
        try:
            made_ready(choice.name or name, choice.options, run.storage, input_url)
        except WeightsError as error:
            faults.append(type(error)(f"embed.backbones.{name}.{error}"))
    if len(faults) == 1:
        raise faults[0]
    if faults:
        lines = "\n".join(f"  - {fault}" for fault in faults)
        raise WeightsError(f"{len(faults)} backbones lack their weights\n{lines}")


def _settings(spec: BackboneSpec, section: EmbedSection) -> dict[str, Any]:
    ready = spec.ready
    found: dict[str, Any] = {
        "schema": SCHEMA_VERSION,
        "backbone": spec.backbone,
        "revision": ready.backbone.revision,
        "settings": ready.what_counts(),
        "min_coverage": section.min_coverage,
        "max_duration_s": section.max_duration_s,
    }
    if not isinstance(spec.input, Patching):
        return found | {"video_track": section.video_track}
    augment = section.augment
    drawn = None
    if augment and augment.variants:
        drawn = {"revision": REVISION} | augment.model_dump(mode="json", exclude={"splits"})
    return found | {
        "decoder": section.decoder,
        "sound_track": section.sound_track,
        "augment": drawn,
    }


def shards_of(header: Header) -> dict[str, str]:
    """The shards of a complete table: name as planned -> name of the file."""
    return {base_name(shard.name): shard.name for shard in header.shards}


def works_for(
    table: Table, plan: Planned, shards: Sequence[Shard], *, retry_failed: bool
) -> dict[str, Work]:
    """What is to be done for a table, by shard as planned; `plan.committed` and
    `plan.taken_over` are set here.

    Shards that were made otherwise are removed; those made in the same way of other clips stay as
    long as something of them can be taken over.
    """
    listing = table.listing()
    names = listing.committed
    plan.committed = _committed(table, plan, names)
    kept = {receipt.name for receipt in plan.committed.values()}
    pairs = zip(shards, plan.names, strict=True)
    lacking = [(shard, name) for shard, name in pairs if name not in plan.committed]
    older = [name for name in names - kept if made_with(name, plan.settings_key)]
    needed = {key for shard, _ in lacking for key in shard.clip_keys}
    sources = _sources(table, older, needed, retry_failed=retry_failed)
    table.keep_only(kept | set(sources.values()), listing)
    works = {name: _work(shard, name, sources) for shard, name in lacking}
    if retry_failed:
        works |= _retries(table, plan, shards)
    plan.taken_over = sum(work.taken_over for work in works.values())
    return works


def _committed(table: Table, plan: Planned, names: Iterable[str]) -> dict[str, Receipt]:
    """The newest receipt of every planned shard that is done, by its name as planned.

    One all of whose clips failed for a reason that is not theirs is not: the reason may be gone.
    """
    newest: dict[str, str] = {}
    for name in sorted(names, key=retry_number):
        newest[base_name(name)] = name
    found = {name: newest[name] for name in plan.names if name in newest}
    receipts = table.receipts(list(found.values()))
    return {base: receipts[name] for base, name in found.items() if not is_systemic(receipts[name])}


def is_systemic(receipt: Receipt) -> bool:
    """Whether all clips of a shard failed for one reason that says nothing about them."""
    return bool(receipt.errors) and receipt.rows == 0 and set(receipt.errors) <= SYSTEMIC


def _sources(
    table: Table, names: Sequence[str], needed: Set[str], *, retry_failed: bool
) -> dict[str, str]:
    """For the keys of clips that are needed: the undamaged shard that has them."""
    if not needed or not names:
        return {}
    receipts = table.receipts(names)
    found: dict[str, str] = {}
    for name, clips in table.clip_keys(names).items():
        if is_systemic(receipts[name]):
            continue
        failed: set[str] = set()
        if retry_failed and receipts[name].failures:
            failed = set(table.shard_failures(name)["clip_id"].to_pylist())
        for clip_id, key in clips.items():
            if key in needed and clip_id not in failed:
                found[key] = name
    sound = _undamaged(table, {name: receipts[name] for name in sorted(set(found.values()))})
    return {key: name for key, name in found.items() if name in sound}


def _undamaged(table: Table, receipts: Mapping[str, Receipt]) -> set[str]:
    """The shards whose files are as they were written."""

    def good(receipt: Receipt) -> bool:
        files = [(table.folder, receipt.sha256)]
        if receipt.failures:
            files.append((table.failures_folder, receipt.failures_sha256))
        try:
            return all(
                hashlib.sha256(folder.read(f"{receipt.name}.parquet")).hexdigest() == sha256
                for folder, sha256 in files
            )
        except FileNotFoundError:
            return False

    with ThreadPoolExecutor(_READERS) as threads:
        fine = threads.map(good, receipts.values())
        return {name for name, ok in zip(receipts, fine, strict=True) if ok}


def _work(shard: Shard, name: str, sources: Mapping[str, str]) -> Work:
    ids = shard.rows["clip_id"].to_pylist()
    reuse: dict[str, list[str]] = {}
    todo = []
    for position, (clip_id, key) in enumerate(zip(ids, shard.clip_keys, strict=True)):
        if key in sources:
            reuse.setdefault(sources[key], []).append(clip_id)
        else:
            todo.append(position)
    keys = dict(zip(ids, shard.clip_keys, strict=True))
    return Work(name, keys, todo if reuse else None, reuse)


def _retries(table: Table, plan: Planned, shards: Sequence[Shard]) -> dict[str, Work]:
    """Work on the failed clips of committed shards; their other clips are taken over."""
    found = {}
    for shard, base in zip(shards, plan.names, strict=True):
        receipt = plan.committed.get(base)
        if receipt is None or not receipt.failures:
            continue
        name, ids = receipt.name, shard.rows["clip_id"].to_pylist()
        failed = {row["clip_id"]: row for row in table.shard_failures(name).to_pylist()}
        found[base] = Work(
            retry_name(name),
            dict(zip(ids, shard.clip_keys, strict=True)),
            [position for position, clip_id in enumerate(ids) if clip_id in failed],
            {name: [clip_id for clip_id in ids if clip_id not in failed]},
            retry_of=name,
            attempts={clip_id: row["attempts"] for clip_id, row in failed.items()},
        )
    return found


def counts(receipts: Iterable[Receipt]) -> tuple[int, int]:
    """Clips and failures that these shards account for."""
    receipts = list(receipts)
    return sum(r.clips for r in receipts), sum(r.failures for r in receipts)
