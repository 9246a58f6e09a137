"""The scores of two systems on the same clips: metrics, tests and classes, b less a.

Shapes: N clips, C classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from audioflow.comparing.sides import Side
from audioflow.errors import InputError
from audioflow.fusion.labels import multi_label_of, targets_of
from audioflow.fusion.results import ClassGain, Judged, class_gains
from audioflow.join import Joined, join_scores
from audioflow.metrics import Estimate, McNemar, evaluate, paired_differences

_KEPT_APART = ("versions.",)


@dataclass(frozen=True)
class Difference:
    """A metric of both, and by how much b is above a, with an interval over groups."""

    metric: str
    a: float
    b: float
    difference: Estimate


@dataclass(frozen=True)
class Change:
    """A setting that is not the same in both, or that one alone has; None for the other then."""

    key: str
    a: Any
    b: Any
    in_a: bool = True
    in_b: bool = True

    @property
    def in_both(self) -> bool:
        """Whether both have it."""
        return self.in_a and self.in_b


@dataclass(frozen=True)
class Comparison:
    """System `b` against system `a` on the `num_clips` of `split` that both scored.

    `only_a` and `only_b` count the clips of the split that one alone has, `left_out` common ones
    without exactly one label that is a class (none are left out with several labels). `metrics`
    begins with the one that the verdict goes by. `classes`: `part` is a, `fused` is b.
    """

    a: Side
    b: Side
    split: str
    multi_label: bool
    num_clips: int
    num_groups: int
    only_a: int
    only_b: int
    left_out: int
    metrics: tuple[Difference, ...]
    test: McNemar
    classes: tuple[ClassGain, ...]
    changes: tuple[Change, ...]

    @property
    def headline(self) -> Difference:
        """The metric that decides."""
        return self.metrics[0]

    @property
    def is_sure(self) -> bool:
        """Whether the interval of the difference excludes 0."""
        found = self.headline.difference
        return bool(found.low > 0 or found.high < 0)


def compare(a: Side, b: Side, split: str, num_bootstrap: int = 1000) -> Comparison:
    """`b` against `a` on the clips of one split that both scored, joined by clip id.

    Raises `TableError` where classes, labels or splits of the two disagree, `InputError` where they
    have no labelled clip of the split in common.
    """
    names = ("a: " + a.system, "b: " + b.system)
    tables = dict(zip(names, (a.rows, b.rows), strict=True))
    classes = dict(zip(names, (a.header.classes, b.header.classes), strict=True))
    joined = join_scores(tables, classes)
    in_split = np.array([one == split for one in joined.splits], bool)
    both = joined.available.all(axis=0) & in_split
    only_a, only_b = (int((joined.available[i] & ~both & in_split).sum()) for i in (0, 1))
    if not both.any():
        there = sorted(set(joined.splits))
        raise InputError(
            f"no clip of split {split!r} was scored by both ({only_a} by {a.system} of {a.url} "
            f"alone, {only_b} by {b.system} of {b.url}); splits there are {', '.join(there)}"
        )
    said = {names[0]: a.multi_label, names[1]: b.multi_label}
    common = joined.take(np.flatnonzero(both))
    multi_label = multi_label_of(said, common.labels)
    keep_N, targets = targets_of(common.labels, common.classes, multi_label)
    if not keep_N.any():
        raise InputError(
            f"none of {len(common.clip_ids)} common clips of split {split!r} has exactly one label "
            f"that is a class; the first has {common.labels[0]}"
        )
    clips = common.take(np.flatnonzero(keep_N))
    judged = Judged(targets, clips.classes, _group_of(clips, a, b), num_bootstrap)
    return Comparison(
        a,
        b,
        split,
        multi_label,
        len(clips.clip_ids),
        len(set(np.asarray(judged.groups).tolist())),
        only_a,
        only_b,
        len(common.clip_ids) - len(clips.clip_ids),
        tuple(_metrics(judged, clips)),
        judged.test(clips.scores[0], clips.scores[1]),
        tuple(class_gains(judged, clips.scores[0], clips.scores[1])),
        tuple(_changes(a, b)),
    )


def _group_of(clips: Joined, a: Side, b: Side) -> np.ndarray[Any, np.dtype[np.object_]]:
    """The group of each clip as either manifest has it; a clip that neither knows is its own."""
    known = {**b.groups, **a.groups}
    return np.array([known.get(one) or one for one in clips.clip_ids], object)


def _metrics(judged: Judged, clips: Joined) -> list[Difference]:
    a_NC, b_NC = clips.scores
    first, second = (
        evaluate(scores_NC, judged.targets, clips.classes, num_bootstrap=0).summary
        for scores_NC in (a_NC, b_NC)
    )
    found = paired_differences(
        a_NC, b_NC, judged.targets, judged.groups, num_bootstrap=judged.num_bootstrap
    )
    order = sorted(found, key=lambda name: name != judged.metric)
    return [Difference(name, first[name].value, second[name].value, found[name]) for name in order]


def _changes(a: Side, b: Side) -> list[Change]:
    keys = dict.fromkeys([*a.settings, *b.settings])
    found = [
        Change(key, a.settings.get(key), b.settings.get(key), key in a.settings, key in b.settings)
        for key in keys
    ]
    return [one for one in _sorted(found) if one.a != one.b or not one.in_both]


def _sorted(changes: Sequence[Change]) -> list[Change]:
    """Versions of packages last: they are many, and seldom why."""
    return sorted(changes, key=lambda one: one.key.startswith(_KEPT_APART))
