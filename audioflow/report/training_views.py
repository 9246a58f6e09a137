"""What the page shows of training: for each system its facts, its curves and its classes."""

from collections.abc import Sequence
from dataclasses import dataclass

from audioflow.report.charts import Panel, training_panels
from audioflow.report.data import ReportData, Training, ValClass
from audioflow.report.figures import Figures, SystemFigures
from audioflow.report.formats import count, decimal, duration, metric_name, percent_sign, plural
from audioflow.report.matrix import MAX_CLASSES


@dataclass(frozen=True)
class TrainingView:
    """A system with its training curves, and its classes as its head told them apart on `val`."""

    system: SystemFigures
    facts: str
    panels: tuple[Panel, ...]
    classes: tuple[ValClass, ...]
    num_folds: int
    finding: str


def training_views(data: ReportData, figures: Figures) -> list[TrainingView]:
    """One view per system that was trained."""
    views = []
    for system, scores in zip(figures.systems, data.systems, strict=True):
        training = scores.training
        if not training:
            continue
        classes = mean_classes(training)
        views.append(
            TrainingView(
                system,
                training_facts(training),
                tuple(training_panels(system.index, training)),
                tuple(classes),
                sum(bool(run.classes) for run in training),
                _finding(classes),
            )
        )
    return views


def mean_classes(training: Sequence[Training]) -> list[ValClass]:
    """Each class with its mean over the folds that had clips of it, and its clips in all of them.

    In class order; of many classes the hardest first, and those without a clip last.
    """
    by_name: dict[str, list[ValClass]] = {}
    for run in training:
        for result in run.classes:
            by_name.setdefault(result.name, []).append(result)
    found = [_mean(name, results) for name, results in by_name.items()]
    if len(found) > MAX_CLASSES:
        found.sort(key=lambda result: (result.support == 0, result.f1))
    return found


def _mean(name: str, results: Sequence[ValClass]) -> ValClass:
    known = [result for result in results if result.support] or results

    def mean(values: Sequence[float]) -> float:
        return sum(values) / len(values)

    return ValClass(
        name,
        sum(result.support for result in results),
        mean([result.precision for result in known]),
        mean([result.recall for result in known]),
        mean([result.f1 for result in known]),
    )


def _finding(classes: Sequence[ValClass]) -> str:
    """The hardest and the easiest class by F1."""
    known = [result for result in classes if result.support]
    if len(known) < 2:
        return ""
    hard, easy = min(known, key=lambda r: r.f1), max(known, key=lambda r: r.f1)
    if hard.f1 == easy.f1:
        return f"every F1 is {percent_sign(hard.f1, 0)}"
    return (
        f"hardest {hard.name} (F1 {percent_sign(hard.f1, 0)}), "
        f"easiest {easy.name} ({percent_sign(easy.f1, 0)})"
    )


def training_facts(training: Sequence[Training]) -> str:
    """What came out of a system's training, in one line; of folds the range."""
    if not training:
        return ""
    first = training[0]
    facts = [plural(len(training), "fold")] if len(training) > 1 else []
    facts += _epoch_facts(training) if first.has_curve else ["fitted in one go, without epochs"]
    if first.num_parameters is not None:
        facts.append(f"{count(first.num_parameters)} parameters")
    temperatures = [run.temperature for run in training if run.temperature is not None]
    if temperatures:
        texts = [decimal(value, 2) for value in sorted(temperatures)]
        facts.append(f"temperature {_span(texts)}")
    if first.seed is not None:
        facts.append(f"seed {first.seed}")
    facts.append(plural(first.workers, "worker"))
    facts.append(duration(sum(run.seconds for run in training)))
    return " · ".join(facts)


def _epoch_facts(training: Sequence[Training]) -> list[str]:
    """Which epochs were kept, by what, and how many were run where that is not told by it."""
    first = training[0]
    best = _span([str(run) for run in sorted(run.best_epoch for run in training)])
    lengths = sorted(run.epochs[-1].epoch for run in training if run.epochs)
    most = first.max_epochs if first.max_epochs is not None else lengths[-1]
    early = lengths[0] < most
    single = len(training) == 1
    kept = "best epoch" if single else "best epochs"
    by = f", chosen by {metric_name(first.best_metric.removeprefix('val_'))}"
    if first.best_metric == "last":
        kept, by = "the last epoch kept,", ""
    of = f" of {lengths[0]}" if single and not early else ""
    facts = [f"{kept} {best}{of}{by}"]
    run = _span([count(number) for number in lengths])
    if early:
        facts.append(f"stopped after {run} of {plural(most, 'epoch')}")
    elif not single:
        facts.append(f"{run} epochs run")
    return facts


def _span(texts: Sequence[str]) -> str:
    """The first and the last of sorted texts, where they differ."""
    return texts[0] if texts[0] == texts[-1] else f"{texts[0]} to {texts[-1]}"
