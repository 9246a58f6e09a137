"""What the report tells of a run's tables: their figures, and the clips that failed."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from audioflow.redaction import masked
from audioflow.report import FailureGroup, FailureRow, StageRow
from audioflow.report.formats import plural
from audioflow.tables import Header, Table

MOST_FAILURES = 1000
MOST_GROUPS = 300

Tables = Mapping[str, tuple[Table, Header]]
"""Complete tables by their path in the run folder."""

_NUMBERS = re.compile(r"\d[\d.,:]*")


@dataclass(frozen=True)
class Failed:
    """The failures of a run: the first of them, all of them counted, and grouped by reason.

    counts: table -> error class -> clips. groups: the largest first.
    """

    rows: tuple[FailureRow, ...]
    number: int
    counts: dict[str, dict[str, int]]
    groups: tuple[FailureGroup, ...]


def failed_clips(tables: Tables) -> Failed:
    """Failures by the table where they first arose: a clip without embedding is not told again."""
    kept: list[FailureRow] = []
    counts: dict[str, Counter[str]] = {}
    clips: Counter[tuple[str, ...]] = Counter()
    firsts: dict[tuple[str, ...], FailureRow] = {}
    for row in _failures(tables):
        if len(kept) < MOST_FAILURES:
            kept.append(row)
        counts.setdefault(row.table, Counter())[row.error] += 1
        alike = (row.table, row.stage, row.error, _NUMBERS.sub("#", row.reason))
        clips[alike] += 1
        firsts.setdefault(alike, row)
    groups = [
        FailureGroup(row.table, row.stage, row.error, row.reason, clips[alike], row.clip_id)
        for alike, row in firsts.items()
    ]
    groups.sort(key=lambda group: -group.clips)
    return Failed(
        rows=tuple(kept),
        number=sum(clips.values()),
        counts={table: dict(sorted(errors.items())) for table, errors in counts.items()},
        groups=tuple(groups[:MOST_GROUPS]),
    )


def _failures(tables: Tables) -> Iterator[FailureRow]:
    for path, (table, header) in tables.items():
        kind = path.partition("/")[0]
        if not header.failures or kind not in ("embeddings", "scores"):
            continue
        own = kind == "embeddings" or header.settings.get("source") == "media"
        for shard in header.shards:  # one by one: there may be as many as there are clips
            rows = table.shard_failures(shard.name).to_pylist() if shard.failures else []
            for row in rows:
                if own or row["stage"] in ("score", "fuse"):
                    values = {name: row[name] for name in ("clip_id", "stage", "error", "reason")}
                    yield FailureRow(table=path, uri=shown_uri(row["uri"] or ""), **values)


def shown_uri(uri: str) -> str:
    """A uri as the report shows it, without what only its owner should know."""
    return masked(uri) if "?" in uri or "@" in uri else uri  # few are signed, clips are many


def job_of(path: str, header: Header) -> str:
    """The job that made a table."""
    if header.settings.get("fused"):
        return "fuse"
    if header.stats.get("tuned"):
        return "tune"
    root = path.partition("/")[0]
    return {"embeddings": "embed", "heads": "train", "scores": "score"}.get(root, root)


def stage_rows(tables: Tables) -> Iterator[StageRow]:
    """A row for every complete table, in the order of the flow."""
    for path, (_, header) in tables.items():
        stats, seconds = header.stats, float(header.stats.get("seconds", 0.0))
        if stats.get("tuned"):  # the search it comes from has its time in a row of its own
            seconds = sum(result["seconds"] for result in stats["results"])
        yield StageRow(
            job=job_of(path, header),
            table=path,
            rows=header.good,
            failures=header.failures,
            seconds=seconds,
            clips_per_s=float(stats.get("clips_per_s", 0.0)),
            x_real_time=stats.get("x_real_time"),
            size_bytes=sum(shard.size_bytes for shard in header.shards),
            note=_note(header),
            resumed=int(stats.get("resumed", 0)),
            verdict=str(stats.get("verdict", "")),
            shares=stats.get("shares", {}),
            bound=str(stats.get("bound", "")),
            bare=stats.get("bare"),
            advice=str(stats.get("advice", "")),
        )


def _note(header: Header) -> str:
    if header.kind == "head":
        folds = len(header.settings["folds"])
        return f"{folds} folds" if folds else plural(header.stats["workers"], "worker")
    if header.kind == "tune":
        return f"{header.settings['search']} search"
    if header.kind == "embeddings":
        return _weights_note(header)
    return ""


def _weights_note(header: Header) -> str:
    """Which weights a network had, and what it computed in."""
    found = []
    for field, used in header.settings.get("weights", {}).items():
        name = "" if field == "weights" else f"{field} "
        if used["trained"]:
            found.append(f"{name}{masked(used['given'])} ({used['sha256'][:8]})")
        else:
            found.append(f"{name}untrained, random weights")
    precision = header.settings["settings"].get("precision")
    return ", ".join([*found, precision] if precision else found)
