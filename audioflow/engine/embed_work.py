"""What is to be done for one shard of an embeddings table, and how its outcome is committed."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from audioflow.backbones.running import ClipPart
from audioflow.embeddings import ClipEmbedding, clips_of, embedding_rows, joined
from audioflow.errors import MediaError
from audioflow.media.packing import ClipEnd
from audioflow.tables import Content, Failure, Receipt, Table

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
class Done:
    """What became of a shard: its receipt in every table, and seconds spent per stage."""

    receipts: Mapping[str, Receipt]
    seconds: Mapping[str, float]


@dataclass(frozen=True)
class ShardClips:
    """The clips of a shard, in order; `node` is where they were decoded."""

    ids: Sequence[str]
    uris: Sequence[str]
    node: str


@dataclass
class Embedded:
    """What a backbone gave of a shard, or of a part of it: parts of clips, and how clips ended."""

    parts: list[ClipPart] = field(default_factory=list)
    ends: dict[int, ClipEnd] = field(default_factory=dict)

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


@dataclass(frozen=True)
class Committer:
    """Writes shards of one table whose backbone has these layers."""

    table: Table
    layers: Mapping[str, int]
    min_coverage: float

    def commit(self, work: Work, clips: ShardClips, found: Sequence[Embedded]) -> Receipt:
        """Put a shard together from its parts and from what is taken over, and write it.

        A retry after which the same clips fail for the same reasons leaves the old shard.
        """
        good, failures = self._outcomes(work, clips, found)
        if work.retry_of:
            old = self.table.shard_failures(work.retry_of).select(["clip_id", "error"]).to_pylist()
            now = {(failure.clip_id, failure.error) for failure in failures}
            if now == {(row["clip_id"], row["error"]) for row in old}:
                return self.table.receipt(work.retry_of)
        rows = embedding_rows([i for i, _ in good], [c for _, c in good], self.layers)
        media_s = sum(clip.duration_s for _, clip in good if clip.variant == 0)
        return self.table.commit_content(
            work.name, Content(rows, failures, media_s, work.clip_keys)
        )

    def _outcomes(
        self, work: Work, clips: ShardClips, found: Sequence[Embedded]
    ) -> tuple[list[tuple[str, ClipEmbedding]], list[Failure]]:
        """Rows and failures in the order of the clips."""
        rows, failures = self._taken_over(work)
        parts: dict[int, list[ClipEmbedding]] = {}
        ends: dict[int, ClipEnd] = {}
        for part in found:
            for item in part.parts:
                parts.setdefault(item.clip, []).append(item.embedding)
            ends |= part.ends
        good: list[tuple[str, ClipEmbedding]] = []
        bad: list[Failure] = []
        for position, (clip_id, uri) in enumerate(zip(clips.ids, clips.uris, strict=True)):
            if clip_id in rows:
                good += [(clip_id, clip) for clip in rows[clip_id]]
            elif clip_id in failures:
                bad.append(failures[clip_id])
            else:
                end = self._judged(ends.get(position), parts.get(position, []))
                before = work.attempts.get(clip_id, 0)
                if end.error is None:
                    good += [(clip_id, clip) for clip in _variants(parts[position], end)]
                else:
                    bad.append(_failure(clip_id, uri, end, clips.node, before))
        return good, bad

    def _taken_over(self, work: Work) -> tuple[dict[str, list[ClipEmbedding]], dict[str, Failure]]:
        """Rows and failures, by clip, of the shards named in `reuse`."""
        rows: dict[str, list[ClipEmbedding]] = {}
        failures: dict[str, Failure] = {}
        for name, ids in work.reuse.items():
            wanted = set(ids)
            for clip_id, clip in clips_of(self.table.read_shard(name), self.layers):
                if clip_id in wanted:
                    rows.setdefault(clip_id, []).append(clip)
            for row in self.table.shard_failures(name).to_pylist():
                if row["clip_id"] in wanted:
                    failures[row["clip_id"]] = Failure(**row)
        return rows, failures

    def _judged(self, end: ClipEnd | None, parts: Sequence[ClipEmbedding]) -> ClipEnd:
        """How a clip ended, now that all of it is known."""
        if end is None:
            why = "the decoder returned nothing for this clip"
            return ClipEnd.failed("decode", MediaError("internal", why))
        if end.error is not None:
            return end
        if end.coverage < self.min_coverage - 1e-6:  # it is float32 in the table
            why = (
                f"{end.coverage:.1%} of it could be decoded ({end.duration_s:.2f} s); "
                f"embed.min_coverage asks for {self.min_coverage:.1%}"
            )
            return ClipEnd.failed("decode", MediaError("truncated", why))
        if not parts:
            why = "the backbone returned nothing for this clip"
            return ClipEnd.failed("embed", MediaError("internal", why))
        return end


def _variants(parts: Sequence[ClipEmbedding], end: ClipEnd) -> Iterator[ClipEmbedding]:
    """The embeddings of a clip as recorded and of its variants, each put together."""
    for variant in sorted({part.variant for part in parts}):
        mine = [part for part in parts if part.variant == variant]
        length_s = sum(part.duration_s for part in mine) if variant else end.duration_s
        whole = joined(mine)
        yield ClipEmbedding(whole.layers, whole.patch_start_s, length_s, end.coverage, variant)


def _failure(clip_id: str, uri: str, end: ClipEnd, node: str, before: int) -> Failure:
    return Failure(
        clip_id,
        uri,
        end.stage,
        end.error or "internal",
        end.reason or "",
        before + end.attempts,
        node,
    )


def works_of(row: pa.Table) -> dict[str, Work]:
    """By table, what is to be done for the shard of a work item."""
    todo: dict[str, dict[str, Any]] = json.loads(row["todo"][0].as_py())
    return {table: Work(**values) for table, values in todo.items()}


def added(seconds: str, more: Mapping[str, float]) -> str:
    """Seconds per stage (as they travel, in JSON), with more of them."""
    found: dict[str, float] = json.loads(seconds)
    for stage, spent in more.items():
        found[stage] = found.get(stage, 0.0) + spent
    return json.dumps(found)


def clips_in(row: pa.Table) -> ShardClips:
    """The clips of a work item."""
    node = row["node"][0].as_py() if "node" in row.column_names else ""
    return ShardClips(row["clip_id"][0].as_py(), row["uri"][0].as_py(), node)
