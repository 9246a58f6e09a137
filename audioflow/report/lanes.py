"""Who worked when: a lane for each place that a worker had, and what it did there.

Times are seconds of Unix time. B = bins.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from audioflow.report.timeline import Floats, ShardTimes, Timeline, axis_of, overlap
from audioflow.timing import Stint


@dataclass(frozen=True)
class Piece:
    """What a lane shows from `begin` to `end`: a stage of the work on a shard."""

    stage: str
    begin: float
    end: float
    shard: ShardTimes


@dataclass
class Lane:
    """One place for a worker: those that came after each other on a node share one.

    lives: of each, from the first thing that it did to the last.
    """

    node: str
    number: int
    pieces: list[Piece] = field(default_factory=list)
    lives: list[tuple[float, float]] = field(default_factory=list)

    @property
    def busy_s(self) -> float:
        return sum(piece.end - piece.begin for piece in self.pieces)


def lanes_of(shards: Sequence[ShardTimes]) -> list[Lane]:
    """The lanes of all workers, by node; a worker that was started anew goes on in a free one."""
    pieces: dict[tuple[str, int], list[Piece]] = {}
    for shard in shards:
        by_worker: dict[tuple[str, int], list[Stint]] = {}
        for stint in shard.stints:
            by_worker.setdefault((stint.node, stint.worker), []).append(stint)
        for worker, stints in by_worker.items():
            pieces.setdefault(worker, []).extend(_pieces(stints, shard))
    lives = [
        (node, min(p.begin for p in mine), max(p.end for p in mine), mine)
        for (node, _), mine in pieces.items()
    ]
    lanes: list[Lane] = []
    ends: list[float] = []
    for node, begin, end, mine in sorted(lives, key=lambda life: (_natural(life[0]), life[1:3])):
        place = next(
            (n for n, lane in enumerate(lanes) if lane.node == node and ends[n] <= begin), None
        )
        if place is None:
            lanes.append(Lane(node, 1 + sum(lane.node == node for lane in lanes)))
            ends.append(end)
            place = len(lanes) - 1
        lanes[place].pieces += sorted(mine, key=lambda piece: piece.begin)
        lanes[place].lives.append((begin, end))
        ends[place] = end
    return lanes


def _natural(name: str) -> list[tuple[bool, int, str]]:
    """The order in which a person expects names with numbers: `node-2` before `node-10`."""
    parts = re.split(r"(\d+)", name)
    return [(part.isdigit(), int(part) if part.isdigit() else 0, part) for part in parts]


def _pieces(stints: Sequence[Stint], shard: ShardTimes) -> list[Piece]:
    """Stages one after the other: those that took turns, as fetching and decoding do, each get the
    time in which it was busy."""
    found: list[Piece] = []
    group: list[Stint] = []
    for stint in [*sorted(stints, key=lambda one: (one.begin, one.end)), None]:
        if stint is not None and (not group or stint.begin < max(one.end for one in group) - 1e-3):
            group.append(stint)
            continue
        begin, end = min(one.begin for one in group), max(one.end for one in group)
        busy = sum(one.busy_s for one in group)
        scale = min(1.0, (end - begin) / busy) if busy else 0.0
        for one in group:
            found.append(Piece(one.stage, begin, begin + scale * one.busy_s, shard))
            begin += scale * one.busy_s
        group = [stint] if stint is not None else []
    return found


def binned(pieces: Iterable[Piece], edges: Floats) -> dict[str, Floats]:
    """By stage, the share of every bin (B,) in which it was at work."""
    widths = np.maximum(np.diff(edges), 1e-9)
    found: dict[str, Floats] = {}
    for piece in pieces:
        share = overlap(piece.begin, piece.end, edges) / widths
        found.setdefault(piece.stage, np.zeros(len(widths)))
        found[piece.stage] += share
    return found


def seconds_by_stage(lanes: Iterable[Lane]) -> Mapping[str, float]:
    """Busy seconds of all lanes, the longest stage first."""
    found: dict[str, float] = {}
    for lane in lanes:
        for piece in lane.pieces:
            found[piece.stage] = found.get(piece.stage, 0.0) + piece.end - piece.begin
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def timeline_figures(timeline: Timeline | None) -> dict[str, Any]:
    """What report.json says of the time: without the shards, of which there may be many."""
    axis = axis_of(timeline) if timeline else None
    if timeline is None or axis is None:
        return {"periods": [], "tables": [], "nodes": [], "workers": [], "every": 1}
    return {
        "periods": axis.periods,
        "tables": timeline.tables,
        "nodes": timeline.marks,
        "workers": [
            {"node": lane.node, "number": lane.number, "busy_s": round(lane.busy_s, 3)}
            for lane in lanes_of(timeline.shards)
        ],
        "every": timeline.every,
    }
