"""The timeline as the page shows it: jobs, how fast they were, failures, and what each worker did.

Few shards are drawn one by one, many as shares of the time per bin; many workers by node.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from audioflow.report.data import ReportData
from audioflow.report.formats import count, duration, join_words, percent_sign, plural, rate
from audioflow.report.lanes import Lane, binned, lanes_of, seconds_by_stage
from audioflow.report.svg import colour
from audioflow.report.timeline import (
    Floats,
    TimeAxis,
    Timeline,
    axis_of,
    clip_rates,
    failure_counts,
    united,
)
from audioflow.report.timeline_canvas import BINS, CHANGES, Canvas

MOST_LANES = 24
MOST_PIECES = 1200
_LEAST_BINS = 60
_LOW, _LANE, _TALL = 14, 18, 40
_GREYS = {
    "decode": "split0",
    "fetch": "split1",
    "read": "split1",
    "write": "split2",
    "load": "split3",
}
_WORDS = {
    "fetch": "fetching",
    "decode": "decoding",
    "read": "reading",
    "write": "writing",
    "load": "loading",
}


@dataclass(frozen=True)
class Row:
    """One chart on the time axis; `value` is what stands behind its name."""

    name: str
    chart: Markup
    value: str = ""


@dataclass(frozen=True)
class RowGroup:
    """Rows of one kind under a heading; `legend` says what their colours mean."""

    title: str
    rows: tuple[Row, ...]
    legend: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class TimelineView:
    """What the page shows of the time; `lead` sums it up, `notes` say what is not plain to see."""

    lead: str
    groups: tuple[RowGroup, ...]
    axis: Markup
    notes: tuple[str, ...]


def timeline_view(data: ReportData) -> TimelineView | None:
    """The timeline of a run; None where nothing is known of when it did what."""
    timeline = data.timeline
    axis = axis_of(timeline) if timeline else None
    if timeline is None or axis is None:
        return None
    lanes = lanes_of(timeline.shards)
    canvas = Canvas(axis, timeline.marks)
    groups = (_jobs(timeline, canvas), _rates(timeline, canvas), _workers(lanes, canvas))
    return TimelineView(
        lead=_lead(axis, lanes),
        groups=tuple(group for group in groups if group.rows),
        axis=canvas.scale(),
        notes=tuple(_notes(timeline)),
    )


def _jobs(timeline: Timeline, canvas: Canvas) -> RowGroup:
    """A row per job: when it made its tables, and shards of them in earlier sessions."""
    rows = []
    jobs = [table.job for table in timeline.tables] + [shard.job for shard in timeline.shards]
    for job in dict.fromkeys(jobs):
        tables = [one for one in timeline.tables if one.job == job]
        shards = [(one.begin, one.end) for one in timeline.shards if one.job == job]
        boxes = [
            canvas.box(begin, end, _LOW, "tl-before", f"{job}: shards that were committed")
            for begin, end in united(shards)
        ]
        boxes += [
            canvas.box(begin, end, _LOW, f"tl-job{place % 2}", f"{names}: {duration(end - begin)}")
            for place, ((begin, end), names) in enumerate(_passes(timeline, job).items())
        ]
        whole = united([*shards, *((one.begin, one.end) for one in tables)])
        took = duration(sum(end - begin for begin, end in whole))
        rows.append(Row(job, canvas.row(boxes, _LOW, f"when {job} ran"), took))
    return RowGroup("Jobs", tuple(rows))


def _passes(timeline: Timeline, job: str) -> dict[tuple[float, float], str]:
    """When tables of a job were made, and which: one pass may have made several."""
    found: dict[tuple[float, float], list[str]] = {}
    exact: dict[tuple[int, int], tuple[float, float]] = {}
    for one in timeline.tables:
        if one.job == job:  # tables of one pass are finished one after the other
            key = (round(one.begin), round(one.end))
            place = exact.setdefault(key, (one.begin, one.end))
            found.setdefault(place, []).append(one.table)
    return {place: join_words(names) for place, names in found.items()}


def _rates(timeline: Timeline, canvas: Canvas) -> RowGroup:
    """Clips per second of every job that makes shards, and when clips failed."""
    rows = []
    for place, job in enumerate(dict.fromkeys(shard.job for shard in timeline.shards)):
        mine = [shard for shard in timeline.shards if shard.job == job]
        rates = clip_rates(mine, canvas.edges, timeline.every)
        most = float(rates.max())
        low = np.zeros(len(rates))
        area = canvas.columns(low, rates / most, _TALL, f"tl-area {colour(place)}")
        text = f"up to {rate(most)} clips/s"
        rows.append(Row(job, canvas.row([area], _TALL, f"clips per second of {job}"), text))
    failures = timeline.every * failure_counts(timeline.shards, canvas.edges)
    if failures.any():
        heights = np.where(failures > 0, np.maximum(0.25, failures / failures.max()), 0.0)
        bars = canvas.columns(np.zeros(len(heights)), heights, _LANE, "tl-failures")
        chart = canvas.row([bars], _LANE, "when clips failed")
        rows.append(Row("failures", chart, count(int(failures.sum()))))
    return RowGroup("Clips per second", tuple(rows))


def _workers(lanes: Sequence[Lane], canvas: Canvas) -> RowGroup:
    """What every worker did; of many, what those of each node did."""
    seconds = seconds_by_stage(lanes)
    css = _colours(seconds)
    pieces = sum(len(lane.pieces) for lane in lanes)
    if len(lanes) <= MOST_LANES and pieces <= MOST_PIECES:
        rows = [_lane(lane, canvas, css) for lane in lanes]
    else:
        edges = canvas.axis.edges(_bins(lanes, canvas.axis))
        rows = [_shares(name, mine, canvas, edges, css) for name, mine in _grouped(lanes)]
    legend = [(css[stage], stage_words(stage)) for stage in (*_own(seconds), *_others(seconds))]
    return RowGroup("Workers", tuple(rows), tuple(legend) if rows else ())


def _lane(lane: Lane, canvas: Canvas, css: Mapping[str, str]) -> Row:
    """Every stage of every shard by itself."""
    boxes = [
        canvas.box(
            piece.begin,
            piece.end,
            _LANE,
            f"fill {css[piece.stage]}",
            f"{stage_words(piece.stage)}, shard {piece.shard.name} of {piece.shard.table}, "
            f"{plural(piece.shard.clips, 'clip')}: {duration(piece.end - piece.begin)}",
        )
        for piece in lane.pieces
    ]
    name = f"{lane.node} {lane.number}"
    return Row(name, canvas.row(boxes, _LANE, f"what worker {name} did"), _busy([lane], canvas))


def _bins(lanes: Sequence[Lane], axis: TimeAxis) -> int:
    """Bins so long that some shards of a worker are in each."""
    shards = {(lane.node, lane.number, one.shard.name) for lane in lanes for one in lane.pieces}
    each_s = sum(lane.busy_s for lane in lanes) / max(1, len(shards))
    return int(min(BINS, max(_LEAST_BINS, axis.active_s / max(2 * each_s, 1e-9))))


def _shares(
    name: str, lanes: Sequence[Lane], canvas: Canvas, edges: Floats, css: Mapping[str, str]
) -> Row:
    """Stages as shares of the time of these workers, on top of each other."""
    height = _LANE if len(lanes) == 1 else _LANE + 10
    by_stage = binned((piece for lane in lanes for piece in lane.pieces), edges)
    parts, low = [], np.zeros(len(edges) - 1)
    for stage in css:
        if stage in by_stage:
            high = np.minimum(low + by_stage[stage] / len(lanes), 1.0)
            parts.append(canvas.columns(low, high, height, f"fill {css[stage]}"))
            low = high
    chart = canvas.row(parts, height, f"what {name} did")
    return Row(name, chart, _busy(lanes, canvas))


def _grouped(lanes: Sequence[Lane]) -> list[tuple[str, list[Lane]]]:
    """Lanes by themselves; where there are too many by node, and of many nodes all but the first
    together."""
    if len(lanes) <= MOST_LANES:
        return [(f"{lane.node} {lane.number}", [lane]) for lane in lanes]
    nodes: dict[str, list[Lane]] = {}
    for lane in lanes:
        nodes.setdefault(lane.node, []).append(lane)
    if len(nodes) <= MOST_LANES:
        return [(f"{node} ({len(mine)})", mine) for node, mine in nodes.items()]
    names = list(nodes)
    shown, rest = names[: MOST_LANES - 1], names[MOST_LANES - 1 :]
    found = [(f"{node} ({len(nodes[node])})", nodes[node]) for node in shown]
    others = [lane for node in rest for lane in nodes[node]]
    return [*found, (f"{len(rest)} other nodes ({len(others)})", others)]


def _busy(lanes: Sequence[Lane], canvas: Canvas) -> str:
    """The share of the time at work between the first and the last thing that a worker did."""
    there = sum(_active(canvas.axis, *life) for lane in lanes for life in lane.lives)
    busy = sum(lane.busy_s for lane in lanes)
    return f"{percent_sign(min(1.0, busy / there), 0)} busy" if there > 0 else ""


def _active(axis: TimeAxis, begin: float, end: float) -> float:
    """Seconds of an interval outside of the gaps."""
    return sum(max(0.0, min(end, last) - max(begin, first)) for first, last in axis.periods)


def _own(seconds: Mapping[str, float]) -> list[str]:
    """Backbones first, so that they have the colours in which their shares are shown."""
    own = [stage for stage in seconds if stage not in _GREYS]
    return sorted(own, key=lambda stage: not stage.startswith("embed "))


def _others(seconds: Mapping[str, float]) -> list[str]:
    return [stage for stage in _GREYS if stage in seconds]


def _colours(seconds: Mapping[str, float]) -> dict[str, str]:
    """Backbones and heads in the colours of systems, all else in greys; as they are stacked."""
    own = {stage: colour(place) for place, stage in enumerate(_own(seconds))}
    return {stage: _GREYS[stage] for stage in _others(seconds)} | own


def stage_words(stage: str) -> str:
    """A stage as a person reads it."""
    return _WORDS.get(stage, stage.removeprefix("embed "))


def _lead(axis: TimeAxis, lanes: Sequence[Lane]) -> str:
    text = f"The run was at work for {duration(axis.active_s)}"
    if len(axis.periods) > 1:
        text += f", in {count(len(axis.periods))} periods with pauses between them"
    if lanes:
        nodes = len({lane.node for lane in lanes})
        text += f"; {plural(len(lanes), 'worker')} on {plural(nodes, 'node')} made its shards"
    return text + "."


def _notes(timeline: Timeline) -> list[str]:
    found = []
    if timeline.marks:
        told = [f"{mark.node} {CHANGES.get(mark.what, mark.what)}" for mark in timeline.marks[:6]]
        more = len(timeline.marks) - 6
        told += [f"{more} more came or went"] if more > 0 else []
        found.append(f"Nodes (upright lines): {join_words(told)}.")
    if timeline.every > 1:
        found.append(
            f"There are too many shards to read them all: every {timeline.every}th is shown, and "
            "rates and failures are multiplied by as much."
        )
    return found
