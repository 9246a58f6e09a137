"""The job `score`: head bundles on embeddings, shard by shard, on Ray Data."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import ray.data

from audioflow.engine.embed_plan import embed_shards, shards_of
from audioflow.engine.lost import RETRIES, in_our_words
from audioflow.engine.run import Run, Watch, refuse_lost_shards
from audioflow.engine.session import configure_data
from audioflow.errors import TableError
from audioflow.manifest import CROSS_VALIDATED
from audioflow.recipe import ScoreSection, SystemSection
from audioflow.scores import ScoredClips, score_rows
from audioflow.shards import gathered
from audioflow.storage import Folder
from audioflow.systems.ensemble import Heads
from audioflow.tables import (
    FAILURES_SCHEMA,
    SCHEMA_VERSION,
    Failure,
    Header,
    Receipt,
    Table,
    fingerprint,
    package_versions,
)

JOB = "score"

CLIPS_PER_SHARD = 16_384
"""Most clips in a shard of scores: they take little time, a task and a file each take some."""
_BYTES_AT_ONCE = 64 * 2**20
"""Of embeddings: fewer calls of the head than shards, and no more in memory."""


@dataclass(frozen=True)
class ScoreTask:
    """Where a worker finds what it needs to score one shard of one system."""

    system: str
    head: Folder
    head_key: str
    embeddings: Folder
    scores: Folder
    classes: tuple[str, ...]
    folded: str
    """The split as which clips in folds are scored, out of fold."""


def score(run: Run) -> list[Header]:
    """Write `scores/<system>/` for every system of the recipe."""
    section = run.recipe.score
    assert section is not None
    return [
        _score_system(run, name, system, section) for name, system in run.recipe.trained.items()
    ]


def _score_system(run: Run, name: str, system: SystemSection, section: ScoreSection) -> Header:
    manifest, embeddings, head = run.manifest(), run.embeddings(system.backbone), run.head(name)
    headers = [table.complete_header() for table in (manifest, embeddings, head)]
    _refuse_other_vectors(run, name, headers[1], headers[2])
    parents = {
        "manifest": headers[0].fingerprint,
        f"embeddings/{system.backbone}": headers[1].fingerprint,
        f"heads/{name}": headers[2].fingerprint,
    }
    key = fingerprint("scores", SCHEMA_VERSION, parents, section.splits)
    table = run.scores(name)
    if old := run.unchanged(JOB, name, table, key):
        return old
    watch = Watch()
    rows = manifest.read()
    items = list(_items(run, rows, headers[1], key))
    names = [item["name"][0].as_py() for item in items]
    done = table.open_for(names)
    total = sum(item["count"][0].as_py() for item in items)
    task = ScoreTask(
        name,
        head.folder,
        headers[2].fingerprint,
        embeddings.folder,
        table.folder,
        tuple(headers[2].classes),
        _as_split(rows),
    )
    todo = [item for item in items if item["name"][0].as_py() not in done]
    fresh = _stream(run, task, todo, total)
    refuse_lost_shards(table, names, table.committed())
    older = table.receipts([shard for shard in names if shard not in fresh])
    receipts = [fresh.get(shard) or older[shard] for shard in names]
    header = Header(
        kind="scores",
        name=name,
        fingerprint=key,
        parents=parents,
        settings={"splits": list(section.splits), "system": system.model_dump(mode="json")},
        rows=sum(receipt.rows for receipt in receipts),
        failures=sum(receipt.failures for receipt in receipts),
        shards=receipts,
        classes=headers[2].classes,
        stats=watch.stats(total, resumed=len(names) - len(fresh)),
        versions=package_versions(),
    )
    if header.rows + header.failures != total:
        raise AssertionError(f"{name}: {header.rows} + {header.failures} are not the {total} clips")
    run.finished(JOB, name, table.finish(header))
    return header


def _refuse_other_vectors(run: Run, name: str, embeddings: Header, head: Header) -> None:
    """A head scores only vectors made exactly as those it was trained on."""
    bundle = Heads.load(run.head(name).folder).first
    if bundle.spec.embeddings != embeddings.settings["vectors"]:
        raise TableError(
            f"head {name!r} was trained on vectors of fingerprint "
            f"{bundle.spec.embeddings}, embeddings/{embeddings.name} has "
            f"{embeddings.settings['vectors']}; train the head again"
        )


def _items(run: Run, manifest: pa.Table, embeddings: Header, key: str) -> Iterator[pa.Table]:
    """Work items: clips of some shards that are to be scored, and where their embeddings are."""
    section, embed = run.recipe.score, run.recipe.embed
    assert section is not None
    assert embed is not None
    folded = [CROSS_VALIDATED] if _as_split(manifest) in ("test", *section.splits) else []
    wanted = pa.array([*section.splits, *folded])
    files = shards_of(embeddings)
    for shard, group in gathered(embed_shards(manifest, embed), CLIPS_PER_SHARD):
        vectors = embeddings.settings["vectors"]
        sources = [files.get(one.name(vectors)) for one in group]
        if None in sources:
            raise TableError(
                f"embeddings/{embeddings.name} is of other clips than the manifest, or in shards "
                "of another size; run the job embed again"
            )
        rows = shard.rows
        rows = rows.filter(pc.is_in(rows["split"], wanted))
        if rows.num_rows:
            yield _item(rows, sources, shard.name(key))


def _as_split(manifest: pa.Table) -> str:
    """The split as which clips in folds are scored: `val` where a test split was held out."""
    held_out = pc.any(pc.equal(manifest["split"], "test")).as_py()
    return "val" if held_out else "test"


def _item(rows: pa.Table, sources: Sequence[str | None], name: str) -> pa.Table:
    clips = rows.select(["clip_id", "uri", "labels", "split", "fold"]).to_pydict()
    columns = {"name": pa.array([name]), "sources": pa.array([sources])}
    columns |= {"count": pa.array([rows.num_rows]), "clips": pa.array([json.dumps(clips)])}
    return pa.table(columns)


def _stream(run: Run, task: ScoreTask, items: Sequence[pa.Table], total: int) -> dict[str, Receipt]:
    if not items:
        return {}
    run.tell(JOB, "start", task.system, total=total, done=0)
    resources = run.session.ensure()
    configure_data()
    assert run.recipe.embed is not None
    context = ray.data.DataContext.get_current()
    context.execution_no_progress_timeout_s = run.recipe.embed.stall_timeout_s
    dataset = ray.data.from_arrow(list(items)).map_batches(
        score_shard,
        batch_size=1,
        batch_format="pyarrow",
        num_cpus=min(1.0, resources.get("CPU", 1.0)),
        fn_kwargs={"task": task},
        max_retries=RETRIES,
    )
    fresh: dict[str, Receipt] = {}
    with in_our_words():
        for batch in dataset.iter_batches(batch_size=None, batch_format="pyarrow"):
            for text in batch["receipt"].to_pylist():
                receipt = Receipt(**json.loads(text))
                fresh[receipt.name] = receipt
            done = sum(receipt.rows + receipt.failures for receipt in fresh.values())
            failures = sum(receipt.failures for receipt in fresh.values())
            run.tell(JOB, "progress", task.system, done=done, total=total, failures=failures)
    return fresh


_kept: tuple[str, Heads] | None = None


def _heads(task: ScoreTask) -> Heads:
    """The heads of a system, kept while this worker scores with the same ones."""
    global _kept  # noqa: PLW0603 - a worker process scores many shards
    if _kept is None or _kept[0] != task.head_key:
        _kept = (task.head_key, Heads.load(task.head))
    return _kept[1]


def score_shard(row: pa.Table, task: ScoreTask) -> pa.Table:
    """Score the clips of one work item, commit the shard, return its receipt."""
    name, sources = row["name"][0].as_py(), row["sources"][0].as_py()
    clips: Mapping[str, list[Any]] = json.loads(row["clips"][0].as_py())
    embeddings = Table(task.embeddings)
    scores = _scores(embeddings, sources, clips, task)
    good = [position for position, clip_id in enumerate(clips["clip_id"]) if clip_id in scores]
    scored = ScoredClips(
        [clips["clip_id"][p] for p in good],
        [clips["labels"][p] for p in good],
        [task.folded if clips["fold"][p] is not None else clips["split"][p] for p in good],
    )
    matrix = (
        np.stack([scores[clip_id] for clip_id in scored.clip_ids]) if good else _no_scores(task)
    )
    failures = _failures(embeddings, sources, clips, set(scored.clip_ids))
    rows = score_rows(scored, matrix, task.classes)
    receipt = Table(task.scores).commit(name, rows, failures)
    return pa.table({"receipt": pa.array([json.dumps(asdict(receipt))])})


def _no_scores(task: ScoreTask) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.zeros((0, len(task.classes)), np.float32)


def _scores(
    embeddings: Table, sources: Sequence[str], clips: Mapping[str, list[Any]], task: ScoreTask
) -> dict[str, np.ndarray[Any, np.dtype[np.float32]]]:
    """Scores by clip id, of those that have an embedding.

    A clip of a fold is scored by the head that did not see that fold, one of no fold by the mean
    of all folds' heads.
    """
    heads = _heads(task)
    folds: dict[str, str | None] = dict(zip(clips["clip_id"], clips["fold"], strict=True))
    groups: dict[str | None, list[str]] = {}
    for clip_id, fold in folds.items():
        groups.setdefault(fold, []).append(clip_id)
    wanted = pa.array(clips["clip_id"], pa.string())
    found: dict[str, np.ndarray[Any, np.dtype[np.float32]]] = {}
    parts: list[pa.Table] = []
    for place, source in enumerate(sources):
        rows = embeddings.read_shard(source, heads.columns)
        recorded = pc.and_(pc.equal(rows["variant"], 0), pc.is_in(rows["clip_id"], wanted))
        parts.append(rows.filter(recorded))
        if sum(part.nbytes for part in parts) < _BYTES_AT_ONCE and place + 1 < len(sources):
            continue
        rows = pa.concat_tables(parts).combine_chunks()
        for fold, ids in groups.items():
            mine = rows.filter(pc.is_in(rows["clip_id"], pa.array(ids, pa.string())))
            if mine.num_rows:
                found.update(zip(*heads.scores(mine, fold), strict=True))
        parts = []
    return found


def _failures(
    embeddings: Table, sources: Sequence[str], clips: Mapping[str, list[Any]], scored: set[str]
) -> list[Failure]:
    """Clips without a score, with the reason they have no embedding."""
    if len(scored) == len(clips["clip_id"]):
        return []
    known = {
        row["clip_id"]: row
        for source in sources
        for row in embeddings.shard_failures(source).to_pylist()
    }
    uris = dict(zip(clips["clip_id"], clips["uri"], strict=True))
    found = []
    for clip_id in clips["clip_id"]:
        if clip_id in scored:
            continue
        reason = "it is neither in the embeddings nor in their failures"
        row = known.get(clip_id) or {"stage": JOB, "error": "internal", "reason": reason}
        values = {name: row[name] for name in FAILURES_SCHEMA.names if name in row}
        found.append(Failure(**(values | {"clip_id": clip_id, "uri": uris[clip_id]})))
    return found
