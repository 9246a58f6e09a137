"""How the outcome of a shard is put together from its parts, and written to an embeddings table."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from audioflow.backbones.running import ClipPart
from audioflow.embeddings import ClipEmbedding, clips_of, embedding_rows, joined
from audioflow.engine.embed_work import Embedded, ShardClips, Work
from audioflow.errors import MediaError
from audioflow.media.packing import ClipEnd
from audioflow.tables import Content, Failure, Receipt, Table


class Outcomes:
    """What a backbone gave of the clips of a shard, all its parts together."""

    def __init__(self, clips: ShardClips, found: Sequence[Embedded], min_coverage: float) -> None:
        self._clips = clips
        self._min_coverage = min_coverage
        self._parts: dict[int, list[ClipPart]] = {}
        self._ends: dict[int, ClipEnd] = {}
        for each in found:
            for part in each.parts:
                self._parts.setdefault(part.clip, []).append(part)
            self._ends |= each.ends

    def of(self, position: int, attempts: int = 0) -> list[ClipEmbedding] | Failure:
        """The embeddings of a clip, as recorded and of its variants, or why there are none.

        attempts: how often it was tried before this run.
        """
        end = self._judged(position)
        if end.error is not None:
            return self._failure(position, end, attempts)
        return list(_variants([part.embedding for part in self._parts[position]], end))

    def _judged(self, position: int) -> ClipEnd:
        """How a clip ended, now that all of it is known."""
        end = self._ends.get(position)
        if end is None:
            why = "the decoder returned nothing for this clip"
            return ClipEnd.failed("decode", MediaError("internal", why))
        if end.error is not None:
            return end
        if end.coverage < self._min_coverage - 1e-6:  # it is float32 in the table
            why = (
                f"{end.coverage:.1%} of it could be decoded ({end.duration_s:.2f} s); "
                f"embed.min_coverage asks for {self._min_coverage:.1%}"
            )
            return ClipEnd.failed("decode", MediaError("truncated", why))
        if position not in self._parts:
            why = "the backbone returned nothing for this clip"
            return ClipEnd.failed("embed", MediaError("internal", why))
        return end

    def _failure(self, position: int, end: ClipEnd, attempts: int) -> Failure:
        return Failure(
            self._clips.ids[position],
            self._clips.uris[position],
            end.stage,
            end.error or "internal",
            end.reason or "",
            attempts + end.attempts,
            self._clips.node,
        )


def _variants(parts: Sequence[ClipEmbedding], end: ClipEnd) -> Iterator[ClipEmbedding]:
    """The embeddings of a clip as recorded and of its variants, each put together."""
    for variant in sorted({part.variant for part in parts}):
        mine = [part for part in parts if part.variant == variant]
        length_s = sum(part.duration_s for part in mine) if variant else end.duration_s
        whole = joined(mine)
        yield ClipEmbedding(whole.layers, whole.patch_start_s, length_s, end.coverage, variant)


def failed_before(table: Table, work: Work) -> dict[str, Failure]:
    """The failures, by clip, of the shards that a work takes clips over from."""
    found = {}
    for name, ids in work.reuse.items():
        wanted = set(ids)
        for row in table.shard_failures(name).to_pylist():
            if row["clip_id"] in wanted:
                found[row["clip_id"]] = Failure(**row)
    return found


def unchanged_retry(table: Table, work: Work, failures: Sequence[Failure]) -> Receipt | None:
    """The receipt of the old shard, where a retry ends as it did: same clips, same reasons."""
    if not work.retry_of:
        return None
    old = table.shard_failures(work.retry_of).select(["clip_id", "error"]).to_pylist()
    now = {(failure.clip_id, failure.error) for failure in failures}
    if now == {(row["clip_id"], row["error"]) for row in old}:
        return table.receipt(work.retry_of)
    return None


@dataclass(frozen=True)
class Committer:
    """Writes shards of the embeddings table `name`, whose backbone has these layers."""

    name: str
    table: Table
    layers: Mapping[str, int]
    min_coverage: float

    def prepare(self) -> None:
        """Nothing is needed to write embeddings."""

    def keeper(self, works: Mapping[str, Work]) -> tuple[Table, str]:
        """The table and the shard of it that keep what is found, until all parts are there."""
        return self.table, works[self.name].name

    def commit(
        self, works: Mapping[str, Work], clips: ShardClips, found: Sequence[Embedded]
    ) -> dict[str, Receipt]:
        """Put a shard together from its parts and from what is taken over, and write it.

        A retry after which the same clips fail for the same reasons leaves the old shard.
        """
        work = works[self.name]
        good, failures = self._outcomes(work, clips, Outcomes(clips, found, self.min_coverage))
        if old := unchanged_retry(self.table, work, failures):
            return {self.name: old}
        rows = embedding_rows([i for i, _ in good], [c for _, c in good], self.layers)
        media_s = sum(clip.duration_s for _, clip in good if clip.variant == 0)
        content = Content(rows, failures, media_s, work.clip_keys, clips.times)
        return {self.name: self.table.commit_content(work.name, content)}

    def _outcomes(
        self, work: Work, clips: ShardClips, outcomes: Outcomes
    ) -> tuple[list[tuple[str, ClipEmbedding]], list[Failure]]:
        """Rows and failures in the order of the clips."""
        rows, failures = self._taken_over(work), failed_before(self.table, work)
        good: list[tuple[str, ClipEmbedding]] = []
        bad: list[Failure] = []
        for position, clip_id in enumerate(clips.ids):
            if clip_id in rows:
                good += [(clip_id, clip) for clip in rows[clip_id]]
                continue
            known = failures.get(clip_id)
            found = known or outcomes.of(position, work.attempts.get(clip_id, 0))
            if isinstance(found, Failure):
                bad.append(found)
            else:
                good += [(clip_id, clip) for clip in found]
        return good, bad

    def _taken_over(self, work: Work) -> dict[str, list[ClipEmbedding]]:
        """Rows, by clip, of the shards named in `reuse`."""
        rows: dict[str, list[ClipEmbedding]] = {}
        for name, ids in work.reuse.items():
            wanted = set(ids)
            for clip_id, clip in clips_of(self.table.read_shard(name), self.layers):
                if clip_id in wanted:
                    rows.setdefault(clip_id, []).append(clip)
        return rows
