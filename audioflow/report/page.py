"""The report as files: one self-contained page, report.json and the plots."""

import base64
import functools
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup, escape

from audioflow.report import formats, rows, svg, words
from audioflow.report.data import ReportData
from audioflow.report.document import document, to_bytes
from audioflow.report.excerpts import Excerpts
from audioflow.report.figures import Figures, compute
from audioflow.report.page_context import page_context
from audioflow.report.players import Players, clips_to_play
from audioflow.report.plots import plots

_FOLDER = Path(__file__).parent
_STYLES = ("page.css", "widgets.css", "timeline.css")
_SCRIPTS = ("page.js", "heat_counts.js", "heat_paint.js", "heat.js", "curves.js")

ReadExcerpts = Callable[[Sequence[str]], Excerpts]
"""From ids of clips to what the page plays and shows of them."""


def data_url(content: bytes, kind: str) -> str:
    """A file as a url that holds it."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def json_script(id_: str, value: Any) -> Markup:
    """Data for the page's script, in an element that no browser runs or shows."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    return Markup(  # noqa: S704 - no "<" is left that could end the element
        f'<script type="application/json" id="{escape(id_)}">{text}</script>'
    )


_FUNCTIONS: tuple[Callable[..., Any], ...] = (
    data_url,
    formats.byte_size,
    formats.count,
    formats.decimal,
    formats.duration,
    formats.interval,
    formats.join_words,
    formats.metric_hint,
    formats.metric_name,
    formats.metric_text,
    formats.metric_interval,
    formats.moment,
    formats.p_value,
    formats.percent,
    formats.percent_sign,
    formats.plural,
    formats.points,
    formats.rate,
    formats.undefined,
    json_script,
    rows.whisker,
    svg.colour,
    svg.share,
    svg.swatch,
    words.confusion_finding,
)
"""What the templates call."""


def build(
    data: ReportData,
    *,
    eval_split: str = "test",
    num_bootstrap: int = 1000,
    num_players: int = 0,
    read_excerpts: ReadExcerpts | None = None,
) -> dict[str, bytes]:
    """The files of the report: `index.html`, `report.json` and the plots as `*.png`.

    Systems are compared on the clips of `eval_split`; each interval takes `num_bootstrap` draws.
    `read_excerpts` is asked once, for at most `num_players` clips, which then play in the page.
    The page holds everything it needs and makes no request. Equal input gives equal bytes.
    """
    figures = compute(data, eval_split, num_bootstrap)
    verdict = words.verdict(data, figures)
    played = clips_to_play(data, figures, num_players)
    excerpts = read_excerpts(played) if read_excerpts and played else {}
    return {
        "index.html": render(data, figures, verdict, excerpts).encode("utf-8", "backslashreplace"),
        "report.json": to_bytes(document(data, figures, verdict, excerpts)),
        **plots(data, figures),
    }


def render(
    data: ReportData, figures: Figures, verdict: str, excerpts: Excerpts | None = None
) -> str:
    """The page as HTML. Everything that came from outside is escaped."""
    css, script = _joined(_STYLES), _joined(_SCRIPTS)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    players = Players(excerpts or {})
    return (
        _environment()
        .get_template("page.html")
        .render(
            page_context(data, figures),
            verdict=verdict,
            players=players,
            player=players.cell,
            css=Markup(css),  # noqa: S704 - our own files
            js=Markup(script),  # noqa: S704 - our own files
            # Only this script may run: one that came in with a name could not, even unescaped.
            script_hash=f"sha256-{digest}",
        )
    )


def _joined(names: Sequence[str]) -> str:
    return "\n".join((_FOLDER / name).read_text(encoding="utf-8") for name in names)


@functools.cache
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
    filters: Mapping[str, Callable[..., Any]] = {
        "nbsp": _nbsp,
        "arrows": lambda text: text.replace("->", "→"),
        "shorten": formats.shorten,
    }
    environment.filters |= filters
    return environment


def _nbsp(text: str) -> Markup:
    """No line break between a number and its percent sign."""
    return escape(text.replace(" %", "\N{NO-BREAK SPACE}%"))
