"""Rows by part: where they lie in the tables, or in spilled files, and how they are read.

A table whose shards hold few parts each is read as it lies. Of one that is cut otherwise every
group of shards is first spilled: its rows, sorted by part, in one file of Arrow streams, of which
each part reads its own.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import pyarrow as pa

from audioflow.cut import Cut, by_part, row_hashes
from audioflow.engine.fuse_inputs import Group, GroupScan, Inputs
from audioflow.join import COLUMNS
from audioflow.storage import Folder

MOST_READS = 4.0
"""How often rows may be read for others' sake: spilling writes them once and reads them twice."""


@dataclass(frozen=True)
class Piece:
    """Where rows of a part lie: in the shard `name` among others, or in the file `name` of spilled
    rows, from `start` to `end` (bytes)."""

    name: str
    start: int = 0
    end: int | None = None


@dataclass
class Pieces:
    """Where the rows and the failures of a part lie that one system has."""

    rows: list[Piece] = field(default_factory=list)
    failures: list[Piece] = field(default_factory=list)


@dataclass(frozen=True)
class Spilled:
    """A spilled group: part p is from `rows[p]` to `rows[p + 1]` of one file, failures alike."""

    name: str
    rows: Sequence[int]
    failures: Sequence[int]


def lies_well(scans: Sequence[GroupScan]) -> bool:
    """Whether a table is better read as it lies than spilled."""
    rows = read = 0
    for one in scans:
        for shard, parts in zip(one.group.shards, one.parts, strict=True):
            rows += shard.rows
            read += shard.rows * len(parts)
    return read <= MOST_READS * rows


def spill(inputs: Inputs, group: Group) -> Spilled:
    """Write rows and failures of a group by part; what an earlier run has written is kept."""
    folder, name = inputs.spill / group.system, f"{group.number:05d}"
    try:
        there = json.loads(folder.read(f"{name}.json"))
    except FileNotFoundError:
        table, failing = inputs.table(group.system), [one for one in group.shards if one.failures]
        rows = (table.read_shard(shard.name, COLUMNS) for shard in group.shards)
        failures = (table.shard_failures(shard.name) for shard in failing)
        there = {
            "rows": _write(folder, f"{name}.rows", rows, inputs.cut),
            "failures": _write(folder, f"{name}.failures", failures, inputs.cut),
        }
        folder.write(f"{name}.json", json.dumps(there).encode())
    return Spilled(name, there["rows"], there["failures"])


def _write(folder: Folder, name: str, tables: Iterable[pa.Table], cut: Cut) -> list[int]:
    """Write rows part after part, each as an Arrow stream; returns where each begins and ends."""
    kept = [by_part(rows, cut) for rows in tables]
    sink, ends = pa.BufferOutputStream(), [0]
    for part in range(cut.count):
        rows = [one.of(part) for one in kept if one.has(part)]
        if rows:
            with pa.ipc.new_stream(sink, rows[0].schema) as stream:
                for table in rows:
                    stream.write_table(table)
        ends.append(sink.tell())
    if ends[-1]:
        folder.write(name, sink.getvalue().to_pybytes())
    return ends


def pieces_as_it_lies(cut: Cut, scans: Sequence[GroupScan]) -> list[Pieces]:
    """By part, the shards of a table that have some of its rows or failures."""
    found = [Pieces() for _ in range(cut.count)]
    for one in scans:
        for shard, parts, failed in zip(one.group.shards, one.parts, one.failed, strict=True):
            for part in parts.tolist():
                found[part].rows.append(Piece(shard.name))
            for part in failed.tolist():
                found[part].failures.append(Piece(shard.name))
    return found


def pieces_of_spilled(cut: Cut, files: Sequence[Spilled]) -> list[Pieces]:
    """By part, where its rows and failures lie in spilled files."""
    found = [Pieces() for _ in range(cut.count)]
    for file in sorted(files, key=lambda one: one.name):
        for part, pieces in enumerate(found):
            for own, ends, kind in (
                (pieces.rows, file.rows, "rows"),
                (pieces.failures, file.failures, "failures"),
            ):
                if ends[part] < ends[part + 1]:
                    own.append(Piece(f"{file.name}.{kind}", ends[part], ends[part + 1]))
    return found


def rows_of(inputs: Inputs, system: str, pieces: Pieces, part: int) -> list[pa.Table]:
    """The rows of a part that a system has, in `COLUMNS`."""
    table = inputs.table(system)
    return [
        _spilled(inputs.spill / system, piece)
        if piece.end is not None
        else _only(table.read_shard(piece.name, COLUMNS), inputs.cut, part)
        for piece in pieces.rows
    ]


def failures_of(inputs: Inputs, system: str, pieces: Pieces, part: int) -> list[pa.Table]:
    """The failures of a part that a system has."""
    table = inputs.table(system)
    return [
        _spilled(inputs.spill / system, piece)
        if piece.end is not None
        else _only(table.shard_failures(piece.name), inputs.cut, part)
        for piece in pieces.failures
    ]


def _spilled(folder: Folder, piece: Piece) -> pa.Table:
    return pa.ipc.open_stream(folder.read(piece.name, piece.start, piece.end)).read_all()


def _only(rows: pa.Table, cut: Cut, part: int) -> pa.Table:
    mine_N = cut.parts(row_hashes(rows)) == part
    return rows if mine_N.all() else rows.filter(pa.array(mine_N))
