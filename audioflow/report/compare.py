"""Fused systems against their parts: what fusing brings, and what a missing part costs.

N = clips of a split, C = classes, S = parts.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from audioflow.bootstrap import Clusters, estimate, planned_draws
from audioflow.fusion import Block, Fusion
from audioflow.fusion.results import ClassGain, Judged, class_gains, masked_loss, part_gain
from audioflow.ids import IdIndex, id_column
from audioflow.metrics import Estimate, McNemar, evaluate
from audioflow.report.clips import EvalClips, common_clips
from audioflow.report.data import SystemScores
from audioflow.texts import as_arrow, taken


@dataclass(frozen=True)
class Gain:
    """How much better `system` is than `part`, on the `num_clips` that both scored.

    `accuracy_system`, `accuracy_part` and `gain` are of `metric`: accuracy, or with several labels
    `map`. `is_better_part` marks the part that fusing has to beat: the one that was better where
    the fusion was fitted, or where that is not known, here. `test` is of clips that one of the two
    alone gets right. `classes` has the gain of each class, for the better part only.
    """

    system: str
    part: str
    is_better_part: bool
    num_clips: int
    accuracy_system: float
    accuracy_part: float
    gain: Estimate
    metric: str = "accuracy"
    test: McNemar | None = None
    classes: tuple[ClassGain, ...] = ()


@dataclass(frozen=True)
class Availability:
    """Accuracy (with several labels `map`) of a fused system on the clips that exactly the systems
    `available` scored."""

    system: str
    available: tuple[str, ...]
    num_clips: int
    accuracy: Estimate


@dataclass(frozen=True)
class MissingCost:
    """What it costs `system` that clips lack `part`.

    `num_lacking` clips lack it, and on these `lacking` is reached. `num_complete` clips that all
    parts scored reach `whole`, and `masked` where `part` is left out of them: `cost` is the
    difference, on the same clips. All of `metric`; `lacking` is NaN where no clip lacks the part.
    """

    system: str
    part: str
    metric: str
    num_lacking: int
    lacking: float
    num_complete: int
    whole: float
    masked: float
    cost: Estimate


def gains(
    fused: SystemScores,
    parts: Sequence[SystemScores],
    clips: Mapping[str, EvalClips],
    headlines: Mapping[str, float],
    num_bootstrap: int,
) -> list[Gain]:
    """The gain of a fused system over each part with the same classes and some of its clips.

    headlines: how good each system is on its own clips.
    """
    parts = [part for part in parts if set(part.classes) == set(fused.classes)]
    pairs = {
        part.name: (part, pair)
        for part in parts
        if (pair := common_clips(fused, clips[fused.name], part, clips[part.name])) is not None
    }
    better = fused.fusion.get("better")
    if better not in pairs:
        better = max(pairs, key=lambda name: headlines[name], default="")
    return [
        _gain(fused, part, pair, part.name == better, num_bootstrap)
        for part, pair in pairs.values()
    ]


def _gain(
    fused: SystemScores,
    part: SystemScores,
    pair: tuple[EvalClips, EvalClips],
    is_better_part: bool,
    num_bootstrap: int,
) -> Gain:
    ours, theirs = pair
    scores_NC = _in_order(theirs.scores_NC, part.classes, fused.classes)
    judged = Judged(_targets(ours), fused.classes, ours.group_N, num_bootstrap)
    found = part_gain(judged, scores_NC, ours.scores_NC)
    by_class = class_gains(judged, scores_NC, ours.scores_NC) if is_better_part else []
    return Gain(
        system=fused.name,
        part=part.name,
        is_better_part=is_better_part,
        num_clips=len(ours),
        accuracy_system=found.fused,
        accuracy_part=found.part,
        gain=found.gain,
        metric=found.metric,
        test=found.test,
        classes=tuple(by_class),
    )


def missing_costs(
    fused: SystemScores,
    parts: Sequence[SystemScores],
    clips: EvalClips,
    num_bootstrap: int,
) -> list[MissingCost]:
    """What each part's absence costs. Empty where the fusion cannot be made again from its header:
    where the scores of a part are not there, or the folds of clips of a fusion by fold."""
    there = {part.name for part in parts if set(part.classes) == set(fused.classes)}
    told = "params" in fused.settings and ("cross_fit" not in fused.fusion or _folds(fused))
    if not told or not len(clips) or set(fused.parts) - there:
        return []
    in_order = [next(part for part in parts if part.name == name) for name in fused.parts]
    block = _block(fused, in_order, clips)
    complete = np.flatnonzero(block.complete)
    if not len(complete):
        return []
    fusion, found = Fusion.restored(fused.settings, fused.classes), []
    metric = Judged(_targets(clips), fused.classes).metric
    for index, name in enumerate(fused.parts):
        own = clips.at(complete)
        judged = Judged(_targets(own), fused.classes, own.group_N, num_bootstrap)
        masked_NC = fusion.apply(fused.fusion, _without(block.at(complete), index))
        loss = masked_loss(judged, own.scores_NC, masked_NC)
        lacking = clips.at(np.flatnonzero(~block.available[index]))
        reached = (
            Judged(_targets(lacking), fused.classes).value(lacking.scores_NC)
            if len(lacking)
            else float("nan")
        )
        found.append(
            MissingCost(
                fused.name,
                name,
                metric,
                len(lacking),
                reached,
                loss.num_clips,
                loss.whole,
                loss.masked,
                loss.cost,
            )
        )
    return found


def _block(fused: SystemScores, parts: Sequence[SystemScores], clips: EvalClips) -> Block:
    """The parts' scores of the clips; what is known of their quality is not in a report."""
    ids = id_column(taken(fused.clip_ids, clips.row_N))
    shape = (len(parts), len(ids), len(fused.classes))
    scores_SNC = np.full(shape, np.nan, np.float32)
    for index, part in enumerate(parts):
        rows = IdIndex(as_arrow(part.clip_ids)).find(ids)
        found = part.scores[rows[rows >= 0]]
        scores_SNC[index, rows >= 0] = _in_order(found, part.classes, fused.classes)
    columns = fused.fusion.get("gate", {}).get("columns")
    quality = np.full((len(ids), len(columns)), np.nan) if columns else None
    folds = _folds(fused)
    own = [folds[row] for row in clips.row_N.tolist()] if folds else None
    return Block(scores_SNC, np.isfinite(scores_SNC[:, :, 0]), quality, own)


def _folds(system: SystemScores) -> list[str | None]:
    """The fold of each clip, None for none; empty where clips are not in folds."""
    return [fold or None for fold in system.columns.get("fold", ())]


def _without(block: Block, index: int) -> Block:
    available = block.available.copy()
    available[index] = False
    return Block(block.scores, available, block.quality, block.folds)


def _targets(clips: EvalClips) -> NDArray[np.int64] | NDArray[np.bool_]:
    return clips.target_N if clips.truth_NC is None else clips.truth_NC


def _in_order(
    scores_NC: NDArray[np.float32], classes: Sequence[str], wanted: Sequence[str]
) -> NDArray[np.float32]:
    if tuple(classes) == tuple(wanted):
        return scores_NC
    place = {name: index for index, name in enumerate(classes)}
    return scores_NC[:, [place[name] for name in wanted]]


def availability(system: SystemScores, clips: EvalClips, num_bootstrap: int) -> list[Availability]:
    """Accuracy for each set of systems that scored a clip, most systems first."""
    if system.available is None:
        return []
    rank = {part: index for index, part in enumerate(system.parts)}
    places: dict[tuple[str, ...], list[int]] = {}
    for place, row in enumerate(clips.row_N.tolist()):
        # Sets repeat from clip to clip: what is put in order is the few, not the many.
        places.setdefault(system.available[row], []).append(place)
    ordered: dict[tuple[str, ...], list[int]] = {}
    for names, at in places.items():
        in_order = tuple(sorted(names, key=lambda name: (rank.get(name, len(rank)), name)))
        ordered.setdefault(in_order, []).extend(at)
    found = []
    for in_order in sorted(ordered, key=lambda key: (-len(key), [rank.get(n, 0) for n in key])):
        chosen = clips.at(np.array(sorted(ordered[in_order]), np.int64))
        accuracy = _estimate(chosen, system.classes, num_bootstrap)
        found.append(Availability(system.name, in_order, len(chosen), accuracy))
    return found


def _estimate(clips: EvalClips, classes: Sequence[str], num_bootstrap: int) -> Estimate:
    """Accuracy with the interval that `evaluate` gives, without the cost of its other metrics; with
    several labels `map`."""
    if clips.truth_NC is not None:
        found = evaluate(
            clips.scores_NC, clips.truth_NC, classes, clips.group_N, num_bootstrap=num_bootstrap
        )
        return found.summary["map"]
    hit_N = clips.scores_NC.argmax(axis=1) == clips.target_N
    draws = planned_draws(len(hit_N), 1, num_bootstrap).counts
    chunks = Clusters.of(clips.group_N, len(hit_N)).weights(draws, seed=0)
    shares = [float(weights_N @ hit_N / weights_N.sum()) for chunk in chunks for weights_N in chunk]
    return estimate(float(hit_N.mean()), np.array(shares))
