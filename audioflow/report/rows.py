"""Charts made of rows: a dot with its whisker, a bar, a stacked bar. Each row is one small SVG."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from audioflow.metrics import Estimate
from audioflow.report.formats import interval, percent, points, undefined
from audioflow.report.svg import colour, join, marker, share, tag, ticks


@dataclass(frozen=True)
class Axis:
    """The range of a row chart and where its hairlines stand; `signed` is for differences."""

    low: float = 0.0
    high: float = 1.0
    ticks: tuple[float, ...] = (0.0, 0.25, 0.5, 0.75, 1.0)
    signed: bool = False

    def at(self, value: float) -> str:
        """Where a value stands, as a percentage of the width; kept inside the range."""
        inside = min(max(value, self.low), self.high)
        return share((inside - self.low) / (self.high - self.low))

    def scale(self) -> Markup:
        """The numbers under the rows."""
        texts = []
        for value in self.ticks:
            text = points(value, 0) if self.signed else percent(value, 0)
            texts.append(tag("text", text, x=self.at(value), y=12, class_="tick"))
        return tag("svg", *texts, class_="track", height=16, aria_hidden="true")


SHARES = Axis()


def gain_axis(estimates: Sequence[Estimate]) -> Axis:
    """An axis for differences, even around zero, that has room for all of them."""
    bounds = [v for e in estimates for v in (e.value, e.low, e.high) if not undefined(v)]
    reach = max([0.05, *(abs(value) for value in bounds)])
    marks = [value for value in ticks(0, reach * 1.25, 2) if value > 0]
    edge = marks[-1] if marks[-1] >= reach else marks[-1] + marks[0]
    kept = [value for value in (*marks, edge) if value <= edge]
    both = sorted({0.0, *kept, *(-value for value in kept)})
    return Axis(-edge, edge, tuple(both), signed=True)


def whisker(
    index: int,
    estimate: Estimate | None,
    *,
    axis: Axis = SHARES,
    chance: float | None = None,
    height: int = 26,
) -> Markup:
    """A system's estimate as marker and interval on hairlines, with a tick at the chance level."""
    middle = height / 2
    parts = [
        tag("line", x1=x, x2=x, y1=0, y2=height, class_="zero" if v == 0 else "grid")
        for v, x in ((value, axis.at(value)) for value in axis.ticks)
    ]
    if chance is not None and not undefined(chance):
        x = axis.at(chance)
        words = tag("title", f"guessing: {percent(chance)}")
        parts.append(tag("line", words, x1=x, x2=x, y1=0, y2=height, class_="chance"))
    if estimate is not None and not undefined(estimate.value):
        parts.append(_title(estimate, axis))
        if not undefined(estimate.low) and not undefined(estimate.high):
            ends = axis.at(estimate.low), axis.at(estimate.high)
            kind = f"whisker {colour(index)}"
            parts.append(tag("line", x1=ends[0], x2=ends[1], y1=middle, y2=middle, class_=kind))
        parts.append(marker(index, axis.at(estimate.value), middle))
    return tag("svg", *parts, class_="track", height=height, role="img")


def _title(estimate: Estimate, axis: Axis) -> Markup:
    value = points(estimate.value) if axis.signed else percent(estimate.value)
    return tag("title", f"{value} (95 % interval {interval(estimate)})")


def bar(value: float | None, css: str, height: int = 8) -> Markup:
    """A bar for a share in [0, 1]; only its ground where the value is undefined."""
    parts = [tag("rect", class_="ground", width="100%", height=height, rx=2)]
    if value is not None and not undefined(value):
        width = share(min(max(value, 0.0), 1.0))
        parts.append(tag("rect", class_=f"fill {css}", width=width, height=height, rx=2))
    return tag("svg", *parts, class_="bar", height=height, aria_hidden="true")


def stacked(values: Sequence[float], css: Sequence[str], total: float, height: int = 14) -> Markup:
    """Values side by side in one bar; `total` is what the full width stands for."""
    parts, start = [], 0.0
    for value, kind in zip(values, css, strict=True):
        if value > 0 and total > 0:
            x, width = share(start / total), share(value / total)
            parts.append(tag("rect", x=x, width=width, height=height, class_=f"fill {kind}"))
            start += value
    return tag("svg", join(parts), class_="bar", height=height, aria_hidden="true")
