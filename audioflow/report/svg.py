"""SVG as safe markup: every text and attribute is escaped, and colours are classes of page.css.

Charts made of rows (bars, whiskers) use percentages for x and no view box, so that they follow the
width of the page while text and markers keep their size.
"""

import math
from collections.abc import Callable, Sequence

from markupsafe import Markup, escape

NUM_COLOURS = 8
MARKERS = (
    "M-5,0A5,5 0 1,1 5,0A5,5 0 1,1 -5,0Z",
    "M-4.5,-4.5H4.5V4.5H-4.5Z",
    "M0,-6L6,0L0,6L-6,0Z",
    "M0,-5.5L6,4.5H-6Z",
)
"""Outlines around the origin: circle, square, diamond, triangle."""


def number(value: float) -> str:
    """A coordinate, short: "12.5", "3"."""
    return f"{value:.2f}".rstrip("0").rstrip(".") if value % 1 else f"{value:.0f}"


def share(value: float) -> str:
    """A share in [0, 1] as an SVG percentage: "12.5%"."""
    return number(100 * value) + "%"


def tag(name: str, *children: str, **attributes: str | float | None) -> Markup:
    """One element. `class_` gives `class`, `font_size` gives `font-size`; None is left out."""
    inside = "".join(escape(child) for child in children)
    return void_tag(name, **attributes) + Markup(f"{inside}</{name}>")  # noqa: S704 - escaped


def void_tag(name: str, **attributes: str | float | None) -> Markup:
    """An element that has no content and no end, with attributes as those of `tag`."""
    parts = [f"<{name}"]
    for key, value in attributes.items():
        if value is None:
            continue
        text = escape(value) if isinstance(value, str) else number(value)
        parts.append(f' {key.rstrip("_").replace("_", "-")}="{text}"')
    return Markup("".join(parts) + ">")  # noqa: S704 - every part is escaped


def join(parts: Sequence[str]) -> Markup:
    """Elements one after the other."""
    return Markup("").join(parts)


def colour(index: int) -> str:
    """The class that gives system `index` its colour."""
    return f"s{index % NUM_COLOURS}"


def marker(index: int, x: str = "0", y: float = 0) -> Markup:
    """The marker of system `index` at a place; a second round of colours comes hollow."""
    path = tag("path", d=MARKERS[index % len(MARKERS)])
    kind = f"mark {colour(index)}" + (" hollow" if index // NUM_COLOURS % 2 else "")
    return tag("svg", path, x=x, y=y, class_=kind, overflow="visible", width=1, height=1)


def swatch(index: int) -> Markup:
    """The marker of system `index` beside its name."""
    return tag(
        "svg", marker(index, "7", 7), class_="swatch", width=14, height=14, aria_hidden="true"
    )


def ticks(low: float, high: float, wanted: int = 4) -> list[float]:
    """Round values from `low` to `high`, about `wanted` of them: steps of 1, 2, 2.5 or 5."""
    if not high > low:
        return [low]
    raw = (high - low) / wanted
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(s * power for s in (1, 2, 2.5, 5, 10) if s * power >= raw * 0.999)
    # The small addend keeps 1 / 0.2 at 5, where floor division gives 4.
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(index * step, 12) for index in range(first, last + 1)]


def scale(low: float, high: float, start: float, stop: float) -> Callable[[float], float]:
    """A linear map of [low, high] onto [start, stop]; onto its middle where low is high."""
    if low == high:
        return lambda _: (start + stop) / 2
    return lambda value: start + (value - low) / (high - low) * (stop - start)
