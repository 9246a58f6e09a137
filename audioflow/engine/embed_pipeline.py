"""The pipeline of the job `embed`: work items in, receipts out, on what the cluster has."""

import json
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace

import pyarrow as pa

from audioflow.engine.embed_actor import BackboneSpec
from audioflow.engine.embed_decode import DecodeTask
from audioflow.engine.embed_work import SCORED_COLUMNS, Done, Work
from audioflow.media import DECODERS
from audioflow.media.packing import ROW_BYTES
from audioflow.media.parts import Wanted
from audioflow.planning.estimate import (
    Cluster,
    Wish,
    decode_workers,
    engine_actors,
    own_workers,
)
from audioflow.recipe_embed import BackboneChoice, EmbedSection
from audioflow.shards import Shard
from audioflow.storage import StorageOptions


@dataclass(frozen=True)
class Item:
    """One shard, and what is to be done for it in each table.

    augment: of which clips there are variants. scored: whether the tables are of scores.
    """

    shard: Shard
    works: Mapping[str, Work]
    augment: Sequence[bool]
    scored: bool = False

    def row(self, number: int) -> pa.Table:
        """The row that travels through the pipeline."""
        todo = {table: asdict(work) for table, work in self.works.items()}
        rows = self.shard.rows
        columns: dict[str, pa.Array] = {
            "item": pa.array([number], pa.int64()),
            "todo": pa.array([json.dumps(todo)], pa.string()),
            "receipts": pa.array(["{}"], pa.string()),
            "augment": pa.array([list(self.augment)], pa.list_(pa.bool_())),
        }
        more = SCORED_COLUMNS if self.scored else ()
        for name in ("clip_id", "uri", "start_s", "duration_s", *more):
            column = rows[name].combine_chunks()
            columns[name] = pa.array([column.to_pylist()], pa.list_(column.type))
        return pa.table(columns)


@dataclass(frozen=True)
class AtWork:
    """A backbone that is to be used, and what the recipe says of its actors."""

    spec: BackboneSpec
    choice: BackboneChoice


@dataclass(frozen=True)
class Pipeline:
    """What the pipeline is made of, on a cluster with these resources.

    Where no backbone needs a GPU, each worker decodes and embeds by itself (`embed_pool`). Where
    one does, decode tasks pass media on to the actors of each backbone (`embed_stream`).
    """

    section: EmbedSection
    backbones: Sequence[AtWork]
    resources: Mapping[str, float]
    storage: StorageOptions

    def results(
        self, items: Sequence[Item], lost: Callable[[Item, int, str], None] | None = None
    ) -> Generator[tuple[Item, Done]]:
        """What became of every item, in the order they finish.

        lost: is told of items whose worker was lost, how often that was so, and why; where decoding
        is a step of its own, Ray Data tries them again without a word. Raises `StalledError` where
        no clip is finished for longer than the recipe allows.
        """
        items = self._in_order(items)
        found = self._pooled(items, lost) if self.own_workers else self._streamed(items)
        with closing(found):
            for number, done in found:
                yield items[number], done

    def _in_order(self, items: Sequence[Item]) -> list[Item]:
        """Small ones first, so that something is soon committed, then from large to small, so that
        in the end no worker is long at its last one."""
        by_size = sorted(items, key=lambda item: -len(item.shard))
        first = self.workers(len(items)) if items else 0
        return by_size[len(by_size) - first :] + by_size[: len(by_size) - first]

    @property
    def own_workers(self) -> int:
        """Workers that decode and embed by themselves; 0 where decoding is a step of its own."""
        return own_workers(self._wishes, self._cluster)

    @property
    def decode_cpus(self) -> float:
        """What a decode task takes, where decoding is a step of its own."""
        return min(self.section.decode_cpus, self._cluster.cpus)

    def actors(self, choice: BackboneChoice) -> int:
        """Actors of one backbone, where each has its own."""
        return engine_actors(_wish(choice), self._cluster, self._wishes)

    def workers(self, items: int) -> int:
        """Workers, or decode tasks, that are at it at once."""
        return min(self.own_workers, items) or decode_workers(
            self._cluster, self.section.decode_cpus, items
        )

    @property
    def _wishes(self) -> list[Wish]:
        return [_wish(one.choice) for one in self.backbones]

    @property
    def _cluster(self) -> Cluster:
        return Cluster(self.resources.get("CPU", 1.0), self.resources.get("GPU", 0.0))

    def _pooled(
        self, items: Sequence[Item], lost: Callable[[Item, int, str], None] | None
    ) -> Generator[tuple[int, Done]]:
        from audioflow.engine.embed_pool import Pool
        from audioflow.engine.embed_worker import EmbedWorker

        workers = self.own_workers
        arguments = self._task(), [one.spec for one in self.backbones]
        cpus = min(1.0, self._cluster.cpus / workers)
        pool = Pool(EmbedWorker, arguments, workers, cpus, self.section.stall_timeout_s)
        if lost is not None:
            tell = lost
            pool = replace(pool, lost=lambda number, *more: tell(items[number], *more))
        return pool.results(len(items), lambda number: items[number].row(number))

    def _streamed(self, items: Sequence[Item]) -> Generator[tuple[int, Done]]:
        from audioflow.engine.embed_stream import Stage, Stream  # brings Ray Data

        stages = [
            Stage(one.spec, self.actors(one.choice), one.choice.num_gpus) for one in self.backbones
        ]
        stream = Stream(self._task(), self.decode_cpus, stages, self._store_bytes())
        rows = [item.row(number) for number, item in enumerate(items)]
        works = [item.works for item in items]
        return stream.results(rows, works, self.section.stall_timeout_s)

    def _task(self) -> DecodeTask:
        section = self.section
        return DecodeTask(
            {table: one.spec.input for one in self.backbones for table in one.spec.tables},
            Wanted(
                max_duration_s=section.max_duration_s,
                sound_track=section.sound_track,
                video_track=section.video_track,
                decoder=DECODERS.entries[section.decoder],
            ),
            section.decode_timeout_s,
            section.decode_memory_gb,
            self.storage,
        )

    def _store_bytes(self) -> int:
        """Two of the largest rows for every worker."""
        decoders = self._cluster.cpus / self.decode_cpus
        actors = sum(self.actors(one.choice) for one in self.backbones)
        return 2 * ROW_BYTES * (int(decoders) + actors)


def _wish(choice: BackboneChoice) -> Wish:
    return choice.actors, choice.num_gpus
