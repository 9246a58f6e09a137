"""The report as files: one self-contained page, report.json and the plots."""

import base64
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup, escape

from audioflow.report import formats, rows, run_views, svg, views, words
from audioflow.report.data import ReportData
from audioflow.report.document import document, to_bytes
from audioflow.report.figures import Figures, compute
from audioflow.report.matrix import MAX_BESIDE
from audioflow.report.plots import plots
from audioflow.report.sweep_views import sweep_views
from audioflow.report.training_views import training_views

_FOLDER = Path(__file__).parent

_FUNCTIONS: tuple[Callable[..., Any], ...] = (
    formats.byte_size,
    formats.count,
    formats.decimal,
    formats.duration,
    formats.interval,
    formats.join_words,
    formats.metric_hint,
    formats.metric_name,
    formats.moment,
    formats.percent,
    formats.plural,
    formats.points,
    formats.rate,
    formats.undefined,
    rows.whisker,
    svg.colour,
    svg.share,
    svg.swatch,
    words.confusion_finding,
)
"""What the templates call."""


def build(
    data: ReportData, *, eval_split: str = "test", num_bootstrap: int = 1000
) -> dict[str, bytes]:
    """The files of the report: `index.html`, `report.json` and the plots as `*.png`.

    Systems are compared on the clips of `eval_split`; each interval takes `num_bootstrap` draws.
    The page holds everything it needs and makes no request. Equal input gives equal bytes.
    """
    figures = compute(data, eval_split, num_bootstrap)
    verdict = words.verdict(data, figures)
    return {
        "index.html": render(data, figures, verdict).encode("utf-8", "backslashreplace"),
        "report.json": to_bytes(document(data, figures, verdict)),
        **plots(data, figures),
    }


def render(data: ReportData, figures: Figures, verdict: str) -> str:
    """The page as HTML. Everything that came from outside is escaped."""
    css = (_FOLDER / "page.css").read_text(encoding="utf-8")
    script = (_FOLDER / "page.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    context = _context(data, figures)
    return (
        _environment()
        .get_template("page.html")
        .render(
            context,
            verdict=verdict,
            css=Markup(css),  # noqa: S704 - our own file
            js=Markup(script),  # noqa: S704 - our own file
            # Only this script may run: one that came in with a name could not, even unescaped.
            script_hash=f"sha256-{digest}",
        )
    )


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals |= {function.__name__: function for function in _FUNCTIONS}
    environment.globals["shares"] = rows.SHARES
    environment.filters["nbsp"] = _nbsp
    environment.filters["arrows"] = lambda text: text.replace("->", "→")
    environment.filters["shorten"] = formats.shorten
    return environment


def _nbsp(text: str) -> Markup:
    """No line break between a number and its percent sign."""
    return escape(text.replace(" %", "\N{NO-BREAK SPACE}%"))


def _context(data: ReportData, figures: Figures) -> dict[str, Any]:
    best = words.best_system(figures)
    context: dict[str, Any] = {
        "data": data,
        "figures": figures,
        "evaluated": figures.evaluated,
        "facts": views.facts(data, figures),
        "notes": views.notes(figures),
        "best_of": views.best_of(figures),
        "name_width": views.name_width(figures),
        "reference": views.reference(figures),
        "fusions": views.fusion_views(data, figures),
        "matrices": views.matrices(figures),
        "max_beside": MAX_BESIDE,
        "class_rows": views.class_rows(figures),
        "class_metrics": views.CLASS_METRICS,
        "classes_lead": words.classes_finding(best) if best else "",
        "trainings": training_views(data, figures),
        "sweeps": sweep_views(data.sweeps, figures),
        "splits": run_views.splits_view(data),
        "verdicts": run_views.verdicts(data.stages),
        "stages_lead": words.stages_finding(data),
        "longest_stage": max((s.seconds for s in data.stages), default=0.0) or 1.0,
        "failure_table": run_views.failure_table(data.failure_counts),
        "failures": run_views.failures_shown(data.failures),
        "failures_lead": words.failures_finding(data),
    }
    context["contents"] = _contents(context)
    return context


def _contents(context: dict[str, Any]) -> list[tuple[str, str]]:
    """The sections that the page has, for its navigation."""
    found = bool(context["evaluated"])
    searches = [
        (view.id, f"Search {formats.shorten(view.sweep.name, 16)}", True)
        for view in context["sweeps"]
    ]
    sections = (
        ("metrics", "Results", found),
        ("fusion", "Fusion", bool(context["fusions"])),
        ("confusion", "Confusion", found),
        ("classes", "Classes", found),
        ("mistakes", "Mistakes", found),
        ("training", "Training", bool(context["trainings"])),
        *searches,
        ("data", "Data", True),
        ("stages", "Run", True),
        ("failures", "Failures", True),
        ("provenance", "Provenance", True),
    )
    return [(name, title) for name, title, shown in sections if shown]
