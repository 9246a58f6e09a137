"""The job `score`: head bundles on embeddings, shard by shard, on Ray Data."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import ray.data

from audioflow.embeddings import layer_rows
from audioflow.engine.embed_plan import embed_shards, shards_of
from audioflow.engine.lost import RETRIES, in_our_words
from audioflow.engine.run import Run, Watch, refuse_lost_shards
from audioflow.engine.session import configure_data
from audioflow.engine.train_data import build_pooling, folds_of, is_cross_validated
from audioflow.errors import TableError
from audioflow.heads.bundle import HeadBundle
from audioflow.manifest import CROSS_VALIDATED
from audioflow.recipe import PluginChoice, ScoreSection, SystemSection
from audioflow.scores import ScoredClips, score_rows
from audioflow.shards import gathered
from audioflow.storage import Folder
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


@dataclass(frozen=True)
class ScoreTask:
    """Where a worker finds what it needs to score one shard of one system."""

    system: str
    head: Folder
    head_key: str
    embeddings: Folder
    scores: Folder
    folds: tuple[str, ...]
    classes: tuple[str, ...]


def score(run: Run) -> list[Header]:
    """Write `scores/<system>/` for every system of the recipe."""
    section = run.recipe.score
    assert section is not None
    return [
        _score_system(run, name, system, section) for name, system in run.recipe.systems.items()
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
        tuple(folds_of(rows["fold"].to_pylist())),
        tuple(headers[2].classes),
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
    folds = head.settings["folds"]
    folder = run.head(name).folder
    bundle = HeadBundle.load(folder / f"fold-{folds[0]}" if folds else folder)
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
    wanted = pa.array([*section.splits, CROSS_VALIDATED])
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


_bundles: dict[tuple[str, str | None], HeadBundle] = {}


def _bundle(task: ScoreTask, fold: str | None) -> HeadBundle:
    """The bundle of a fold (or the only one), kept while this worker scores with the same head."""
    key = (task.head_key, fold)
    if key not in _bundles:
        for other in [other for other in _bundles if other[0] != task.head_key]:
            del _bundles[other]
        _bundles[key] = HeadBundle.load(task.head / f"fold-{fold}" if fold else task.head)
    return _bundles[key]


def score_shard(row: pa.Table, task: ScoreTask) -> pa.Table:
    """Score the clips of one work item, commit the shard, return its receipt."""
    name, sources = row["name"][0].as_py(), row["sources"][0].as_py()
    clips: Mapping[str, list[Any]] = json.loads(row["clips"][0].as_py())
    embeddings = Table(task.embeddings)
    scores = _scores(embeddings, sources, clips, task)
    good = [position for position, clip_id in enumerate(clips["clip_id"]) if clip_id in scores]
    cross = is_cross_validated(clips["split"])
    scored = ScoredClips(
        [clips["clip_id"][p] for p in good],
        [clips["labels"][p] for p in good],
        ["test" if cross else clips["split"][p] for p in good],
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
    """Scores by clip id, of those that have an embedding; each fold's clips by that fold's head."""
    folds: dict[str, str | None] = dict(zip(clips["clip_id"], clips["fold"], strict=True))
    spec = _bundle(task, task.folds[0] if task.folds else None).spec
    pooling = build_pooling(PluginChoice(**spec.pooling))
    clip_ids: list[str] = []
    pooled = []
    for source in sources:  # one at a time: all of them together may be large
        rows = embeddings.read_shard(source, ["clip_id", "variant", spec.layer])
        layer = layer_rows(rows.filter(pc.equal(rows["variant"], 0)), spec.layer)
        clip_ids += layer.clip_ids
        pooled.append(pooling.pool(layer))
    vectors = np.concatenate(pooled)
    found = {}
    for fold in task.folds or (None,):
        mine = [
            position
            for position, clip_id in enumerate(clip_ids)
            if clip_id in folds and folds[clip_id] == fold
        ]
        if mine:
            matrix = _bundle(task, fold).scores(vectors[mine])
            found.update({clip_ids[p]: s for p, s in zip(mine, matrix, strict=True)})
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
