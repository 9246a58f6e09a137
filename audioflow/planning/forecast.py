"""From the measurements of a sample to what the job `embed` will take."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from audioflow.planning.estimate import (
    Cluster,
    Memory,
    Stage,
    Wall,
    Where,
    decode_workers,
    total,
    wall,
)
from audioflow.planning.figures import (
    Forecast,
    Measured,
    Price,
    Rules,
    StratumForecast,
    TableForecast,
    TableMeasured,
    TableTodo,
)
from audioflow.planning.intervals import Interval, effective_count, wilson
from audioflow.planning.sample import Floats, Recordings, Sample

STARTUP_S = 7.0
"""From the command to the first shard: Ray, and torch in every actor (benchmarks/README.md)."""

WRITES = 2
"""Files of a shard: its rows and its receipt; a third one where clips of it failed."""

WORKER_BYTES = 200e6
"""A decode worker beside its child: Python, Arrow and Ray. An assumption, it is not probed."""

DECODE = "decode"


@dataclass(frozen=True, eq=False)
class Known:
    """All that a forecast is made from."""

    recordings: Recordings
    sample: Sample
    measured: Measured
    todo: Sequence[TableTodo]
    rules: Rules
    cluster: Cluster
    price: Price | None = None

    def total(self, values: Floats, where: Where | None = None) -> Interval:
        return total(values, self.sample, self.recordings, where)


def forecast(known: Known) -> Forecast:
    """Put together what `embed` will take."""
    measured, recordings = known.measured, known.recordings
    tables = tuple(_table(known, *pair) for pair in zip(measured.tables, known.todo, strict=True))
    any_left = np.any([todo.left for todo in known.todo], axis=0)
    decoding = measured.decode_s + measured.fetch_s
    decode_s, decode_left = known.total(decoding), known.total(decoding, any_left)
    media_s = known.total(measured.media_s)
    shards = max(todo.shards for todo in known.todo)
    own = min(known.rules.own_workers, shards)
    workers = own or decode_workers(known.cluster, known.rules.decode_cpus, shards)
    stages = [
        Stage(DECODE, decode_left.value, workers),
        *(Stage(f"embeddings/{t.table}", t.core_s_left, t.actors, t.actors_on_gpu) for t in tables),
    ]
    longest_s = _longest_s(known) if any_left.any() else 0.0
    took = wall(stages, known.cluster, longest_s, STARTUP_S, own)
    wall_s = _bounds(took, decode_left)
    return Forecast(
        clips=int(recordings.clips.sum()),
        recordings=len(recordings),
        sampled_recordings=len(known.sample),
        sampled_clips=measured.clips_tried,
        probe_s=measured.probe_s,
        media_s=media_s,
        media_s_left=known.total(measured.media_s, any_left),
        fetch_bytes=_fetch_bytes(known),
        reads=int(np.count_nonzero(any_left)),
        writes=sum(WRITES * (todo.shards - todo.shards_done) for todo in known.todo),
        decode_x_real_time=_rate(media_s.value, decode_s.value),
        decode_core_s=decode_s.value,
        decode_core_s_left=decode_left.value,
        decode_workers=workers,
        fetch_share=_rate(float(measured.fetch_s.sum()), float(decoding.sum())),
        tables=tables,
        cluster=known.cluster,
        wall=took,
        wall_s=wall_s,
        memory_per_machine=_memory(known, workers, tables),
        row_bytes=measured.row_bytes,
        decoder_child_bytes=measured.child_bytes,
        max_failed_share=known.rules.max_failed_share,
        strata=tuple(_strata(known)),
        price=known.price,
        cost=_cost(known, wall_s),
    )


def _table(known: Known, measured: TableMeasured, todo: TableTodo) -> TableForecast:
    rows, media_s = known.total(measured.rows), known.total(measured.media_s)
    embed_s = measured.patches * measured.patch_cost_s
    core_s = known.total(embed_s).value
    files = measured.file_bytes * todo.shards
    packed = known.total(measured.raw_bytes * measured.packed)
    output = Interval(packed.value + files, packed.low + files, packed.high + files)
    share = _failed_share(known, measured)
    return TableForecast(
        table=todo.table,
        backbone=measured.backbone,
        device=measured.device,
        actors=min(todo.actors, todo.shards),
        actors_on_gpu=todo.on_gpu,
        x_real_time=_rate(media_s.value, core_s),
        patches_per_clip=_rate(float(measured.patches.sum()), float(measured.rows.sum())),
        hop_s=measured.hop_s,
        core_s=core_s,
        core_s_left=known.total(embed_s, todo.left).value,
        rows=rows.value,
        bytes_per_clip=_rate(output.value, rows.value),
        output_bytes=output,
        shards=todo.shards,
        shards_done=todo.shards_done,
        may_take_over=todo.may_take_over,
        failed_share=share,
        too_many_failures=share.value > known.rules.max_failed_share,
        errors=measured.errors,
        load_s=measured.load_s,
        process_bytes=measured.process_bytes,
    )


def _failed_share(known: Known, measured: TableMeasured) -> Interval:
    """Share of the clips that fail, and Wilson's interval, 95 %."""
    weights = known.sample.weights
    failed = float((weights * measured.failed).sum())
    tried = failed + float((weights * measured.rows).sum())
    return wilson(_rate(failed, tried), effective_count(weights, len(known.recordings)))


def _fetch_bytes(known: Known) -> Interval:
    """Exact where the manifest says all sizes."""
    summed = float(known.recordings.size_bytes.sum())
    if not np.isnan(summed):
        return Interval(summed, summed, summed)
    return known.total(known.measured.fetched_bytes)


def _longest_s(known: Known) -> float:
    """What one core takes for the recording of the sample that takes longest."""
    measured = known.measured
    embed_s = [table.patches * table.patch_cost_s for table in measured.tables]
    return float(np.max(measured.decode_s + measured.fetch_s + np.sum(embed_s, axis=0)))


def _bounds(took: Wall, decoding: Interval) -> Interval:
    """Bounds of the time on the clock: relatively those of decoding, which all else follows."""
    work_s = took.seconds - took.startup_s
    if not decoding.value:
        return Interval(took.seconds, took.seconds, took.seconds)
    low, high = decoding.low / decoding.value, decoding.high / decoding.value
    return Interval(took.seconds, took.startup_s + work_s * low, took.startup_s + work_s * high)


def _memory(known: Known, workers: int, tables: Sequence[TableForecast]) -> Memory:
    """Of one machine, work being spread evenly; rows wait between one stage and the next.

    Workers of their own hold one row each, beside the backbones.
    """
    actors = sum(table.actors for table in tables)
    machines = known.cluster.machines
    limit = known.rules.decode_memory_gb * 2**30
    own = known.rules.own_workers > 0
    beside = 0 if own else WORKER_BYTES
    rows = workers if own else workers + 2 * actors
    return Memory(
        decode_bytes=workers * (known.measured.child_bytes + beside) / machines,
        backbones_bytes=sum(table.actors * table.process_bytes for table in tables) / machines,
        store_bytes=rows * known.measured.row_bytes / machines,
        decode_limit_bytes=workers * (limit + beside) / machines,
    )


def _cost(known: Known, wall_s: Interval) -> Interval | None:
    if known.price is None:
        return None
    return wall_s.scaled(known.price.per_machine_h * known.cluster.machines / 3600)


def _strata(known: Known) -> list[StratumForecast]:
    found = []
    measured, sample = known.measured, known.sample
    clips = known.recordings.clips[sample.chosen].astype(np.float64)
    for number, stratum in enumerate(sample.strata):
        mine = sample.stratum == number

        def summed(values: Floats, mine: Where = mine) -> float:
            return float(values[mine].sum())

        found.append(
            StratumForecast(
                **vars(stratum),
                clips=summed(clips),
                fetched_bytes=summed(measured.fetched_bytes),
                media_s=summed(measured.media_s),
                fetch_s=summed(measured.fetch_s),
                decode_s=summed(measured.decode_s),
                embed_s={t.table: summed(t.patches * t.patch_cost_s) for t in measured.tables},
                output_bytes={t.table: summed(t.raw_bytes * t.packed) for t in measured.tables},
                failed_clips={t.table: summed(t.failed) for t in measured.tables},
            )
        )
    return found


def _rate(above: float, below: float) -> float:
    """A quotient, 0 where there is nothing to divide by."""
    return above / below if below else 0.0
