"""What a reader should know first: how sure the answer is, what is wrong, and what to do next."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from audioflow.report.data import ReportData, StageRow, Training
from audioflow.report.figures import Figures, SystemFigures
from audioflow.report.formats import (
    count,
    decimal,
    interval,
    join_words,
    metric_name,
    percent_sign,
    plural,
    shorten,
    undefined,
)
from audioflow.report.words import best_system

MOST_NAMED = 3
WIDE = 0.1
"""An interval of more than ten points leaves much open."""
_BADLY_CALIBRATED = 0.1
_FEW_CLIPS = 5
_WORTH_A_WORD = 0.05
"""From so large a share of its clips on, a class or a failure is worth a word."""


@dataclass(frozen=True)
class Finding:
    """A sentence or two, and the id of the section that has more of it."""

    text: str
    section: str


@dataclass(frozen=True)
class Summary:
    """The findings by the question that they answer; none of them may be empty text."""

    sure: tuple[Finding, ...]
    wrong: tuple[Finding, ...]
    todo: tuple[Finding, ...]

    @property
    def columns(self) -> list[tuple[str, tuple[Finding, ...]]]:
        """Each question with its findings, those without any left out."""
        named = [
            ("How sure is that?", self.sure),
            ("What is wrong?", self.wrong),
            ("What to do next", self.todo),
        ]
        return [(title, findings) for title, findings in named if findings]


def summary(data: ReportData, figures: Figures) -> Summary:
    """Everything that is said follows from the figures; nothing is said where nothing is known."""
    best = best_system(figures)
    wrong = [*_failures(data), *_alarms(data), *_untrained(figures)]
    todo: list[Finding] = []
    sure: list[Finding] = []
    if best is not None:
        sure = [*_precision(best, figures), *_gain(figures, best), *_trust(best)]
        wrong += [*_weak_classes(best), *_pair(best), *_weak_group(best), *_left_out(best)]
        todo += [*_more_clips(best), *_calibrate(data, best), *_small_classes(best)]
    todo += [*_longer(data), *_faster(data), *_again(data)]
    return Summary(tuple(sure), tuple(wrong), tuple(todo))


def _precision(best: SystemFigures, figures: Figures) -> Iterator[Finding]:
    assert best.evaluation is not None
    key, estimate = best.headline
    clips, groups = best.evaluation.num_clips, best.evaluation.num_groups
    source = plural(clips, f"{figures.eval_split} clip")
    if groups != clips:
        source += f" in {plural(groups, 'group')}"
    name = f"{metric_name(key)} of {best.name}"
    if undefined(estimate.low):
        why = "all clips are of one group" if groups < 2 else "no draws were asked for"
        yield Finding(f"The {name} comes from {source} and has no interval: {why}.", "metrics")
        return
    if estimate.low == estimate.high and key == "accuracy":
        # A bootstrap cannot draw what was never seen; three mistakes in so many clips would be.
        most = percent_sign(min(1.0, 3 / groups), 0)
        kind = "mistake" if estimate.value == 1 else "right answer"
        yield Finding(f"No {kind} in {source}: in truth it may be up to {most}.", "metrics")
        return
    width = decimal((estimate.high - estimate.low) * 100, 0)
    text = f"The {name} is {percent_sign(estimate.value)}, with 95 % certainty {interval(estimate)}"
    yield Finding(f"{text}: {width} points wide, from {source}.", "metrics")


def _gain(figures: Figures, best: SystemFigures) -> Iterator[Finding]:
    for gain in figures.gains:
        if not gain.is_better_part or gain.system != best.name or undefined(gain.gain.low):
            continue
        if gain.gain.low > 0:
            text = f"Fusing beats {gain.part} alone for sure: the whole interval is above zero."
        elif gain.gain.high < 0:
            text = f"Fusing is worse than {gain.part} alone for sure."
        else:
            text = f"Whether fusing beats {gain.part} alone is open: the interval includes zero."
        yield Finding(text, "fusion")


def _trust(best: SystemFigures) -> Iterator[Finding]:
    """Whether the scores can be read as probabilities."""
    error = _detail(best, "ece")
    if error is None:
        return
    off = f"{decimal(error * 100)} points"
    if error > _BADLY_CALIBRATED:
        text = f"Scores of {best.name} are no probabilities: on average they are {off} off."
    else:
        text = f"Scores of {best.name} can be read as probabilities: on average {off} off."
    yield Finding(text, "curves")


def _detail(system: SystemFigures, key: str) -> float | None:
    assert system.evaluation is not None
    estimate = system.evaluation.details.get(key)
    return None if estimate is None or undefined(estimate.value) else estimate.value


def _failures(data: ReportData) -> Iterator[Finding]:
    for stage in data.stages:
        if not stage.failures:
            continue
        share = stage.failures / max(stage.failures + stage.rows, 1)
        counts = data.failure_counts.get(stage.table, {})
        if not counts:
            continue  # told where they arose
        most = max(counts, key=lambda error: (counts[error], error))
        text = f"{plural(stage.failures, 'clip')} ({percent_sign(share)}) gave no row in "
        yield Finding(f"{text}{stage.table}, most of them as {most}.", "failures")


def _alarms(data: ReportData) -> Iterator[Finding]:
    for table in data.clip_tables:
        if table.alarm:
            yield Finding(table.alarm, table.id)


def _untrained(figures: Figures) -> Iterator[Finding]:
    names = [system.name for system in figures.systems if "untrained" in system.summary_line]
    if names:
        verb = "builds" if len(names) == 1 else "build"
        yield Finding(
            f"{join_words(names)} {verb} on a network with random weights: no result of use.",
            "metrics",
        )


def _weak_classes(best: SystemFigures) -> Iterator[Finding]:
    assert best.evaluation is not None
    known = [result for result in best.evaluation.per_class if result.support]
    never = [result.name for result in known if result.recall == 0]
    if never and len(known) > 1:
        named = join_words([shorten(name, 24) for name in never[:MOST_NAMED]])
        more = f" and {count(len(never) - MOST_NAMED)} more" if len(never) > MOST_NAMED else ""
        text = f"{best.name} never finds {plural(len(never), 'class')}: {named}{more}."
        yield Finding(text, "classes")


def _pair(best: SystemFigures) -> Iterator[Finding]:
    for pair in best.confused[:1]:
        if pair.share >= _WORTH_A_WORD and pair.clips > 1:
            label, predicted = shorten(pair.label, 24), shorten(pair.predicted, 24)
            text = f"{percent_sign(pair.share, 0)} of {label} is taken for {predicted}"
            yield Finding(f"{text} ({plural(pair.clips, 'clip')}).", "confusion")


def _weak_group(best: SystemFigures) -> Iterator[Finding]:
    """The worst group, where even the upper end of its interval lies below the whole's value."""
    for table in best.groups:
        for row in table.rows[:1]:
            key, estimate = next(iter(row.metrics.items()))
            whole = best.estimate(key)
            if whole is None or undefined(estimate.high) or estimate.high >= whole.value:
                continue
            text = f"{best.name} is worse on {table.column} {shorten(row.name, 24)}: "
            text += f"{metric_name(key)} {percent_sign(estimate.value)}"
            yield Finding(f"{text} of {plural(row.num_clips, 'clip')}.", "groups")


def _left_out(best: SystemFigures) -> Iterator[Finding]:
    if best.left_out:
        text = f"{plural(best.left_out, 'clip')} could not be judged: no label that is a class."
        yield Finding(text, "metrics")


def _more_clips(best: SystemFigures) -> Iterator[Finding]:
    _, estimate = best.headline
    if not undefined(estimate.low) and estimate.high - estimate.low > WIDE:
        yield Finding(
            "Label more clips for the split that is judged: four times as many halve the interval.",
            "data",
        )


def _calibrate(data: ReportData, best: SystemFigures) -> Iterator[Finding]:
    error = _detail(best, "ece")
    calibrated = data.systems[best.index].calibration or best.kind == "fused"
    if error is None or error <= _BADLY_CALIBRATED or calibrated:
        return
    key = f"systems.{best.name}.calibration.method"
    yield Finding(f"Calibrate before using scores as probabilities: {key}.", "curves")


def _small_classes(best: SystemFigures) -> Iterator[Finding]:
    assert best.evaluation is not None
    few = [r for r in best.evaluation.per_class if 0 < r.support < _FEW_CLIPS]
    if few:
        text = f"{plural(len(few), 'class')} {'has' if len(few) == 1 else 'have'} fewer than "
        text += f"{_FEW_CLIPS} clips to be judged by: their figures are guesses."
        yield Finding(text, "classes")


def _longer(data: ReportData) -> Iterator[Finding]:
    for system in data.systems:
        if system.training and all(map(_cut_short, system.training)):
            most = system.training[0].max_epochs
            yield Finding(
                f"{system.name} was still getting better at its last epoch: raise "
                f"systems.{system.name}.train.epochs (now {most}).",
                "training",
            )


def _cut_short(training: Training) -> bool:
    return (
        training.has_curve
        and training.best_metric != "last"
        and training.max_epochs is not None
        and training.best_epoch == training.max_epochs
    )


def _faster(data: ReportData) -> Iterator[Finding]:
    """What would change a job's time most; nothing for one that is mostly its start."""
    told = {one.advice: one for one in data.stages if one.advice and one.bound != "start"}
    for advice, stage in told.items():
        yield Finding(f"To make {stage.job} faster: {advice}{_bare(stage)}.", "stages")


def _bare(stage: StageRow) -> str:
    if not stage.bare or math.isnan(stage.bare):
        return ""
    return f"; now {percent_sign(stage.bare, 0)} of what the backbone alone reaches"


def _again(data: ReportData) -> Iterator[Finding]:
    """Failures that may be gone at the next try."""
    passing = ("network", "timeout", "out_of_memory", "crashed", "killed", "permission")
    found: dict[str, int] = {}
    for counts in data.failure_counts.values():
        for error in passing:
            if counts.get(error):
                found[error] = found.get(error, 0) + counts[error]
    if found:
        text = f"{plural(sum(found.values()), 'failure')} may pass ({join_words(list(found))}): "
        yield Finding(f"{text}run again with --retry-failed.", "failures")
