"""Lists that data sets come with: lines of cells, read once, each knowing where it stands."""

import csv
import io
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from audioflow.errors import InputError
from audioflow.redaction import masked
from audioflow.storage import Folder


@dataclass(frozen=True)
class Line:
    """One line of a list: its cells by column, and its place, `file:number`, for messages."""

    cells: Mapping[str, str]
    place: str

    def text(self, column: str) -> str:
        """The cell; raises `InputError` where it is empty."""
        if not self.cells[column]:
            raise InputError(f"{self.place}: {column} is empty")
        return self.cells[column]

    def seconds(self, column: str) -> float:
        """The cell as seconds, 0 or more; raises `InputError` for any other."""
        try:
            value = float(self.cells[column])
        except ValueError:
            value = -1.0
        if not 0 <= value < float("inf"):
            raise InputError(
                f"{self.place}: {column} is {self.cells[column]!r}; allowed: 0 seconds or more"
            )
        return value

    def span(self, start: str, end: str) -> tuple[float, float]:
        """Start and length in seconds, from the cells of start and end."""
        start_s, end_s = self.seconds(start), self.seconds(end)
        if end_s <= start_s:
            raise InputError(
                f"{self.place}: {end} is {end_s:g} and {start} {start_s:g}; a clip ends after it "
                "starts"
            )
        return start_s, round(end_s - start_s, 6)


def read_lines(
    place: Folder,
    columns: Sequence[str],
    *,
    delimiter: str = ",",
    header: bool = True,
    comment: str | None = None,
) -> Iterator[Line]:
    """The lines of a list, one after the other.

    columns: those it must have, by its first line; without a header, what its cells are called in
    their order (the last ones may be missing, and are empty then). comment: what lines that are
    left out begin with. Raises `InputError` for what is not there or cannot be, and, at once,
    `FileNotFoundError` where there is no such file.
    """
    url = masked(place.url, place.options.secrets)
    text = read_text(place)
    if comment is not None:  # an empty line in its place, so that numbers stay right
        kept = ("" if line.startswith(comment) else line for line in text.splitlines())
        text = "\n".join(kept)
    rows = split_rows(text, url, delimiter)
    names = list(columns)
    if header:
        _, names = next(rows, (0, []))
        _refuse_absent(names, columns, url)
    return (
        Line(_named(cells, names, f"{url}:{number}", header), f"{url}:{number}")
        for number, cells in rows
    )


def read_text(place: Folder) -> str:
    """A file in UTF-8, with or without a byte-order mark; raises `InputError` for another one, and
    `FileNotFoundError`."""
    folder, name = place.split()
    try:
        return folder.read(name).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        url = masked(place.url, place.options.secrets)
        raise InputError(
            f"{url} is not UTF-8 text (byte {error.start} is 0x{error.object[error.start]:02x}); "
            "save it as UTF-8"
        ) from error


def split_rows(text: str, url: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """The cells of every row that has some, with the number of the row's first line."""
    rows = csv.reader(
        io.StringIO(text, newline=""), delimiter=delimiter, strict=True, skipinitialspace=True
    )
    number = 1
    try:
        for cells in rows:
            stripped = [cell.strip() for cell in cells]
            if any(stripped):
                yield number, stripped
            number = rows.line_num + 1
    except csv.Error as error:
        raise InputError(
            f"{url}:{number} is not CSV: {error}; a cell with a quote in it stands in quotes, the "
            "inner one written twice"
        ) from error


def _refuse_absent(names: Sequence[str], columns: Sequence[str], url: str) -> None:
    absent = [column for column in columns if column not in names]
    if absent:
        there = ", ".join(map(repr, names)) or "no column"
        raise InputError(f"{url} has {there}; expected {', '.join(map(repr, columns))}")
    twice = [name for name, times in Counter(names).items() if name and times > 1]
    if twice:
        raise InputError(f"{url} has two columns named {twice[0]!r}; rename one of them")


def _named(cells: Sequence[str], names: Sequence[str], place: str, exactly: bool) -> dict[str, str]:
    if len(cells) > len(names) or (exactly and len(cells) < len(names)):
        raise InputError(
            f"{place} has {len(cells)} cells, expected {len(names)}: {', '.join(names)}"
        )
    filled = [*cells, *[""] * (len(names) - len(cells))]
    return dict(zip(names, filled, strict=True))
