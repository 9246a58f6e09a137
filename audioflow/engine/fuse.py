"""The job `fuse`: several score tables -> one, joined on `clip_id` in one process."""

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from audioflow.engine.run import Run, Watch
from audioflow.fusion import FUSION_RULES, Joined, fuse, join_scores
from audioflow.recipe import FuseSection
from audioflow.scores import ScoredClips, score_rows
from audioflow.tables import (
    SCHEMA_VERSION,
    Failure,
    Header,
    Table,
    fingerprint,
    package_versions,
)

JOB = "fuse"


def fuse_systems(run: Run) -> list[Header]:
    """Write `scores/<fused name>/` for every fused system of the recipe."""
    return [_fuse(run, name, section) for name, section in run.recipe.fuse.items()]


def _fuse(run: Run, name: str, section: FuseSection) -> Header:
    tables = {system: run.scores(system) for system in section.systems}
    headers = {system: table.complete_header() for system, table in tables.items()}
    parents = {f"scores/{system}": header.fingerprint for system, header in headers.items()}
    settings = section.model_dump(mode="json")
    key = fingerprint("fused", SCHEMA_VERSION, name, parents, settings)
    table = run.scores(name)
    if old := run.unchanged(JOB, name, table, key):
        return old
    watch = Watch()
    run.tell(JOB, "start", name, total=max(header.rows for header in headers.values()), done=0)
    joined = join_scores(
        {system: parts.read() for system, parts in tables.items()},
        {system: header.classes for system, header in headers.items()},
    )
    rule = FUSION_RULES.build(section.rule, section.options)
    scores, params = fuse(joined, rule, section.fit_split)
    rows = _rows(joined, scores)
    failures = _failures(tables, set(joined.clip_ids))
    shard = f"00000-{key[:12]}"
    table.open_for([shard])
    receipt = table.commit(shard, rows, failures)
    header = Header(
        kind="scores",
        name=name,
        fingerprint=key,
        parents=parents,
        settings=settings | {"fused": True, "params": params},
        rows=rows.num_rows,
        failures=len(failures),
        shards=[receipt],
        classes=list(joined.classes),
        stats=watch.stats(rows.num_rows),
        versions=package_versions(),
    )
    run.finished(JOB, name, table.finish(header))
    return header


def _rows(joined: Joined, scores: Any) -> pa.Table:
    names = joined.systems
    available = [
        [name for name, has in zip(names, column, strict=True) if has]
        for column in joined.available.T.tolist()
    ]
    clips = ScoredClips(joined.clip_ids, joined.labels, joined.splits)
    return score_rows(clips, scores, list(joined.classes), available)


def _failures(tables: Mapping[str, Table], scored: set[str]) -> Sequence[Failure]:
    """Clips that no system scored, with the reason of each."""
    reasons: dict[str, list[tuple[str, dict[str, Any]]]] = {}
    for system, table in tables.items():
        for row in table.read_failures().to_pylist():
            if row["clip_id"] not in scored:
                reasons.setdefault(row["clip_id"], []).append((system, row))
    found = []
    for clip_id, rows in sorted(reasons.items()):
        first = rows[0][1]
        reason = "; ".join(f"{system}: {row['error']}: {row['reason']}" for system, row in rows)
        found.append(
            Failure(
                clip_id, first["uri"], first["stage"], first["error"], reason, node=first["node"]
            )
        )
    return found
