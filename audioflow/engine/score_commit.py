"""A shard scored straight from media: rows of score tables, one table for each head."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from audioflow.embeddings import ClipEmbedding, embedding_rows
from audioflow.engine.embed_commit import Outcomes, failed_before, unchanged_retry
from audioflow.engine.embed_work import Embedded, ShardClips, Work
from audioflow.engine.score_heads import Clips, Found, Scorer
from audioflow.engine.score_target import Target
from audioflow.tables import Content, Failure, Receipt, Table


@dataclass(frozen=True)
class ScoreCommitter:
    """Writes shards of score tables whose heads read the layers of one backbone."""

    scorers: Mapping[str, Scorer]
    layers: Mapping[str, int]
    min_coverage: float

    @classmethod
    def of(
        cls, targets: Sequence[Target], layers: Mapping[str, int], min_coverage: float
    ) -> "ScoreCommitter":
        """That of these score tables."""
        return cls({target.name: Scorer(target) for target in targets}, layers, min_coverage)

    def prepare(self) -> None:
        """Read the heads, before there is anything to score; raises `TableError` as they do."""
        for scorer in self.scorers.values():
            scorer.prepare()

    def keeper(self, works: Mapping[str, Work]) -> tuple[Table, str]:
        """The table and the shard of it that keep what is found, until all parts are there."""
        first = min(works)
        return self.scorers[first].target.table, works[first].name

    def commit(
        self, works: Mapping[str, Work], clips: ShardClips, found: Sequence[Embedded]
    ) -> dict[str, Receipt]:
        """Put a shard together from its parts, score it and write it, in every table.

        A retry after which the same clips fail for the same reasons leaves the old shard.
        """
        outcomes = Outcomes(clips, found, self.min_coverage)
        shard = _Shard(clips, self.layers, outcomes)
        return {name: shard.commit(self.scorers[name], work) for name, work in works.items()}


class _Shard:
    """A shard, its embeddings, and what becomes of them in every table."""

    def __init__(self, clips: ShardClips, layers: Mapping[str, int], outcomes: Outcomes) -> None:
        self._clips = Clips(clips.ids, clips.labels, clips.splits, clips.folds)
        self._folds = dict(zip(clips.ids, clips.folds, strict=True))
        self._times = clips.times
        self._layers = layers
        self._outcomes = outcomes
        self._rows: dict[tuple[int, ...], pa.Table] = {}

    def commit(self, scorer: Scorer, work: Work) -> Receipt:
        table = scorer.target.table
        older = _taken_over(table, work)
        failures = failed_before(table, work)
        places = {clip_id: place for place, clip_id in enumerate(self._clips.ids)}
        good: dict[int, list[ClipEmbedding]] = {}
        for clip_id, place in places.items():
            if clip_id in older or clip_id in failures:
                continue
            outcome = self._outcomes.of(place, work.attempts.get(clip_id, 0))
            if isinstance(outcome, Failure):
                failures[clip_id] = outcome
            else:
                good[place] = outcome
        failed = [failures[clip_id] for clip_id in places if clip_id in failures]
        if old := unchanged_retry(table, work, failed):
            return old
        fresh = self._scored(scorer, good)
        rows = self._in_order([fresh, *older.values()], fresh.schema)
        media_s = sum(clip.duration_s for clips in good.values() for clip in clips[:1])
        content = Content(rows, failed, media_s, work.clip_keys, self._times)
        return table.commit_content(work.name, content)

    def _scored(self, scorer: Scorer, good: Mapping[int, list[ClipEmbedding]]) -> pa.Table:
        """Rows of the score table, of clips that are there."""
        found = Found()
        if good:
            scorer.score(self._embeddings(good), self._folds, found)
        return scorer.rows(self._clips.at(list(good)), found)

    def _embeddings(self, good: Mapping[int, list[ClipEmbedding]]) -> pa.Table:
        """Rows of embeddings, made once for all heads."""
        key = tuple(good)
        if key not in self._rows:
            pairs = [(self._clips.ids[p], clip) for p, clips in good.items() for clip in clips]
            ids, clips = [clip_id for clip_id, _ in pairs], [clip for _, clip in pairs]
            self._rows[key] = embedding_rows(ids, clips, self._layers)
        return self._rows[key]

    def _in_order(self, parts: Sequence[pa.Table], schema: pa.Schema) -> pa.Table:
        """The rows in the order of the clips, with labels and splits as they are today."""
        rows = pa.concat_tables([part.select(schema.names).cast(schema) for part in parts])
        places = {clip_id: place for place, clip_id in enumerate(self._clips.ids)}
        of = [places[clip_id] for clip_id in rows["clip_id"].to_pylist()]
        rows = rows.take(pa.array(sorted(range(len(of)), key=of.__getitem__), pa.int64()))
        today = self._clips.at(sorted(of))
        for name, values in (("labels", today.labels), ("split", today.splits)):
            field = schema.field(name)
            column = pa.array(values, field.type)
            rows = rows.set_column(schema.get_field_index(name), field, column)
        return rows


def _taken_over(table: Table, work: Work) -> dict[str, pa.Table]:
    """By clip, its row in the shards named in `reuse`."""
    found: dict[str, pa.Table] = {}
    for name, ids in work.reuse.items():
        rows = table.read_shard(name)
        mine = rows.filter(pc.is_in(rows["clip_id"], pa.array(ids, pa.string())))
        for place, clip_id in enumerate(mine["clip_id"].to_pylist()):
            found[clip_id] = mine.slice(place, 1)
    return found
