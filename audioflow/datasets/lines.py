"""Lists that data sets come with: lines of cells, read once, each knowing where it stands."""

import csv
import io
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from audioflow.errors import InputError
from audioflow.redaction import masked
from audioflow.storage import Folder, is_local, local_path


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
    rows = split_rows(text_lines(place, comment), url, delimiter)
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


def text_lines(place: Folder, comment: str | None = None) -> Iterator[str]:
    """The lines of a file with their ends, one after the other: it may be larger than the memory.

    Those that begin with `comment` are empty. Raises as `read_text` does, `FileNotFoundError` at
    once.
    """
    lines = _decoded(place, _opened(place))
    if comment is None:
        return lines
    each = (line for ended in lines for line in ended.splitlines())
    # An empty line in its place, so that numbers stay right.
    return ("\n" if line.startswith(comment) else f"{line}\n" for line in each)


def _decoded(place: Folder, opened: BinaryIO) -> Iterator[str]:
    try:
        with opened as binary, io.TextIOWrapper(binary, "utf-8-sig", newline="") as text:
            yield from text
    except UnicodeDecodeError:
        read_text(place)  # tells the place in the whole file
        raise


def _opened(place: Folder) -> BinaryIO:
    folder, name = place.split()
    if is_local(place.url):
        folder.read(name, end=1)  # raises in our words
        return Path(local_path(place.url)).open("rb")
    return io.BytesIO(folder.read(name))


def split_rows(lines: Iterable[str], url: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """The cells of every row that has some, with the number of the row's first line."""
    rows = csv.reader(lines, delimiter=delimiter, strict=True, skipinitialspace=True)
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
