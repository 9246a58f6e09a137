"""What the page shows of a search for hyper-parameters: charts, the best settings, the trials."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from audioflow.report.charts import Panel
from audioflow.report.data import Sweep, SweepParameter, SweepTrial
from audioflow.report.figures import Figures
from audioflow.report.formats import DASH, count, duration, join_words, plural
from audioflow.report.lines import Chart, Dot, Line, Mark, line_chart
from audioflow.report.parallel import parallel_chart
from audioflow.report.rows import bar
from audioflow.report.svg import colour
from audioflow.report.words import measure_name, score_text, sweep_finding
from audioflow.trial_text import setting_names, value_text

MAX_TRIAL_ROWS = 300

_MODES = {
    "stacked": "heads of equal shapes trained together",
    "ray tune": "trials by Ray Tune",
    "resumed": "taken up where it was",
}


@dataclass(frozen=True)
class SettingRow:
    """A setting in the best trial, and as it was written."""

    key: str
    best: str
    written: str
    changed: bool


@dataclass(frozen=True)
class ImportanceRow:
    """What a parameter accounts for."""

    name: str
    key: str
    share: float
    bar: Markup


@dataclass(frozen=True)
class TrialColumn:
    """A parameter as a column of the table of trials."""

    name: str
    key: str
    numeric: bool


@dataclass(frozen=True)
class TrialCell:
    """A value; `order` is what it is sorted by, where it is a number."""

    text: str
    order: float | None


@dataclass(frozen=True)
class TrialRow:
    """One trial; `state` says too whether it is the best, and whether it is as written."""

    trial: SweepTrial
    score: str
    state: str
    cells: tuple[TrialCell, ...]
    is_best: bool


@dataclass(frozen=True)
class SweepView:
    """What there is to show of one search."""

    id: str
    sweep: Sweep
    css: str
    measure: str
    finding: str
    facts: tuple[str, ...]
    chosen: str
    parallel: Markup
    panels: tuple[Panel, ...]
    importance: tuple[ImportanceRow, ...]
    name_width: int
    settings: tuple[SettingRow, ...]
    columns: tuple[TrialColumn, ...]
    rows: tuple[TrialRow, ...]


def sweep_index(figures: Figures, sweep: Sweep) -> int:
    """The place, and so the colour, of the tuned system, or else of the one that was varied."""
    places = {system.name: system.index for system in figures.systems}
    return places.get(sweep.name, places.get(sweep.system, 0))


def sweep_views(sweeps: Sequence[Sweep], figures: Figures) -> list[SweepView]:
    """One view per search."""
    return [
        _view(f"search-{place}", sweep, sweep_index(figures, sweep))
        for place, sweep in enumerate(sweeps)
    ]


def _view(id_: str, sweep: Sweep, index: int) -> SweepView:
    names = setting_names(parameter.key for parameter in sweep.parameters)
    panel = _progress_panel(sweep, colour(index))
    return SweepView(
        id=id_,
        sweep=sweep,
        css=colour(index),
        measure=measure_name(sweep),
        finding=sweep_finding(sweep),
        facts=tuple(_facts(sweep)),
        chosen=_chosen(sweep),
        parallel=parallel_chart(index, sweep),
        panels=(panel,) if panel else (),
        importance=tuple(
            ImportanceRow(names.get(key, key), key, share, bar(share, colour(index)))
            for key, share in sweep.importance
        ),
        name_width=min(20, max([7, *map(len, names.values())])),
        settings=tuple(_settings(sweep)),
        columns=tuple(TrialColumn(names[p.key], p.key, _is_numeric(p)) for p in sweep.parameters),
        rows=tuple(_rows(sweep)),
    )


def _facts(sweep: Sweep) -> list[str]:
    """How the search went, in a few words each."""
    states = Counter(trial.state for trial in sweep.trials)
    counts = [
        f"{count(states[state])} {words}"
        for state, words in (
            ("finished", "finished"),
            ("stopped", "stopped early"),
            ("failed", "failed"),
        )
        if states[state]
    ]
    total = plural(len(sweep.trials), "trial")
    ways = [_MODES.get(mode, mode) for mode in sweep.mode.split(", ") if mode]
    return [
        f"{sweep.search} search on {sweep.system}",
        f"{total}: {', '.join(counts)}" if set(states) - {"finished"} else total,
        *ways,
        duration(sweep.seconds),
    ]


def _chosen(sweep: Sweep) -> str:
    """With folds: which trial's setting each fold's head got."""
    folds: dict[int, list[str]] = {}
    for fold, number in sweep.chosen.items():
        if fold:
            folds.setdefault(number, []).append(fold)
    if not folds:
        return ""
    texts = [
        f"trial {number} for {'fold' if len(names) == 1 else 'folds'} {join_words(names)}"
        for number, names in sorted(folds.items())
    ]
    return f"The head of each fold has what was best on the other folds: {'; '.join(texts)}."


def best_so_far(sweep: Sweep) -> list[tuple[int, float]]:
    """Number and score of the trials that were better than all before them."""
    found: list[tuple[int, float]] = []
    for trial in sorted(sweep.trials, key=lambda trial: trial.number):
        if trial.score is not None and (not found or trial.score > found[-1][1]):
            found.append((trial.number, trial.score))
    return found


def _progress_panel(sweep: Sweep, css: str) -> Panel | None:
    """The score of each trial, and the best one so far."""
    scored = [trial for trial in sweep.trials if trial.score is not None]
    if not scored:
        return None
    last = float(max(trial.number for trial in sweep.trials))
    steps: list[tuple[float, float]] = []
    for number, score in best_so_far(sweep):
        if steps:
            steps.append((float(number), steps[-1][1]))
        steps.append((float(number), sweep.shown(score)))
    lines, legend = [Line((*steps, (last, steps[-1][1])), css)], [(css, "best so far")]
    if sweep.default_score is not None:
        level = sweep.shown(sweep.default_score)
        lines.append(Line(((0.0, level), (last, level)), "neutral dashed"))
        legend.append(("neutral dashed", "as written"))
    name = measure_name(sweep)
    chart = Chart(
        title=f"{name} of every trial",
        lines=tuple(lines),
        x_title="trial",
        y_text=lambda value: f"{value:.4g}",
        marks=() if sweep.best is None else (_best_mark(sweep, sweep.best, css),),
        dots=tuple(_dot(sweep, trial, css) for trial in scored),
        whole_x=True,
    )
    return Panel(f"{name} by trial", line_chart(chart), tuple(legend))


def _dot(sweep: Sweep, trial: SweepTrial, css: str) -> Dot:
    assert trial.score is not None
    state = "" if trial.state == "finished" else f" ({trial.state})"
    text = f"trial {trial.number}: {score_text(sweep, trial.score)}{state}"
    kind = f"{css} faded" if trial.state == "finished" else f"{css} open"
    return Dot(float(trial.number), sweep.shown(trial.score), kind, text)


def _best_mark(sweep: Sweep, best: tuple[int, float], css: str) -> Mark:
    number, score = best
    text = f"best: trial {number}, {score_text(sweep, score)}"
    return Mark(float(number), sweep.shown(score), css, text)


def _settings(sweep: Sweep) -> list[SettingRow]:
    """The settings of the best trial beside those as written; none where these are the best."""
    if sweep.best is None:
        return []
    values = {trial.number: trial.values for trial in sweep.trials}.get(sweep.best[0], {})
    return [
        SettingRow(
            parameter.key,
            _text(values, parameter.key),
            _text(sweep.written, parameter.key, "not given"),
            _text(values, parameter.key) != _text(sweep.written, parameter.key),
        )
        for parameter in sweep.parameters
        if values and (parameter.key in values or parameter.key in sweep.written)
    ]


def _text(values: Mapping[str, Any], key: str, absent: str = DASH) -> str:
    return value_text(values[key]) if key in values else absent


def _is_numeric(parameter: SweepParameter) -> bool:
    return all(_is_number(value) for value in parameter.options)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _rows(sweep: Sweep) -> list[TrialRow]:
    """The trials, the best first, and those without a score last."""
    best = None if sweep.best is None else sweep.best[0]

    def place(trial: SweepTrial) -> tuple[bool, bool, float, int]:
        score = 0.0 if trial.score is None else -trial.score
        return trial.number != best, trial.score is None, score, trial.number

    return [
        TrialRow(
            trial,
            score_text(sweep, trial.score),
            _state(trial, trial.number == best),
            tuple(_cell(trial.values or sweep.written, each.key) for each in sweep.parameters),
            trial.number == best,
        )
        for trial in sorted(sweep.trials, key=place)[:MAX_TRIAL_ROWS]
    ]


def _state(trial: SweepTrial, is_best: bool) -> str:
    words = ["best"] if is_best else []
    words += [] if trial.values else ["as written"]
    words += [trial.state] if trial.state != "finished" or not words else []
    return ", ".join(words)


def _cell(values: Mapping[str, Any], key: str) -> TrialCell:
    value = values.get(key)
    return TrialCell(_text(values, key), value if _is_number(value) else None)
