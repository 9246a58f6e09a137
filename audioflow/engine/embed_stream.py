"""The pipeline of the job `embed` on Ray Data, where a backbone needs a GPU."""

import json
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa
import ray
import ray.data

from audioflow.engine.embed_actor import BackboneSpec, EmbedShard
from audioflow.engine.embed_decode import DecodeTask
from audioflow.engine.embed_pulse import BoardRef
from audioflow.engine.embed_rows import Rowables, RowsRef, decode_asked, handing_out
from audioflow.engine.embed_watch import StallWatch
from audioflow.engine.embed_work import Done, Embedded, Work, clips_in, works_of
from audioflow.engine.lost import RETRIES, in_our_words
from audioflow.engine.node_names import on_this_node
from audioflow.engine.pulse import Pulse
from audioflow.engine.session import configure_data
from audioflow.media.packing import input_column
from audioflow.planning.machines import Need
from audioflow.tables import Receipt
from audioflow.timing import NO_TIMES, Times

MOST_AT_ONCE = 65_536
"""Shards in one execution of Ray Data, of which each takes the driver some kilobytes; the actors of
the next begin anew."""


@dataclass(frozen=True)
class Share:
    """What a task or an actor takes of a node. where: options of Ray that say which."""

    num_cpus: float
    num_gpus: float
    memory: int
    where: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, need: Need) -> "Share":
        """As it is needed."""
        takes = need.resources
        where = {"label_selector": dict(need.labels)} if need.labels else {}
        memory = int(takes.get("memory", 0))
        return cls(takes.get("CPU", 0.0), takes.get("GPU", 0.0), memory, where)

    @property
    def options(self) -> dict[str, Any]:
        """For Ray Data."""
        found: dict[str, Any] = {"num_cpus": self.num_cpus, **self.where}
        found |= {"num_gpus": self.num_gpus} if self.num_gpus else {}
        return found | ({"memory": self.memory} if self.memory else {})

    def __str__(self) -> str:
        told = {"CPU": self.num_cpus, "GPU": self.num_gpus, "memory": self.memory}
        return str(Need("", "", told, self.where.get("label_selector", {})))


@dataclass(frozen=True)
class Stage:
    """The actors of one backbone: how many there are at first, and may be when nodes join."""

    spec: BackboneSpec
    share: Share
    actors: int
    most: int


@dataclass(frozen=True)
class Stream:
    """Decode tasks, and the stages that their rows pass.

    store_bytes: how much may wait in between, on the nodes that there are by then.
    """

    task: DecodeTask
    decoder: Share
    stages: Sequence[Stage]
    store_bytes: Callable[[], int]

    def results(self, items: Rowables, stall_timeout_s: float) -> Generator[tuple[int, Done]]:
        """What became of every item, by its number, in the order they finish.

        Raises `StalledError` where no clip is finished for longer than `stall_timeout_s`.
        """
        configure_data()
        for first in range(0, len(items), MOST_AT_ONCE):
            numbers = range(first, min(first + MOST_AT_ONCE, len(items)))
            yield from self._execution(items, numbers, stall_timeout_s)

    def _execution(
        self, items: Rowables, numbers: range, stall_timeout_s: float
    ) -> Generator[tuple[int, Done]]:
        board = BoardRef()
        watch = StallWatch(stall_timeout_s, board, self._needs())
        gather = _Gather(items, [stage.spec for stage in self.stages])
        with in_our_words(), handing_out(items) as rows, _options(watch, self.store_bytes):
            for batch in self._dataset(numbers, rows, board).iter_batches(
                batch_size=None, batch_format="pyarrow"
            ):
                watch.moved()
                for row in batch.to_pylist():
                    gather.add(row)
                for number, done in gather.done():
                    yield number, replace(done, waiting=watch.waiting)
        with in_our_words():
            yield from gather.rest()

    def _dataset(self, numbers: range, rows: RowsRef, board: BoardRef) -> ray.data.Dataset:
        tables = [pa.table({"item": pa.array([number], pa.int64())}) for number in numbers]
        dataset = ray.data.from_arrow(tables).map_batches(
            decode_asked,
            batch_size=1,
            batch_format="pyarrow",
            fn_kwargs={"rows": rows, "task": self.task, "board": board},
            max_retries=RETRIES,
            **self.decoder.options,
        )
        columns = [input_column(stage.spec.input) for stage in self.stages]
        for position, stage in enumerate(self.stages):
            spent = sorted(set(columns) - set(columns[position + 1 :]))
            first = min(len(numbers), stage.actors)
            most = max(first, min(len(numbers), stage.most))
            dataset = dataset.map_batches(
                EmbedShard,
                fn_constructor_args=(stage.spec, spent, board),
                batch_size=1,
                batch_format="pyarrow",
                compute=ray.data.ActorPoolStrategy(min_size=first, max_size=most),
                max_restarts=RETRIES,
                max_task_retries=-1,  # as long as the actor comes back
                **stage.share.options,
            )
        return dataset

    def _needs(self) -> str:
        needs = [f"a decode task needs {self.decoder}"]
        needs += [f"an actor of {stage.spec.table} needs {stage.share}" for stage in self.stages]
        return "; ".join(needs)


@contextmanager
def _options(watch: StallWatch, store_bytes: Callable[[], int]) -> Iterator[None]:
    """While it lasts, executions of Ray Data are looked after by `watch` instead of Ray's guard.

    store_bytes: how much may wait between decoders and backbones in the object store. Without a
    limit decoders run far ahead, and the workers' memory grows by all that they ever mapped.
    """
    context = ray.data.DataContext.get_current()
    before = context.execution_options
    limits = ray.data.ExecutionResources.for_limits(object_store_memory=store_bytes())
    context.execution_options = ray.data.ExecutionOptions(resource_limits=limits)
    context.execution_no_progress_timeout_s = -1
    context.custom_execution_callback_classes = [watch.callback(store_bytes)]
    try:
        yield
    finally:
        context.execution_options = before
        context.custom_execution_callback_classes = []


@dataclass
class _Gather:
    """Brings the parts of shards together that came in several rows."""

    items: Rowables
    specs: Sequence[BackboneSpec]
    _seen: dict[int, set[int]] = field(default_factory=dict)
    _count: dict[int, int] = field(default_factory=dict)
    _node: dict[int, str] = field(default_factory=dict)
    _times: dict[int, Times] = field(default_factory=dict)
    _done: list[tuple[int, Done]] = field(default_factory=list)
    _merging: dict[Any, int] = field(default_factory=dict)

    def add(self, row: Mapping[str, Any]) -> None:
        """Take what came out of the pipeline for a shard, or for a part of it."""
        number, part, times = row["item"], row["part"], Times.from_text(row["times"])
        if part == 0 and row["last"]:
            receipts = json.loads(row["receipts"])
            found = {table: Receipt(**data) for table, data in receipts.items()}
            self._done.append((number, Done(found, times)))
            return
        self._times[number] = self._times.get(number, NO_TIMES) + times
        self._seen.setdefault(number, set()).add(part)
        if row["last"]:
            self._count[number] = part + 1
            self._node[number] = row["node"]
        if len(self._seen[number]) == self._count.get(number):
            specs = self._of(number)
            made = _Parts(self._count[number], self._node[number], self._times[number])
            self._merging[merge_shard.remote(self.items[number].row(number), specs, made)] = number

    def _of(self, number: int) -> list[BackboneSpec]:
        """The backbones that have something to do for a shard."""
        works = self.items[number].works
        return [spec for spec in self.specs if _own(spec, works)]

    def done(self) -> Iterator[tuple[int, Done]]:
        """What is finished by now."""
        refs = list(self._merging)
        ready = ray.wait(refs, num_returns=len(refs), timeout=0)[0] if refs else []
        yield from self._merged(ready)

    def rest(self) -> Iterator[tuple[int, Done]]:
        """Everything that is left, waited for."""
        yield from self._merged(list(self._merging))

    def _merged(self, ready: Sequence[Any]) -> Iterator[tuple[int, Done]]:
        for ref in ready:
            number = self._merging.pop(ref)
            self._done.append((number, Done(ray.get(ref), self._times[number])))
            for spec in self._of(number):
                table, name = spec.committer.keeper(_own(spec, self.items[number].works))
                table.remove_parts(name, self._count[number])
        done, self._done = self._done, []
        yield from done


def _own(spec: BackboneSpec, works: Mapping[str, Work]) -> dict[str, Work]:
    return {table: works[table] for table in spec.tables if table in works}


@dataclass(frozen=True)
class _Parts:
    """How many parts a shard was embedded in, where they were decoded, and what they took."""

    count: int
    node: str
    times: Times


@ray.remote(num_cpus=0, max_retries=RETRIES)
def merge_shard(row: pa.Table, specs: Sequence[BackboneSpec], made: _Parts) -> dict[str, Receipt]:
    """Commit a shard that was embedded in parts, in every table."""
    row = row.append_column("node", pa.array([made.node], pa.string()))
    pulse = Pulse()
    found: dict[str, Receipt] = {}
    for spec in specs:
        committer, works = spec.committer, _own(spec, works_of(row))
        table, name = committer.keeper(works)
        clips = replace(clips_in(row), times=_until_now(made.times, pulse, spec.table))
        with on_this_node(), pulse.at("write", clips.ids[0]):
            embedded = [
                Embedded.from_rows(rows, clips, committer.layers)
                for rows in table.read_parts(name, made.count)
            ]
            found |= committer.commit(works, clips, embedded)
    return found


def _until_now(times: Times, pulse: Pulse, table: str) -> Callable[[], Times]:
    """Gives what was done for the shard of a table until it is asked."""
    return lambda: (times + pulse.times()).of_table(table)
