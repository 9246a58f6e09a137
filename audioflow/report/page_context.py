"""What the templates of the page are given: every view by its name, and the page's contents."""

from typing import Any

from audioflow.metrics import LESS_IS_BETTER
from audioflow.report import formats, judged_views, run_views, views, words
from audioflow.report.curve_views import curves_view
from audioflow.report.data import ReportData
from audioflow.report.figures import Figures
from audioflow.report.fusion_views import fusion_views
from audioflow.report.heat import heat_data, mapped
from audioflow.report.matrix import MAX_BESIDE
from audioflow.report.summary import summary
from audioflow.report.sweep_views import sweep_views
from audioflow.report.timeline_views import timeline_view
from audioflow.report.training_views import training_views

PARTS = (
    "results.html",
    "fusion.html",
    "confusion.html",
    "curves.html",
    "classes.html",
    "groups.html",
    "clips.html",
    "training.html",
    "sweep.html",
    "run.html",
)
"""The templates of the sections, in the order of the page."""


def page_context(data: ReportData, figures: Figures) -> dict[str, Any]:
    """All names that the templates use, but for those of the page's own files."""
    context = _of_systems(data, figures) | _of_run(data, figures)
    context["contents"] = _contents(context)
    context["sections"] = {name for name, _ in context["contents"]}
    return context


def _of_systems(data: ReportData, figures: Figures) -> dict[str, Any]:
    best = words.best_system(figures)
    systems = mapped(figures)
    confusable = [s for s in figures.evaluated if not s.multi_label]
    return {
        "data": data,
        "figures": figures,
        "summary": summary(data, figures),
        "evaluated": figures.evaluated,
        "facts": views.facts(data, figures),
        "notes": views.notes(figures),
        "best_of": views.best_of(figures),
        "details": views.details(figures),
        "less_is_better": LESS_IS_BETTER,
        "name_width": views.name_width(figures),
        "reference": views.reference(figures),
        "fusions": fusion_views(data, figures),
        "matrices": views.matrices(figures),
        "max_beside": MAX_BESIDE,
        "confusable": confusable,
        "confusion_lead": words.confusion_lead(bool(systems)),
        "mapped": systems,
        "heat": heat_data(systems),
        "curves": curves_view(figures, best),
        "calibrations": judged_views.calibration_rows(data, figures),
        "calibration_errors": judged_views.CALIBRATION_ERRORS,
        "thresholds": judged_views.threshold_views(data, figures),
        "group_tables": judged_views.group_views(figures),
        "class_rows": views.class_rows(figures),
        "class_metrics": views.CLASS_METRICS,
        "classes_lead": words.classes_finding(best) if best else "",
        "trainings": training_views(data, figures),
        "sweeps": sweep_views(data.sweeps, figures),
    }


def _of_run(data: ReportData, figures: Figures) -> dict[str, Any]:
    return {
        "parts": PARTS,
        "splits": run_views.splits_view(data),
        "verdicts": run_views.verdicts(data.stages),
        "timeline": timeline_view(data),
        "stages_lead": words.stages_finding(data),
        "longest_stage": max((s.seconds for s in data.stages), default=0.0) or 1.0,
        "failure_table": run_views.failure_table(data.failure_counts),
        "failures": run_views.failures_shown(data.failures),
        "failures_lead": words.failures_finding(data),
    }


def _contents(context: dict[str, Any]) -> list[tuple[str, str]]:
    """The sections that the page has, for its navigation."""
    found = bool(context["evaluated"])
    data: ReportData = context["data"]
    searches = [
        (view.id, f"Search {formats.shorten(view.sweep.name, 16)}", True)
        for view in context["sweeps"]
    ]
    sections = (
        ("metrics", "Results", found),
        ("fusion", "Fusion", bool(context["fusions"])),
        ("confusion", "Confusion", bool(context["confusable"])),
        ("curves", "Curves", context["curves"] is not None),
        ("classes", "Classes", found),
        ("groups", "Groups", bool(context["group_tables"])),
        ("clips", "Clips", found),
        *((table.id, table.title, True) for table in data.clip_tables),
        ("explanations", "Explanations", bool(data.pictures)),
        ("training", "Training", bool(context["trainings"])),
        *searches,
        ("data", "Data", True),
        ("stages", "Run", True),
        ("failures", "Failures", True),
        ("provenance", "Provenance", True),
    )
    return [(name, title) for name, title, shown in sections if shown]
