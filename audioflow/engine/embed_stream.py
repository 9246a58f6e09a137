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
from audioflow.engine.embed_decode import DecodeTask, decode_and_tell
from audioflow.engine.embed_pulse import BoardRef
from audioflow.engine.embed_watch import StallWatch
from audioflow.engine.embed_work import Done, Embedded, Work, clips_in, works_of
from audioflow.engine.lost import RETRIES, in_our_words
from audioflow.engine.pulse import Pulse
from audioflow.engine.session import configure_data
from audioflow.media.packing import input_column
from audioflow.tables import Receipt
from audioflow.timing import NO_TIMES, Times


@dataclass(frozen=True)
class Stage:
    """The actors of one backbone."""

    spec: BackboneSpec
    actors: int
    num_gpus: float


@dataclass(frozen=True)
class Stream:
    """Decode tasks, and the stages that their rows pass; `store_bytes` may wait in between."""

    task: DecodeTask
    decode_cpus: float
    stages: Sequence[Stage]
    store_bytes: int

    def results(
        self, rows: Sequence[pa.Table], works: Sequence[Mapping[str, Work]], stall_timeout_s: float
    ) -> Generator[tuple[int, Done]]:
        """What became of every row, by its number, in the order they finish.

        works: by row, what is to be done for each table. Raises `StalledError` where no clip is
        finished for longer than `stall_timeout_s`.
        """
        configure_data()
        board = BoardRef()
        watch = StallWatch(stall_timeout_s, board, self._needs())
        gather = _Gather(works, rows, [stage.spec for stage in self.stages])
        with in_our_words(), _options(watch, self.store_bytes):
            for batch in self._dataset(rows, board).iter_batches(
                batch_size=None, batch_format="pyarrow"
            ):
                watch.moved()
                for row in batch.to_pylist():
                    gather.add(row)
                for number, done in gather.done():
                    yield number, replace(done, waiting=watch.waiting)
        with in_our_words():
            yield from gather.rest()

    def _dataset(self, rows: Sequence[pa.Table], board: BoardRef) -> ray.data.Dataset:
        dataset = ray.data.from_arrow(list(rows)).map_batches(
            decode_and_tell,
            batch_size=1,
            batch_format="pyarrow",
            num_cpus=self.decode_cpus,
            fn_kwargs={"task": self.task, "board": board},
            max_retries=RETRIES,
        )
        columns = [input_column(stage.spec.input) for stage in self.stages]
        for position, stage in enumerate(self.stages):
            spent = sorted(set(columns) - set(columns[position + 1 :]))
            dataset = dataset.map_batches(
                EmbedShard,
                fn_constructor_args=(stage.spec, spent, board),
                batch_size=1,
                batch_format="pyarrow",
                compute=ray.data.ActorPoolStrategy(size=min(len(rows), stage.actors)),
                num_cpus=0,
                num_gpus=stage.num_gpus,
                max_restarts=RETRIES,
                max_task_retries=-1,  # as long as the actor comes back
            )
        return dataset

    def _needs(self) -> str:
        needs = [f"a decode task needs {self.decode_cpus:g} CPU"]
        needs += [
            f"an actor of {stage.spec.table} needs {stage.num_gpus:g} GPU"
            for stage in self.stages
            if stage.num_gpus
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

    works: Sequence[Mapping[str, Work]]
    rows: Sequence[pa.Table]
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
            self._merging[merge_shard.remote(self.rows[number], specs, made)] = number

    def _of(self, number: int) -> list[BackboneSpec]:
        """The backbones that have something to do for a shard."""
        return [spec for spec in self.specs if _own(spec, self.works[number])]

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
                table, name = spec.committer.keeper(_own(spec, self.works[number]))
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
        with pulse.at("write", clips.ids[0]):
            embedded = [
                Embedded.from_rows(rows, clips, committer.layers)
                for rows in table.read_parts(name, made.count)
            ]
            found |= committer.commit(works, clips, embedded)
    return found


def _until_now(times: Times, pulse: Pulse, table: str) -> Callable[[], Times]:
    """Gives what was done for the shard of a table until it is asked."""
    return lambda: (times + pulse.times()).of_table(table)
