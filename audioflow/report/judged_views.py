"""What the page shows of groups, calibration and thresholds: figures arranged for the templates."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from audioflow.metrics import Estimate
from audioflow.report.data import ReportData
from audioflow.report.figures import Figures, SystemFigures
from audioflow.report.formats import DASH, count, decimal, percent, undefined

FEWEST = 5
"""A group with fewer clips says nothing of itself."""


@dataclass(frozen=True)
class GroupRow:
    """One group; `weak`: even the upper end of its first interval is below that of all clips."""

    name: str
    clips: int
    estimates: tuple[Estimate, ...]
    weak: bool


@dataclass(frozen=True)
class GroupView:
    """The groups of one column of one system; `rows` are the worst of `num_groups`.

    `with_interval`: the metrics of which some group has an interval.
    """

    system: SystemFigures
    column: str
    metrics: tuple[str, ...]
    with_interval: frozenset[str]
    rows: tuple[GroupRow, ...]
    num_groups: int


def group_views(figures: Figures) -> list[GroupView]:
    """One view per system and column that has groups large enough to say something of them."""
    views = []
    for system in figures.evaluated:
        for table in system.groups:
            metrics = tuple(table.rows[0].metrics)
            whole = system.estimate(metrics[0])
            rows = tuple(
                GroupRow(row.name, row.num_clips, tuple(row.metrics.values()), _weak(row, whole))
                for row in table.rows
                if row.num_clips >= FEWEST
            )
            known = frozenset(
                key
                for row in rows
                for key, estimate in zip(metrics, row.estimates, strict=True)
                if not undefined(estimate.low)
            )
            if len(rows) > 1:
                number = table.num_groups
                views.append(GroupView(system, table.column, metrics, known, rows, number))
    return views


def _weak(row: Any, whole: Estimate | None) -> bool:
    high = next(iter(row.metrics.values())).high
    return whole is not None and not undefined(high) and high < whole.value


@dataclass(frozen=True)
class ErrorCell:
    """One error before and after calibration, as text."""

    before: str
    after: str


@dataclass(frozen=True)
class CalibrationRow:
    """What calibration did to one system; `errors` in the order of `CALIBRATION_ERRORS`."""

    system: SystemFigures
    method: str
    errors: tuple[ErrorCell, ...]
    changed: str
    notes: tuple[str, ...]


CALIBRATION_ERRORS = (
    {"key": "ece", "name": "ECE", "hint": "how far scores are from the share that is right"},
    {"key": "adaptive_ece", "name": "adaptive ECE", "hint": "the same, as many clips in each bin"},
    {"key": "brier", "name": "Brier", "hint": "mean squared distance of scores and truth"},
    {"key": "log_loss", "name": "log loss", "hint": "mean of -log of the right class's score"},
)
"""Of each, less is better; the first two are shares."""


def calibration_rows(data: ReportData, figures: Figures) -> list[CalibrationRow]:
    """One row per calibrated system: on the split that is judged where raw scores were kept, else
    on the clips that it was fitted on, by cross-fitting.
    """
    found = []
    for system, scores in zip(figures.systems, data.systems, strict=True):
        told = scores.calibration
        if not told:
            continue
        notes = tuple(told.get("notes", ()))
        judged = system.calibrated
        if judged is not None:
            before, after = vars(judged.before), vars(judged.after)
            changed = count(judged.changed)
        else:
            before, after = (_renamed(told.get(key) or {}) for key in ("before", "after"))
            changed = DASH
            notes = (f"errors are those on the fitting clips ({told.get('how', 'val')})", *notes)
        errors = tuple(
            ErrorCell(_error(error["key"], before), _error(error["key"], after))
            for error in CALIBRATION_ERRORS
        )
        found.append(CalibrationRow(system, str(told["method"]), errors, changed, notes))
    return found


def _renamed(errors: dict[str, float]) -> dict[str, float]:
    return {("log_loss" if key == "nll" else key): value for key, value in errors.items()}


def _error(key: str, errors: dict[str, float]) -> str:
    value = errors.get(key)
    return percent(value) if key.endswith("ece") else decimal(value, 3)


@dataclass(frozen=True)
class ThresholdRow:
    """The threshold of one class and what it keeps, as text; `key` sorts it."""

    name: str
    clips: int
    value: str
    key: str
    interval: str
    precision: str
    recall: str
    reason: str


@dataclass(frozen=True)
class ThresholdView:
    """The thresholds of one system, what they are for, and how many classes have none."""

    system: SystemFigures
    target: str
    rows: tuple[ThresholdRow, ...]
    lacking: int


def threshold_views(data: ReportData, figures: Figures) -> list[ThresholdView]:
    """One view per system that has thresholds."""
    found = []
    for system, scores in zip(figures.systems, data.systems, strict=True):
        thresholds = scores.calibration.get("classes") or {}
        if thresholds:
            rows = tuple(_threshold(name, values) for name, values in thresholds.items())
            target = f"for {scores.calibration.get('target')}"
            found.append(ThresholdView(system, target, rows, sum(not row.key for row in rows)))
    return found


def _threshold(name: str, values: dict[str, Any]) -> ThresholdRow:
    value = values["value"]
    return ThresholdRow(
        name=name,
        clips=values["clips"],
        value=decimal(value, 3),
        key="" if value is None else f"{value:.5f}",
        interval=_bounds(values["value_interval"], lambda bound: decimal(bound, 3)),
        precision=_kept(values, "precision"),
        recall=_kept(values, "recall"),
        reason=values["reason"] or "",
    )


def _kept(values: dict[str, Any], key: str) -> str:
    bounds = _bounds(values[f"{key}_interval"], percent)
    return percent(values[key]) + (f" ({bounds})" if bounds != DASH else "")


def _bounds(pair: tuple[float, float] | None, text: Callable[[float], str]) -> str:
    return DASH if pair is None else " to ".join(map(text, pair))
