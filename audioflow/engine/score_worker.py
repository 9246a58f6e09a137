"""The worker of the job `score` where clips have embeddings: it reads shards of them, and scores
them with all heads that read that table."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
import ray
import torch

from audioflow.engine.embed_pulse import BoardRef, TellingPulse
from audioflow.engine.embed_work import Done
from audioflow.engine.node_names import on_this_node
from audioflow.engine.score_heads import Clips, Found, Scorer, recorded
from audioflow.engine.score_target import Target
from audioflow.storage import Folder
from audioflow.tables import FAILURES_SCHEMA, Content, Failure, Receipt, Table

STAGE = "score"

_BYTES_AT_ONCE = 64 * 2**20
"""Of embeddings: fewer calls of the head than shards, and no more in memory."""


@dataclass(frozen=True)
class ScoreItem:
    """Clips to be scored, as rows of the manifest; the shards that have their embeddings, and those
    of them with failures; and the name of the shard that they become, by score table."""

    clips: pa.Table
    sources: Sequence[str]
    failing: Sequence[str]
    names: Mapping[str, str]


class ScoreWorker:
    """An actor that scores the items it is given, and commits a shard of every score table."""

    def __init__(self, embeddings: Folder, targets: Sequence[Target], board: BoardRef) -> None:
        torch.set_num_threads(1)
        self._embeddings = Table(embeddings)
        self._scorers = {target.name: Scorer(target) for target in targets}
        self._pulse = TellingPulse(board)

    @ray.method(max_task_retries=-1)
    def ready(self) -> None:
        """Comes back when this worker can be given work, also after it was started again."""

    def do(self, item: ScoreItem) -> Done:
        """Score and commit the clips of an item."""
        self._pulse.take_times()  # of an item that was given up
        with self._pulse.at("load", item.clips["clip_id"][0].as_py()) as at:
            for name in item.names:
                self._scorers[name].prepare()
            with on_this_node():
                receipts = self._do(item, at)
        self._pulse.finished += item.clips.num_rows
        return Done(receipts, self._pulse.take_times())

    def _do(self, item: ScoreItem, at: Callable[[str], None]) -> dict[str, Receipt]:
        columns = item.clips.select(["clip_id", "labels", "split", "fold"]).to_pydict()
        clips = Clips(*columns.values())
        scorers = {name: self._scorers[name] for name in item.names}
        found = self._found(item, clips, scorers, at)
        known: list[Failure] | None = None
        receipts = {}
        for name, scorer in scorers.items():
            scored = found[name].scores
            good = [place for place, clip_id in enumerate(clips.ids) if clip_id in scored]
            failures: list[Failure] = []
            if len(good) < len(clips.ids):
                known = known or self._failures(item, set(scored))
                failures = known
            at(STAGE)
            rows = scorer.rows(clips.at(good), found[name])
            at("write")
            content = Content(rows, failures, times=self._pulse.times)
            receipts[name] = scorer.target.table.commit_content(item.names[name], content)
        return receipts

    def _found(
        self,
        item: ScoreItem,
        clips: Clips,
        scorers: Mapping[str, Scorer],
        at: Callable[[str], None],
    ) -> dict[str, Found]:
        """Scores of the clips that have an embedding; every shard of embeddings is read once."""
        folds = dict(zip(clips.ids, clips.folds, strict=True))
        wanted = pa.array(clips.ids, pa.string())
        columns = list(dict.fromkeys(n for one in scorers.values() for n in one.columns))
        found = {name: Found() for name in scorers}
        with_variants = any(one.target.mean for one in scorers.values())
        at("read")
        parts: list[pa.Table] = []
        for place, source in enumerate(item.sources):
            rows = self._embeddings.read_shard(source, columns)
            self._pulse.count("bytes", rows.nbytes)
            rows = rows.filter(pc.is_in(rows["clip_id"], wanted))
            parts.append(rows if with_variants else recorded(rows))
            few = sum(part.nbytes for part in parts) < _BYTES_AT_ONCE
            if few and place + 1 < len(item.sources):
                continue
            at(STAGE)
            rows = pa.concat_tables(parts).combine_chunks()
            for name, scorer in scorers.items():
                scorer.score(rows, folds, found[name])
            at("read")
            parts = []
        return found

    def _failures(self, item: ScoreItem, scored: set[str]) -> list[Failure]:
        """Clips without a score, with the reason they have no embedding."""
        known = {
            row["clip_id"]: row
            for source in item.failing
            for row in self._embeddings.shard_failures(source).to_pylist()
        }
        reason = "it is neither in the embeddings nor in their failures"
        found = []
        for clip in item.clips.select(["clip_id", "uri"]).to_pylist():
            if clip["clip_id"] in scored:
                continue
            row = known.get(clip["clip_id"])
            row = row or {"stage": STAGE, "error": "internal", "reason": reason}
            values = {name: row[name] for name in FAILURES_SCHEMA.names if name in row}
            found.append(Failure(**(values | clip)))
        return found
