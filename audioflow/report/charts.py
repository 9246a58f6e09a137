"""The line charts of a report: how training went, and how accuracy depends on the fusion weight."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from audioflow.report.data import SystemScores, Training
from audioflow.report.formats import decimal, metric_name, percent_sign, shorten
from audioflow.report.lines import Chart, Line, Mark, line_chart
from audioflow.report.svg import colour

NAN = float("nan")


@dataclass(frozen=True)
class Panel:
    """A chart with its title and a legend of (line classes, words)."""

    title: str
    chart: Markup
    legend: tuple[tuple[str, str], ...] = ()


def training_panels(index: int, training: Sequence[Training]) -> list[Panel]:
    """Loss, then validation metrics, over epochs; folds lie over each other thinly."""
    runs = [run for run in training if run.has_curve]
    if not runs:
        return []
    thin = " thin" if len(runs) > 1 else ""
    panels = [_loss_panel(runs, f"{colour(index)}{thin}")]
    metrics = _metric_panel(runs, f"{colour(index)}{thin}")
    return [*panels, metrics] if metrics else panels


def _loss_panel(runs: Sequence[Training], css: str) -> Panel:
    validated = any(epoch.val_loss is not None for run in runs for epoch in run.epochs)
    lines, marks = [], []
    for run in runs:
        values = [e.train_loss for e in run.epochs]
        lines.append(_over_epochs(run, values, f"{css} dashed"))
        if validated:
            values = [NAN if e.val_loss is None else e.val_loss for e in run.epochs]
            lines.append(_over_epochs(run, values, css))
        marks += _best(run, values, css, "validation loss" if validated else "training loss")
    legend = [(f"{css} dashed", "training")]
    legend += [(css, "validation")] if validated else []
    chart = Chart("loss per epoch", tuple(lines), "epoch", _plain, tuple(marks), whole_x=True)
    return Panel("loss", line_chart(chart), tuple(legend))


def _metric_panel(runs: Sequence[Training], css: str) -> Panel | None:
    """Validation accuracy, and the metric that chose the best epoch where that is another one."""
    known = {key for run in runs for epoch in run.epochs for key in epoch.metrics}
    wanted = ["val_accuracy", *dict.fromkeys(run.best_metric for run in runs)]
    keys = [key for key in dict.fromkeys(wanted) if key in known and "loss" not in key]
    keys = keys or sorted(key for key in known if "loss" not in key)[:1]
    if not keys:
        return None
    lines, marks = [], []
    for key, dash in zip(keys, ("", " dotted"), strict=False):
        name = metric_name(key.removeprefix("val_"))
        for run in runs:
            values = [epoch.metrics.get(key, NAN) for epoch in run.epochs]
            lines.append(_over_epochs(run, values, css + dash))
            if key == keys[-1]:
                marks += _best(run, values, css, name)
    inside = all(0 <= y <= 1 for line in lines for _, y in line.points if math.isfinite(y))
    names = [metric_name(key.removeprefix("val_")) for key in keys]
    legend = tuple(zip((css, f"{css} dotted"), names, strict=False)) if len(keys) > 1 else ()
    chart = Chart(
        title=f"validation {names[0]} per epoch",
        lines=tuple(lines),
        x_title="epoch",
        y_text=_percent if inside else _plain,
        marks=tuple(marks),
        y_range=(0.0, 1.0) if inside else None,
        whole_x=True,
    )
    return Panel(f"validation {names[0]}", line_chart(chart), legend)


def _over_epochs(run: Training, values: Sequence[float], css: str) -> Line:
    pairs = zip(run.epochs, values, strict=True)
    return Line(tuple((float(epoch.epoch), value) for epoch, value in pairs), css)


def _best(run: Training, values: Sequence[float], css: str, name: str) -> list[Mark]:
    """The mark of a run's best epoch, where that epoch is among its records."""
    for epoch, value in zip(run.epochs, values, strict=True):
        if epoch.epoch == run.best_epoch and math.isfinite(value):
            fold = f" of fold {run.fold}" if run.fold else ""
            text = f"epoch kept{fold}: {epoch.epoch}, {name} {decimal(value, 3)}"
            return [Mark(float(epoch.epoch), value, css, text)]
    return []


def fusion_panels(index: int, system: SystemScores) -> list[Panel]:
    """Accuracy and log loss on the fit split over the weight of the second system."""
    curve = system.fusion.get("curve") or []
    if len(curve) < 2 or len(system.parts) != 2:
        return []
    first, second = system.parts
    chosen = (system.fusion.get("weights") or {}).get(second)
    split = system.fusion.get("fit_split") or "fit"
    panels = []
    for key, name, text in (
        ("accuracy", "accuracy", _percent),
        ("log_loss", "log loss", _plain),
    ):
        points = tuple(_curve_point(step, key) for step in curve)
        if not any(math.isfinite(y) for _, y in points):
            continue
        chart = Chart(
            title=f"{name} on {split} over the weight of {second}",
            lines=(Line(points, colour(index)),),
            x_title=f"weight of {shorten(second, 16)}",
            y_text=text,
            marks=_chosen(points, chosen, name, colour(index)),
            ends=(f"{shorten(first, 14)} only", f"{shorten(second, 14)} only"),
        )
        panels.append(Panel(f"{name} on {split}", line_chart(chart)))
    return panels


def _curve_point(step: dict[str, float], key: str) -> tuple[float, float]:
    value = step.get(key)
    return float(step["weight"]), NAN if value is None else float(value)


def _chosen(
    points: Sequence[tuple[float, float]], weight: float | None, name: str, css: str
) -> tuple[Mark, ...]:
    """The mark at the fitted weight, on the line between the two steps around it."""
    known = sorted(point for point in points if math.isfinite(point[1]))
    if weight is None or not known:
        return ()
    y = known[0][1]
    for (x0, y0), (x1, y1) in itertools.pairwise(known):
        if x0 <= weight <= x1:
            y = y0 + (y1 - y0) * ((weight - x0) / ((x1 - x0) or 1.0))
            break
        y = y1
    return (
        Mark(float(weight), y, css, f"fitted weight {decimal(weight, 2)}: {name} {decimal(y, 3)}"),
    )


def _percent(value: float) -> str:
    return percent_sign(value, 0 if round(value * 100, 6) == round(value * 100) else 1)


def _plain(value: float) -> str:
    return f"{value:.4g}"
