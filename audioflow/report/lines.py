"""Line charts: training curves and the fusion curve."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from audioflow.report.svg import number, scale, tag, ticks

WIDTH, HEIGHT = 480, 210
LEFT, RIGHT, TOP, BOTTOM = 50, 14, 10, 34
MAX_POINTS = 240


@dataclass(frozen=True)
class Line:
    """A line through (x, y) points; it breaks where y is NaN. `css` names its colour and dash.

    With a `key` the page's script can draw it anew, as what `key` says of system `system`; it is
    there even where it has no point.
    """

    points: tuple[tuple[float, float], ...]
    css: str
    key: str = ""
    system: int = 0


@dataclass(frozen=True)
class Mark:
    """A point worth seeing, with a hairline down to the axis."""

    x: float
    y: float
    css: str
    text: str


@dataclass(frozen=True)
class Dot:
    """A point of its own, which no line goes through."""

    x: float
    y: float
    css: str
    text: str


@dataclass(frozen=True)
class Chart:
    """One panel. `x_range` and `y_range` fix its ranges, else the lines decide; `ends` stand under
    the two ends of the x axis; `whole_x` is for epochs, of which there is no half.
    """

    title: str
    lines: tuple[Line, ...]
    x_title: str
    y_text: Callable[[float], str]
    marks: tuple[Mark, ...] = ()
    dots: tuple[Dot, ...] = ()
    x_range: tuple[float, float] | None = None
    y_range: tuple[float, float] | None = None
    y_title: str = ""
    height: int = HEIGHT
    x_text: Callable[[float], str] = number
    whole_x: bool = False
    ends: tuple[str, str] = ("", "")


def line_chart(chart: Chart) -> Markup:
    """The chart as an SVG that scales with its place; empty where there is no point to draw."""
    points = [point for line in chart.lines for point in line.points]
    drawn = [
        point for point in [*points, *((dot.x, dot.y) for dot in chart.dots)] if _finite(point)
    ]
    if not drawn:
        return Markup("")
    x_low, x_high = chart.x_range or (min(x for x, _ in drawn), max(x for x, _ in drawn))
    y_low, y_high = chart.y_range or _padded([y for _, y in drawn])
    base = chart.height - BOTTOM
    x_at = scale(x_low, x_high, LEFT, WIDTH - RIGHT)
    y_at = scale(y_low, y_high, base, TOP)
    parts = [tag("title", chart.title), *_y_axis(chart, y_low, y_high, y_at)]
    parts += _x_axis(chart, x_low, x_high, x_at)
    for line in chart.lines:
        parts += _line(line, x_at, y_at)
    parts += [_dot(dot, x_at, y_at) for dot in chart.dots if _finite((dot.x, dot.y))]
    for mark in chart.marks:
        parts += _mark(mark, x_at, y_at, base)
    box, unit = f"0 0 {WIDTH} {chart.height}", f"{LEFT} {WIDTH - RIGHT} {base} {TOP}"
    redrawn = unit if any(line.key for line in chart.lines) else None
    return tag("svg", *parts, class_="lines", viewBox=box, role="img", data_unit=redrawn)


def _finite(point: tuple[float, float]) -> bool:
    return math.isfinite(point[0]) and math.isfinite(point[1])


def _padded(values: Sequence[float]) -> tuple[float, float]:
    """A range with a little room around the values; one that starts near zero starts at zero."""
    low, high = min(values), max(values)
    room = (high - low) * 0.06 or abs(high) * 0.1 or 1.0
    return (0.0 if 0 <= low < (high - low) * 0.5 else low - room), high + room


def _y_axis(chart: Chart, low: float, high: float, y_at: Callable[[float], float]) -> list[Markup]:
    parts = []
    for value in ticks(low, high):
        y = y_at(value)
        parts.append(tag("line", x1=LEFT, x2=WIDTH - RIGHT, y1=y, y2=y, class_="grid"))
        parts.append(tag("text", chart.y_text(value), x=LEFT - 8, y=y + 4, class_="tick end"))
    if chart.y_title:
        middle = (y_at(low) + y_at(high)) / 2
        turn = f"rotate(-90 11 {number(middle)})"
        parts.append(tag("text", chart.y_title, x=11, y=middle, transform=turn, class_="tick"))
    return parts


def _x_axis(chart: Chart, low: float, high: float, x_at: Callable[[float], float]) -> list[Markup]:
    values = ticks(low, high, 6)
    if chart.whole_x:
        values = [value for value in values if value == int(value)] or [low]
    base = chart.height - BOTTOM
    parts = [tag("line", x1=LEFT, x2=WIDTH - RIGHT, y1=base, y2=base, class_="zero")]
    for value in values:
        parts.append(tag("text", chart.x_text(value), x=x_at(value), y=base + 16, class_="tick"))
    middle = (LEFT + WIDTH - RIGHT) / 2
    below = chart.height - 3
    parts.append(tag("text", chart.x_title, x=middle, y=below, class_="tick"))
    if chart.ends[0]:
        parts.append(tag("text", chart.ends[0], x=LEFT, y=below, class_="tick start"))
        parts.append(tag("text", chart.ends[1], x=WIDTH - RIGHT, y=below, class_="tick end"))
    return parts


def _line(
    line: Line, x_at: Callable[[float], float], y_at: Callable[[float], float]
) -> list[Markup]:
    points = thinned(line.points)
    if line.key:
        steps = _steps(line, points, x_at, y_at)
        named = {"data_key": line.key, "data_system": str(line.system)}
        return [tag("path", d=steps, class_=f"line {line.css}", **named)]
    known = [point for point in points if _finite(point)]
    if len(known) == 1:
        x, y = known[0]
        return [tag("circle", cx=x_at(x), cy=y_at(y), r=3, class_=f"dot {line.css}")]
    steps = _steps(line, points, x_at, y_at)
    return [tag("path", d=steps, class_=f"line {line.css}")] if steps else []


def _steps(
    line: Line,
    points: Sequence[tuple[float, float]],
    x_at: Callable[[float], float],
    y_at: Callable[[float], float],
) -> str:
    """The way through the points; a dot at each of them for the class `dots`."""
    dots = "dots" in line.css.split()
    steps, pen = [], "M"
    for point in points:
        if not _finite(point):
            pen = "M"
            continue
        steps.append(f"{pen}{number(x_at(point[0]))},{number(y_at(point[1]))}")
        if dots:
            steps.append("h0")
        pen = "M" if dots else "L"
    return "".join(steps)


def thinned(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """At most about `MAX_POINTS` points, the last one among them."""
    step = -(-len(points) // MAX_POINTS) if points else 1
    kept = list(points[::step])
    return kept if not points or kept[-1] == points[-1] else [*kept, points[-1]]


def _dot(dot: Dot, x_at: Callable[[float], float], y_at: Callable[[float], float]) -> Markup:
    title = tag("title", dot.text)
    return tag("circle", title, cx=x_at(dot.x), cy=y_at(dot.y), r=3, class_=f"dot {dot.css}")


def _mark(
    mark: Mark, x_at: Callable[[float], float], y_at: Callable[[float], float], base: float
) -> list[Markup]:
    if not _finite((mark.x, mark.y)):
        return []
    x, y = x_at(mark.x), y_at(mark.y)
    return [
        tag("line", x1=x, x2=x, y1=y, y2=base, class_=f"drop {mark.css}"),
        tag("circle", tag("title", mark.text), cx=x, cy=y, r=4.5, class_=f"best {mark.css}"),
    ]
