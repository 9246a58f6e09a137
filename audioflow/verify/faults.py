"""What `verify` finds: faults of tables, and what was counted."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

FAULT_KINDS = {
    "header": "headers that are damaged or do not fit their table",
    "incomplete": "tables that are not complete",
    "parent": "tables made from something else than what is there now",
    "counts": "counts that differ",
    "receipt": "receipts that are missing, damaged or differ from the header",
    "missing_file": "files that are missing",
    "damaged_file": "files that are not as they were written",
    "extra_file": "files that no header names",
    "schema": "columns that are not as they should be",
    "lost_clip": "clips that are neither in the rows nor in the failures",
    "repeated_clip": "clips that occur more than once",
    "unknown_clip": "clips that do not belong here",
    "variant": "variants without their clip",
    "value": "values that cannot be",
}
"""The closed set of fault kinds -> what they are, in words."""

MOST_KEPT = 1000
"""Faults kept per table and kind; more are only counted, so that memory stays bounded."""


@dataclass(frozen=True)
class TableFault:
    """One thing wrong with a table.

    `table` is its path in the run, `where` the file (or clip) in the table's folder, `way_out` what
    to do about it.
    """

    table: str
    kind: str
    what: str
    where: str
    way_out: str

    def __post_init__(self) -> None:
        if self.kind not in FAULT_KINDS:
            raise ValueError(f"fault kind {self.kind!r} is not one of {', '.join(FAULT_KINDS)}")


@dataclass(frozen=True)
class TableCheck:
    """What was found in one table: rows and failures as counted in its files, and its faults.

    The rows of `heads/...` are heads, those of `tune/...` trials, those of `report` the systems
    reported on.
    """

    table: str
    complete: bool
    rows: int
    failures: int
    shards: int
    faults: int


@dataclass(frozen=True)
class Verification:
    """Outcome of `verify`. `faults` has at most `MOST_KEPT` of a table and kind; counts have all.

    `fault_counts` maps kinds to numbers.
    """

    tables: tuple[TableCheck, ...]
    faults: tuple[TableFault, ...]
    fault_counts: Mapping[str, int]

    @property
    def ok(self) -> bool:
        return not self.fault_counts


@dataclass
class Findings:
    """Collects faults."""

    faults: list[TableFault] = field(default_factory=list)
    _counts: Counter[tuple[str, str]] = field(default_factory=Counter)

    def add(self, fault: TableFault) -> None:
        key = (fault.table, fault.kind)
        self._counts[key] += 1
        if self._counts[key] <= MOST_KEPT:
            self.faults.append(fault)

    def of_table(self, table: str) -> int:
        """Number of faults of a table."""
        return sum(count for (name, _), count in self._counts.items() if name == table)

    def by_kind(self) -> dict[str, int]:
        """Number of faults of every kind there is, in the order of `FAULT_KINDS`."""
        found: Counter[str] = Counter()
        for (_, kind), count in self._counts.items():
            found[kind] += count
        return {kind: found[kind] for kind in FAULT_KINDS if found[kind]}
