"""Training on a table larger than memory: its shards stream through Ray Data in every epoch.

Which example is in which step is settled before: shards are dealt to lanes in an order that the
seed gives, every lane is cut into as many pieces as there are steps, and step t takes piece t of
every lane. A worker reads the lanes that are its own. So every worker takes the same number of
steps, whatever its shards hold, and one worker and many take the same global batches.

Shapes: N examples, L lanes, S steps.
"""

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import ray
import ray.data
import torch
from numpy.typing import NDArray
from torch import Tensor

from audioflow.engine.lost import RETRIES
from audioflow.engine.room import Room
from audioflow.engine.session import configure_data
from audioflow.engine.train_data import membership
from audioflow.engine.train_task import TrainTask
from audioflow.planning.machines import Need
from audioflow.systems.examples import Examples, joined
from audioflow.systems.inputs import ClipRows
from audioflow.tables import Table
from audioflow.training.batches import Share, class_weights
from audioflow.training.loop import Workers, usable_deviation

MOST_LANES = 64
"""Shards that are mixed in a batch; each lane holds one of them in memory."""
READ_CPUS = 0.25
"""Ray Data has what those who train leave over, and would wait for ever where that is nothing."""
_STALL_S = 600.0
_READERS = 2
"""Shards that are read at a time for each worker: more processes take long to start."""


@dataclass(frozen=True)
class StreamShard:
    """A shard with clips to learn from: which of its rows, and their targets.

    rows: int64 (B,) of its `train` clips, variants included; count: examples that these give.
    """

    name: str
    rows: NDArray[np.int64]
    targets: NDArray[Any]
    count: int = 0


@dataclass(frozen=True)
class StreamTask:
    """A task whose examples stream. lanes: L, the same however many workers train."""

    task: TrainTask
    train: tuple[StreamShard, ...]
    val: tuple[StreamShard, ...]
    lanes: int
    means: tuple[NDArray[np.float64], ...]
    stds: tuple[NDArray[np.float64], ...]


@dataclass(frozen=True)
class _Survey:
    """What one pass over a shard tells: examples, bytes, sums and squares of every column."""

    count: int
    rows: int
    nbytes: int
    sums: tuple[NDArray[np.float64], ...]
    squares: tuple[NDArray[np.float64], ...]


def plan_stream(task: TrainTask, room: Callable[[Sequence[Need]], Room]) -> StreamTask:
    """Look through the table once, on all cores of the cluster; keeps a few numbers per clip."""
    members = membership(task)
    found: dict[str, list[StreamShard]] = {"train": [], "val": []}
    for name, rows in Table(task.embeddings).shards(["clip_id", "variant"]):
        ids, variants = rows["clip_id"].to_pylist(), rows["variant"].to_pylist()
        for part, shards in found.items():
            mine = [
                place
                for place, (clip_id, variant) in enumerate(zip(ids, variants, strict=True))
                if members.parts.get(clip_id) == part and (part == "train" or variant == 0)
            ]
            if mine:
                targets = members.targets(part, [ids[place] for place in mine])
                shards.append(StreamShard(name, np.array(mine, np.int64), targets))
    survey = ray.remote(num_cpus=1, max_retries=RETRIES)(_survey)  # no worker trains yet
    need = Need(f"systems.{task.system}.train", "a reader", {"CPU": 1.0})
    refs = [survey.remote(task, shard) for shard in found["train"]]
    told: list[_Survey] = room([need]).get(refs)
    total = sum(one.rows for one in told)
    means = tuple(sum(part) / total for part in zip(*(one.sums for one in told), strict=True))
    stds = []
    for mean, squares in zip(means, zip(*(one.squares for one in told), strict=True), strict=True):
        variance = np.maximum(sum(squares) / total - mean**2, 0)
        stds.append(usable_deviation(mean, np.sqrt(variance)))
    largest = max(one.nbytes for one in told)
    fits = int(task.section.train.memory_gb * 2**30 / 2 / max(1, largest))
    lanes = max(task.section.train.workers, min(MOST_LANES, len(told), max(8, fits)))
    train = tuple(
        StreamShard(shard.name, shard.rows, shard.targets, one.count)
        for shard, one in zip(found["train"], told, strict=True)
    )
    return StreamTask(task, train, tuple(found["val"]), lanes, means, tuple(stds))


def _survey(task: TrainTask, shard: StreamShard) -> _Survey:
    examples = _examples(_clips(task, shard), shard, task)
    wide = [rows.reshape(-1, rows.shape[-1]) for rows in examples.rows]
    return _Survey(
        len(examples),
        len(wide[0]),
        examples.nbytes,
        tuple(rows.sum(axis=0, dtype=np.float64) for rows in wide),
        tuple(np.square(rows, dtype=np.float64).sum(axis=0) for rows in wide),
    )


def _clips(task: TrainTask, shard: StreamShard) -> ClipRows:
    rows = Table(task.embeddings).read_shard(shard.name, task.inputs.columns)
    return task.inputs.read(rows.take(pa.array(shard.rows)))


def _examples(clips: ClipRows, shard: StreamShard, task: TrainTask) -> Examples:
    examples = Examples(clips.rows, clips.offsets, shard.targets)
    return examples.per_patch() if task.section.train.unit == "patch" else examples


@dataclass(frozen=True)
class StreamedSets:
    """What is known before the first epoch."""

    val: Examples
    weights: Tensor
    normalisation: tuple[list[Tensor], list[Tensor]]
    clips: Mapping[str, int]


def streamed_sets(stream: StreamTask, workers: Workers) -> StreamedSets:
    """The `val` clips (on the first worker, which judges), class weights, normalisation."""
    task = stream.task
    rule = task.section.train.class_weights
    targets = np.concatenate([shard.targets for shard in stream.train])
    parts = []
    if workers.rank == 0:
        for shard in stream.val:
            clips = _clips(task, shard)
            parts.append(Examples(clips.rows, clips.offsets, shard.targets))
    none = Examples(
        tuple(np.zeros((0, width), np.float32) for width in task.inputs.shape.widths),
        np.zeros(1, np.int64),
        targets[:0],
    )
    means, stds = (
        [torch.from_numpy(values.astype(np.float32)) for values in columns]
        for columns in (stream.means, stream.stds)
    )
    clips_by_part = {"train": len(targets), "val": sum(len(shard.rows) for shard in stream.val)}
    return StreamedSets(
        joined(parts) if parts else none,
        class_weights(targets, rule, len(task.classes.head)),
        (means, stds),
        clips_by_part,
    )


class StreamSource:
    """The examples of a worker's lanes, read by Ray Data while it trains."""

    def __init__(self, stream: StreamTask, weights: Tensor, workers: Workers) -> None:
        self._stream = stream
        self._weights = weights
        self._workers = workers
        self._counts = np.array([shard.count for shard in stream.train], np.int64)

    @property
    def num_examples(self) -> int:
        return int(self._counts.sum())

    @property
    def steps(self) -> int:
        return -(-self.num_examples // self._stream.task.section.train.batch_size)

    @property
    def weights(self) -> Tensor:
        return self._weights

    def epoch(self, epoch: int) -> Iterator[Share]:
        plan = epoch_plan(
            self._counts,
            self._stream.lanes,
            self.steps,
            self._stream.task.section.train.seed,
            epoch,
        )
        lanes = range(self._workers.rank, self._stream.lanes, self._workers.count)
        order = plan.reading_order(lanes)
        read = self._read([self._stream.train[shard] for _, shard in order], epoch)
        buffers = {lane: _Lane() for lane in lanes}
        arriving = iter(zip(order, read, strict=True))
        for step in range(self.steps):
            pieces: list[Examples] = []
            for lane, buffer in buffers.items():
                until = plan.until(lane, step)
                while buffer.arrived < until:
                    (where, _), examples = next(arriving)
                    buffers[where].add(examples)
                pieces += buffer.give(until)
            whole = sum(plan.size(lane, step) for lane in range(self._stream.lanes))
            yield Share(joined(pieces) if pieces else self._nothing(), whole)

    def _nothing(self) -> Examples:
        inputs = self._stream.task.inputs
        tall = (inputs.vectors_per_patch,) if "picture" in inputs.takes else ()
        return Examples(
            tuple(np.zeros((0, *tall, width), np.float32) for width in inputs.shape.widths),
            np.zeros(1, np.int64),
            self._stream.train[0].targets[:0],
        )

    def _read(self, shards: Sequence[StreamShard], epoch: int) -> Iterator[Examples]:
        """The examples of shards, in this order, each shuffled."""
        task = self._stream.task
        if not shards:
            return
        configure_data()
        context = ray.data.DataContext.get_current()
        context.execution_options.preserve_order = True
        context.execution_no_progress_timeout_s = _STALL_S
        items = [
            pa.table({"shard": pa.array([s.name]), "rows": pa.array([s.rows])}) for s in shards
        ]
        dataset = ray.data.from_arrow(items).map_batches(
            read_shard,
            batch_size=1,
            batch_format="pyarrow",
            num_cpus=READ_CPUS,
            compute=ray.data.TaskPoolStrategy(_READERS),
            fn_kwargs={"task": task},
            max_retries=RETRIES,
        )
        blocks = dataset.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=2)
        arrived = (block.slice(row, 1) for block in blocks for row in range(block.num_rows))
        for shard, row in zip(shards, arrived, strict=True):
            if row["shard"][0].as_py() != shard.name:
                raise AssertionError(f"{row['shard'][0].as_py()} came where {shard.name} was due")
            examples = _examples(unpacked(row, task), shard, task)
            generator = np.random.default_rng([task.section.train.seed, epoch, int(shard.rows[0])])
            yield examples.take(generator.permutation(len(examples)))


class _Lane:
    """Examples of a lane: how many have arrived and were given, and those in between."""

    def __init__(self) -> None:
        self.arrived = self.given = 0
        self._shards: deque[Examples] = deque()
        self._begun = 0

    @property
    def nbytes(self) -> int:
        """Of the shards that are held."""
        return sum(examples.nbytes for examples in self._shards)

    def add(self, examples: Examples) -> None:
        """A shard has arrived."""
        self._shards.append(examples)
        self.arrived += len(examples)

    def give(self, until: int) -> list[Examples]:
        """The next examples, so many of the lane having been given with them."""
        pieces = []
        while self.given < until:
            first = self._shards[0]
            taken = min(until - self.given, len(first) - self._begun)
            pieces.append(first.take(np.arange(self._begun, self._begun + taken)))
            self.given += taken
            self._begun += taken
            if self._begun == len(first):
                self._shards.popleft()
                self._begun = 0
        return pieces


def read_shard(item: pa.Table, task: TrainTask) -> pa.Table:
    """A task of Ray Data: the wanted rows of a shard as the network takes them, as bytes."""
    shard = StreamShard(
        item["shard"][0].as_py(), np.array(item["rows"][0].as_py(), np.int64), np.zeros(0)
    )
    clips = _clips(task, shard)
    columns = {"shard": item["shard"], "offsets": pa.array([clips.offsets])}
    for place, rows in enumerate(clips.rows):
        columns[f"layer_{place}"] = pa.array([rows.tobytes()], pa.large_binary())
    return pa.table(columns)


def unpacked(row: pa.Table, task: TrainTask) -> ClipRows:
    """What `read_shard` gave."""
    inputs = task.inputs
    tall = (inputs.vectors_per_patch,) if "picture" in inputs.takes else ()
    layers = tuple(
        np.frombuffer(row[f"layer_{place}"][0].as_buffer(), np.float32).reshape(-1, *tall, width)
        for place, width in enumerate(inputs.shape.widths)
    )
    return ClipRows([], layers, np.array(row["offsets"][0].as_py(), np.int64))


@dataclass(frozen=True)
class EpochPlan:
    """Which shards are in which lane (indices, in order), and where each begins in it."""

    lanes: tuple[NDArray[np.int64], ...]
    starts: tuple[NDArray[np.int64], ...]
    totals: NDArray[np.int64]
    steps: int

    def until(self, lane: int, step: int) -> int:
        """Examples of a lane that are given by the end of a step."""
        return int(self.totals[lane] * (step + 1) // self.steps)

    def size(self, lane: int, step: int) -> int:
        """Examples of a lane in a step."""
        return int(self.until(lane, step) - self.totals[lane] * step // self.steps)

    def reading_order(self, lanes: Sequence[int]) -> list[tuple[int, int]]:
        """(lane, shard) in the order in which these lanes need them."""
        needs = []
        for lane in lanes:
            for shard, start in zip(self.lanes[lane], self.starts[lane], strict=True):
                # The first step whose end lies beyond the shard's first example.
                step = -(-(int(start) + 1) * self.steps // int(self.totals[lane])) - 1
                needs.append((step, lane, int(start), int(shard)))
        return [(lane, shard) for _, lane, _, shard in sorted(needs)]


def epoch_plan(
    counts: NDArray[np.int64], lanes: int, steps: int, seed: int, epoch: int
) -> EpochPlan:
    """Deal shards with so many examples each to lanes, in the order of this epoch."""
    order = np.random.default_rng([seed, epoch]).permutation(len(counts))
    dealt = tuple(order[lane::lanes] for lane in range(lanes))
    starts = tuple(np.cumsum(counts[mine]) - counts[mine] for mine in dealt)
    totals = np.array([counts[mine].sum() for mine in dealt], np.int64)
    return EpochPlan(dealt, starts, totals, steps)
