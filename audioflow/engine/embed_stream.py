"""The pipeline of the job `embed` on Ray Data: work items in, receipts out."""

import json
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

import pyarrow as pa
import ray
import ray.data

from audioflow.engine.embed_actor import BackboneSpec, EmbedShard
from audioflow.engine.embed_decode import DecodeTask, decode_shard
from audioflow.engine.embed_plan import TablePlan
from audioflow.engine.embed_pulse import BoardRef
from audioflow.engine.embed_watch import StallWatch
from audioflow.engine.embed_work import Embedded, Work, clips_in, works_of
from audioflow.engine.lost import RETRIES, in_our_words
from audioflow.media import DECODERS
from audioflow.media.packing import ROW_BYTES, input_column
from audioflow.media.parts import Wanted
from audioflow.recipe import BackboneChoice, EmbedSection
from audioflow.shards import Shard
from audioflow.storage import StorageOptions
from audioflow.tables import Receipt


@dataclass(frozen=True)
class Item:
    """One shard, and what is to be done for it in each table."""

    shard: Shard
    works: Mapping[str, Work]
    augment: Sequence[bool]

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
        for name in ("clip_id", "uri", "start_s", "duration_s"):
            column = rows[name].combine_chunks()
            columns[name] = pa.array([column.to_pylist()], pa.list_(column.type))
        return pa.table(columns)


@dataclass(frozen=True)
class Pipeline:
    """What the pipeline is made of, on a cluster with these resources."""

    section: EmbedSection
    plans: Sequence[TablePlan]
    resources: Mapping[str, float]
    storage: StorageOptions

    def receipts(self, items: Sequence[Item]) -> Generator[tuple[Item, dict[str, Receipt]]]:
        """The receipts (by table) of every item, in the order they finish.

        Raises `StalledError` where no clip is finished for longer than the recipe allows.
        """
        board = BoardRef.new()
        rows = [item.row(number) for number, item in enumerate(items)]
        watch = StallWatch(self.section.stall_timeout_s, board.actor, self._needs())
        gather = _Gather(items, rows, {plan.spec.table: plan.spec for plan in self.plans})
        with in_our_words(), _options(watch, self._store_bytes()):
            for batch in self._dataset(rows, board).iter_batches(
                batch_size=None, batch_format="pyarrow"
            ):
                watch.moved()
                for row in batch.to_pylist():
                    gather.add(row)
                yield from gather.done()
        with in_our_words():
            yield from gather.rest()

    def _dataset(self, rows: Sequence[pa.Table], board: BoardRef) -> ray.data.Dataset:
        section, plans = self.section, self.plans
        task = DecodeTask(
            {plan.spec.table: plan.spec.input for plan in plans},
            Wanted(
                max_duration_s=section.max_duration_s,
                sound_track=section.sound_track,
                video_track=section.video_track,
                decoder=DECODERS.entries[section.decoder],
            ),
            section.decode_timeout_s,
            section.decode_memory_gb,
            self.storage,
            board,
        )
        dataset = ray.data.from_arrow(list(rows)).map_batches(
            decode_shard,
            batch_size=1,
            batch_format="pyarrow",
            num_cpus=self._decode_cpus(),
            fn_kwargs={"task": task},
            max_retries=RETRIES,
        )
        for position, plan in enumerate(plans):
            later = {input_column(p.spec.input) for p in plans[position + 1 :]}
            spent = {input_column(p.spec.input) for p in plans} - later
            dataset = dataset.map_batches(
                EmbedShard,
                fn_constructor_args=(plan.spec, sorted(spent), board),
                batch_size=1,
                batch_format="pyarrow",
                compute=ray.data.ActorPoolStrategy(size=min(len(rows), self._actors(plan.choice))),
                num_cpus=0,
                num_gpus=plan.choice.num_gpus,
                max_restarts=RETRIES,
                max_task_retries=-1,  # as long as the actor comes back
            )
        return dataset

    def _decode_cpus(self) -> float:
        return min(self.section.decode_cpus, self.resources.get("CPU", 1.0))

    def _actors(self, choice: BackboneChoice) -> int:
        if choice.actors:
            return choice.actors
        if choice.num_gpus:
            return max(1, int(self.resources.get("GPU", 0) / choice.num_gpus))
        return max(1, int(self.resources.get("CPU", 1) / len(self.plans)))

    def _store_bytes(self) -> int:
        """Two of the largest rows for every worker."""
        decoders = self.resources.get("CPU", 1.0) / self._decode_cpus()
        actors = sum(self._actors(plan.choice) for plan in self.plans)
        return 2 * ROW_BYTES * (int(decoders) + actors)

    def _needs(self) -> str:
        needs = [f"a decode task needs {self._decode_cpus():g} CPU"]
        needs += [
            f"an actor of {plan.spec.table} needs {plan.choice.num_gpus:g} GPU"
            for plan in self.plans
            if plan.choice.num_gpus
        ]
        return ", ".join(needs)


@contextmanager
def _options(watch: StallWatch, store_bytes: int) -> Iterator[None]:
    """While it lasts, executions of Ray Data are looked after by `watch` instead of Ray's guard.

    store_bytes: how much may wait between decoders and backbones in the object store. Without a
    limit decoders run far ahead, and the workers' memory grows by all that they ever mapped.
    """
    context = ray.data.DataContext.get_current()
    before = context.execution_options
    limits = ray.data.ExecutionResources.for_limits(object_store_memory=store_bytes)
    context.execution_options = ray.data.ExecutionOptions(resource_limits=limits)
    context.execution_no_progress_timeout_s = -1
    context.custom_execution_callback_classes = [watch.callback()]
    try:
        yield
    finally:
        context.execution_options = before
        context.custom_execution_callback_classes = []


@dataclass
class _Gather:
    """Brings the parts of shards together that came in several rows."""

    items: Sequence[Item]
    rows: Sequence[pa.Table]
    specs: Mapping[str, BackboneSpec]
    _seen: dict[int, set[int]] = field(default_factory=dict)
    _count: dict[int, int] = field(default_factory=dict)
    _node: dict[int, str] = field(default_factory=dict)
    _done: list[tuple[Item, dict[str, Receipt]]] = field(default_factory=list)
    _merging: dict[Any, int] = field(default_factory=dict)

    def add(self, row: Mapping[str, Any]) -> None:
        """Take what came out of the pipeline for a shard, or for a part of it."""
        number, part = row["item"], row["part"]
        if part == 0 and row["last"]:
            receipts = json.loads(row["receipts"])
            found = {table: Receipt(**data) for table, data in receipts.items()}
            self._done.append((self.items[number], found))
            return
        self._seen.setdefault(number, set()).add(part)
        if row["last"]:
            self._count[number] = part + 1
            self._node[number] = row["node"]
        if len(self._seen[number]) == self._count.get(number):
            specs = {table: self.specs[table] for table in self.items[number].works}
            parts, node = self._count[number], self._node[number]
            self._merging[merge_shard.remote(self.rows[number], specs, parts, node)] = number

    def done(self) -> Iterator[tuple[Item, dict[str, Receipt]]]:
        """What is finished by now."""
        refs = list(self._merging)
        ready = ray.wait(refs, num_returns=len(refs), timeout=0)[0] if refs else []
        yield from self._merged(ready)

    def rest(self) -> Iterator[tuple[Item, dict[str, Receipt]]]:
        """Everything that is left, waited for."""
        yield from self._merged(list(self._merging))

    def _merged(self, ready: Sequence[Any]) -> Iterator[tuple[Item, dict[str, Receipt]]]:
        for ref in ready:
            number = self._merging.pop(ref)
            item = self.items[number]
            self._done.append((item, ray.get(ref)))
            for table, work in item.works.items():
                self.specs[table].committer.table.remove_parts(work.name, self._count[number])
        done, self._done = self._done, []
        yield from done


@ray.remote(num_cpus=0, max_retries=RETRIES)
def merge_shard(
    row: pa.Table, specs: Mapping[str, BackboneSpec], parts: int, node: str
) -> dict[str, Receipt]:
    """Commit a shard that was embedded in parts, in every table."""
    row = row.append_column("node", pa.array([node], pa.string()))
    clips, found = clips_in(row), {}
    for table, work in works_of(row).items():
        committer = specs[table].committer
        embedded = [
            Embedded.from_rows(rows, clips, committer.layers)
            for rows in committer.table.read_parts(work.name, parts)
        ]
        found[table] = committer.commit(work, clips, embedded)
    return found
