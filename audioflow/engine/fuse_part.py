"""One shard of a fused table: the clips of one part, joined by id, fused, committed.

Shapes: S systems, n clips of the part, C classes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from audioflow.engine.fuse_facts import Known, block_of
from audioflow.engine.fuse_inputs import Inputs
from audioflow.engine.fuse_spill import Pieces, failures_of, rows_of
from audioflow.engine.pulse import Pulse
from audioflow.fusion import Fusion, missing_reason
from audioflow.fusion.missing import SHOWN
from audioflow.join import COLUMNS, Joined, join_scores
from audioflow.scores import ScoredClips, score_rows
from audioflow.storage import Folder
from audioflow.tables import FAILURES_SCHEMA, Failure, Receipt, Table, scores_schema
from audioflow.tables import Content as Made
from audioflow.timing import Times

JOB = "fuse"


@dataclass(frozen=True)
class Content:
    """What there is of some clips: rows and failures by system, in pieces, and what is known."""

    rows: Mapping[str, Sequence[pa.Table]]
    failures: Mapping[str, Sequence[pa.Table]]
    known: Known


@dataclass(frozen=True)
class Work:
    """What is done to every part. classes: of each system, in the order of its scores."""

    inputs: Inputs
    classes: Mapping[str, Sequence[str]]
    fusion: Fusion
    params: Mapping[str, Any]
    missing: str
    out: Folder


@dataclass(frozen=True)
class PartTask:
    """A part, the name of its shard, and where its rows lie."""

    part: int
    name: str
    pieces: Mapping[str, Pieces]
    known: Known


@dataclass(frozen=True)
class Lacking:
    """Clips of a part that lack systems where none may: how many of `clips`, and the first of them
    with the systems that they lack."""

    count: int
    clips: int
    first: list[tuple[str, list[str]]]


@dataclass(frozen=True)
class Fused:
    """A part that was committed, and what that took."""

    receipt: Receipt
    times: Times


def fuse_part(work: Work, task: PartTask) -> Fused | Lacking:
    """Read a part, fuse and commit it, in a task."""
    where = [(system, pieces, task.part) for system, pieces in task.pieces.items()]
    pulse = Pulse()
    with pulse.at("read", task.name):
        content = Content(
            {place[0]: rows_of(work.inputs, *place) for place in where},
            {place[0]: failures_of(work.inputs, *place) for place in where},
            task.known,
        )
    return fuse_content(work, task.name, content, pulse)


def fuse_content(
    work: Work, name: str, content: Content, pulse: Pulse | None = None
) -> Fused | Lacking:
    """Fuse the clips of a part and commit them as shard `name`; not where some lack a system and
    none may. pulse: knows what was done for it before."""
    pulse = pulse or Pulse()
    with pulse.at(JOB, name) as at:
        found = _fused(work, content)
        if isinstance(found, Lacking):
            return found
        rows, failures = found
        at("write")
        made = Made(rows, failures, times=pulse.times)
        receipt = Table(work.out).commit_content(name, made)
    return Fused(receipt, pulse.take_times())


def _fused(work: Work, content: Content) -> tuple[pa.Table, list[Failure]] | Lacking:
    """Rows and failures of a part."""
    joined = join_pieces(content.rows, work.classes)
    failed = {
        system: pa.concat_tables([FAILURES_SCHEMA.empty_table(), *pieces])
        for system, pieces in content.failures.items()
    }
    lacking_n = work.fusion.lacking(joined.available)
    if work.missing == "fail" and lacking_n.any():
        return _lacking(joined, np.flatnonzero(lacking_n))
    failures = _failures(failed, set(joined.clip_ids))
    if work.missing == "drop" and lacking_n.any():
        failures += _dropped(joined, np.flatnonzero(lacking_n), failed)
        joined = joined.take(np.flatnonzero(~lacking_n))
    scores_nC = np.zeros((0, len(joined.classes)), np.float32)
    if joined.clip_ids:
        scores_nC = work.fusion.apply(work.params, block_of(joined, content.known))
    failures.sort(key=lambda failure: failure.clip_id)
    return _rows(joined, scores_nC), failures


def join_pieces(
    pieces: Mapping[str, Sequence[pa.Table]], classes: Mapping[str, Sequence[str]]
) -> Joined:
    """`join_scores` of tables in pieces, of which there may be none."""
    tables = {}
    for system, rows in pieces.items():
        none = scores_schema(len(classes[system])).empty_table().select(COLUMNS)
        tables[system] = pa.concat_tables(rows) if rows else none
    return join_scores(tables, classes)


def _rows(joined: Joined, scores_nC: NDArray[np.float32]) -> pa.Table:
    clips = ScoredClips(joined.clip_ids, joined.labels, joined.splits)
    return score_rows(clips, scores_nC, list(joined.classes), _available(joined))


def _available(joined: Joined) -> pa.Array:
    """The systems that scored each clip, in their order."""
    clips, systems = np.nonzero(joined.available.T)
    ends = np.cumsum(np.bincount(clips, minlength=len(joined.clip_ids)))
    offsets = pa.array(np.concatenate([[0], ends]).astype(np.int32))
    names = pa.array(joined.systems, pa.string()).take(pa.array(systems))
    return pa.ListArray.from_arrays(offsets, names)


def _named(systems: Sequence[str], flags_S: NDArray[np.bool_]) -> list[str]:
    return [name for name, flag in zip(systems, flags_S.tolist(), strict=True) if flag]


def _lacking(joined: Joined, places: NDArray[np.intp]) -> Lacking:
    first = [
        (joined.clip_ids[place], _named(joined.systems, ~joined.available[:, place]))
        for place in places[:SHOWN].tolist()
    ]
    return Lacking(len(places), len(joined.clip_ids), first)


def _failures(tables: Mapping[str, pa.Table], scored: set[str]) -> list[Failure]:
    """Clips that no system scored, with the reason of each."""
    reasons: dict[str, list[tuple[str, dict[str, Any]]]] = {}
    for system, table in tables.items():
        for row in table.to_pylist():
            if row["clip_id"] not in scored:
                reasons.setdefault(row["clip_id"], []).append((system, row))
    return [_failure(clip_id, rows) for clip_id, rows in reasons.items()]


def _failure(clip_id: str, rows: Sequence[tuple[str, dict[str, Any]]]) -> Failure:
    first = rows[0][1]
    reason = "; ".join(f"{system}: {row['error']}: {row['reason']}" for system, row in rows)
    return Failure(
        clip_id, first["uri"], first["stage"], first["error"], reason, node=first["node"]
    )


def _dropped(
    joined: Joined, places: NDArray[np.intp], tables: Mapping[str, pa.Table]
) -> list[Failure]:
    """Clips that a system lacks, for the reason that this system had."""
    ids = {joined.clip_ids[place] for place in places}
    known = {failure.clip_id: failure for failure in _failures_of(tables, ids)}
    found = []
    for place in places:
        clip_id = joined.clip_ids[place]
        reason = missing_reason(joined.systems, joined.available[:, place].tolist())
        other = Failure(clip_id, None, JOB, "not_found", reason)
        found.append(replace(known.get(clip_id, other), stage=JOB))
    return found


def _failures_of(tables: Mapping[str, pa.Table], ids: set[str]) -> list[Failure]:
    wanted = pa.array(sorted(ids), pa.string())
    mine = {
        system: table.filter(pc.is_in(table["clip_id"], wanted)) for system, table in tables.items()
    }
    return _failures(mine, set())
