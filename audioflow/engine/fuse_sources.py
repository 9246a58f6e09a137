"""Where a fusion's rows come from: memory, or the tables themselves, read in bounded pieces.

Both give the same clips of the same parts, so that the fused table is the same.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

import pyarrow as pa

from audioflow.cut import Sorted, by_part, row_hashes
from audioflow.engine.fuse_facts import Facts
from audioflow.engine.fuse_inputs import (
    GroupScan,
    Inputs,
    Scan,
    groups_of,
    sample,
    sampled,
    scan,
)
from audioflow.engine.fuse_part import (
    Content,
    Fused,
    Lacking,
    PartTask,
    Work,
    fuse_content,
    fuse_part,
)
from audioflow.engine.fuse_spill import (
    Pieces,
    Spilled,
    lies_well,
    pieces_as_it_lies,
    pieces_of_spilled,
    spill,
)
from audioflow.engine.tasks import Each
from audioflow.join import COLUMNS
from audioflow.tables import Header

Parts = Mapping[int, str]
"""Part -> name of its shard."""


class Source(Protocol):
    """Rows of the score tables that are fused."""

    def scans(self) -> Mapping[str, Scan]:
        """What a look at all rows finds, by system."""

    def sample(self, split: str | None, last: int) -> dict[str, list[pa.Table]]:
        """By system, the rows of a split (or of all) whose clips' hashes are at most `last`."""

    def fused(
        self, work: Work, parts: Parts, facts: Facts
    ) -> Iterator[tuple[str, Fused | Lacking]]:
        """Fuse and commit parts; what became of each shard."""


class Held:
    """Everything in memory, in this process."""

    def __init__(self, inputs: Inputs, headers: Mapping[str, Header]) -> None:
        self._inputs = inputs
        self._rows: dict[str, list[Sorted]] = {}
        self._failures: dict[str, list[Sorted]] = {}
        for system, header in headers.items():
            table, cut = inputs.table(system), inputs.cut
            self._rows[system] = [
                by_part(table.read_shard(shard.name, COLUMNS), cut) for shard in header.shards
            ]
            self._failures[system] = [
                by_part(table.shard_failures(shard.name), cut)
                for shard in header.shards
                if shard.failures
            ]

    def scans(self) -> Mapping[str, Scan]:
        """As `Source`."""
        split = self._inputs.fit_split
        return {
            system: Scan.joined([Scan.of(one.rows, row_hashes(one.rows), split) for one in kept])
            for system, kept in self._rows.items()
        }

    def sample(self, split: str | None, last: int) -> dict[str, list[pa.Table]]:
        """As `Source`."""
        return {
            system: [sampled(one.rows, split, last) for one in kept]
            for system, kept in self._rows.items()
        }

    def fused(
        self, work: Work, parts: Parts, facts: Facts
    ) -> Iterator[tuple[str, Fused | Lacking]]:
        """As `Source`."""
        for part, name in parts.items():
            content = Content(
                {system: _of(kept, part) for system, kept in self._rows.items()},
                {system: _of(kept, part) for system, kept in self._failures.items()},
                facts.of(part),
            )
            yield name, fuse_content(work, name, content)


def _of(kept: Sequence[Sorted], part: int) -> list[pa.Table]:
    return [one.of(part) for one in kept if one.has(part)]


class Spread:
    """Nothing in memory but what tasks are at."""

    def __init__(self, inputs: Inputs, headers: Mapping[str, Header], each: Each) -> None:
        self._inputs = inputs
        self._each = each
        self._groups = [
            group
            for system, header in headers.items()
            for group in groups_of(system, header.shards, len(header.classes))
        ]
        self._scans: dict[str, list[GroupScan]] = {}

    def scans(self) -> Mapping[str, Scan]:
        """As `Source`."""
        found: dict[str, list[GroupScan]] = {system: [] for system in self._inputs.tables}
        for group, one in self._each(scan, self._inputs, self._groups):
            found[group.system].append(one)
        self._scans = found
        return {
            system: Scan.joined([one for group in many for one in group.found])
            for system, many in found.items()
        }

    def sample(self, split: str | None, last: int) -> dict[str, list[pa.Table]]:
        """As `Source`."""
        found: dict[str, list[pa.Table]] = {system: [] for system in self._inputs.tables}
        groups = self._groups
        if split is not None:
            scans = [one for many in self._scans.values() for one in many]
            groups = [group for one in scans if (group := one.with_samples(last)).shards]
        wanted = [(group, split, last) for group in groups]
        for (group, *_), rows in self._each(sample, self._inputs, wanted):
            found[group.system].append(rows)
        return found

    def fused(
        self, work: Work, parts: Parts, facts: Facts
    ) -> Iterator[tuple[str, Fused | Lacking]]:
        """As `Source`."""
        where = self._where()
        tasks = (
            PartTask(
                part,
                name,
                {system: pieces[part] for system, pieces in where.items()},
                facts.of(part),
            )
            for part, name in parts.items()
        )
        for task, outcome in self._each(fuse_part, work, tasks):
            yield task.name, outcome

    def _where(self) -> dict[str, list[Pieces]]:
        """By system and part, where rows lie; what does not lie well is spilled first."""
        cut = self._inputs.cut
        badly = [system for system, scans in self._scans.items() if not lies_well(scans)]
        groups = [group for group in self._groups if group.system in badly]
        spilled: dict[str, list[Spilled]] = {system: [] for system in badly}
        for group, files in self._each(spill, self._inputs, groups):
            spilled[group.system].append(files)
        return {
            system: pieces_of_spilled(cut, spilled[system])
            if system in badly
            else pieces_as_it_lies(cut, scans)
            for system, scans in self._scans.items()
        }
