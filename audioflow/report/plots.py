"""The charts as PNG files for slides and papers, drawn by matplotlib on white."""

import re
import warnings
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap

from audioflow.report.canvas import (
    GREY,
    GRID,
    INK,
    colour_of,
    label_text,
    marker_of,
    new_figure,
    style,
    titled_legend,
    to_png,
)
from audioflow.report.curve_plots import curve_plots
from audioflow.report.data import ReportData, SystemScores, Training
from audioflow.report.figures import Figures, SystemFigures
from audioflow.report.formats import metric_name, undefined
from audioflow.report.matrix import MAX_CLASSES
from audioflow.report.run_views import class_sizes
from audioflow.report.sweep_plots import sweep_plots
from audioflow.report.sweep_views import sweep_index


def plots(data: ReportData, figures: Figures) -> dict[str, bytes]:
    """File name -> PNG, for every chart that has something to show."""
    found: dict[str, bytes] = {}
    with mpl.rc_context(style()), warnings.catch_warnings():
        # A script that no installed font has is drawn as boxes, which is no reason to fail.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        if figures.evaluated:
            found["metrics.png"] = _metrics(figures)
        if figures.gains:
            found["gains.png"] = _gains(figures)
        found |= curve_plots(figures)
        taken: set[str] = set()
        for system, scores in zip(figures.systems, data.systems, strict=True):
            name = file_name(system.name, taken)
            if system.evaluation is not None and system.evaluation.confusion is not None:
                found[f"confusion_{name}.png"] = _confusion(system)
            if any(run.has_curve for run in scores.training):
                found[f"training_{name}.png"] = _training(system, scores.training)
            if len(scores.fusion.get("curve") or []) > 1 and len(scores.parts) == 2:
                found[f"fusion_{name}.png"] = _fusion_curve(system, scores)
        taken.clear()
        for sweep in data.sweeps:
            name = file_name(sweep.name, taken)
            found |= sweep_plots(sweep, sweep_index(figures, sweep), name)
        if data.splits:
            found["data.png"] = _data(data)
    return found


def file_name(name: str, taken: set[str]) -> str:
    """A system's name as part of a file name; a name that is already `taken` gets a number."""
    base = re.sub(r"[^a-z0-9_-]+", "-", name.lower()).strip("-") or "system"
    chosen, number = base[:60], 2
    while chosen in taken:
        chosen, number = f"{base[:60]}-{number}", number + 1
    taken.add(chosen)
    return chosen


def _metrics(figures: Figures) -> bytes:
    """Every metric of every system with its interval and the chance level."""
    systems, metrics = figures.evaluated, figures.metrics
    figure = new_figure(7.5, 1.0 + 0.24 * len(metrics) * (len(systems) + 1))
    axes = figure.subplots()
    step = 1 / (len(systems) + 1)
    for row, metric in enumerate(metrics):
        for place, system in enumerate(systems):
            y = row + (place + 1) * step
            _point(axes, system, metric, y)
            chance = system.chance.get(metric, float("nan"))
            if not undefined(chance):
                axes.vlines(100 * chance, y - step / 2, y + step / 2, color=GREY, lw=1, ls=":")
    axes.set_yticks([row + 0.5 for row in range(len(metrics))], [metric_name(m) for m in metrics])
    axes.hlines(range(1, len(metrics)), 0, 100, color=GRID, lw=0.8)
    axes.set(xlim=(0, 100), ylim=(len(metrics), 0), xlabel="percent, with 95 % interval")
    titled_legend(axes, f"Results on {label_text(figures.eval_split)} (dotted: chance)")
    axes.grid(axis="x")
    return to_png(figure)


def _point(axes: Axes, system: SystemFigures, metric: str, y: float) -> None:
    estimate = system.estimate(metric)
    if estimate is None or undefined(estimate.value):
        return
    colour = colour_of(system.index)
    if not undefined(estimate.low) and not undefined(estimate.high):
        axes.hlines(y, 100 * estimate.low, 100 * estimate.high, color=colour, lw=2, alpha=0.5)
    mark = marker_of(system.index)
    label = label_text(system.name)
    axes.plot(100 * estimate.value, y, mark, color=colour, ms=6, label=label, clip_on=False)


def _gains(figures: Figures) -> bytes:
    """How many points each fused system adds to each of its parts."""
    points = " or ".join(dict.fromkeys(metric_name(gain.metric) for gain in figures.gains))
    index = {system.name: system.index for system in figures.systems}
    figure = new_figure(7.5, 1.2 + 0.32 * len(figures.gains))
    axes = figure.subplots()
    for row, gain in enumerate(figures.gains):
        colour, estimate = colour_of(index[gain.system]), gain.gain
        if not undefined(estimate.low):
            axes.hlines(row, 100 * estimate.low, 100 * estimate.high, color=colour, lw=2, alpha=0.5)
        mark = marker_of(index[gain.system])
        axes.plot(100 * estimate.value, row, mark, color=colour, ms=6)
    labels = [f"{label_text(gain.system)} over {label_text(gain.part)}" for gain in figures.gains]
    axes.set_yticks(range(len(labels)), labels)
    axes.axvline(0, color=GREY, lw=1)
    axes.set(ylim=(len(labels) - 0.4, -0.6), xlabel=f"points of {points}, with 95 % interval")
    axes.set_title("What fusing brings")
    axes.grid(axis="x")
    return to_png(figure)


def _confusion(system: SystemFigures) -> bytes:
    assert system.evaluation is not None
    counts = np.asarray(system.evaluation.confusion)
    size = len(counts)
    if size > MAX_CLASSES:
        counts = counts[np.ix_(system.order, system.order)]
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side = min(10.0, 2.6 + 0.42 * size)
    figure = new_figure(side + 0.6, side)
    axes = figure.subplots()
    ramp = LinearSegmentedColormap.from_list("share", ["#ffffff", colour_of(system.index)])
    axes.imshow(share, cmap=ramp, vmin=0, vmax=1, interpolation="nearest")
    if size <= MAX_CLASSES:
        names = [label_text(name, 18) for name in system.classes]
        axes.set_xticks(range(size), names, rotation=90)
        axes.set_yticks(range(size), names)
        for row, column in zip(*np.nonzero(counts), strict=True):
            colour = "white" if share[row, column] > 0.72 else INK
            text = str(counts[row, column])
            font = 9 if size <= 12 else 6
            label = axes.text(column, row, text, color=colour, fontsize=font)
            label.set(ha="center", va="center", in_layout=False)
    axes.set(xlabel="predicted class", ylabel="right class", title=label_text(system.name))
    axes.spines[:].set_visible(True)
    return to_png(figure)


def _training(system: SystemFigures, training: Sequence[Training]) -> bytes:
    """Loss, and accuracy where it was measured, per epoch; the folds over each other."""
    runs = [run for run in training if run.has_curve]
    keys = sorted({k for r in runs for e in r.epochs for k in e.metrics if "loss" not in k})
    key = "val_accuracy" if "val_accuracy" in keys else keys[0] if keys else ""
    figure = new_figure(8.5 if key else 4.5, 3.0)
    panels = figure.subplots(1, 2 if key else 1, squeeze=False)[0]
    colour = colour_of(system.index)
    for run in runs:
        losses = [np.nan if e.val_loss is None else e.val_loss for e in run.epochs]
        _curve(panels[0], run, [e.train_loss for e in run.epochs], color=colour, ls="--", alpha=0.6)
        _curve(panels[0], run, losses, color=colour, lw=1.0 if len(runs) > 1 else 1.8)
        if key:
            values = [100 * e.metrics.get(key, np.nan) for e in run.epochs]
            _curve(panels[1], run, values, color=colour, lw=1.0 if len(runs) > 1 else 1.8)
    panels[0].set_title(f"{label_text(system.name)}: loss (dashed: training)")
    if key:
        panels[1].set_title(f"validation {metric_name(key.removeprefix('val_'))}, percent")
        panels[1].set_ylim(0, 100)
    for axes in panels:
        axes.set_xlabel("epoch")
        axes.grid(axis="y")
    return to_png(figure)


def _curve(axes: Axes, run: Training, values: Sequence[float], **style: Any) -> None:
    """One line over epochs with a dot at the best one; a single epoch is a dot alone."""
    epochs = [epoch.epoch for epoch in run.epochs]
    best = [place for place, epoch in enumerate(epochs) if epoch == run.best_epoch]
    axes.plot(epochs, values, marker="o", ms=5, markevery=best, **style)


def _fusion_curve(system: SystemFigures, scores: SystemScores) -> bytes:
    curve = scores.fusion["curve"]
    second = scores.parts[1]
    chosen = (scores.fusion.get("weights") or {}).get(second)
    figure = new_figure(8.5, 3.0)
    panels = (("accuracy", "accuracy, percent", 100.0), ("log_loss", "log loss", 1.0))
    for axes, (key, name, unit) in zip(figure.subplots(1, 2), panels, strict=True):
        pairs = [(step["weight"], step.get(key)) for step in curve]
        y = [np.nan if value is None else unit * value for _, value in pairs]
        axes.plot([weight for weight, _ in pairs], y, color=colour_of(system.index), lw=1.8)
        if chosen is not None:
            axes.axvline(chosen, color=GREY, lw=1, ls="--")
        title = f"{name} on {label_text(str(scores.fusion.get('fit_split') or 'fit'))}"
        axes.set(xlabel=f"weight of {label_text(second)} (dashed: fitted)", title=title)
        axes.grid(axis="y")
    return to_png(figure)


def _data(data: ReportData) -> bytes:
    """Clips per class, stacked by split; of many classes only the sizes, in order."""
    splits, totals = data.splits, class_sizes(data)
    names = list(totals)
    few = len(names) <= MAX_CLASSES
    if not few:
        names.sort(key=lambda name: -totals[name])
    figure = new_figure(7.5, 1.2 + 0.24 * len(names) if few else 3.2)
    axes = figure.subplots()
    start = np.zeros(len(names))
    for (split, classes), grey in zip(splits.items(), _greys(len(splits)), strict=True):
        size = np.array([classes.get(name, 0) for name in names], float)
        if few:
            axes.barh(range(len(names)), size, left=start, color=grey, label=label_text(split))
        else:
            edges = range(len(names) + 1)
            axes.stairs(
                start + size, edges, baseline=start, fill=True, color=grey, label=label_text(split)
            )
        start += size
    if few:
        axes.set_yticks(range(len(names)), [label_text(name) for name in names])
        axes.invert_yaxis()
        axes.set_xlabel("clips")
        axes.locator_params(axis="x", integer=True)
    else:
        axes.set(xlabel=f"{len(names)} classes, largest first", ylabel="clips", xticks=[])
    axes.margins(x=0)
    titled_legend(axes, "Clips per class")
    return to_png(figure)


def _greys(number: int) -> list[str]:
    shades = ["#47525f", "#8a97a6", "#c3ccd5"]
    return [shades[min(index, 2)] for index in range(number)]
