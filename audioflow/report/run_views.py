"""What the page shows of the run itself: its data and its failures, arranged for the templates."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from audioflow.report.data import FailureRow, ReportData, StageRow
from audioflow.report.formats import count, join_words, percent_sign
from audioflow.report.rows import stacked
from audioflow.report.svg import colour

MAX_FAILURES = 300
MAX_SPLIT_ROWS = 30
_SPLIT_ENDS = 8
_LEAST_SHARE = 0.001


@dataclass(frozen=True)
class SplitName:
    """A split with its colour and number of clips."""

    name: str
    css: str
    clips: int


@dataclass(frozen=True)
class SplitRow:
    """One class with its clips per split."""

    name: str
    bar: Markup
    clips: tuple[int, ...]


@dataclass(frozen=True)
class SplitsView:
    """The clips per class and split. A row that is None stands for `hidden` classes."""

    total: int
    num_classes: int
    names: tuple[SplitName, ...]
    rows: tuple[SplitRow | None, ...]
    hidden: int
    spread: str


def class_sizes(data: ReportData) -> dict[str, int]:
    """Clips per class over all splits, in the class order of the systems where there is one."""
    in_order = data.systems[0].classes if data.systems else ()
    known = {name for classes in data.splits.values() for name in classes}
    sizes = {name: 0 for name in in_order if name in known}
    for classes in data.splits.values():
        for name, clips in classes.items():
            sizes[name] = sizes.get(name, 0) + clips
    return sizes


def splits_view(data: ReportData) -> SplitsView:
    """Clips per class and split in class order; of many classes the largest and the smallest."""
    splits, totals = data.splits, class_sizes(data)
    css = [f"split{min(place, 3)}" for place in range(len(splits))]
    largest = max(totals.values(), default=0)

    def row(name: str) -> SplitRow:
        per_split = tuple(classes.get(name, 0) for classes in splits.values())
        return SplitRow(name, stacked(per_split, css, largest), per_split)

    rows: list[SplitRow | None] = []
    if len(totals) <= MAX_SPLIT_ROWS:
        rows += [row(name) for name in totals]
    else:
        by_size = sorted(totals, key=lambda name: (-totals[name], name))
        rows += [row(name) for name in by_size[:_SPLIT_ENDS]]
        rows += [None, *(row(name) for name in by_size[-_SPLIT_ENDS:])]
    names = tuple(
        SplitName(split, kind, sum(classes.values()))
        for (split, classes), kind in zip(splits.items(), css, strict=True)
    )
    hidden = len(totals) - sum(item is not None for item in rows)
    few, many = min(totals.values(), default=0), largest
    return SplitsView(
        total=sum(totals.values()),
        num_classes=len(totals),
        names=names,
        rows=tuple(rows),
        hidden=hidden,
        spread=count(few) if few == many else f"{count(few)} to {count(many)}",
    )


@dataclass(frozen=True)
class SharePart:
    """One stage of the workers' time, with its colour."""

    name: str
    css: str
    share: str


@dataclass(frozen=True)
class VerdictView:
    """Where the time of the tables that were made together went.

    `bound`: what held it up, in a word or two; `bare`: the share of what `slowest` alone reaches.
    `several`: whether other tables of the job were made by themselves.
    """

    job: str
    several: bool
    tables: str
    bound: str
    bare: str
    slowest: str
    text: str
    bar: Markup
    parts: tuple[SharePart, ...]


def verdicts(stages: Sequence[StageRow]) -> list[VerdictView]:
    """One for every pass of a job; tables that were made in one say the same.

    Jobs whose start took longer than their work are left out: there is nothing to learn of them.
    """
    by_text: dict[tuple[str, str], list[StageRow]] = {}
    for stage in stages:
        told = stage.verdict and stage.shares
        if told and (stage.bound != "start" or stage.job == "embed"):
            by_text.setdefault((stage.job, stage.verdict), []).append(stage)
    passes = Counter(job for job, _ in by_text)
    return [_verdict(text, rows, several=passes[job] > 1) for (job, text), rows in by_text.items()]


def _verdict(text: str, rows: Sequence[StageRow], *, several: bool) -> VerdictView:
    """Backbones, heads and whatever else computes in the colours of systems, all else in greys."""
    shares = rows[0].shares
    others = [name for name in _GREY if name in shares]
    own = sorted((name for name in shares if name not in _GREY), key=lambda n: -shares[n])
    css = [colour(place) for place in range(len(own))]
    css += [f"split{min(place, 3)}" for place in range(len(others))]
    parts = tuple(
        SharePart(_stage_name(name), kind, percent_sign(shares[name]))
        for name, kind in zip([*own, *others], css, strict=True)
        if shares[name] >= _LEAST_SHARE
    )
    bar = stacked([shares[name] for name in (*own, *others)], css, 1.0)
    backbones = [name for name in own if name.startswith("embed ")]
    return VerdictView(
        job=rows[0].job,
        several=several,
        tables=join_words([row.table.partition("/")[2] for row in rows]),
        bound=_BOUND.get(rows[0].bound, ""),
        bare="" if rows[0].bare is None else percent_sign(rows[0].bare, 0),
        slowest=backbones[0].removeprefix("embed ") if backbones else "",
        text=text[:1].upper() + text[1:],
        bar=bar,
        parts=parts,
    )


_BOUND = {
    "start": "the start",
    "decode": "decoding",
    "network": "the backbone",
    "heads": "the heads",
    "io": "reading and writing",
    "scheduler": "waiting for work",
    "fit": "the fit",
    "join": "joining and fusing",
    "ingest": "the examples",
    "compute": "the network",
    "judge": "judging on val",
}

_GREY = ("decode", "fetch", "read", "ingest", "write", "wait")

_NAMES = {"wait": "waiting", "ingest": "examples", "compute": "network", "judge": "val"}


def _stage_name(name: str) -> str:
    return _NAMES.get(name, name.removeprefix("embed "))


def failure_table(counts: dict[str, dict[str, int]]) -> dict[str, Any]:
    """Tables by error classes; the most frequent error class first."""
    totals: dict[str, int] = {}
    for errors in counts.values():
        for error, number in errors.items():
            totals[error] = totals.get(error, 0) + number
    errors_shown = sorted((e for e in totals if totals[e]), key=lambda e: (-totals[e], e))
    rows = [
        {"table": table, "counts": [errors.get(error, 0) for error in errors_shown]}
        for table, errors in counts.items()
        if sum(errors.values())
    ]
    return {"errors": errors_shown, "rows": rows}


def failures_shown(failures: Sequence[FailureRow]) -> list[FailureRow]:
    """At most `MAX_FAILURES` failures, some of every table and error class."""
    kinds: dict[tuple[str, str], list[FailureRow]] = {}
    for failure in failures:
        kinds.setdefault((failure.table, failure.error), []).append(failure)
    each = max(1, MAX_FAILURES // max(len(kinds), 1))
    chosen = [failure for kind in kinds.values() for failure in kind[:each]]
    rest = [failure for kind in kinds.values() for failure in kind[each:]]
    return (chosen + rest)[:MAX_FAILURES]
