"""Every number of the report, computed once: the page, the plots and report.json all read these.

N = clips of one split, C = classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from audioflow.metrics import Estimate, Evaluation, evaluate
from audioflow.report.clips import EvalClips, eval_clips
from audioflow.report.compare import Availability, Gain, availability, gains
from audioflow.report.data import ReportData, SystemScores

NUM_MISTAKES = 10
NUM_CONFUSED = 15


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
    `majority` is the share of the most common class.
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
    accuracies = {system.name: system.accuracy for system in systems}
    all_gains: list[Gain] = []
    all_availability: list[Availability] = []
    for system in data.systems:
        parts = [by_name[part] for part in system.parts if part in by_name]
        all_gains += gains(system, parts, clips, accuracies, num_bootstrap)
        all_availability += availability(system, clips[system.name], num_bootstrap)
    return Figures(eval_split, systems, tuple(all_gains), tuple(all_availability))


def _system(
    index: int, system: SystemScores, clips: EvalClips, num_bootstrap: int
) -> SystemFigures:
    evaluation, chance, majority = None, {}, float("nan")
    confused: tuple[Confused, ...] = ()
    if len(clips):
        evaluation = evaluate(
            clips.scores_NC,
            clips.target_N,
            system.classes,
            clips.group_N,
            num_bootstrap=num_bootstrap,
        )
        support_C = np.bincount(clips.target_N, minlength=len(system.classes))
        majority = float(support_C.max() / support_C.sum())
        chance = {key: chance_level(key, support_C) for key in evaluation.summary}
        confused = confused_pairs(evaluation.confusion, system.classes)
    return SystemFigures(
        index=index,
        name=system.name,
        kind=system.kind,
        summary_line=system.summary_line,
        classes=system.classes,
        evaluation=evaluation,
        left_out=clips.left_out,
        chance=chance,
        majority=majority,
        mistakes=_mistakes(system, clips),
        confused=confused,
    )


def chance_level(metric: str, support_C: NDArray[np.int64]) -> float:
    """What a metric is expected to be when every clip gets a class drawn evenly from all C.

    `support_C` is clips per class; classes without a clip do not enter the averages. NaN for a
    metric without a known level.
    """
    num_classes = len(support_C)
    share_C = support_C[support_C > 0] / support_C.sum()
    guess = 1 / num_classes
    if metric.startswith("top_"):
        return min(1.0, int(metric[4:]) * guess)
    levels = {
        "accuracy": guess,
        "balanced_accuracy": guess,
        "macro_f1": float(np.mean(2 * share_C * guess / (share_C + guess))),
        "roc_auc": 0.5,
        "map": float(np.mean(share_C)),
    }
    return levels.get(metric, float("nan"))


def _mistakes(system: SystemScores, clips: EvalClips) -> tuple[Mistake, ...]:
    if not len(clips):
        return ()
    predicted_N = clips.scores_NC.argmax(axis=1)
    wrong = np.flatnonzero(predicted_N != clips.target_N)
    score = clips.scores_NC[wrong, predicted_N[wrong]]
    # Stable, so that clips with equal scores keep the order of the table.
    worst = wrong[np.argsort(-score, kind="stable")[:NUM_MISTAKES]]
    found = []
    for place in worst.tolist():
        row, target, guess = int(clips.row_N[place]), clips.target_N[place], predicted_N[place]
        found.append(
            Mistake(
                clip_id=system.clip_ids[row],
                uri=system.uris[row],
                label=system.labels[row],
                predicted=system.classes[guess],
                score=round(float(clips.scores_NC[place, guess]), 6),
                label_score=round(float(clips.scores_NC[place, target]), 6),
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
