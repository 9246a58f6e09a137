"""What is to be done for the shards of tables that are made from media, and what came of it."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import pyarrow as pa

from audioflow.backbones.running import ClipPart
from audioflow.embeddings import clips_of, embedding_rows
from audioflow.media.packing import ClipEnd
from audioflow.tables import Receipt
from audioflow.timing import NO_TIMES, Times

SCORED_COLUMNS = ("labels", "split", "fold")
"""Of the manifest: what travels with clips that are scored."""

_ENDS = b"audioflow.ends"


@dataclass(frozen=True)
class Work:
    """One shard of one table: `name` of the file, what each clip (by id) is made from.

    todo: positions of the clips to embed, None for all. reuse: clips whose outcome is taken from
    other shards of the table, by shard. retry_of: the shard whose failed clips are tried again, and
    how often each was tried before.
    """

    name: str
    clip_keys: Mapping[str, str]
    todo: Sequence[int] | None = None
    reuse: Mapping[str, Sequence[str]] = field(default_factory=dict)
    retry_of: str = ""
    attempts: Mapping[str, int] = field(default_factory=dict)

    @property
    def taken_over(self) -> int:
        """How many clips are taken from other shards."""
        return sum(map(len, self.reuse.values()))

    def wants(self, position: int) -> bool:
        """Whether the clip at this position has to be embedded."""
        return self.todo is None or position in self.todo


@dataclass(frozen=True)
class Doubt:
    """What a worker could not read of a shard for reasons that may be its node's: the clips at
    these positions, one of them as `error` because of `reason`.

    node: what the node is called. kept: whether what is known of the other clips is kept, as the
    first part of the shard; else all of it is to be done anew.
    """

    positions: Sequence[int]
    error: str
    reason: str
    node: str
    kept: bool


@dataclass(frozen=True)
class Trial:
    """What a worker is told of a shard beside what is to be done for it.

    pass_on: whether another node is there to try what this one cannot read; nothing is committed
    then. doubt: what the node before could not read.
    """

    pass_on: bool = False
    doubt: Doubt | None = None


PLAIN = Trial()
"""Nothing beside what is to be done."""


@dataclass(frozen=True)
class Done:
    """What became of a shard: its receipt in every table, and who worked on it when.

    waiting: how many shards, or parts of one, are decoded and wait for a backbone; None where
    nothing ever waits so. doubt: why it is not committed, but left to another node. reads: whether
    the worker could read anything of it; None where that is not known.
    """

    receipts: Mapping[str, Receipt]
    times: Times = NO_TIMES
    waiting: int | None = None
    doubt: Doubt | None = None
    reads: bool | None = None


@dataclass(frozen=True)
class ShardClips:
    """The clips of a shard, in order; `node` is where they were decoded.

    labels, splits and folds are those of clips that are scored; empty for embeddings. times: gives
    what was done for the shard until now.
    """

    ids: Sequence[str]
    uris: Sequence[str]
    node: str
    labels: Sequence[Sequence[str]] = ()
    splits: Sequence[str] = ()
    folds: Sequence[str | None] = ()
    times: Callable[[], Times] = lambda: NO_TIMES


@dataclass
class Embedded:
    """What a backbone gave of a shard, or of a part of it: parts of clips, and how clips ended."""

    parts: list[ClipPart] = field(default_factory=list)
    ends: dict[int, ClipEnd] = field(default_factory=dict)

    def without(self, positions: Iterable[int]) -> "Embedded":
        """What it has of the other clips."""
        dropped = set(positions)
        parts = [part for part in self.parts if part.clip not in dropped]
        return Embedded(parts, {at: end for at, end in self.ends.items() if at not in dropped})

    def to_rows(self, clips: ShardClips, layers: Mapping[str, int]) -> pa.Table:
        """As rows, to be kept until the other parts are there."""
        ids = [clips.ids[part.clip] for part in self.parts]
        rows = embedding_rows(ids, [part.embedding for part in self.parts], layers)
        ends = {str(position): vars(end) for position, end in self.ends.items()}
        return rows.replace_schema_metadata({_ENDS: json.dumps(ends).encode()})

    @classmethod
    def from_rows(cls, rows: pa.Table, clips: ShardClips, layers: Mapping[str, int]) -> "Embedded":
        """The reverse of `to_rows`."""
        place = {clip_id: position for position, clip_id in enumerate(clips.ids)}
        parts = [ClipPart(place[clip_id], clip) for clip_id, clip in clips_of(rows, layers)]
        ends = json.loads((rows.schema.metadata or {})[_ENDS])
        return cls(parts, {int(position): ClipEnd(**end) for position, end in ends.items()})


def works_of(row: pa.Table) -> dict[str, Work]:
    """By table, what is to be done for the shard of a work item."""
    todo: dict[str, dict[str, Any]] = json.loads(row["todo"][0].as_py())
    return {table: Work(**values) for table, values in todo.items()}


def narrowed(row: pa.Table, positions: Iterable[int]) -> pa.Table:
    """A work item of which only the clips at these positions are to be embedded."""
    wanted = sorted(set(positions))
    works = works_of(row)
    todo = {
        table: asdict(replace(work, todo=[at for at in wanted if work.wants(at)]))
        for table, work in works.items()
    }
    column = pa.array([json.dumps(todo)], pa.string())
    return row.set_column(row.column_names.index("todo"), "todo", column)


def times_of(row: pa.Table) -> Times:
    """What was done so far for the shard in a row."""
    return Times.from_text(row["times"][0].as_py())


def clips_in(row: pa.Table) -> ShardClips:
    """The clips of a work item."""
    node = row["node"][0].as_py() if "node" in row.column_names else ""
    ids, uris = row["clip_id"][0].as_py(), row["uri"][0].as_py()
    if "split" not in row.column_names:
        return ShardClips(ids, uris, node)
    return ShardClips(ids, uris, node, *(row[name][0].as_py() for name in SCORED_COLUMNS))
