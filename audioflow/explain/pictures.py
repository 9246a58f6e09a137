"""Explanations as pictures: red speaks for the class, blue against it.

Shapes: T frames of a clip, M bands, S spans of time, W columns.
"""

from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from audioflow.explain.concepts import ConceptResult
from audioflow.explain.rows import ClipExplanation
from audioflow.report.canvas import GREY, INK, label_text, new_figure, style, to_png

Floats = NDArray[np.float32]

FOR, AGAINST = "#c0392b", "#0068a8"
_WIDE = 8.0
_TICKS_HZ = (30, 60, 125, 250, 500, 1000, 2000, 4000, 8000, 16_000)
_MOST_COLUMNS = 16
_MOST_WAVE = 1600
_STRONGEST = 99.5
"""Percentile of the attributions that has the full colour: a few extremes would leave all pale."""


def spectrogram_picture(
    found: ClipExplanation, spectrogram_TM: Floats, unit: str, attributions_TM: Floats
) -> bytes:
    """The spectrogram of a clip, and below it what each part of it adds to the logit, as a PNG.

    attributions_TM: as `found` has them, or spread over the frames and bands of their rectangles.
    """
    with mpl.rc_context(style()):
        figure = new_figure(_WIDE, 5.2)
        axes = figure.subplots(3, 1, sharex=True, height_ratios=[4, 4, 1.6])
        assert found.start_s is not None
        assert found.hop_s is not None
        extent = _extent(found.start_s, found.hop_s, spectrogram_TM.shape)
        where: dict[str, Any] = {"aspect": "auto", "origin": "lower", "extent": extent}
        image = axes[0].imshow(spectrogram_TM.T, cmap="Greys", **where)
        figure.colorbar(image, ax=axes[0], label=unit, pad=0.01)
        axes[1].imshow(spectrogram_TM.T, cmap="Greys", alpha=0.35, **where)
        strongest = _strongest(attributions_TM)
        image = axes[1].imshow(
            attributions_TM.T,
            cmap="RdBu_r",
            vmin=-strongest,
            vmax=strongest,
            alpha=np.clip(np.abs(attributions_TM.T) / strongest, 0.12, 0.9),
            **where,
        )
        figure.colorbar(image, ax=axes[1], label="logit", pad=0.01)
        for one in axes[:2]:
            _bands(one, found.bands_hz)
        _in_time(axes[2], found, attributions_TM)
        axes[0].set_title(_title(found))
        axes[2].set_xlabel("seconds from the start of the clip")
        return to_png(figure)


def _extent(start_s: float, hop_s: float, shape: Sequence[int]) -> tuple[float, ...]:
    begin = start_s - hop_s / 2
    return begin, begin + hop_s * shape[0], -0.5, shape[1] - 0.5


def _strongest(values: Floats) -> float:
    return float(np.percentile(np.abs(values), _STRONGEST)) or float(np.abs(values).max()) or 1.0


def _bands(axes: Axes, bands_hz: Sequence[float]) -> None:
    """Frequencies at the bands that lie nearest to them."""
    ticks: dict[float, str] = {}
    for hz in reversed(_TICKS_HZ):
        place = float(np.interp(hz, bands_hz, np.arange(len(bands_hz))))
        free = all(abs(place - other) > len(bands_hz) / 12 for other in ticks)
        if bands_hz[0] <= hz <= bands_hz[-1] and free:
            ticks[place] = _hz(hz)
    axes.set_yticks(list(ticks), list(ticks.values()))
    axes.set_ylabel("Hz")


def _hz(hz: int) -> str:
    return f"{hz // 1000} k" if hz >= 1000 else str(hz)


def _in_time(axes: Axes, found: ClipExplanation, attributions_TM: Floats) -> None:
    assert found.start_s is not None
    assert found.hop_s is not None
    above_T = below_T = attributions_TM.sum(axis=1)
    if found.delta is None:  # what is lost band by band does not add up
        above_T, below_T = attributions_TM.max(axis=1), attributions_TM.min(axis=1)
    time_s = found.start_s + found.hop_s * np.arange(len(above_T))
    axes.fill_between(time_s, np.maximum(above_T, 0), color=FOR, linewidth=0)
    axes.fill_between(time_s, np.minimum(below_T, 0), color=AGAINST, linewidth=0)
    axes.axhline(0, color=GREY, linewidth=0.6)
    axes.set_ylabel("all bands" if found.delta is not None else "extremes")


def time_picture(found: ClipExplanation, waveform_N: NDArray[Any], rate_hz: int) -> bytes:
    """The waveform of a clip, and what the logit loses without each span of it, as a PNG."""
    with mpl.rc_context(style()):
        figure = new_figure(_WIDE, 3.6)
        axes = figure.subplots(2, 1, sharex=True, height_ratios=[1, 1.4])
        assert found.hop_s is not None
        step = max(1, len(waveform_N) // _MOST_WAVE)
        usable = len(waveform_N) // step * step
        parts = waveform_N[:usable].reshape(-1, step)
        time_s = np.arange(len(parts)) * step / rate_hz
        axes[0].fill_between(time_s, parts.min(axis=1), parts.max(axis=1), color=GREY, linewidth=0)
        axes[0].set_yticks([])
        axes[0].set_title(_title(found))
        starts = found.hop_s * np.arange(len(found.attributions))
        colours = [FOR if value > 0 else AGAINST for value in found.attributions]
        axes[1].bar(starts, found.attributions, found.hop_s, align="edge", color=colours)
        axes[1].axhline(0, color=GREY, linewidth=0.6)
        axes[1].set_ylabel("logit lost without it")
        axes[1].set_xlabel("seconds from the start of the clip")
        return to_png(figure)


def columns_picture(found: ClipExplanation) -> bytes:
    """The columns that add or take most, as bars, as a PNG."""
    order = np.argsort(-np.abs(found.attributions))[:_MOST_COLUMNS]
    names = [f"{label_text(found.columns[n], 44)} = {found.values[n]:.4g}" for n in order]
    shown = found.attributions[order]
    rest = float(found.attributions.sum() - shown.sum())
    if len(found.attributions) > len(order):
        names.append(f"the other {len(found.attributions) - len(order)} columns")
        shown = np.append(shown, np.float32(rest))
    with mpl.rc_context(style()):
        figure = new_figure(_WIDE, 1.2 + 0.26 * len(shown))
        axes = figure.subplots()
        _bars(axes, names, shown)
        axes.set_title(_title(found))
        axes.set_xlabel(
            f"added to the logit; {found.baseline_logit:.2f} on average, {found.logit:.2f} here"
        )
        return to_png(figure)


def mean_columns_picture(columns: Sequence[str], values_NW: Floats, title: str) -> bytes:
    """The columns that matter most over several clips, as a PNG."""
    mean_W = np.abs(values_NW).mean(axis=0)
    order = np.argsort(-mean_W)[:_MOST_COLUMNS]
    with mpl.rc_context(style()):
        figure = new_figure(_WIDE, 1.2 + 0.26 * len(order))
        axes = figure.subplots()
        _bars(axes, [label_text(columns[n], 44) for n in order], mean_W[order])
        axes.set_title(title)
        axes.set_xlabel("mean size of what is added to the logit, or taken")
        return to_png(figure)


def _bars(axes: Axes, names: Sequence[str], values: Floats) -> None:
    places = np.arange(len(values))[::-1]
    colours = [FOR if value > 0 else AGAINST for value in values]
    axes.barh(places, values, height=0.7, color=colours)
    axes.set_yticks(places, names)
    axes.axvline(0, color=GREY, linewidth=0.6)
    axes.grid(axis="x")


def concepts_picture(results: Sequence[ConceptResult], label: str) -> bytes:
    """How a class depends on every concept, beside what random sets give, as a PNG."""
    mine = sorted((one for one in results if one.label == label), key=lambda one: one.score)
    with mpl.rc_context(style()):
        figure = new_figure(_WIDE, 1.4 + 0.34 * len(mine))
        axes = figure.subplots()
        places = np.arange(len(mine))
        colours = [INK if one.significant else "#c9ccd1" for one in mine]
        axes.barh(places, [one.score for one in mine], height=0.62, color=colours)
        axes.plot([one.score_random for one in mine], places, "|", color=FOR, markersize=14)
        axes.set_yticks(places, [label_text(one.concept, 32) for one in mine])
        axes.set_xlim(0, 1.5)
        axes.set_xticks([0, 0.25, 0.5, 0.75, 1])
        for place, one in zip(places, mine, strict=True):
            axes.text(1.03, float(place), verdict(one), va="center", color=GREY, fontsize=8)
        axes.set_title(f"{label_text(label, 60)}: the concepts its logit rises with")
        axes.set_xlabel("share of its clips (bar); of random sets (red mark)")
        return to_png(figure)


def verdict(one: ConceptResult) -> str:
    """What the figures say, in words."""
    if not one.meaningful:
        return f"no concept: told from random {one.accuracy:.0%}"
    if not one.significant:
        return f"like random (p = {one.p_value:.2g})"
    return f"p = {one.p_value:.1g}, told from random {one.accuracy:.0%}"


def _title(found: ClipExplanation) -> str:
    labels = ", ".join(found.labels) or "no label"
    told = f"{label_text(found.clip_id, 40)} ({label_text(labels, 30)})"
    return f"{told}: {label_text(found.label, 30)}, logit {found.logit:.2f}"
