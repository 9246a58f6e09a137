"""Comparisons as one self-contained page, which looks and sorts like the report."""

import base64
import hashlib
from collections.abc import Sequence
from pathlib import Path

import jinja2
from markupsafe import Markup

import audioflow.report
from audioflow import __version__
from audioflow.comparing.differences import Comparison
from audioflow.comparing.text import basis, verdict
from audioflow.errors import shown
from audioflow.report import formats

_REPORT = Path(audioflow.report.__file__).parent
_FUNCTIONS = (
    basis,
    formats.count,
    formats.metric_hint,
    formats.metric_name,
    formats.percent,
    formats.points,
    shown,
    verdict,
)


def comparison_page(found: Sequence[Comparison]) -> str:
    """HTML of at least one comparison, with all it needs. What came from outside is escaped."""
    css = "\n".join((_REPORT / name).read_text("utf-8") for name in ("page.css", "widgets.css"))
    script = (_REPORT / "page.js").read_text("utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals |= {function.__name__: function for function in _FUNCTIONS}
    environment.filters["capitalised"] = lambda text: text[:1].upper() + text[1:]
    return environment.get_template("comparison.html").render(
        found=found,
        title=_title(found[0]),
        version=__version__,
        css=Markup(css),  # noqa: S704 - our own files
        js=Markup(script),  # noqa: S704 - our own files
        script_hash=f"sha256-{digest}",
    )


def _title(first: Comparison) -> str:
    names = [side.url.rstrip("/").rsplit("/", 1)[-1] for side in (first.a, first.b)]
    return f"{names[0]} and {names[1]}" if names[0] != names[1] else names[0]
