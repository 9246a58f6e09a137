"""Fused systems against their parts: what fusing brings, and what a missing part costs.

N = clips of a split, C = classes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from audioflow.bootstrap import Clusters, estimate, planned_draws
from audioflow.metrics import Estimate, paired_gain
from audioflow.report.clips import EvalClips, common_clips
from audioflow.report.data import SystemScores


@dataclass(frozen=True)
class Gain:
    """How much more accurate `system` is than `part`, on the `num_clips` that both scored.

    `is_better_part` marks the most accurate of the parts: the one that fusing has to beat.
    """

    system: str
    part: str
    is_better_part: bool
    num_clips: int
    accuracy_system: float
    accuracy_part: float
    gain: Estimate


@dataclass(frozen=True)
class Availability:
    """Accuracy of a fused system on the clips that exactly the systems `available` scored."""

    system: str
    available: tuple[str, ...]
    num_clips: int
    accuracy: Estimate


def gains(
    fused: SystemScores,
    parts: Sequence[SystemScores],
    clips: Mapping[str, EvalClips],
    accuracies: Mapping[str, float],
    num_bootstrap: int,
) -> list[Gain]:
    """The gain of a fused system over each part with the same classes and some of its clips."""
    parts = [part for part in parts if set(part.classes) == set(fused.classes)]
    pairs = {
        part.name: (part, pair)
        for part in parts
        if (pair := common_clips(fused, clips[fused.name], part, clips[part.name])) is not None
    }
    better = max(pairs, key=lambda name: accuracies[name], default="")
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
    scores_NC = theirs.scores_NC
    if part.classes != fused.classes:
        place = {name: index for index, name in enumerate(part.classes)}
        scores_NC = scores_NC[:, [place[name] for name in fused.classes]]
    return Gain(
        system=fused.name,
        part=part.name,
        is_better_part=is_better_part,
        num_clips=len(ours),
        accuracy_system=_accuracy(ours.scores_NC, ours.target_N),
        accuracy_part=_accuracy(scores_NC, ours.target_N),
        gain=paired_gain(
            scores_NC, ours.scores_NC, ours.target_N, ours.group_N, num_bootstrap=num_bootstrap
        ),
    )


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
        accuracy = _accuracy_estimate(chosen, num_bootstrap)
        found.append(Availability(system.name, in_order, len(chosen), accuracy))
    return found


def _accuracy(scores_NC: NDArray[np.float32], target_N: NDArray[np.int64]) -> float:
    return float(np.mean(scores_NC.argmax(axis=1) == target_N))


def _accuracy_estimate(clips: EvalClips, num_bootstrap: int) -> Estimate:
    """Accuracy with the interval that `evaluate` gives, without the cost of its other metrics."""
    hit_N = clips.scores_NC.argmax(axis=1) == clips.target_N
    draws = planned_draws(len(hit_N), 1, num_bootstrap).counts
    chunks = Clusters.of(clips.group_N, len(hit_N)).weights(draws, seed=0)
    shares = [float(weights_N @ hit_N / weights_N.sum()) for chunk in chunks for weights_N in chunk]
    return estimate(_accuracy(clips.scores_NC, clips.target_N), np.array(shares))
