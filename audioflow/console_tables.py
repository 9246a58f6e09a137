"""Tables that grow while a job runs, row by row: here, the epochs of `train`.

    table = EpochTable(total=30, select="val_accuracy")
    for record in epochs:
        for line in table.add(record):
            print(line.text)

Of many rows a few are shown, the best ones among them.
"""

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

MOST_EPOCH_LINES = 60
WIDTH = 100
HEADER_EVERY = 40

Data = Mapping[str, Any]
"""What an event says of an epoch or a trial."""

_RANKINGS = {"val_map": "mAP", "val_auc": "AUC", "val_weighted_auc": "weighted AUC"}
TITLES = {"val_accuracy": "accuracy", "val_macro_f1": "macro F1"} | _RANKINGS
_LAYER_KEY = re.compile(r"val_accuracy\[(.+)\]")
GAP = "  "
DASH = "-"


@dataclass(frozen=True)
class Line:
    """A line to print; `style` is how a terminal shows it."""

    text: str
    style: str = ""


@dataclass(frozen=True)
class Column:
    """A column: its title, what it shows of a row, and how wide it is, to the left or the right."""

    title: str
    text: Callable[[Data], str]
    width: int
    left: bool = False

    def fit(self, text: str) -> str:
        return text.ljust(self.width) if self.left else text.rjust(self.width)


class Grid:
    """Aligned rows, with the titles above the first one and again from time to time."""

    def __init__(self, columns: Sequence[Column]) -> None:
        self._columns = columns
        self._rows = 0

    def lines(self, row: Data, best: bool) -> Iterator[Line]:
        if self._rows % HEADER_EVERY == 0:
            titles = [column.fit(column.title) for column in self._columns]
            yield Line(GAP.join(titles).rstrip(), "dim")
        self._rows += 1
        cells = [column.fit(column.text(row)) for column in self._columns]
        yield Line(GAP.join(cells).rstrip(), "bold" if best else "")


class Thinned:
    """Shows about `most` of `rows` rows: the first, one of each few that follow, and the last.

    That one is the newest of them that was the best so far, or else the newest.
    """

    def __init__(self, rows: int, most: int) -> None:
        all_fit = rows <= most
        between = max(1, most - 2)
        self._every = 1 if all_fit else -(-rows // between)
        self._first = all_fit or most > 2
        self._last = all_fit or most > 1
        self._begun = False
        self._held: Data | None = None
        self._held_best = False
        self._newest: Data | None = None

    def add(self, position: int, row: Data, best: bool) -> list[Data]:
        """What is to be shown now that the row at `position`, counted from 1, is there."""
        self._newest = row
        first, self._begun = not self._begun, True
        if first and self._first:
            self._newest = None
            return [row]
        if best or not self._held_best:
            self._held, self._held_best = row, best
        return self._release() if position % self._every == 0 else []

    def rest(self) -> list[Data]:
        """What is to be shown at the end."""
        rows = self._release()
        if self._last and self._newest is not None:
            rows.append(self._newest)
            self._newest = None
        return rows

    def _release(self) -> list[Data]:
        held, self._held, self._held_best = self._held, None, False
        if held is self._newest:
            self._newest = None
        return [] if held is None else [held]


class EpochTable:
    """The epochs of one system; with `folds`, which are trained side by side, those of each.

    total: epochs of all folds together. select: what the best epoch is best in. fitted: the head is
    fitted in one go, without epochs.
    """

    def __init__(
        self,
        total: int = 0,
        folds: Sequence[str] = (),
        select: str = "val_loss",
        fitted: bool = False,
    ) -> None:
        self._select, self._fitted, self._folds = select, fitted, folds
        self._epochs = total // max(1, len(folds))
        self._thinned: dict[str | None, Thinned] = {}
        self._grid: Grid | None = None

    def add(self, data: Data) -> list[Line]:
        """The lines to print now that an epoch has ended; `data` is its record."""
        fold, epoch = data.get("fold"), data["epoch"]
        if fold not in self._thinned:
            most = MOST_EPOCH_LINES // max(1, len(self._folds))
            self._thinned[fold] = Thinned(self._epochs, most)
        thinned = self._thinned[fold]
        rows = thinned.add(epoch, data, self._is_best(data))
        return self._lines(rows + (thinned.rest() if epoch == self._epochs else []))

    def rest(self) -> list[Line]:
        """The lines to print once training has ended, perhaps before the last epoch."""
        return self._lines([row for thinned in self._thinned.values() for row in thinned.rest()])

    def _is_best(self, data: Data) -> bool:
        return self._select != "last" and not self._fitted and bool(data.get("best"))

    def _lines(self, rows: Sequence[Data]) -> list[Line]:
        found: list[Line] = []
        for row in rows:
            if self._grid is None:
                columns, hidden = self._columns(row)
                self._grid = Grid(columns)
                found += [Line(f"no room for accuracy of {', '.join(hidden)}")] if hidden else []
            found += self._grid.lines(row, self._is_best(row))
        return found

    def _columns(self, data: Data) -> tuple[list[Column], list[str]]:
        """The columns that a record like this one asks for, and the layers without one."""
        metrics = data["metrics"]
        left = [Column("epoch", lambda row: str(row["epoch"]), max(5, len(str(self._epochs))))]
        if self._folds:
            width = min(10, max(4, *map(len, self._folds)))
            left.insert(0, Column("fold", lambda row: cut(str(row["fold"]), width), width))
        left.append(Column("train loss", lambda row: number_text(row["train_loss"]), 10))
        if data["val_loss"] is not None:
            left.append(Column("val loss", lambda row: number_text(row["val_loss"]), 8))
        if "val_accuracy" in metrics:
            left.append(_metric("val_accuracy", TITLES["val_accuracy"]))
        ranking = self._select if self._select in _RANKINGS else "val_macro_f1"
        if ranking in metrics:
            left.append(_metric(ranking, TITLES[ranking]))
        right = [Column("seconds", lambda row: _seconds(row["seconds"]), 7)]
        if not self._fitted:
            right.insert(0, Column("lr", lambda row: f"{row['lr']:.3g}", 8))
            right.append(Column("", lambda row: "best" if self._is_best(row) else "", 4, left=True))
        room = WIDTH - sum(column.width + len(GAP) for column in left + right)
        layers, hidden = _layer_columns(metrics, room)
        return [*left, *layers, *right], hidden


def _metric(key: str, title: str) -> Column:
    width = max(5, len(title))
    return Column(title, lambda row: _share(row["metrics"].get(key)), width)


def _layer_columns(metrics: Mapping[str, float], room: int) -> tuple[list[Column], list[str]]:
    """The accuracies by layer, in as few characters as they need; those beyond `room` are named."""
    names = [found[1] for key in metrics if (found := _LAYER_KEY.fullmatch(key))]
    each = room // max(1, len(names)) - len(GAP)
    columns: list[Column] = []
    for name in names:
        title = cut(name, max(5, each))
        column = _metric(f"val_accuracy[{name}]", title)
        room -= column.width + len(GAP)
        if room < 0:
            return columns, names[len(columns) :]
        columns.append(column)
    return columns, []


def number_text(value: float | None) -> str:
    """A loss or a score with four digits behind the point, or three in all where it is large."""
    if value is None:
        return DASH
    return f"{value:.4f}" if not math.isfinite(value) or abs(value) < 1000 else f"{value:.3g}"


def _share(value: float | None) -> str:
    return DASH if value is None else f"{value:.3f}"


def _seconds(value: float) -> str:
    return f"{value:.{2 if value < 10 else 1 if value < 1000 else 0}f}"


def cut(text: str, length: int) -> str:
    """At most `length` characters, with dots for the end where there is room for them."""
    if len(text) <= length:
        return text
    return f"{text[: length - 3]}..." if length > 5 else text[:length]
