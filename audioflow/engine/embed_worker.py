"""The worker of the job `embed` where no backbone needs a GPU: it decodes and embeds by itself.

Decoder and backbones take turns on one core, so nothing waits for anything else, no media travels
between processes, and every core is busy whatever decoding takes beside the backbones.
"""

import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace

import pyarrow as pa
import ray

from audioflow.engine.embed_actor import BackboneSpec, Embedder
from audioflow.engine.embed_decode import DecodeTask, decode_shard, decoder
from audioflow.engine.embed_pulse import BoardRef, TellingPulse
from audioflow.engine.embed_reading import Reading
from audioflow.engine.embed_work import (
    PLAIN,
    Done,
    Doubt,
    Embedded,
    ShardClips,
    Trial,
    Work,
    clips_in,
    narrowed,
    times_of,
    works_of,
)
from audioflow.engine.node_names import on_this_node, this_node
from audioflow.errors import LostWorkersError
from audioflow.tables import Receipt
from audioflow.timing import NO_TIMES


class EmbedWorker:
    """An actor that decodes the shards it is given, embeds them with all backbones, writes them."""

    def __init__(self, task: DecodeTask, specs: Sequence[BackboneSpec], board: BoardRef) -> None:
        child = threading.Thread(target=_warm, args=(task,))  # its process starts meanwhile
        child.start()
        self._task = task
        self._pulse = TellingPulse(board)
        self._embedders = [Embedder(spec, self._pulse) for spec in specs]
        child.join()

    @ray.method(max_task_retries=-1)
    def ready(self) -> str:
        """Comes back with the id of its node when this worker can be given work, also after it was
        started again."""
        return str(ray.get_runtime_context().get_node_id())

    def do(self, row: pa.Table, trial: Trial = PLAIN) -> Done:
        """Decode, embed and commit a shard, or say what of it another node is to try.

        Of one with hours of media, only a part at a time is in memory; its embeddings are, until it
        is committed.
        """
        with on_this_node():
            return self._do(row, trial)

    def _do(self, row: pa.Table, trial: Trial) -> Done:
        kept = trial.doubt if trial.doubt and trial.doubt.kept else None
        if kept:
            row = narrowed(row, kept.positions)
        works = works_of(row)
        embedders = [one for one in self._embedders if one.works(works)]
        found: dict[str, list[Embedded]] = {one.spec.table: [] for one in embedders}
        part, times = row, NO_TIMES
        self._pulse.take_times()  # of a shard that was given up
        for part in decode_shard(row, self._task, self._pulse):
            times += times_of(part)
            for one in embedders:
                found[one.spec.table].append(one.embed(part, works, clips_in(part)))
        reading = Reading.of(each for several in found.values() for each in several)
        clips = replace(clips_in(part), times=lambda: times + self._pulse.times())
        for one in embedders if kept else ():
            found[one.spec.table].insert(0, one.read_part(works, clips))
        if trial.pass_on and reading.doubtful:
            doubt = Doubt(
                reading.doubtful,
                reading.error,
                reading.reason,
                this_node(),
                kept=bool(kept or reading.reads),
            )
            if doubt.kept:
                self._keep(embedders, works, clips, found, doubt)
            return Done({}, doubt=doubt, reads=reading.reads)
        receipts: dict[str, Receipt] = {}
        for one in embedders:
            receipts |= one.commit(works, clips, found[one.spec.table])
        for one in embedders if kept else ():
            one.drop_part(works)
        return Done(receipts, times + self._pulse.take_times(), reads=reading.reads)

    def _keep(
        self,
        embedders: Sequence[Embedder],
        works: Mapping[str, Work],
        clips: ShardClips,
        found: Mapping[str, Sequence[Embedded]],
        doubt: Doubt,
    ) -> None:
        """Write down what is known of the clips that are not in doubt."""
        for one in embedders:
            whole = Embedded()
            for each in found[one.spec.table]:
                sure = each.without(doubt.positions)
                whole.parts += sure.parts
                whole.ends |= sure.ends
            one.write_part(works, clips, 0, whole)


def _warm(task: DecodeTask) -> None:
    with suppress(LostWorkersError):  # the first shard tries again, and tells
        decoder(task).warm()
