"""The charts as PNG files for slides and papers, drawn by matplotlib on white."""

import io
import re
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from audioflow.report.data import ReportData, SystemScores, Training
from audioflow.report.figures import Figures, SystemFigures
from audioflow.report.formats import metric_name, shorten, undefined
from audioflow.report.matrix import MAX_CLASSES

COLOURS = (
    "#0068a8",
    "#d55e00",
    "#00876a",
    "#7d2f63",
    "#2f93bd",
    "#7a4a20",
    "#cc4389",
    "#5b6470",
)
"""The light colours of page.css."""

_MARKERS = "osD^"
_INK, _GREY, _GRID = "#1c1f24", "#5d646e", "#e3e4e1"
_DPI = 150
_OTHER_SCRIPTS = ("Noto Sans CJK JP", "Noto Sans", "Arial Unicode MS", "Hiragino Sans", "SimHei")


def plots(data: ReportData, figures: Figures) -> dict[str, bytes]:
    """File name -> PNG, for every chart that has something to show."""
    found: dict[str, bytes] = {}
    with mpl.rc_context(_style()), warnings.catch_warnings():
        # A script that no installed font has is drawn as boxes, which is no reason to fail.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        if figures.evaluated:
            found["metrics.png"] = _metrics(figures)
        if figures.gains:
            found["gains.png"] = _gains(figures)
        taken: set[str] = set()
        for system, scores in zip(figures.systems, data.systems, strict=True):
            name = file_name(system.name, taken)
            if system.evaluation is not None:
                found[f"confusion_{name}.png"] = _confusion(system)
            if any(run.epochs for run in scores.training):
                found[f"training_{name}.png"] = _training(system, scores.training)
            if len(scores.fusion.get("curve") or []) > 1 and len(scores.parts) == 2:
                found[f"fusion_{name}.png"] = _fusion_curve(system, scores)
        if data.splits:
            found["data.png"] = _data(data.splits)
    return found


def file_name(name: str, taken: set[str]) -> str:
    """A system's name as part of a file name; a name that is already `taken` gets a number."""
    base = re.sub(r"[^a-z0-9_-]+", "-", name.lower()).strip("-") or "system"
    chosen, number = base[:60], 2
    while chosen in taken:
        chosen, number = f"{base[:60]}-{number}", number + 1
    taken.add(chosen)
    return chosen


def _style() -> dict[Any, Any]:
    installed = set(font_manager.fontManager.get_font_names())
    return {
        "font.family": ["DejaVu Sans", *(name for name in _OTHER_SCRIPTS if name in installed)],
        "font.size": 9,
        # A dollar sign in a class name starts no formula.
        "text.parse_math": False,
        "text.color": _INK,
        "axes.edgecolor": _GRID,
        "axes.labelcolor": _GREY,
        "axes.titlesize": 10,
        "axes.titleweight": "bold",
        "axes.titlelocation": "left",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.axisbelow": True,
        "xtick.color": _GREY,
        "ytick.color": _GREY,
        "xtick.major.size": 0,
        "ytick.major.size": 0,
        "grid.color": _GRID,
        "legend.frameon": False,
    }


def _text(text: str, length: int = 24) -> str:
    return shorten(text, length)


def _figure(width: float, height: float) -> Figure:
    return Figure(figsize=(width, height), layout="constrained", facecolor="white")


def _png(figure: Figure) -> bytes:
    sink = io.BytesIO()
    # Without the program's version the same chart gives the same bytes.
    FigureCanvasAgg(figure).print_figure(sink, dpi=_DPI, metadata={"Software": None})
    return sink.getvalue()


def _colour(index: int) -> str:
    return COLOURS[index % len(COLOURS)]


def _metrics(figures: Figures) -> bytes:
    """Every metric of every system with its interval and the chance level."""
    systems, metrics = figures.evaluated, figures.metrics
    figure = _figure(7.5, 1.0 + 0.24 * len(metrics) * (len(systems) + 1))
    axes = figure.subplots()
    step = 1 / (len(systems) + 1)
    for row, metric in enumerate(metrics):
        for place, system in enumerate(systems):
            y = row + (place + 1) * step
            _point(axes, system, metric, y)
            chance = system.chance.get(metric, float("nan"))
            if not undefined(chance):
                axes.vlines(100 * chance, y - step / 2, y + step / 2, color=_GREY, lw=1, ls=":")
    axes.set_yticks([row + 0.5 for row in range(len(metrics))], [metric_name(m) for m in metrics])
    axes.hlines(range(1, len(metrics)), 0, 100, color=_GRID, lw=0.8)
    axes.set(xlim=(0, 100), ylim=(len(metrics), 0), xlabel="percent, with 95 % interval")
    axes.set_title(f"Results on {_text(figures.eval_split)} (dotted: chance)", pad=26)
    handles, labels = axes.get_legend_handles_labels()
    known = dict(zip(labels, handles, strict=True))
    columns = min(4, len(known))
    axes.legend(
        known.values(),
        known.keys(),
        loc="lower left",
        bbox_to_anchor=(-0.02, 1.0),
        ncols=columns,
        handletextpad=0.2,
        columnspacing=1.2,
    )
    axes.grid(axis="x")
    return _png(figure)


def _point(axes: Axes, system: SystemFigures, metric: str, y: float) -> None:
    estimate = system.estimate(metric)
    if estimate is None or undefined(estimate.value):
        return
    colour = _colour(system.index)
    if not undefined(estimate.low) and not undefined(estimate.high):
        axes.hlines(y, 100 * estimate.low, 100 * estimate.high, color=colour, lw=2, alpha=0.5)
    style = _MARKERS[system.index % len(_MARKERS)]
    label = _text(system.name)
    axes.plot(100 * estimate.value, y, style, color=colour, ms=6, label=label, clip_on=False)


def _gains(figures: Figures) -> bytes:
    """How many points each fused system adds to each of its parts."""
    index = {system.name: system.index for system in figures.systems}
    figure = _figure(7.5, 1.2 + 0.32 * len(figures.gains))
    axes = figure.subplots()
    for row, gain in enumerate(figures.gains):
        colour, estimate = _colour(index[gain.system]), gain.gain
        if not undefined(estimate.low):
            axes.hlines(row, 100 * estimate.low, 100 * estimate.high, color=colour, lw=2, alpha=0.5)
        style = _MARKERS[index[gain.system] % len(_MARKERS)]
        axes.plot(100 * estimate.value, row, style, color=colour, ms=6)
    labels = [f"{_text(gain.system)} over {_text(gain.part)}" for gain in figures.gains]
    axes.set_yticks(range(len(labels)), labels)
    axes.axvline(0, color=_GREY, lw=1)
    axes.set(ylim=(len(labels) - 0.4, -0.6), xlabel="points of accuracy, with 95 % interval")
    axes.set_title("What fusing brings")
    axes.grid(axis="x")
    return _png(figure)


def _confusion(system: SystemFigures) -> bytes:
    assert system.evaluation is not None
    counts = np.asarray(system.evaluation.confusion)
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    size = len(counts)
    side = min(10.0, 2.6 + 0.42 * size)
    figure = _figure(side + 0.6, side)
    axes = figure.subplots()
    ramp = LinearSegmentedColormap.from_list("share", ["#ffffff", _colour(system.index)])
    axes.imshow(share, cmap=ramp, vmin=0, vmax=1, interpolation="nearest")
    if size <= MAX_CLASSES:
        names = [_text(name, 18) for name in system.classes]
        axes.set_xticks(range(size), names, rotation=90)
        axes.set_yticks(range(size), names)
        for row, column in zip(*np.nonzero(counts), strict=True):
            colour = "white" if share[row, column] > 0.55 else _INK
            text = str(counts[row, column])
            font = 9 if size <= 12 else 6
            label = axes.text(column, row, text, color=colour, fontsize=font)
            label.set(ha="center", va="center", in_layout=False)
    axes.set(xlabel="predicted class", ylabel="right class", title=_text(system.name))
    axes.spines[:].set_visible(True)
    return _png(figure)


def _training(system: SystemFigures, training: Sequence[Training]) -> bytes:
    figure = _figure(8.5, 3.0)
    left, right = figure.subplots(1, 2)
    colour = _colour(system.index)
    runs = [run for run in training if run.epochs]
    thin = 1.0 if len(runs) > 1 else 1.8
    keys = sorted({k for r in runs for e in r.epochs for k in e.metrics if "loss" not in k})
    key = "val_accuracy" if "val_accuracy" in keys else keys[0] if keys else ""
    for run in runs:
        x = [epoch.epoch for epoch in run.epochs]
        left.plot(x, [e.train_loss for e in run.epochs], "--", color=colour, lw=thin, alpha=0.6)
        losses = [np.nan if e.val_loss is None else e.val_loss for e in run.epochs]
        left.plot(x, losses, color=colour, lw=thin)
        values = [100 * e.metrics.get(key, np.nan) for e in run.epochs]
        right.plot(x, values, color=colour, lw=thin, marker="o" if len(x) == 1 else "")
        for axes, series in ((left, losses), (right, values)):
            if run.best_epoch in x:
                axes.plot(run.best_epoch, series[x.index(run.best_epoch)], "o", color=colour, ms=5)
    left.set(xlabel="epoch", title=f"{_text(system.name)}: loss (dashed: training)")
    right.set(xlabel="epoch", title=f"validation {metric_name(key.removeprefix('val_'))}, percent")
    right.set_ylim(0, 100)
    left.grid(axis="y")
    right.grid(axis="y")
    return _png(figure)


def _fusion_curve(system: SystemFigures, scores: SystemScores) -> bytes:
    curve = scores.fusion["curve"]
    second = scores.parts[1]
    chosen = (scores.fusion.get("weights") or {}).get(second)
    figure = _figure(8.5, 3.0)
    panels: Sequence[tuple[Axes, str, Callable[[float], float]]] = [
        (axes, key, unit)
        for axes, (key, unit) in zip(
            figure.subplots(1, 2),
            (("accuracy", lambda v: 100 * v), ("log_loss", lambda v: v)),
            strict=True,
        )
    ]
    for axes, key, unit in panels:
        pairs = [(step["weight"], step.get(key)) for step in curve]
        y = [np.nan if value is None else unit(value) for _, value in pairs]
        axes.plot([weight for weight, _ in pairs], y, color=_colour(system.index), lw=1.8)
        if chosen is not None:
            axes.axvline(chosen, color=_GREY, lw=1, ls="--")
        name = "accuracy, percent" if key == "accuracy" else "log loss"
        title = f"{name} on {_text(str(scores.fusion.get('fit_split') or 'fit'))}"
        axes.set(xlabel=f"weight of {_text(second)} (dashed: fitted)", title=title)
        axes.grid(axis="y")
    return _png(figure)


def _data(splits: dict[str, dict[str, int]]) -> bytes:
    """Clips per class, stacked by split; of many classes only the sizes, in order."""
    totals: dict[str, int] = {}
    for classes in splits.values():
        for name, clips in classes.items():
            totals[name] = totals.get(name, 0) + clips
    names = list(totals)
    few = len(names) <= MAX_CLASSES
    if not few:
        names.sort(key=lambda name: -totals[name])
    figure = _figure(7.5, 1.2 + 0.24 * len(names) if few else 3.2)
    axes = figure.subplots()
    start = np.zeros(len(names))
    for (split, classes), grey in zip(splits.items(), _greys(len(splits)), strict=True):
        size = np.array([classes.get(name, 0) for name in names], float)
        if few:
            axes.barh(range(len(names)), size, left=start, color=grey, label=_text(split))
        else:
            edges = range(len(names) + 1)
            axes.stairs(
                start + size, edges, baseline=start, fill=True, color=grey, label=_text(split)
            )
        start += size
    if few:
        axes.set_yticks(range(len(names)), [_text(name) for name in names])
        axes.invert_yaxis()
        axes.set_xlabel("clips")
    else:
        axes.set(xlabel=f"{len(names)} classes, largest first", ylabel="clips", xticks=[])
    axes.set_title("Clips per class")
    axes.legend()
    return _png(figure)


def _greys(number: int) -> list[str]:
    shades = ["#47525f", "#8a97a6", "#c3ccd5"]
    return [shades[min(index, 2)] for index in range(number)]
