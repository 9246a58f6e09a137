"""The curves of every system: charts of all classes together, and the data of every single class.

A chart is a unit square. Its lines name what they show, so that the page's script can draw them
anew for one class.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from audioflow.metrics import ClassCurves
from audioflow.metrics.calibration_error import Reliability
from audioflow.report.charts import Panel
from audioflow.report.figures import Figures, SystemFigures
from audioflow.report.formats import percent
from audioflow.report.lines import Chart, Line, line_chart
from audioflow.report.svg import colour

HEIGHT = 320
_PARTS = 1000
"""Coordinates travel as whole thousandths: finer than a screen shows."""

_ALL_POINTS, _LEAST_POINTS, _MOST_POINTS = 20_000, 40, 200
"""Points of all single classes' curves together, and those of one curve."""


@dataclass(frozen=True)
class CurveFacts:
    """What stands in the table under the charts, of all classes or of one."""

    clips: int
    roc_auc: float | None
    average_precision: float | None
    best_f1: float | None
    threshold: float | None


@dataclass(frozen=True)
class CurvesView:
    """`panels` overlay all systems, but for those that have room for one only, at first `chosen`.

    `facts` has a row per system; `data` is what the page's script draws single classes from.
    """

    systems: tuple[SystemFigures, ...]
    panels: tuple[Panel, ...]
    chosen: int
    facts: tuple[CurveFacts, ...]
    data: dict[str, Any]


def curves_view(figures: Figures, best: SystemFigures | None) -> CurvesView | None:
    """The curves of all systems that have some; None where there are none."""
    systems = [s for s in figures.evaluated if s.curves is not None and s.curves.micro is not None]
    if not systems:
        return None
    data = _data(systems)
    everything = [system["all"] for system in data["systems"]]
    chosen = systems.index(best) if best in systems else 0
    return CurvesView(
        systems=tuple(systems),
        panels=tuple(_panel(kind, systems, everything, chosen) for kind in _KINDS),
        chosen=chosen,
        facts=tuple(_facts(curve) for curve in everything),
        data=data,
    )


def _facts(curve: dict[str, Any]) -> CurveFacts:
    f1, threshold = curve["f1"] or (None, None)
    return CurveFacts(curve["n"], curve["auc"], curve["ap"], f1, threshold)


def _data(systems: Sequence[SystemFigures]) -> dict[str, Any]:
    """{"class_lists": [[name, ...], ...], "systems": [{"classes": place of its list, "all": curve,
    "per_class": [curve or None, ...]}, ...]}; a curve has its coordinates in thousandths.
    """
    lists: dict[tuple[str, ...], int] = {}
    found = []
    share = _ALL_POINTS // sum(len(system.classes) for system in systems)
    most = min(max(share, _LEAST_POINTS), _MOST_POINTS)
    for system in systems:
        assert system.curves is not None
        assert system.curves.micro is not None
        by_name = {curves.name: curves for curves in system.curves.classes}
        per_class = [
            _curve(by_name[name], _ranking(system, place), most) if name in by_name else None
            for place, name in enumerate(system.classes)
        ]
        means = [system.estimate(key) for key in ("roc_auc", "map")]
        values = [None if mean is None else mean.value for mean in means]
        everything = _curve(system.curves.micro, values, _MOST_POINTS)
        if (answered := system.curves.answered) is not None:
            columns = (answered.answered, answered.accuracy)
            everything["answered"] = _thinned(columns, _MOST_POINTS)
        if system.calibrated is not None:
            everything["raw"] = _reliability(system.calibrated.raw)
        found.append(
            {
                "classes": lists.setdefault(system.classes, len(lists)),
                "all": everything,
                "per_class": per_class,
            }
        )
    return {"class_lists": [list(names) for names in lists], "systems": found}


def _ranking(system: SystemFigures, place: int) -> Sequence[float]:
    assert system.evaluation is not None
    result = system.evaluation.per_class[place]
    return result.roc_auc, result.average_precision


def _curve(curves: ClassCurves, ranking: Sequence[float | None], most: int) -> dict[str, Any]:
    auc, ap = map(_known, ranking)
    limits = curves.thresholds
    at, precision, recall, f1 = _thinned(
        (limits.threshold, limits.precision, limits.recall, limits.f1), most
    )
    return {
        "n": int(curves.support),
        "auc": auc,
        "ap": ap,
        "f1": _best_f1(curves),
        "roc": _thinned((curves.roc.x, curves.roc.y), most),
        "pr": _thinned((curves.pr.x, curves.pr.y), most),
        "at": at,
        "precision": precision,
        "recall": recall,
        "f": f1,
        "bins": _reliability(curves.reliability),
    }


def _thinned(columns: Sequence[ArrayLike], most: int) -> list[list[int | None]]:
    """At most `most` points of a curve, both ends among them."""
    length = len(np.asarray(columns[0]))
    kept = np.unique(np.linspace(0, length - 1, min(most, length)).round().astype(np.intp))
    return [_parts(np.asarray(column)[kept]) for column in columns]


def _best_f1(curves: ClassCurves) -> tuple[float, float] | None:
    """The highest F1 among the thresholds of the curve, and where it is reached."""
    f1 = np.asarray(curves.thresholds.f1, np.float64)
    if not np.isfinite(f1).any():
        return None
    place = int(np.nanargmax(f1))
    return round(float(f1[place]), 4), round(float(curves.thresholds.threshold[place]), 4)


def _reliability(found: Reliability) -> list[list[int | None]]:
    kept = np.asarray(found.count) > 0
    return [_parts(np.asarray(found.confidence)[kept]), _parts(np.asarray(found.right)[kept])]


def _known(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else round(value, 4)


def _parts(values: ArrayLike) -> list[int | None]:
    return [
        round(value * _PARTS) if math.isfinite(value) else None
        for value in np.asarray(values, np.float64).tolist()
    ]


@dataclass(frozen=True)
class _Kind:
    """A chart. `lines` are (key in the data, dash, words of the legend); `single`: it has room for
    one system only.
    """

    title: str
    lines: tuple[tuple[str, str, str], ...]
    x_title: str
    y_title: str
    diagonal: bool = False
    single: bool = False


_KINDS = (
    _Kind(
        "ROC",
        (("roc", "", ""),),
        "false alarms, percent of other clips",
        "found, percent",
        diagonal=True,
    ),
    _Kind("precision and recall", (("pr", "", ""),), "found, percent (recall)", "right of found"),
    _Kind(
        "reliability",
        (("bins", "", ""), ("bins", " dots", ""), ("raw", " dashed", "before calibration")),
        "score, percent",
        "right, percent",
        diagonal=True,
    ),
    _Kind(
        "by threshold",
        (("precision", " dashed", "precision"), ("recall", " dotted", "recall"), ("f", "", "F1")),
        "threshold of the score, percent",
        "percent",
        single=True,
    ),
    _Kind(
        "if only the surest are answered",
        (("answered", "", ""),),
        "answered, percent of clips",
        "right of answered",
    ),
)


def _panel(
    kind: _Kind, systems: Sequence[SystemFigures], curves: Sequence[dict[str, Any]], chosen: int
) -> Panel:
    """An empty chart where no system has such a curve."""
    lines = [
        Line(
            () if kind.single and place != chosen else _points(curve, key),
            colour(system.index) + dash,
            key,
            place,
        )
        for place, (system, curve) in enumerate(zip(systems, curves, strict=True))
        for key, dash, _ in kind.lines
    ]
    chart = Chart(
        title=kind.title,
        lines=(*_DIAGONAL, *lines) if kind.diagonal else tuple(lines),
        x_title=kind.x_title,
        y_text=lambda value: percent(value, 0),
        x_text=lambda value: percent(value, 0),
        x_range=(0.0, 1.0),
        y_range=(0.0, 1.0),
        y_title=kind.y_title,
        height=HEIGHT,
    )
    known = {key for curve in curves for key in curve}
    legend = [
        (f"neutral{dash}", words) for key, dash, words in kind.lines if words and key in known
    ]
    return Panel(kind.title, line_chart(chart), tuple(legend))


_DIAGONAL = (Line(((0.0, 0.0), (1.0, 1.0)), "neutral dotted"),)


def _points(curve: dict[str, Any], key: str) -> tuple[tuple[float, float], ...]:
    x, y = (curve["at"], curve[key]) if key in _BY_THRESHOLD else curve.get(key, ([], []))
    return tuple(
        (a / _PARTS, b / _PARTS)
        for a, b in zip(x, y, strict=True)
        if a is not None and b is not None
    )


_BY_THRESHOLD = ("precision", "recall", "f")
