"""Tables of vectors that other programs computed: the entries of `embed.imports`. Without Ray.

They are as those of a backbone: in the same shards, one row per clip of the manifest, or a failure
where the files have no vectors of it.
"""

import contextlib
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from audioflow.downloads import LocalFile, local_files
from audioflow.embeddings import ClipEmbedding, embedding_rows
from audioflow.engine.run import Run, Watch
from audioflow.errors import InputError
from audioflow.importers import IMPORTERS
from audioflow.importers.base import Imported
from audioflow.matching import KeySettings, match
from audioflow.recipe_score import ImportChoice
from audioflow.shards import Shard
from audioflow.tables import (
    SCHEMA_VERSION,
    Content,
    Failure,
    Header,
    Receipt,
    Table,
    fingerprint,
    package_versions,
)

JOB = "embed"
STAGE = "import"


def import_tables(run: Run, parent: Header, shards: Sequence[Shard]) -> list[Header]:
    """Write `embeddings/<entry>/` for every entry of `embed.imports`.

    parent: the header of the manifest. Raises `InputError` for files that cannot be read, or have
    no clip of the manifest.
    """
    section = run.recipe.embed
    assert section is not None
    return [
        _import_table(run, name, choice, parent, shards) for name, choice in section.imports.items()
    ]


def _import_table(
    run: Run, name: str, choice: ImportChoice, parent: Header, shards: Sequence[Shard]
) -> Header:
    kind = choice.name or name
    importer = IMPORTERS.build(kind, choice.options)
    table = run.embeddings(name)
    with contextlib.ExitStack() as stack:
        places = importer.files(run.input)
        urls = [place.folder.url for place in places]
        found = stack.enter_context(local_files(urls, run.storage))
        files = [replace(one, name=place.name) for one, place in zip(found, places, strict=True)]
        settings = {
            "schema": SCHEMA_VERSION,
            "importer": kind,
            "revision": importer.revision,
            "settings": dict(importer.what_counts()),
            "content": sorted([file.name, _sha256(file)] for file in files),
        }
        key = fingerprint(settings)
        names = tuple(shard.name(key) for shard in shards)
        plan = _Plan(name, settings, key, parent, shards, names, importer.settings.key)
        if old := run.unchanged(JOB, name, table, plan.fingerprint):
            return old
        with importer.opened(files) as imported:
            header = _write(run, table, plan, imported)
    run.finished(JOB, name, header)
    return header


@dataclass(frozen=True)
class _Plan:
    """One table to be made; `key` is the fingerprint of what decides its vectors."""

    name: str
    settings: Mapping[str, Any]
    key: str
    manifest: Header
    shards: Sequence[Shard]
    names: tuple[str, ...]
    matched_by: KeySettings

    @property
    def parents(self) -> dict[str, str]:
        return {"manifest": self.manifest.fingerprint}

    @property
    def fingerprint(self) -> str:
        return fingerprint(self.key, list(self.names), self.parents)


def _sha256(file: LocalFile) -> str:
    with Path(file.path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _write(run: Run, table: Table, plan: _Plan, imported: Imported) -> Header:
    watch = Watch()
    theirs, unknown = _matched(plan, imported)
    done = table.open_for(plan.names)
    pairs = zip(plan.shards, plan.names, strict=True)
    todo = [(shard, name) for shard, name in pairs if name not in done]
    total = plan.manifest.rows
    clips = total - sum(len(shard) for shard, _ in todo)
    run.tell(JOB, "start", plan.name, total=total, done=clips)
    fresh: dict[str, Receipt] = {}
    for shard, name in todo:
        fresh[name] = table.commit_content(name, _content(shard, imported, theirs))
        clips += len(shard)
        failures = sum(each.failures for each in fresh.values())
        run.tell(JOB, "progress", plan.name, done=clips, total=total, failures=failures)
    if unknown:
        text = f"{plan.name}: {unknown} clips of its files are not in the manifest, and left out"
        run.tell(JOB, "note", plan.name, text=text)
    older = table.receipts([name for name in plan.names if name not in fresh])
    receipts = [fresh.get(name) or older[name] for name in plan.names]
    made = sum(len(shard) for shard, _ in todo)
    stats = watch.stats(made, resumed=len(done), unknown_clips=unknown)
    return table.finish(_header(plan, imported, receipts, stats))


def _header(
    plan: _Plan, imported: Imported, receipts: list[Receipt], stats: dict[str, Any]
) -> Header:
    return Header(
        kind="embeddings",
        name=plan.name,
        fingerprint=plan.fingerprint,
        parents=plan.parents,
        settings={**plan.settings, **_told(imported), "vectors": plan.key},
        rows=sum(receipt.rows for receipt in receipts),
        failures=sum(receipt.failures for receipt in receipts),
        shards=receipts,
        stats=stats,
        versions=package_versions(),
    )


def _told(imported: Imported) -> dict[str, Any]:
    """The layers, and, of files that say so, what their columns are."""
    names = {layer: list(each) for layer, each in getattr(imported, "column_names", {}).items()}
    return {"layers": dict(imported.layers)} | ({"column_names": names} if names else {})


def _matched(plan: _Plan, imported: Imported) -> tuple[dict[str, str], int]:
    """The ids of the files by clip id, and how many of them no clip has."""
    clips = pa.concat_tables([shard.rows.select(["clip_id", "uri"]) for shard in plan.shards])
    ids = sorted(imported.clip_ids)
    source = f"embed.imports.{plan.name}"
    if not ids:
        raise InputError(f"{source}: its files hold no clip")
    matched = match(ids, clips, plan.matched_by, source)
    pairs = zip(clips["clip_id"].to_pylist(), matched.rows.tolist(), strict=True)
    return {clip_id: ids[row] for clip_id, row in pairs if row >= 0}, len(matched.unknown)


def _content(shard: Shard, imported: Imported, theirs: Mapping[str, str]) -> Content:
    clips: dict[str, ClipEmbedding] = {}
    failures = []
    for clip_id, uri, duration_s in _clips(shard):
        if clip_id not in theirs:
            reason = "the imported files have no vectors of this clip"
            failures.append(Failure(clip_id, uri, STAGE, "not_found", reason))
            continue
        found = imported.embedding(theirs[clip_id])
        clips[clip_id] = found if duration_s is None else replace(found, duration_s=duration_s)
    rows = embedding_rows(list(clips), list(clips.values()), imported.layers)
    media_s = sum(clip.duration_s for clip in clips.values())
    return Content(rows, failures, media_s)


def _clips(shard: Shard) -> list[tuple[str, str, float | None]]:
    rows = shard.rows.select(["clip_id", "uri", "duration_s"]).to_pydict()
    return list(zip(rows["clip_id"], rows["uri"], rows["duration_s"], strict=True))
