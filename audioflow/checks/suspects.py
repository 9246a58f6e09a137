"""What several systems doubt, brought together: a list of labels for a person to go through.

Shapes: N clips of a system, C classes.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from audioflow.checks.labels import NONE, Doubts, doubts, doubts_of_several
from audioflow.ids import IdIndex, id_column
from audioflow.texts import as_arrow, taken


@dataclass(frozen=True)
class Heard:
    """Scores (N, C) of one system of clips that it had not learnt; targets: a class index (N,), or
    bool (N, C) where a clip may have several labels."""

    system: str
    clip_ids: Sequence[str]
    classes: Sequence[str]
    scores: NDArray[np.floating]
    targets: NDArray[np.intp] | NDArray[np.bool_]


@dataclass(frozen=True)
class Suspect:
    """A label that is probably wrong or missing.

    label: what the clip has, None for a label that is missing. better: what the scores speak for,
    None where a label is wrong and nothing is to take its place. systems: those that doubt it;
    judged: how many scored the clip. margin: by how much the scores speak for it, their mean.
    """

    clip_id: str
    label: str | None
    better: str | None
    systems: tuple[str, ...]
    judged: int
    margin: float


@dataclass(frozen=True)
class Suspects:
    """All of them, the surest first, and about which share of all labels is wrong.

    share: the least that a system says, as the others take more of their own mistakes for wrong
    labels; NaN where none can say.
    """

    rows: tuple[Suspect, ...]
    share: float
    num_clips: int


def suspects(systems: Sequence[Heard]) -> Suspects:
    """The labels that systems doubt: by the share of systems that do, then by the margin."""
    found: dict[tuple[str, str | None, str | None], list[tuple[str, str | None, float]]]
    found = defaultdict(list)
    shares = []
    for one in systems:
        own = _doubts(one)
        shares += [own.share] if not np.isnan(own.share) else []
        ids = taken(one.clip_ids, own.row)
        for clip_id, given, better, margin in zip(
            ids, own.given.tolist(), own.better.tolist(), own.margin, strict=True
        ):
            label = None if given == NONE else one.classes[given]
            wanted = None if better == NONE else one.classes[better]
            key = (clip_id, label, wanted if label is None else None)
            found[key].append((one.system, wanted, float(margin)))
    judged, num_clips = _judged(systems, sorted({clip_id for clip_id, _, _ in found}))
    rows = [
        _suspect(clip_id, label, said, judged[clip_id])
        for (clip_id, label, _), said in found.items()
    ]
    rows.sort(key=lambda one: (-len(one.systems) / one.judged, -one.margin, one.clip_id))
    share = min(shares, default=float("nan"))
    return Suspects(tuple(rows), share, num_clips)


def _judged(systems: Sequence[Heard], clip_ids: Sequence[str]) -> tuple[dict[str, int], int]:
    """How many of the systems scored each of these clips, and how many clips any of them did."""
    asked = id_column(clip_ids)
    counts = np.zeros(len(clip_ids), np.int64)
    columns = [as_arrow(one.clip_ids).cast(asked.type) for one in systems]
    for column in columns:
        counts += IdIndex(column).find(asked) >= 0
    all_ids = IdIndex(pa.concat_arrays([id_column([]), *columns]))
    firsts = int(np.count_nonzero(all_ids.positions() == np.arange(len(all_ids))))
    return dict(zip(clip_ids, counts.tolist(), strict=True)), firsts


def _doubts(one: Heard) -> Doubts:
    if one.targets.ndim > 1:
        return doubts_of_several(one.scores, one.targets.astype(np.bool_))
    return doubts(one.scores, one.targets.astype(np.intp))


def _suspect(
    clip_id: str, label: str | None, said: Sequence[tuple[str, str | None, float]], judged: int
) -> Suspect:
    """One label that some systems doubt; of what they say is better, what most of them say, and of
    two the one with the larger margin."""
    votes: dict[str | None, list[float]] = defaultdict(list)
    for _, wanted, margin in said:
        votes[wanted].append(margin)
    better = max(votes, key=lambda wanted: (len(votes[wanted]), sum(votes[wanted])))
    systems = tuple(name for name, _, _ in said)
    # A system that has no doubt speaks against it.
    margin = sum(one for _, _, one in said) / judged
    return Suspect(clip_id, label, better, systems, judged, margin)
