"""The pipeline of the job `embed`: work items in, receipts out, on what the cluster has."""

import json
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace

import numpy as np
import pyarrow as pa

from audioflow.engine.embed_crew import AtWork, Crew, on_gpus
from audioflow.engine.embed_decode import DecodeTask
from audioflow.engine.embed_work import SCORED_COLUMNS, Done, Work
from audioflow.engine.run import Run
from audioflow.media import DECODERS
from audioflow.media.parts import Wanted
from audioflow.planning.machines import Machines
from audioflow.recipe_embed import EmbedSection
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


def pipeline_for(run: Run, job: str, at_work: Sequence[AtWork], items: int) -> "Pipeline":
    """The pipeline for so many items, on the cluster as it is; what was chosen is told.

    Raises `ClusterError` where the cluster has not what is needed to begin.
    """
    from audioflow.engine.resources import look, nodes_within_s, ready_for

    section = run.recipe.embed
    assert section is not None
    if not items:
        return Pipeline(section, at_work, Machines(()), run.storage)
    run.session.ensure()
    machines = look()
    at_work = on_gpus(at_work, run.recipe.ray.accelerator, machines)
    machines = ready_for(run, job, Crew(section, at_work, machines).needs(items))
    crew = Crew(section, at_work, machines)
    name = ", ".join(table for one in at_work for table in one.spec.tables)

    def tell(text: str) -> None:
        run.tell(job, "note", name, text=text)

    for text in (_placed(run, at_work), crew.told()):
        if text:
            tell(text)
    joined = not run.session.started
    return Pipeline(section, at_work, machines, run.storage, tell, nodes_within_s(run), joined)


def _placed(run: Run, at_work: Sequence[AtWork]) -> str:
    """What `ray.accelerator` decided, where that is any GPU, or where one was asked for in vain."""
    accelerator = run.recipe.ray.accelerator
    if accelerator == "gpu" and not any(one.spec.num_gpus for one in at_work):
        names = ", ".join(one.spec.table for one in at_work)
        return f"on CPUs, though ray.accelerator is gpu: {names} would not gain by a GPU"
    decided = [one for one in at_work if one.choice.num_gpus is None and one.spec.num_gpus]
    if not decided:
        return ""
    told = ", ".join(f"{one.spec.table} ({one.spec.num_gpus:.3g} each)" for one in decided)
    return f"on GPUs, as ray.accelerator ({accelerator}) says: {told}"


def _silent(text: str) -> None:
    """A listener for those who want none."""


@dataclass(frozen=True)
class Pipeline:
    """What the pipeline is made of, on a cluster of these machines.

    Where no backbone needs a GPU, each worker decodes and embeds by itself (`embed_pool`). Where
    one does, decode tasks pass media on to the actors of each backbone (`embed_stream`). tell: is
    told in words when more workers are started. wait_s: how long a node may take to come that is
    started in place of the last one. joined: whether the Ray was there before.
    """

    section: EmbedSection
    backbones: Sequence[AtWork]
    machines: Machines
    storage: StorageOptions
    tell: Callable[[str], None] = _silent
    wait_s: float = 0.0
    joined: bool = False

    def results(
        self, items: Sequence[Item], lost: Callable[[Item, int, str], None] | None = None
    ) -> Generator[tuple[Item, Done]]:
        """What became of every item, in the order they finish.

        items: may be made one by one, whenever they are asked for. lost: is told of items whose
        worker was lost, how often that was so, and why; where decoding is a step of its own, Ray
        Data tries them again without a word. Raises `StalledError` where no clip is finished for
        longer than the recipe allows.
        """
        order = self._order(items)
        work = self._pooled if self.own_workers else self._streamed
        with closing(work(_Ordered(items, order), lost)) as found:
            for number, done in found:
                yield items[order[number]], done

    def _order(self, items: Sequence[Item]) -> list[int]:
        """Small ones first, so that something is soon committed, then from large to small, so that
        in the end no worker is long at its last one."""
        sizes = np.fromiter((len(item.shard) for item in items), np.int64, len(items))
        by_size = np.argsort(-sizes, kind="stable").tolist()
        first = self.workers(len(items)) if len(items) else 0
        return by_size[len(by_size) - first :] + by_size[: len(by_size) - first]

    @property
    def crew(self) -> Crew:
        """Who works in it."""
        return Crew(self.section, self.backbones, self.machines)

    @property
    def own_workers(self) -> int:
        """Workers that decode and embed by themselves; 0 where decoding is a step of its own."""
        return self.crew.own_workers

    @property
    def decode_cpus(self) -> float:
        """What a decode task takes, where decoding is a step of its own."""
        return self.crew.decode_cpus

    def actors(self, one: AtWork) -> int:
        """Actors of one backbone, where each has its own."""
        return self.crew.actors(one)

    def workers(self, items: int) -> int:
        """Workers, or decode tasks, that are at it at once."""
        return min(self.own_workers, items) or self.crew.decoders(items)

    def _pooled(
        self, items: "_Ordered", lost: Callable[[Item, int, str], None] | None
    ) -> Generator[tuple[int, Done]]:
        from audioflow.engine.embed_pool import Pool, Room
        from audioflow.engine.embed_worker import EmbedWorker

        crew = self.crew
        arguments = self._task(), [one.spec for one in self.backbones]
        room = Room(crew.worker, crew.own_workers, crew.fixed, self.tell, self.wait_s)
        pool = Pool(EmbedWorker, arguments, room, self.section.stall_timeout_s)
        if lost is not None:
            tell = lost
            pool = replace(pool, lost=lambda number, *more: tell(items[number], *more))
        return pool.results(len(items), lambda number: items[number].row(number))

    def _streamed(
        self, items: "_Ordered", lost: Callable[[Item, int, str], None] | None
    ) -> Generator[tuple[int, Done]]:
        from audioflow.engine.embed_stream import Share, Stage, Stream  # brings Ray Data

        crew, count = self.crew, len(items)
        stages = [
            Stage(
                one.spec,
                Share.of(crew.actor(one)),
                min(count, crew.actors(one)),
                crew.most_actors(one, count),
            )
            for one in self.backbones
        ]

        def store_bytes() -> int:
            from audioflow.engine.resources import look

            return replace(crew, machines=look()).store_bytes()

        stream = Stream(self._task(), Share.of(crew.decoder), stages, store_bytes)
        return stream.results(items, self.section.stall_timeout_s)

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


@dataclass(frozen=True)
class _Ordered:
    """Items in the order in which they are begun, made when they are asked for."""

    items: Sequence[Item]
    order: Sequence[int]

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, number: int) -> Item:
        return self.items[self.order[number]]
