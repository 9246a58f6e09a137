"""What the page shows of the systems: figures arranged for the templates, nothing computed anew."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from audioflow.metrics import ClassResult
from audioflow.report.data import ReportData
from audioflow.report.figures import Figures, SystemFigures
from audioflow.report.formats import (
    count,
    percent,
    plural,
    undefined,
    with_metric_names,
)
from audioflow.report.matrix import MAX_CLASSES, confusion_matrix
from audioflow.report.svg import colour
from audioflow.report.words import best_system

CLASS_METRICS = ("f1", "precision", "recall", "roc_auc", "average_precision")


@dataclass(frozen=True)
class ClassCell:
    """One system's results for one class: `values` in percent in the order of `CLASS_METRICS`."""

    css: str
    text: str
    first: str
    values: str


@dataclass(frozen=True)
class ClassRow:
    """One class with a cell per system."""

    name: str
    support: int
    cells: tuple[ClassCell, ...]


def name_width(figures: Figures) -> int:
    """Room for the names of the systems beside the charts, in characters."""
    return width_of([system.name for system in figures.evaluated])


def width_of(names: Sequence[str]) -> int:
    """Room for some of them, in characters."""
    return min(20, max([7, *(len(name) for name in names)]))


def matrices(figures: Figures) -> dict[str, Markup]:
    """The confusion matrix of each system whose classes are few enough to read."""
    return {
        system.name: confusion_matrix(system.index, system.evaluation.confusion, system.classes)
        for system in figures.evaluated
        if system.evaluation is not None
        and system.evaluation.confusion is not None
        and len(system.classes) <= MAX_CLASSES
    }


def class_rows(figures: Figures) -> list[ClassRow]:
    """A row per class in class order, or the hardest first where there are many."""
    by_system: list[tuple[SystemFigures, dict[str, ClassResult]]] = []
    support: dict[str, int] = {}
    for system in figures.evaluated:
        results = {r.name: r for r in system.evaluation.per_class} if system.evaluation else {}
        by_system.append((system, results))
        for result in results.values():
            support[result.name] = max(support.get(result.name, 0), result.support)
    names = list(support)
    best = best_system(figures)
    if len(names) > MAX_CLASSES and best is not None and best.evaluation is not None:
        f1 = {result.name: result.f1 for result in best.evaluation.per_class}
        # Classes that no clip has would otherwise stand first with an F1 of 0.
        names.sort(key=lambda name: (support[name] == 0, f1.get(name, 2.0)))
    return [
        ClassRow(
            name,
            support[name],
            tuple(_class_cell(colour(s.index), found.get(name)) for s, found in by_system),
        )
        for name in names
    ]


def _class_cell(css: str, result: ClassResult | None) -> ClassCell:
    if result is None:
        return ClassCell(css, percent(None), "0", "")
    values = [getattr(result, metric) for metric in CLASS_METRICS]
    texts = ["" if undefined(value) else f"{value * 100:.1f}" for value in values]
    first = "0" if undefined(values[0]) else f"{values[0]:.3f}"
    return ClassCell(css, percent(values[0]), first, ",".join(texts))


def reference(figures: Figures) -> SystemFigures | None:
    """The system with most clips: its chance levels stand for all."""
    scored = [(s.evaluation.num_clips, -s.index, s) for s in figures.evaluated if s.evaluation]
    return max(scored)[2] if scored else None


def best_of(figures: Figures) -> dict[str, set[str]]:
    """For each metric, the systems with the highest value; empty where only one has it."""
    found: dict[str, set[str]] = {}
    for metric in figures.metrics:
        values = {}
        for system in figures.evaluated:
            estimate = system.estimate(metric)
            if estimate is not None and not undefined(estimate.value):
                values[system.name] = estimate.value
        top = max(values.values(), default=0.0)
        found[metric] = {n for n in values if values[n] == top} if len(values) > 1 else set()
    return found


def details(figures: Figures) -> tuple[str, ...]:
    """The metrics beside those of the summary that any system has."""
    found = {key: None for s in figures.evaluated if s.evaluation for key in s.evaluation.details}
    return tuple(found)


def facts(data: ReportData, figures: Figures) -> list[str]:
    """The size of the experiment, for the line under the verdict."""
    found = []
    clips = sum(sum(classes.values()) for classes in data.splits.values())
    if clips:
        found.append(plural(clips, "clip"))
        found.append(plural(len({n for c in data.splits.values() for n in c}), "class"))
    best = best_system(figures)
    if best is not None and best.evaluation is not None:
        evaluation = best.evaluation
        groups = evaluation.num_groups
        words = f"{plural(evaluation.num_clips, 'clip')} evaluated"
        found.append(
            words + (f" in {plural(groups, 'group')}" if groups != evaluation.num_clips else "")
        )
    if data.systems:
        found.append(plural(len(data.systems), "system"))
    if data.num_failures:
        found.append(plural(data.num_failures, "failure"))
    elif data.stages:
        found.append("no failures")
    return found


def notes(figures: Figures) -> list[str]:
    """What a reader of the metrics has to know: clips left out, classes without a metric."""
    found = []
    for system in figures.systems:
        if system.evaluation is None:
            what = "clip with exactly one label" if system.left_out else "scores"
            found.append(f"{system.name} has no {what} on {figures.eval_split}.")
            continue
        if system.left_out:
            found.append(
                f"{system.name}: {plural(system.left_out, 'clip')} left out, "
                "because they do not have exactly one label that is among its classes."
            )
        if system.unknown_labels:
            found.append(
                f"{system.name}: {plural(system.unknown_labels, 'clip')} also with labels that are "
                "no class; those labels do not count."
            )
        if system.evaluation.unlabelled:
            number = plural(system.evaluation.unlabelled, "clip")
            found.append(f"{system.name}: {number} without any label, which count too.")
        if system.evaluation.num_groups < 2:
            found.append(f"{system.name}: all clips are of one group, so there is no interval.")
    clips = {system.evaluation.num_clips for system in figures.evaluated if system.evaluation}
    if len(clips) > 1:
        found.append("The systems did not score the same clips.")
    undefined_notes = dict.fromkeys(
        sentence for s in figures.evaluated if s.evaluation for sentence in s.evaluation.undefined
    )
    named = [with_metric_names(sentence) for sentence in undefined_notes]
    sentences = [s[:1].upper() + s[1:].rstrip(".") + "." for s in named]
    more = len(sentences) - 3
    found += sentences[:3] + ([f"And {count(more)} more like this."] if more > 0 else [])
    return found
