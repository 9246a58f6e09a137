"""What a fusion reads: score tables in groups of shards that one task can hold, by their ids.

Shapes: N rows of a shard, P parts of the cut.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from audioflow.cut import Cut, row_hashes
from audioflow.join import COLUMNS
from audioflow.storage import Folder
from audioflow.tables import Receipt, Table

LOOKED_AT = ("clip_id", "labels", "split")

_NONE = np.zeros(0, np.uint64)

BYTES_PER_GROUP = 128 * 2**20
"""Of float32 scores, unless one shard has more."""


@dataclass(frozen=True)
class Inputs:
    """The score tables that are fused, by system.

    fit_split: whose clips the fusion is fitted on. spill: where rows lie meanwhile.
    """

    tables: Mapping[str, Folder]
    fit_split: str
    cut: Cut
    spill: Folder

    def table(self, system: str) -> Table:
        return Table(self.tables[system])


@dataclass(frozen=True)
class Group:
    """Shards of the table of one system; `number` counts its groups."""

    system: str
    number: int
    shards: tuple[Receipt, ...]


@dataclass(frozen=True, eq=False)
class Scan:
    """What a look at the ids, labels and splits of some rows has found.

    hashes: of the clips of `fit_split`. splits: how many clips are in each. several: whether a clip
    has more than one label.
    """

    hashes: NDArray[np.uint64]
    splits: Counter[str]
    several: bool

    @classmethod
    def of(cls, rows: pa.Table, hashes_N: NDArray[np.uint64], fit_split: str) -> "Scan":
        """Look at rows that have these hashes."""
        fitted_N = pc.equal(rows["split"], fit_split).to_numpy()
        lengths = pc.list_value_length(rows["labels"])
        several = bool(pc.any(pc.greater(lengths, 1)).as_py())
        return cls(hashes_N[fitted_N], Counter(rows["split"].to_pylist()), several)

    @classmethod
    def joined(cls, scans: Sequence["Scan"]) -> "Scan":
        """All of them as one."""
        hashes = np.concatenate([_NONE, *(one.hashes for one in scans)])
        splits = sum((one.splits for one in scans), Counter[str]())
        return cls(hashes, splits, any(one.several for one in scans))


@dataclass(frozen=True, eq=False)
class GroupScan:
    """What was found in a group, by shard. parts, failed: the parts of its rows and failures."""

    group: Group
    found: Sequence[Scan]
    parts: Sequence[NDArray[np.int64]]
    failed: Sequence[NDArray[np.int64]]

    def with_samples(self, last: int) -> Group:
        """The shards that have clips of `fit_split` whose hashes are at most `last`."""
        least = np.uint64(last)
        found = zip(self.group.shards, self.found, strict=True)
        shards = tuple(shard for shard, one in found if (one.hashes <= least).any())
        return replace(self.group, shards=shards)


def groups_of(system: str, shards: Sequence[Receipt], num_classes: int) -> Iterator[Group]:
    """Shards in order, as many together as a task may hold."""
    most = max(1, BYTES_PER_GROUP // (4 * num_classes))
    group: list[Receipt] = []
    number = 0
    for shard in shards:
        if group and sum(one.rows for one in group) + shard.rows > most:
            yield Group(system, number, tuple(group))
            group, number = [], number + 1
        group.append(shard)
    if group:
        yield Group(system, number, tuple(group))


def scan(inputs: Inputs, group: Group) -> GroupScan:
    """Look at a group without its scores."""
    table = inputs.table(group.system)
    found, parts, failed = [], [], []
    for shard in group.shards:
        rows = table.read_shard(shard.name, LOOKED_AT)
        hashes_N = row_hashes(rows)
        found.append(Scan.of(rows, hashes_N, inputs.fit_split))
        parts.append(np.unique(inputs.cut.parts(hashes_N)))
        failed_N = row_hashes(table.shard_failures(shard.name)) if shard.failures else _NONE
        failed.append(np.unique(inputs.cut.parts(failed_N)))
    return GroupScan(group, found, parts, failed)


def sample(inputs: Inputs, wanted: tuple[Group, str | None, int]) -> pa.Table:
    """`sampled` rows of a group: (group, split, last)."""
    group, split, last = wanted
    table = inputs.table(group.system)
    return pa.concat_tables(
        sampled(table.read_shard(shard.name, COLUMNS), split, last) for shard in group.shards
    )


def sampled(rows: pa.Table, split: str | None, last: int) -> pa.Table:
    """The rows of a split, or of all, whose hash is at most `last`."""
    if split is not None:
        rows = rows.filter(pc.equal(rows["split"], split))
    hashes_N = row_hashes(rows)
    return rows.filter(pa.array(hashes_N <= np.uint64(last)))
