"""The table of the trials of `tune`, which grows as they end."""

from collections.abc import Mapping, Sequence
from typing import Any

from audioflow.console_tables import (
    DASH,
    GAP,
    TITLES,
    WIDTH,
    Column,
    Data,
    Grid,
    Line,
    Thinned,
    cut,
    number_text,
)
from audioflow.trial_text import setting_names, value_text

MOST_TRIAL_LINES = 60


class TrialTable:
    """The trials of one search.

    select: what trials are compared by; a loss is shown without the minus it has as a score.
    default: the settings as written, which no trial repeats.
    """

    def __init__(
        self, total: int = 0, select: str = "", default: Mapping[str, Any] | None = None
    ) -> None:
        self._select, self._default = select, default or {}
        self._thinned = Thinned(total, MOST_TRIAL_LINES)
        self._ended = 0
        self._best: Mapping[str, Any] | None = None
        self._values: dict[int, Mapping[str, Any]] = {}
        self._as_written: float | None = None
        width = max(8, len(self._measure))
        columns = [
            Column("trial", lambda row: str(row["number"]), 5),
            Column(self._measure, lambda row: self._score(row["score"]), width),
            Column("best so far", self._best_so_far, 13),
        ]
        room = WIDTH - sum(column.width + len(GAP) for column in columns)
        columns.append(Column("settings", lambda row: cut(self._settings(row), room), 0, True))
        self._grid = Grid(columns)

    def add(self, data: Data) -> list[Line]:
        """The lines to print now that a trial has ended."""
        self._ended += 1
        self._best = data["best"]
        if _is_best(data):
            self._values = {data["number"]: data["values"]}
        if not data["values"]:
            self._as_written = data["score"]
        return self._lines(self._thinned.add(self._ended, data, _is_best(data)))

    def rest(self) -> list[Line]:
        """The lines to print once the search has ended; the last one says which trial is best."""
        lines = self._lines(self._thinned.rest())
        if self._best is None:
            return lines
        number = self._best["number"]
        text = f"best: trial {number}, {self._measure} {self._score(self._best['score'])}"
        if self._as_written is not None:
            text += f" (as written {self._score(self._as_written)})"
        if number in self._values:  # else it ended before this search was taken up again
            text += f": {self._named(self._values[number])}"
        return [*lines, Line(text, "bold")]

    @property
    def _measure(self) -> str:
        if self._select in ("val_loss", "last"):
            return "val loss"
        return TITLES.get(self._select, "score")

    def _score(self, score: float | None) -> str:
        if score is None:
            return DASH
        return number_text(0.0 - score if self._measure == "val loss" else score)

    def _lines(self, rows: Sequence[Data]) -> list[Line]:
        return [line for row in rows for line in self._grid.lines(row, _is_best(row))]

    def _best_so_far(self, data: Data) -> str:
        if _is_best(data):
            return "best"
        best = data["best"]
        return DASH if best is None else f"{self._score(best['score'])} ({best['number']})"

    def _settings(self, data: Data) -> str:
        state = "" if data["state"] == "finished" else f"({data['state']}) "
        return state + self._named(data["values"])

    def _named(self, values: Mapping[str, Any]) -> str:
        names = setting_names(values)
        others = {
            key: value
            for key, value in values.items()
            if key not in self._default or self._default[key] != value
        }
        texts = [f"{names[key]}={value_text(value)}" for key, value in others.items()]
        return " ".join(texts) or "as written"


def _is_best(trial: Data) -> bool:
    best = trial["best"]
    return best is not None and best["number"] == trial["number"]
