"""Every number of the report, computed once: the page, the plots and report.json all read these.

N = clips of one split, C = classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from audioflow.metrics import Curves, Estimate, Evaluation, GroupTable
from audioflow.report.calibrated import Calibrated, calibrated
from audioflow.report.clip_lists import (
    PickedClip,
    best_clips,
    is_right,
    label_score,
    uncertain_clips,
)
from audioflow.report.clips import EvalClips, eval_clips
from audioflow.report.compare import (
    Availability,
    Gain,
    MissingCost,
    availability,
    gains,
    missing_costs,
)
from audioflow.report.data import ReportData, SystemScores
from audioflow.report.evaluations import (
    chance_levels,
    curves_of,
    evaluated,
    group_tables,
    majority,
)
from audioflow.report.similarity import class_order

NUM_MISTAKES = 10
NUM_CONFUSED = 100


@dataclass(frozen=True)
class Mistake:
    """A clip whose highest score (`score`) is another class; `label_score` is the right one's."""

    clip_id: str
    uri: str
    label: str
    predicted: str
    score: float
    label_score: float


@dataclass(frozen=True)
class Confused:
    """How many clips of `label` are taken for `predicted`; `share` is of all clips of `label`."""

    label: str
    predicted: str
    clips: int
    share: float


@dataclass(frozen=True)
class SystemFigures:
    """What one system achieves on the split; `evaluation` is None where it scored none of it.

    `index` is the system's place in the report and gives its colour and marker; `left_out` counts
    clips whose label is not among the system's classes; `chance` has a value for each metric;
    `majority` is the share of the most common class. `best` and `uncertain` are clips beside the
    `mistakes`; `order` has the classes so that those taken for each other are neighbours.
    `multi_label`: a clip may have several labels or none; `unknown_labels` counts the clips that
    have one which is no class. `groups` has tables by group and further columns, worst first.
    """

    index: int
    name: str
    kind: str
    summary_line: str
    classes: tuple[str, ...]
    evaluation: Evaluation | None
    left_out: int
    chance: dict[str, float]
    majority: float
    mistakes: tuple[Mistake, ...]
    confused: tuple[Confused, ...]
    best: tuple[PickedClip, ...] = ()
    uncertain: tuple[PickedClip, ...] = ()
    order: tuple[int, ...] = ()
    calibrated: Calibrated | None = None
    multi_label: bool = False
    unknown_labels: int = 0
    groups: tuple[GroupTable, ...] = ()
    curves: Curves | None = None

    @property
    def headline(self) -> tuple[str, Estimate]:
        """The metric that stands for all, and its estimate."""
        assert self.evaluation is not None
        key = "map" if self.multi_label else "accuracy"
        return key, self.evaluation.summary[key]

    @property
    def clip_lists(self) -> tuple[tuple[str, tuple[Mistake, ...] | tuple[PickedClip, ...]], ...]:
        """What each list of clips is called, and its clips."""
        return ("worst", self.mistakes), ("most uncertain", self.uncertain), ("best", self.best)

    def estimate(self, metric: str) -> Estimate | None:
        """The estimate of one summary metric, or None where the system has none."""
        return None if self.evaluation is None else self.evaluation.summary.get(metric)

    @property
    def accuracy(self) -> float:
        """Share of right clips; NaN where nothing was scored."""
        estimate = self.estimate("accuracy")
        return float("nan") if estimate is None else estimate.value


@dataclass(frozen=True)
class Figures:
    """All figures of a report."""

    eval_split: str
    systems: tuple[SystemFigures, ...]
    gains: tuple[Gain, ...]
    availability: tuple[Availability, ...]
    missing_costs: tuple[MissingCost, ...] = ()

    @property
    def evaluated(self) -> tuple[SystemFigures, ...]:
        """The systems that scored clips of the split."""
        return tuple(system for system in self.systems if system.evaluation is not None)

    @property
    def metrics(self) -> tuple[str, ...]:
        """The summary metrics that any system has, in the order of the first that has them."""
        found = {key: None for s in self.evaluated if s.evaluation for key in s.evaluation.summary}
        return tuple(found)


def compute(data: ReportData, eval_split: str, num_bootstrap: int) -> Figures:
    """All figures of the report on one split; `num_bootstrap` draws per interval."""
    clips = {system.name: eval_clips(system, eval_split) for system in data.systems}
    systems = tuple(
        _system(index, system, clips[system.name], num_bootstrap)
        for index, system in enumerate(data.systems)
    )
    by_name = {system.name: system for system in data.systems}
    headlines = {one.name: one.headline[1].value for one in systems if one.evaluation}
    all_gains: list[Gain] = []
    all_availability: list[Availability] = []
    costs: list[MissingCost] = []
    for system in data.systems:
        parts = [by_name[part] for part in system.parts if part in by_name]
        all_gains += gains(system, parts, clips, headlines, num_bootstrap)
        all_availability += availability(system, clips[system.name], num_bootstrap)
        if parts:
            costs += missing_costs(system, parts, clips[system.name], num_bootstrap)
    return Figures(eval_split, systems, tuple(all_gains), tuple(all_availability), tuple(costs))


def _system(
    index: int, system: SystemScores, clips: EvalClips, num_bootstrap: int
) -> SystemFigures:
    evaluation = evaluated(system, clips, num_bootstrap)
    confusion = evaluation.confusion if evaluation else None
    return SystemFigures(
        index=index,
        name=system.name,
        kind=system.kind,
        summary_line=system.summary_line,
        classes=system.classes,
        evaluation=evaluation,
        left_out=clips.left_out,
        chance=chance_levels(evaluation) if evaluation else {},
        majority=majority(clips),
        mistakes=_mistakes(system, clips),
        confused=() if confusion is None else confused_pairs(confusion, system.classes),
        best=best_clips(system, clips),
        uncertain=uncertain_clips(system, clips),
        order=_order(evaluation),
        calibrated=calibrated(system, clips),
        multi_label=clips.truth_NC is not None,
        unknown_labels=clips.unknown_labels,
        groups=group_tables(system, clips),
        curves=curves_of(system, clips),
    )


def _order(evaluation: Evaluation | None) -> tuple[int, ...]:
    if evaluation is None or evaluation.confusion is None:
        return ()
    support_C1 = np.maximum(evaluation.confusion.sum(axis=1, keepdims=True), 1)
    return class_order(evaluation.confusion / support_C1)


def _mistakes(system: SystemScores, clips: EvalClips) -> tuple[Mistake, ...]:
    if not len(clips):
        return ()
    predicted_N = clips.scores_NC.argmax(axis=1)
    wrong = np.flatnonzero(~is_right(clips))
    score = clips.scores_NC[wrong, predicted_N[wrong]]
    # Stable, so that clips with equal scores keep the order of the table.
    worst = wrong[np.argsort(-score, kind="stable")[:NUM_MISTAKES]]
    found = []
    for place in worst.tolist():
        row, guess = int(clips.row_N[place]), predicted_N[place]
        found.append(
            Mistake(
                clip_id=system.clip_ids[row],
                uri=system.uris[row],
                label=system.labels[row],
                predicted=system.classes[guess],
                score=round(float(clips.scores_NC[place, guess]), 6),
                label_score=round(label_score(clips, place), 6),
            )
        )
    return tuple(found)


def confused_pairs(confusion_CC: NDArray[np.int64], classes: Sequence[str]) -> tuple[Confused, ...]:
    """The (right class, predicted class) pairs with most clips, at most `NUM_CONFUSED`."""
    support_C = confusion_CC.sum(axis=1)
    label, predicted = np.nonzero(confusion_CC)
    label, predicted = label[label != predicted], predicted[label != predicted]
    clips = confusion_CC[label, predicted]
    share = clips / support_C[label]
    top = np.lexsort((predicted, label, -share, -clips))[:NUM_CONFUSED]
    return tuple(
        Confused(classes[label[at]], classes[predicted[at]], int(clips[at]), float(share[at]))
        for at in top.tolist()
    )
