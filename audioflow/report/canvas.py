"""How the PNG plots look: style, colours and legends, without pyplot's global state."""

import io
from typing import Any

from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from audioflow.report.formats import shorten

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
INK, GREY, GRID = "#1c1f24", "#5d646e", "#e3e4e1"
_DPI = 150
_OTHER_SCRIPTS = ("Noto Sans CJK JP", "Noto Sans", "Arial Unicode MS", "Hiragino Sans", "SimHei")


def style() -> dict[Any, Any]:
    """The settings of matplotlib under which the plots are drawn."""
    installed = set(font_manager.fontManager.get_font_names())
    return {
        "font.family": ["DejaVu Sans", *(name for name in _OTHER_SCRIPTS if name in installed)],
        "font.size": 9,
        # A dollar sign in a class name starts no formula.
        "text.parse_math": False,
        "text.color": INK,
        "axes.edgecolor": GRID,
        "axes.labelcolor": GREY,
        "axes.titlesize": 10,
        "axes.titleweight": "bold",
        "axes.titlelocation": "left",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.axisbelow": True,
        "xtick.color": GREY,
        "ytick.color": GREY,
        "xtick.major.size": 0,
        "ytick.major.size": 0,
        "grid.color": GRID,
        "legend.frameon": False,
        "figure.constrained_layout.w_pad": 0.1,
        "figure.constrained_layout.h_pad": 0.1,
    }


def label_text(text: str, length: int = 24) -> str:
    """A name short enough for an axis; what is no Unicode (odd file names) as question marks."""
    return shorten(text.encode("utf-8", "replace").decode(), length)


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of so many inches."""
    return Figure(figsize=(width, height), layout="constrained", facecolor="white")


def to_png(figure: Figure) -> bytes:
    """The figure as a PNG file; the same figure gives the same bytes."""
    sink = io.BytesIO()
    # Without the program's version the same chart gives the same bytes.
    FigureCanvasAgg(figure).print_figure(sink, dpi=_DPI, metadata={"Software": None})
    return sink.getvalue()


def titled_legend(axes: Axes, title: str) -> None:
    """A title, and under it what the colours mean, in as many rows as the names need."""
    handles, labels = axes.get_legend_handles_labels()
    known = dict(zip(labels, handles, strict=True))
    longest = max((len(label) for label in known), default=1)
    columns = max(1, min(len(known), 6, 80 // (longest + 5)))
    rows = -(-len(known) // columns)
    axes.set_title(title, pad=8 + 16 * rows)
    axes.legend(
        known.values(),
        known.keys(),
        loc="lower left",
        bbox_to_anchor=(-0.01, 1.0),
        borderaxespad=0.2,
        ncols=columns,
        handletextpad=0.4,
        columnspacing=1.4,
    )


def colour_of(index: int) -> str:
    """The colour of system `index`, the same as on the page."""
    return COLOURS[index % len(COLOURS)]


def marker_of(index: int) -> str:
    """The marker of system `index`, the same as on the page."""
    return _MARKERS[index % len(_MARKERS)]
