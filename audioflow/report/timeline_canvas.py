"""Rows on one time axis: each a small SVG that is as wide as the page.

They are drawn 1,000 units wide and stretched; texts stand outside and keep their size. B = bins.
"""

from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np
from markupsafe import Markup

from audioflow.report.formats import duration
from audioflow.report.svg import number, share, tag
from audioflow.report.timeline import Floats, NodeMark, TimeAxis

BINS = 200
_WIDTH = 1000
_STEPS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400)
_MOST_TICKS = 5
_LEAST_APART = 0.16
_LABELS_APART = 0.45
_DAYS_S = 20 * 3600
CHANGES = {"lost": "was lost", "joined": "has joined"}


class Canvas:
    """Draws rows on one time axis: gaps, and lines where nodes were lost, go through all."""

    def __init__(self, axis: TimeAxis, marks: Sequence[NodeMark]) -> None:
        self.axis = axis
        self.edges = axis.edges(BINS)
        self._marks = marks

    def row(self, parts: Sequence[Markup], height: int, label: str) -> Markup:
        """A row with these parts, in units of 1,000 by `height`."""
        return tag(
            "svg",
            *(self._gap(gap.left, gap.right, height) for gap in self.axis.gaps()),
            *parts,
            *(self._mark(mark, height) for mark in self._marks),
            class_="tl-row",
            height=height,
            viewBox=f"0 0 {_WIDTH} {height}",
            preserveAspectRatio="none",
            role="img",
            aria_label=label,
        )

    def _gap(self, left: float, right: float, height: int) -> Markup:
        width = _WIDTH * (right - left)
        return tag("rect", x=_WIDTH * left, width=width, height=height, class_="tl-gap")

    def _mark(self, mark: NodeMark, height: int) -> Markup:
        x = _WIDTH * self.axis.at(mark.at)
        words = tag("title", f"node {mark.node} {CHANGES.get(mark.what, mark.what)}")
        kind = "tl-lost" if mark.what == "lost" else "tl-joined"
        return tag("line", words, x1=x, x2=x, y1=0, y2=height, class_=kind)

    def box(self, begin: float, end: float, height: int, css: str, words: str) -> Markup:
        """A box from one time to another, at least as wide as can be seen."""
        left, right = self.axis.at(begin), self.axis.at(end)
        width = max(_WIDTH * (right - left), 0.7)
        title = tag("title", words)
        return tag("rect", title, x=_WIDTH * left, width=width, height=height, class_=css)

    def columns(self, low: Floats, high: Floats, height: int, css: str) -> Markup:
        """Columns from `low` to `high` (B,), shares of the height, as one path."""
        width, parts = _WIDTH / len(low), []
        for place in np.flatnonzero(high - low > 1e-3).tolist():
            top, bottom = height * (1 - high[place]), height * (1 - low[place])
            parts.append(
                f"M{number(place * width)} {number(bottom)}V{number(top)}"
                f"h{number(width)}V{number(bottom)}z"
            )
        return tag("path", d="".join(parts), class_=css)

    def scale(self) -> Markup:
        """The clock under the rows, and how long the gaps were."""
        days = self.axis.periods[-1][1] - self.axis.periods[0][0] > _DAYS_S
        found = [(x, _clock(time, step, days=days)) for time, x, step in self._ticks()]
        parts = [
            tag("text", text, x=share(x), y=12, class_="tick " + _side(x)) for x, text in found
        ]
        told: list[float] = []
        for gap in sorted(self.axis.gaps(), key=lambda gap: -gap.seconds):
            middle = (gap.left + gap.right) / 2
            if all(abs(middle - other) >= _LABELS_APART for other in told):
                told.append(middle)
                text = f"{duration(gap.seconds)} later"
                kind = "tick tl-later " + _side(middle, 0.12)
                parts.append(tag("text", text, x=share(middle), y=28, class_=kind))
        height = 34 if self.axis.gaps() else 18
        return tag("svg", *parts, class_="track", height=height, aria_hidden="true")

    def _ticks(self) -> list[tuple[float, float, int]]:
        """Times with their places and the step between them, not too near to each other."""
        wanted = self.axis.active_s / _MOST_TICKS
        step = next((step for step in _STEPS if step >= wanted), 86400 * 7)
        found: list[tuple[float, float, int]] = []
        for begin, end in self.axis.periods:
            times = [begin, *np.arange(-(-begin // step) * step, end, step).tolist()]
            for time in times:
                x = self.axis.at(time)
                if not found or x - found[-1][1] >= _LEAST_APART:
                    found.append((time, x, step))
        return found


def _side(x: float, near: float = 0.03) -> str:
    """The class of a text, so that it stays inside at the ends."""
    return "start" if x < near else "end" if x > 0.87 else ""


def _clock(time: float, step: int, *, days: bool) -> str:
    """A time as it is read; days: whether the axis goes over more than one."""
    moment = datetime.fromtimestamp(time, UTC)
    begins = bool(time % step)  # where a period does
    if days and (begins or step >= 3600):
        return f"{moment.day} {moment:%b}" + ("" if step >= 86400 else f" {moment:%H:%M}")
    return f"{moment:%H:%M:%S}" if begins or step < 60 else f"{moment:%H:%M}"
