"""The worker of the job `embed` where no backbone needs a GPU: it decodes and embeds by itself.

Decoder and backbones take turns on one core, so nothing waits for anything else, no media travels
between processes, and every core is busy whatever decoding takes beside the backbones.
"""

import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

import pyarrow as pa
import ray

from audioflow.engine.embed_actor import BackboneSpec, Embedder
from audioflow.engine.embed_decode import DecodeTask, decode_shard, decoder
from audioflow.engine.embed_pulse import BoardRef, TellingPulse
from audioflow.engine.embed_work import Done, Embedded, clips_in, times_of, works_of
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
    def ready(self) -> None:
        """Comes back when this worker can be given work, also after it was started again."""

    def do(self, row: pa.Table) -> Done:
        """Decode, embed and commit a shard. Of one with hours of media, only a part at a time is in
        memory; its embeddings are, until it is committed."""
        works = works_of(row)
        embedders = [one for one in self._embedders if one.works(works)]
        found: dict[str, list[Embedded]] = {one.spec.table: [] for one in embedders}
        part, times = row, NO_TIMES
        self._pulse.take_times()  # of a shard that was given up
        for part in decode_shard(row, self._task, self._pulse):
            times += times_of(part)
            for one in embedders:
                found[one.spec.table].append(one.embed(part, works, clips_in(part)))
        receipts: dict[str, Receipt] = {}
        clips = replace(clips_in(part), times=lambda: times + self._pulse.times())
        for one in embedders:
            receipts |= one.commit(works, clips, found[one.spec.table])
        return Done(receipts, times + self._pulse.take_times())


def _warm(task: DecodeTask) -> None:
    with suppress(LostWorkersError):  # the first shard tries again, and tells
        decoder(task).warm()
