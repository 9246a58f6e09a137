"""Parallel coordinates of a search: an axis per parameter and one for the score, a line per trial.

Places on an axis are shares of its height: 0 is its lower end, 1 its upper one.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from audioflow.report.data import Sweep, SweepParameter, SweepTrial
from audioflow.report.formats import DASH, shorten
from audioflow.report.svg import colour, number, tag, ticks
from audioflow.report.words import measure_name, score_text
from audioflow.trial_text import setting_names, value_text

MOST_LINES = 300
"""Of more trials the best ones are drawn, and some of all others."""

HEIGHT, TOP, BOTTOM = 330, 40, 16
LEFT, RIGHT, GAP = 84, 46, 126
LEAST_WIDTH = 660

_MOST_MARKS = 14
_SLOT = 0.12
"""Room under a range of numbers for the trials that do not have the parameter."""
_BAND = 0.6
"""The share of its room over which the lines through one option are spread."""


@dataclass(frozen=True)
class ParallelAxis:
    """One axis: its name, places with their texts, and where every trial crosses it, by number."""

    title: str
    key: str
    marks: tuple[tuple[float, str], ...]
    places: Mapping[int, float]


@dataclass(frozen=True)
class Way:
    """A trial's line: its place on every axis. `rank` is 1 for the best score, 0 for the worst."""

    trial: SweepTrial
    places: tuple[float, ...]
    rank: float
    is_best: bool


@dataclass(frozen=True)
class Parallel:
    """Axes, and the ways through them, the best one last."""

    axes: tuple[ParallelAxis, ...]
    ways: tuple[Way, ...]


def parallel(sweep: Sweep) -> Parallel:
    """The trials of a search that have a score, at most `MOST_LINES` of them."""
    trials = drawn(sweep.trials)
    names = setting_names(parameter.key for parameter in sweep.parameters)
    values = {trial.number: trial.values or sweep.written for trial in trials}
    axes = [_axis(names[each.key], each, trials, values) for each in sweep.parameters]
    axes.append(_score_axis(sweep, trials))
    best = None if sweep.best is None else sweep.best[0]
    last = max(1, len(trials) - 1)
    ways = [
        Way(
            trial,
            tuple(axis.places[trial.number] for axis in axes),
            place / last if len(trials) > 1 else 1.0,
            trial.number == best,
        )
        for place, trial in enumerate(trials)
    ]
    return Parallel(tuple(axes), tuple(sorted(ways, key=lambda way: way.is_best)))


def drawn(trials: Sequence[SweepTrial]) -> list[SweepTrial]:
    """Trials with a score, the worst first; of too many the best half, and every so many others."""
    scored = sorted(
        (trial for trial in trials if trial.score is not None),
        key=lambda trial: (trial.score, -trial.number),
    )
    if len(scored) <= MOST_LINES:
        return scored
    others, top = scored[: -MOST_LINES // 2], scored[-MOST_LINES // 2 :]
    return others[:: -(-len(others) // (MOST_LINES // 2))] + top


def _axis(
    title: str,
    parameter: SweepParameter,
    trials: Sequence[SweepTrial],
    values: Mapping[int, Mapping[str, Any]],
) -> ParallelAxis:
    own = {trial.number: values[trial.number].get(parameter.key) for trial in trials}
    absent = {number for number in own if parameter.key not in values[number]}
    if parameter.options:
        return _choice_axis(title, parameter, own, absent)
    return _number_axis(title, parameter, own, absent)


def _choice_axis(
    title: str, parameter: SweepParameter, own: Mapping[int, Any], absent: set[int]
) -> ParallelAxis:
    """Every option has a row of its own; its lines are spread over it, the better ones higher."""
    texts = [value_text(option) for option in parameter.options]
    found = {number: DASH if number in absent else value_text(own[number]) for number in own}
    texts += sorted(set(found.values()) - {*texts, DASH})
    rows = [*([DASH] if absent else []), *reversed(texts)]
    room = 1 / len(rows)
    places = {}
    for row, text in enumerate(rows):
        here = [trial for trial, other in found.items() if other == text]
        for order, trial in enumerate(here):
            spread = (order + 0.5) / len(here) - 0.5
            places[trial] = room * (row + 0.5 + _BAND * spread)
    marks = tuple((room * (row + 0.5), shorten(text, 12)) for row, text in enumerate(rows))
    return ParallelAxis(title, parameter.key, marks[:: -(-len(marks) // _MOST_MARKS)], places)


def _number_axis(
    title: str, parameter: SweepParameter, own: Mapping[int, Any], absent: set[int]
) -> ParallelAxis:
    """A linear or a logarithmic range; trials without a number stand under it."""
    usable = {
        number: float(value)
        for number, value in own.items()
        if number not in absent and _is_usable(value, parameter.log)
    }
    low = min([parameter.low, *usable.values()])
    high = max([parameter.high, *usable.values()])
    start = _SLOT if len(usable) < len(own) else 0.0

    def at(value: float) -> float:
        if parameter.log:
            share = math.log(value / low) / (math.log(high / low) or 1.0)
        else:
            share = (value - low) / ((high - low) or 1.0)
        return start + (1 - start) * share

    values = log_ticks(low, high) if parameter.log else ticks(low, high)
    marks = [(at(value), value_text(float(value))) for value in values]
    if start:
        marks.insert(0, (0.0, DASH))
    places = {number: at(usable[number]) if number in usable else 0.0 for number in own}
    return ParallelAxis(title, parameter.key, tuple(marks), places)


def _is_usable(value: Any, log: bool) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and math.isfinite(value) and (value > 0 or not log)


def log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten from `low` to `high`; of less than two decades twice and five times one too."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    factors = (1,) if math.log10(high / low) >= 2 else (1, 2, 5)
    found = [factor * 10.0**power for power in range(first, last + 1) for factor in factors]
    inside = [value for value in found if low * 0.999 <= value <= high * 1.001]
    return inside if len(inside) > 1 else [low, high]


def _score_axis(sweep: Sweep, trials: Sequence[SweepTrial]) -> ParallelAxis:
    """Better is higher, for a loss too."""
    scores = {trial.number: trial.score for trial in trials if trial.score is not None}
    low, high = min(scores.values(), default=0.0), max(scores.values(), default=1.0)
    span = (high - low) or 1.0
    values = ticks(low, high)
    marks = tuple(((value - low) / span, f"{sweep.shown(value):.4g}") for value in values)
    places = {number: (score - low) / span for number, score in scores.items()}
    return ParallelAxis(measure_name(sweep), sweep.metric, marks, places)


def parallel_chart(index: int, sweep: Sweep) -> Markup:
    """The chart as an SVG in the colour of system `index`; empty where no trial has a score."""
    lines = parallel(sweep)
    if not lines.ways or len(lines.axes) < 2:
        return Markup("")
    width = max(LEAST_WIDTH, LEFT + RIGHT + GAP * (len(lines.axes) - 1))
    step = (width - LEFT - RIGHT) / (len(lines.axes) - 1)
    xs = [LEFT + step * place for place in range(len(lines.axes))]
    parts = [tag("title", f"the trials of the search {sweep.name}")]
    parts += [tag("line", x1=x, x2=x, y1=TOP, y2=HEIGHT - BOTTOM, class_="stake") for x in xs]
    for way in lines.ways:
        parts += _way(sweep, way, xs)
    for x, axis in zip(xs, lines.axes, strict=True):
        parts += _texts(x, axis)
    style = f"--w:{width:.0f}px"
    box = f"0 0 {width:.0f} {HEIGHT}"
    kind = f"parallel {colour(index)}"
    return tag("svg", *parts, class_=kind, viewBox=box, style=style, role="img")


def _y(place: float) -> float:
    return HEIGHT - BOTTOM - place * (HEIGHT - BOTTOM - TOP)


def _way(sweep: Sweep, way: Way, xs: Sequence[float]) -> list[Markup]:
    points = [(x, _y(place)) for x, place in zip(xs, way.places, strict=True)]
    path = "M" + "L".join(f"{number(x)},{number(y)}" for x, y in points)
    words = tag("title", f"trial {way.trial.number}: {score_text(sweep, way.trial.score)}")
    if not way.is_best:
        return [tag("path", words, d=path, class_="way", style=f"--t:{100 * way.rank:.0f}%")]
    dots = [tag("circle", cx=x, cy=y, r=4.5, class_="best") for x, y in points]
    return [
        tag("path", d=path, class_="way under"),
        tag("path", words, d=path, class_="way first"),
        *dots,
    ]


def _texts(x: float, axis: ParallelAxis) -> list[Markup]:
    name = tag(
        "text", shorten(axis.title, 17), tag("title", axis.key), x=x, y=16, class_="stake-name"
    )
    return [name] + [
        tag("text", text, x=x - 9, y=_y(place) + 4, class_="tick end on-lines")
        for place, text in axis.marks
    ]
