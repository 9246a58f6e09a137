"""The charts of a search as PNG files."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import LinearSegmentedColormap

from audioflow.report.canvas import GREY, GRID, INK, colour_of, label_text, new_figure, to_png
from audioflow.report.data import Sweep
from audioflow.report.parallel import Parallel, parallel
from audioflow.report.sweep_views import best_so_far
from audioflow.report.words import measure_name
from audioflow.trial_text import setting_names

_MOST_BARS = 12


def sweep_plots(sweep: Sweep, index: int, name: str) -> dict[str, bytes]:
    """`search_NAME.png`: settings and score; `trials_NAME.png`: score by trial, what matters."""
    lines = parallel(sweep)
    if not lines.ways:
        return {}
    found = {f"trials_{name}.png": _trials(sweep, index)}
    if len(lines.axes) > 1:
        found[f"search_{name}.png"] = _parallel(sweep, lines, index)
    return found


def _parallel(sweep: Sweep, lines: Parallel, index: int) -> bytes:
    """Each line is a trial; the stronger its colour, the better; the thick one is the best."""
    count = len(lines.axes)
    figure = new_figure(max(6.0, 1.5 * count + 0.6), 3.8)
    axes = figure.subplots()
    xs = np.arange(count)
    ramp = LinearSegmentedColormap.from_list("rank", ["#c3ccd5", colour_of(index)])
    segments = [np.column_stack([xs, way.places]) for way in lines.ways]
    colours = [ramp(way.rank) for way in lines.ways]
    axes.add_collection(LineCollection(segments, colors=colours, linewidths=1, alpha=0.8))
    axes.vlines(xs, 0, 1, color=GREY, lw=0.8)
    for x, axis in enumerate(lines.axes):
        for place, text in axis.marks:
            label = axes.text(x - 0.05, place, label_text(text, 12), color=GREY, fontsize=8)
            label.set(ha="right", va="center")
            label.set_bbox({"facecolor": "white", "alpha": 0.7, "linewidth": 0, "pad": 0.6})
    for way in lines.ways:
        if way.is_best:
            axes.plot(xs, way.places, color="white", lw=6, zorder=3)
            axes.plot(xs, way.places, color=colour_of(index), lw=3, marker="o", zorder=4)
    names = [label_text(axis.title, 17) for axis in lines.axes]
    axes.set_xticks(xs, names, color=INK, fontweight="bold")
    axes.xaxis.tick_top()
    axes.set(xlim=(-0.55, count - 0.8), ylim=(-0.03, 1.03), yticks=[])
    axes.spines[:].set_visible(False)
    axes.set_title(f"{label_text(sweep.name)}: settings and {measure_name(sweep)} (thick: best)")
    return to_png(figure)


def _trials(sweep: Sweep, index: int) -> bytes:
    """The score of every trial with the best so far, and beside it what matters."""
    bars = sweep.importance[:_MOST_BARS]
    figure = new_figure(8.5 if bars else 4.5, 3.0)
    panels = figure.subplots(1, 2 if bars else 1, squeeze=False)[0]
    _scores(panels[0], sweep, index)
    if bars:
        names = setting_names(parameter.key for parameter in sweep.parameters)
        shares = [100 * share for _, share in bars]
        panels[1].barh(range(len(bars)), shares, color=colour_of(index), height=0.6)
        labels = [label_text(names.get(key, key)) for key, _ in bars]
        panels[1].set_yticks(range(len(bars)), labels)
        panels[1].invert_yaxis()
        panels[1].set_title("what scores vary by, percent")
        panels[1].grid(axis="x")
    return to_png(figure)


def _scores(axes: Axes, sweep: Sweep, index: int) -> None:
    colour = colour_of(index)
    scored = [trial for trial in sweep.trials if trial.score is not None]
    for finished in (True, False):
        some = [trial for trial in scored if (trial.state == "finished") == finished]
        numbers = [trial.number for trial in some]
        scores = [sweep.shown(trial.score) for trial in some if trial.score is not None]
        face = colour if finished else "white"
        axes.plot(numbers, scores, "o", ms=4, color=colour, markerfacecolor=face, alpha=0.6)
    steps = best_so_far(sweep)
    if steps:
        numbers, scores = [n for n, _ in steps], [sweep.shown(s) for _, s in steps]
        numbers.append(max(trial.number for trial in sweep.trials))
        axes.plot(numbers, [*scores, scores[-1]], color=colour, lw=1.8, drawstyle="steps-post")
    if sweep.default_score is not None:
        axes.axhline(sweep.shown(sweep.default_score), color=GREY, lw=1, ls="--")
    known = " (dashed: as written)" if sweep.default_score is not None else ""
    title = f"{label_text(sweep.name)}: {measure_name(sweep)}{known}"
    axes.set(xlabel="trial", title=title)
    axes.grid(axis="y", color=GRID)
