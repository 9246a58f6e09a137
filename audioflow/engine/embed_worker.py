"""The worker of the job `embed` where no backbone needs a GPU: it decodes and embeds by itself.

Decoder and backbones take turns on one core, so nothing waits for anything else, no media travels
between processes, and every core is busy whatever decoding takes beside the backbones.
"""

import json
import threading
from collections.abc import Sequence

import pyarrow as pa
import ray

from audioflow.engine.embed_actor import BackboneSpec, Embedder
from audioflow.engine.embed_decode import DecodeTask, decode_shard, decoder
from audioflow.engine.embed_pulse import BoardRef, TellingPulse
from audioflow.engine.embed_work import Done, Embedded, added, clips_in, works_of


class EmbedWorker:
    """An actor that decodes the shards it is given, embeds them with all backbones, writes them."""

    def __init__(self, task: DecodeTask, specs: Sequence[BackboneSpec], board: BoardRef) -> None:
        child = threading.Thread(target=decoder(task).warm)  # its process starts meanwhile
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
        embedders = [one for one in self._embedders if one.spec.table in works]
        found: dict[str, list[Embedded]] = {table: [] for table in works}
        part, seconds = row, "{}"
        for part in decode_shard(row, self._task, self._pulse):
            seconds = added(part["seconds"][0].as_py(), json.loads(seconds))
            for embedder in embedders:
                table = embedder.spec.table
                found[table].append(embedder.embed(part, works[table], clips_in(part)))
        receipts = {
            one.spec.table: one.commit(works[one.spec.table], clips_in(part), found[one.spec.table])
            for one in embedders
        }
        return Done(receipts, json.loads(added(seconds, self._pulse.take_spent())))
