"""The confusion matrix of one system as SVG: colour is the share of the row, text the clips."""

from collections.abc import Sequence

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from audioflow.report.formats import percent_sign, shorten
from audioflow.report.svg import colour, tag

MAX_CLASSES = 30
"""With more classes the cells become too small to read; the most confused pairs are listed."""

MAX_BESIDE = 16
"""Up to so many classes the matrices of several systems stand side by side."""

_FULL = 0.92


def confusion_matrix(index: int, confusion_CC: NDArray[np.int64], classes: Sequence[str]) -> Markup:
    """Rows are right classes, columns predicted ones; cells without a clip stay empty."""
    size = len(classes)
    cell = 40 if size <= 6 else 32 if size <= 12 else 24 if size <= 20 else 19
    letters = 18 if size <= 20 else 14
    names = [shorten(name, letters) for name in classes]
    font = 12 if cell >= 32 else 11 if cell >= 24 else 9.5
    margin = max(40.0, 12 + 0.58 * font * max(len(name) for name in names))
    side = cell * size
    support_C = np.maximum(confusion_CC.sum(axis=1), 1)
    parts = [tag("rect", x=margin, y=0, width=side, height=side, class_="ground")]
    parts += [
        line
        for at in (cell * step for step in range(1, size))
        for line in (
            tag("line", x1=margin, x2=margin + side, y1=at, y2=at, class_="hair"),
            tag("line", x1=margin + at, x2=margin + at, y1=0, y2=side, class_="hair"),
        )
    ]
    parts += _labels(names, classes, margin, cell, font)
    for row, column in zip(*np.nonzero(confusion_CC), strict=True):
        clips, part = int(confusion_CC[row, column]), confusion_CC[row, column] / support_C[row]
        words = f"{classes[row]} taken for {classes[column]}"
        title = f"{words}: {clips} of {support_C[row]} ({percent_sign(float(part))})"
        parts += _cell(margin + cell * column, cell * row, cell, clips, float(part), title)
    width, height = margin + side + 4, side + margin + 4
    box = f"0 0 {width:.0f} {height:.0f}"
    style = f"--w:{width:.0f}px"
    return tag(
        "svg",
        *parts,
        class_=f"matrix {colour(index)}{' many' if size > 8 else ''}",
        viewBox=box,
        style=style,
        role="img",
    )


def _labels(
    names: Sequence[str], full: Sequence[str], margin: float, cell: int, font: float
) -> list[Markup]:
    side = cell * len(names)
    parts = []
    for step, name in enumerate(names):
        middle = cell * (step + 0.5)
        title = tag("title", full[step])
        parts.append(
            tag("text", name, title, x=margin - 7, y=middle + 4, class_="label", font_size=font)
        )
        x, y = margin + middle + 3, side + 8
        turn = f"rotate(-90 {x:.1f} {y})"
        parts.append(
            tag("text", name, title, x=x, y=y, transform=turn, class_="label", font_size=font)
        )
    return parts


def _cell(x: float, y: float, cell: int, clips: int, part: float, title: str) -> list[Markup]:
    dark = part > 0.72
    # Counts with many digits shrink to stay inside their cell.
    font = min(14.0, cell * 0.42, cell * 1.5 / len(str(clips)))
    opacity = 0.06 + (_FULL - 0.06) * part
    return [
        tag(
            "rect",
            tag("title", title),
            x=x + 0.5,
            y=y + 0.5,
            width=cell - 1,
            height=cell - 1,
            class_="heat",
            fill_opacity=opacity,
        ),
        tag(
            "text",
            str(clips),
            x=x + cell / 2,
            y=y + cell / 2 + font * 0.35,
            class_="count on" if dark else "count",
            font_size=round(font, 1),
        ),
    ]
