"""What the page shows of fused systems: figures arranged for the templates, nothing anew."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from audioflow.fusion.results import ClassGain
from audioflow.report.charts import Panel, fusion_panels
from audioflow.report.compare import Availability, Gain, MissingCost
from audioflow.report.data import ReportData, SystemScores
from audioflow.report.figures import Figures, SystemFigures
from audioflow.report.formats import (
    count,
    decimal,
    join_words,
    metric_name,
    percent_sign,
    plural,
    undefined,
)
from audioflow.report.rows import Axis, gain_axis
from audioflow.report.views import width_of


@dataclass(frozen=True)
class FusedClass:
    """What fusing brings for one class; `weights` are the systems' for this class, where it has
    some of its own.
    """

    gain: ClassGain
    sure: bool
    weights: tuple[float, ...]


@dataclass(frozen=True)
class FusionView:
    """What there is to show about a fused system; `partial`: some clip lacked a part.

    `facts` say how it was fitted; `classes` what it brings for each class over the `better` part.
    """

    system: SystemFigures
    weights: tuple[dict[str, Any], ...]
    gains: tuple[Gain, ...]
    gain_axis: Axis
    availability: tuple[Availability, ...]
    num_parts: int
    partial: bool
    panels: tuple[Panel, ...]
    name_width: int
    facts: tuple[str, ...]
    costs: tuple[MissingCost, ...]
    better: str
    classes: tuple[FusedClass, ...]
    class_weights: tuple[str, ...]


def fusion_views(data: ReportData, figures: Figures) -> list[FusionView]:
    """One view per fused system that has anything to show."""
    found = []
    places = {system.name: system.index for system in figures.systems}
    for system, scores in zip(figures.systems, data.systems, strict=True):
        gains = tuple(gain for gain in figures.gains if gain.system == system.name)
        availability = tuple(item for item in figures.availability if item.system == system.name)
        view = FusionView(
            system=system,
            weights=_weights(scores.fusion.get("weights") or {}, places),
            gains=gains,
            gain_axis=gain_axis([gain.gain for gain in gains]),
            availability=availability,
            num_parts=len(scores.parts),
            partial=any(len(item.available) < len(scores.parts) for item in availability),
            panels=tuple(fusion_panels(system.index, scores)),
            name_width=width_of(
                [f"over {gain.part}" for gain in gains]
                + [" + ".join(item.available) for item in availability]
            ),
            facts=tuple(_fusion_facts(scores)),
            costs=tuple(cost for cost in figures.missing_costs if cost.system == system.name),
            better=next((gain.part for gain in gains if gain.is_better_part), ""),
            classes=tuple(_fused_classes(gains, scores)),
            class_weights=tuple((scores.fusion.get("per_class") or {}).get("weights", {})),
        )
        if gains or availability or view.panels or view.weights:
            found.append(view)
    return found


def _fusion_facts(scores: SystemScores) -> list[str]:
    """On what a fusion was fitted, after what, and how good it was on clips it did not see."""
    params, facts = scores.fusion, []
    fit = params.get("fit") or {}
    if fit.get("clips"):
        sampled = fit.get("sampled_from")
        of = f", drawn from {count(sampled)}" if sampled else ""
        how = " by cross-fitting" if fit.get("cross_fitted") else ""
        facts.append(f"fitted on {plural(fit['clips'], 'clip')}{of}{how}")
    methods = {c.get("method") for c in (params.get("calibration") or {}).values()} - {None, "none"}
    if methods:
        facts.append(f"every system calibrated first ({join_words(sorted(methods))})")
    for key, value in (params.get("out_of_fold") or {}).items():
        shown = decimal(value, 3) if key == "log_loss" else percent_sign(value)
        facts.append(f"{metric_name(key)} {shown} on clips that had no part in the fit")
    return facts


def _fused_classes(gains: Sequence[Gain], scores: SystemScores) -> list[FusedClass]:
    weights = (scores.fusion.get("per_class") or {}).get("weights", {})
    place = {name: index for index, name in enumerate(scores.classes)}
    return [
        FusedClass(
            one,
            not undefined(one.gain.low) and (one.gain.low > 0 or one.gain.high < 0),
            tuple(float(row[place[one.name]]) for row in weights.values()),
        )
        for gain in gains
        if gain.is_better_part
        for one in gain.classes
    ]


def _weights(weights: dict[str, float], places: dict[str, int]) -> tuple[dict[str, Any], ...]:
    """The parts of the weight bar; none where a weight is negative, which a bar cannot show."""
    known = {name: float(weight) for name, weight in weights.items() if name in places}
    total = sum(known.values())
    if total <= 0 or min(known.values()) < 0:
        return ()
    parts, start = [], 0.0
    for name, weight in known.items():
        size = weight / total
        part = {"name": name, "index": places[name], "weight": weight, "start": start, "size": size}
        parts.append(part)
        start += size
    return tuple(parts)
