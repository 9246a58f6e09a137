"""The sentences of the report: the verdict, and one finding above each chart."""

import math

from audioflow.report.compare import Gain
from audioflow.report.data import ReportData, Sweep, SystemScores
from audioflow.report.figures import Figures, SystemFigures
from audioflow.report.formats import (
    count,
    decimal,
    duration,
    interval,
    join_words,
    metric_name,
    percent_sign,
    plural,
    points,
    undefined,
)


def verdict(data: ReportData, figures: Figures) -> str:
    """The outcome of the experiment in one sentence of plain words."""
    if not data.systems:
        return f"No system has been scored yet; {_manifest(data)}."
    best = best_system(figures)
    if best is None:
        return f"No clip of the {figures.eval_split} split has been scored yet; {_manifest(data)}."
    gain = _headline_gain(figures, best)
    if gain is None:
        return _single(data, figures, best)
    fused = next(system for system in figures.systems if system.name == gain.system)
    parts = join_words(data.systems[fused.index].parts)
    compared = _compared(gain, fused) + _other_part(gain, figures)
    if fused is best or gain.gain.value > 0:
        return f"Fusing {parts} {_achieved(data, figures, fused)}: {compared}."
    return (
        f"The {best.name} system alone {_achieved(data, figures, best)}; "
        f"fusing {parts} does not improve on it: {compared}."
    )


def best_system(figures: Figures) -> SystemFigures | None:
    """The system with the best headline metric; of equals the first fused one, else the first.

    Where some systems know one label per clip and others several, those with one come first.
    """
    scored = [s for s in figures.evaluated if not math.isnan(s.headline[1].value)]
    if not scored:
        return None

    def order(system: SystemFigures) -> tuple[bool, float, bool, int]:
        value = system.headline[1].value
        return not system.multi_label, value, system.kind == "fused", -system.index

    return max(scored, key=order)


def _headline_gain(figures: Figures, best: SystemFigures) -> Gain | None:
    """The gain the verdict is about: of the best system, or of the best fused one over it."""
    against = [gain for gain in figures.gains if gain.is_better_part]
    for gain in against:
        if gain.system == best.name:
            return gain
    over_best = [gain for gain in against if gain.part == best.name]
    return max(over_best, key=lambda gain: gain.accuracy_system, default=None)


def _single(data: ReportData, figures: Figures, best: SystemFigures) -> str:
    text = f"The {best.name} system {_achieved(data, figures, best)}"
    key, estimate = best.headline
    if not undefined(estimate.low):
        text += f" (95 % interval {interval(estimate, _digits(best))})"
    others = [
        (s.headline[1].value, -s.index, s)
        for s in figures.evaluated
        if s is not best and s.headline[0] == key and not math.isnan(s.headline[1].value)
    ]
    if others:
        value, _, second = max(others)
        text += f"; next is {second.name} with {percent_sign(value, _digits(second))}"
    if best.multi_label:
        return f"{text}; guessing would get {percent_sign(best.chance.get(key), 0)}."
    return (
        f"{text}; always naming the most common class would get {percent_sign(best.majority, 0)}."
    )


def _compared(gain: Gain, fused: SystemFigures) -> str:
    """The gain in words: 17 points more than audio alone (95 % interval 2 to 31)."""
    digits = 0 if gain.num_clips < 1000 else 1
    value, low, high = gain.gain.value, gain.gain.low, gain.gain.high
    size = decimal(abs(value) * 100, digits)
    if size.strip("0.") == "":
        text = f"as {'many' if gain.metric == 'accuracy' else 'much'} as {gain.part} alone"
    else:
        unit = "point" if size == "1" else "points"
        less = "fewer" if gain.metric == "accuracy" else "less"
        text = f"{size} {unit} {'more' if value > 0 else less} than {gain.part} alone"
    if fused.evaluation is not None and gain.num_clips < fused.evaluation.num_clips:
        text += f" on the {count(gain.num_clips)} that {gain.part} scored"
    if undefined(low) or undefined(high):
        return text
    sure = low > 0 or high < 0
    bounds = f"95 % interval {interval(gain.gain, digits)}"
    return f"{text} ({bounds}{'' if sure else ', so it may be chance'})"


def _other_part(gain: Gain, figures: Figures) -> str:
    """The gain over the part that does better on these very clips, where that is another one: which
    part is the better one was decided where the fusion was fitted.
    """
    others = [other for other in figures.gains if other.system == gain.system]
    best = max(others, key=lambda other: other.accuracy_part)
    if best.accuracy_part <= gain.accuracy_part:
        return ""
    digits = 0 if best.num_clips < 1000 else 1
    return (
        f"; over {best.part}, which does better on these clips, {points(best.gain.value, digits)}"
    )


def _digits(system: SystemFigures) -> int:
    """A tenth of a percent means something from about a thousand clips on."""
    return 0 if system.evaluation is None or system.evaluation.num_clips < 1000 else 1


def _achieved(data: ReportData, figures: Figures, system: SystemFigures) -> str:
    """The headline metric in words: classifies 88 % of 24 test clips correctly."""
    number = 0 if system.evaluation is None else system.evaluation.num_clips
    key, estimate = system.headline
    value = percent_sign(estimate.value, _digits(system))
    folds = num_folds(data, data.systems[system.index])
    clips = plural(number, "clip" if folds else f"{figures.eval_split} clip")
    where = f" in {folds}-fold cross-validation" if folds else ""
    if system.multi_label:
        return f"reaches {metric_name(key)} {value} on {clips}{where}"
    return f"classifies {value} of {clips} correctly{where}"


def num_folds(data: ReportData, system: SystemScores) -> int:
    """Number of cross-validation folds of a system, or of the parts of a fused one; 0 for none."""
    folds = {training.fold for training in system.training if training.fold}
    if not folds and system.parts:
        parts = [part for part in data.systems if part.name in system.parts]
        folds = {training.fold for part in parts for training in part.training if training.fold}
    return len(folds) if len(folds) > 1 else 0


def _manifest(data: ReportData) -> str:
    clips = sum(sum(classes.values()) for classes in data.splits.values())
    names = {name for classes in data.splits.values() for name in classes}
    if not clips:
        return "the manifest has no clips"
    return f"the manifest has {plural(clips, 'clip')} of {plural(len(names), 'class')}"


def confusion_lead(is_mapped: bool) -> str:
    """How to read a confusion matrix."""
    rows = "Rows are the right classes, columns what the system said"
    if is_mapped:
        return f"{rows}. Classes that are taken for each other stand side by side."
    return f"{rows}; the darker a cell, the larger its share. Off the diagonal are mistakes."


def confusion_finding(system: SystemFigures) -> str:
    """What a system mixes up most, in one line."""
    if not system.confused:
        return "No clip is taken for another class."
    top = system.confused[0]
    total = round(top.clips / top.share)
    return f"Most often: {top.label} taken for {top.predicted} ({top.clips} of {total})."


def classes_finding(system: SystemFigures) -> str:
    """The easiest and the hardest class of a system by F1."""
    if system.evaluation is None:
        return ""
    known = [result for result in system.evaluation.per_class if result.support]
    if len(known) < 2:
        return ""
    hard, easy = min(known, key=lambda r: r.f1), max(known, key=lambda r: r.f1)
    if hard.f1 == easy.f1:
        return ""
    return (
        f"For {system.name}, {easy.name} is easiest (F1 {percent_sign(easy.f1, 0)}) "
        f"and {hard.name} hardest ({percent_sign(hard.f1, 0)})."
    )


def stages_finding(data: ReportData) -> str:
    """How long the run took and what took longest."""
    seconds: dict[str, float] = {}
    for stage in data.stages:
        # One pass of embed fills all its tables, so its time counts once.
        before = seconds.get(stage.job, 0.0)
        one_pass = stage.job == "embed"
        seconds[stage.job] = max(before, stage.seconds) if one_pass else before + stage.seconds
    total = sum(seconds.values())
    if total <= 0:
        return ""
    longest = max(seconds, key=lambda job: seconds[job])
    text = f"All stages together took {duration(total)}"
    if len(seconds) > 1:
        text += f"; {longest} took {percent_sign(seconds[longest] / total, 0)} of it"
    return text + "."


def failures_finding(data: ReportData) -> str:
    """How many clips failed, or that none did."""
    if not data.num_failures:
        return "Every clip gave a row in every table." if data.stages else "Nothing has run yet."
    tables = sum(1 for counts in data.failure_counts.values() if sum(counts.values()))
    where = plural(max(tables, 1), "table")
    return f"{plural(data.num_failures, 'failure')} in {where}: clips that gave no row there."


def measure_name(sweep: Sweep) -> str:
    """What the trials of a search are compared by: "accuracy", "loss"."""
    if sweep.is_loss:
        return "loss"
    return metric_name(sweep.metric.removeprefix("val_")) if sweep.metric else "score"


def score_text(sweep: Sweep, score: float | None) -> str:
    """A trial's score in the measure's own sign, with four digits."""
    return decimal(None if score is None else sweep.shown(score), 4)


def sweep_finding(sweep: Sweep) -> str:
    """What a search found, and which setting mattered most."""
    if sweep.best is None:
        return "No trial got a score."
    (number, score), default = sweep.best, sweep.default_score
    reached = f"{measure_name(sweep)} {score_text(sweep, score)} on val"
    if default is not None and score <= default:
        text = f"No trial was better than the settings as written, with {reached}"
    else:
        text = f"Trial {number} is best, with {reached}"
        if default is not None:
            more = "less" if sweep.is_loss else "more"
            text += f": {decimal(score - default, 4)} {more} than the settings as written"
    if sweep.importance:
        key, part = sweep.importance[0]
        text += f". What matters most is {key}: {percent_sign(part, 0)} of what scores vary by"
    return text + "."
