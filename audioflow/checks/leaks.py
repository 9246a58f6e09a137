"""Recordings that stand on two sides of a division, by what the manifest says of them.

Shapes: N clips of the manifest.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa

from audioflow.checks.sides import Sides
from audioflow.ids import IdIndex
from audioflow.texts import as_arrow

Kind = Literal["overlap", "recording", "content", "group", "duplicate"]

IN_WORDS: dict[Kind, str] = {
    "overlap": "the same stretch",
    "recording": "the same recording",
    "content": "the same content",
    "group": "the same group",
    "duplicate": "near-duplicates",
}
"""What is shared, the worst first."""


@dataclass(frozen=True)
class Leak:
    """Two clips of different sides that share something, standing for all that share it.

    clips: ids, that of the side that is learnt from first. places: their splits or folds. what: the
    uri, group or hash that they share, or how alike they are. concerned: ids of all tested clips
    that the leak touches. similarity: of embeddings, for near-duplicates.
    """

    kind: Kind
    clips: tuple[str, str]
    places: tuple[str, str]
    what: str
    concerned: frozenset[str]
    similarity: float | None = None


def manifest_leaks(manifest: pa.Table, sides: Sides) -> list[Leak]:
    """Recordings and groups of a manifest that straddle its sides, one leak for each of them."""
    if not sides.can_leak:
        return []
    found = list(_recording_leaks(manifest, sides))
    told = {clip for leak in found for clip in leak.clips}
    for group, rows in straddling(manifest["group"], sides):
        if not told.intersection(sides.clip_ids[row] for row in rows):
            found.append(leak_of("group", rows, sides, group))
    return sorted(found, key=lambda leak: list(IN_WORDS).index(leak.kind))


def straddling(
    keys: Sequence[str | None] | pa.ChunkedArray, sides: Sides
) -> Iterator[tuple[str, Sequence[int]]]:
    """Every key whose clips are on several sides, with the places of its clips.

    keys: (N,), None for a clip without one. Clips of one key are told by where it stood first.
    """
    column = as_arrow(keys)
    keyed = np.flatnonzero(column.is_valid().to_numpy(zero_copy_only=False))
    first = IdIndex(column.drop_null()).positions()
    order = np.argsort(first, kind="stable")
    begins = np.flatnonzero(np.diff(first[order], prepend=-1))
    if not len(begins):
        return
    side = sides.side[keyed[order]]
    several = np.minimum.reduceat(side, begins) != np.maximum.reduceat(side, begins)
    ends = np.append(begins[1:], len(order))
    for begin, end in zip(begins[several].tolist(), ends[several].tolist(), strict=True):
        rows = keyed[order[begin:end]].tolist()
        yield column[rows[0]].as_py(), rows


def leak_of(
    kind: Kind, rows: Sequence[int], sides: Sides, what: str, pair: tuple[int, int] | None = None
) -> Leak:
    """The leak of clips that share something; `pair` are the two to show, by default the first
    ones of two sides."""
    if pair is None:
        first = min(rows, key=lambda row: sides.side[row])
        pair = first, next(row for row in rows if sides.side[row] != sides.side[first])
    one, other = sorted(pair, key=lambda row: sides.side[row])
    return Leak(
        kind,
        (sides.clip_ids[one], sides.clip_ids[other]),
        (sides.places[one], sides.places[other]),
        what,
        frozenset(sides.clip_ids[row] for row in rows if sides.tested[row]),
    )


def _recording_leaks(manifest: pa.Table, sides: Sides) -> Iterator[Leak]:
    starts, lengths = manifest["start_s"], manifest["duration_s"]
    for uri, rows in straddling(manifest["uri"], sides):
        spans = [_span(starts[row].as_py(), lengths[row].as_py()) for row in rows]
        overlapping = _overlapping(rows, spans, sides)
        if overlapping is None:
            yield leak_of("recording", rows, sides, uri)
        else:
            yield leak_of("overlap", rows, sides, uri, overlapping)


def _span(start_s: float | None, duration_s: float | None) -> tuple[float, float]:
    start_s = start_s or 0.0
    return start_s, np.inf if duration_s is None else start_s + duration_s


def _overlapping(
    rows: Sequence[int], spans: Sequence[tuple[float, float]], sides: Sides
) -> tuple[int, int] | None:
    """Two clips of different sides that overlap, the most of all neighbours in time; None for none.

    Spans in order of their starts: each is compared to the one that reaches farthest on every side
    so far.
    """
    best, pair = 0.0, None
    reach: dict[int, tuple[float, int]] = {}
    for (start, end), row in sorted(zip(spans, rows, strict=True)):
        for side, (reached, other) in reach.items():
            shared = min(end, reached) - start
            if side != sides.side[row] and shared > best:
                best, pair = shared, (other, row)
        own = int(sides.side[row])
        reach[own] = max(reach.get(own, (-np.inf, row)), (end, row))
    return pair


def concerned(leaks: Iterable[Leak]) -> frozenset[str]:
    """All tested clips that any of the leaks touches."""
    return frozenset().union(*(leak.concerned for leak in leaks))
