"""The rows of a text file of numbers: its columns, its numbers, and what is wrong with one of them.

Shapes: N rows, D columns that are read.
"""

import csv
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import csv as arrow_csv

from audioflow.downloads import LocalFile
from audioflow.errors import InputError

_DELIMITERS = (",", ";", "\t", "|")
_BLOCK_BYTES = 16 * 2**20
_LARGEST = float(np.finfo(np.float32).max)


class NumberFile:
    """A file with a first line of names; a byte-order mark, and blanks around cells, are ignored.

    columns: the names, in order; empty where there is none. Raises `InputError` for a file that is
    no such text.
    """

    def __init__(self, file: LocalFile, delimiter: str | None, decimal: str) -> None:
        self.url = file.url
        self._path, self._decimal = file.path, decimal
        self._first_line, head = self._head()
        self._delimiter = delimiter or max(_DELIMITERS, key=lambda one: len(_cells(head, one)))
        self.columns = [name.strip() for name in _cells(head, self._delimiter)]
        if len(self.columns) < 2:
            raise InputError(
                f"{self.url}: it cannot be read as a table: its first line, {head[:60]!r}, is one "
                "cell; expected the names of two columns or more, with one of , ; | or a tab "
                "between them, or what delimiter says"
            )
        twice = [name for name, times in Counter(self.columns).items() if name and times > 1]
        if twice:
            raise InputError(f"{self.url} has two columns named {twice[0]!r}; rename one of them")

    def line(self, row: int) -> int:
        """The line of the file in which a row stands (where no cell has a line break)."""
        return self._first_line + 1 + row

    def place(self, row: int) -> str:
        """The same with the file, for messages."""
        return f"{self.url}:{self.line(row)}"

    def read(self, id_column: str, columns: Sequence[str]) -> tuple[list[str], NDArray[np.float32]]:
        """Names (N) and numbers (N, D); raises `InputError` for a cell that is no finite number."""
        names = [name or f" {place}" for place, name in enumerate(self.columns)]
        types = dict.fromkeys(columns, pa.float32()) | {id_column: pa.string()}
        try:
            table = arrow_csv.read_csv(
                self._path,
                arrow_csv.ReadOptions(
                    block_size=_BLOCK_BYTES, column_names=names, skip_rows=self._first_line
                ),
                arrow_csv.ParseOptions(delimiter=self._delimiter, newlines_in_values=True),
                arrow_csv.ConvertOptions(
                    column_types=types,
                    include_columns=list(types),
                    null_values=[],
                    decimal_point=self._decimal,
                ),
            )
        except (pa.ArrowException, OSError) as error:
            raise self._odd(id_column, columns) or InputError(
                f"{self.url}: it cannot be read: {' '.join(str(error).split()):.200}"
            ) from error
        if not table.num_rows:
            raise InputError(f"{self.url} has no row below its first line")
        rows_ND = np.stack([table[name].to_numpy() for name in columns], axis=1)
        found = [name.strip() for name in table[id_column].to_pylist()]
        if "" in found:
            raise InputError(f"{self.place(found.index(''))}: {id_column} is empty")
        if not np.isfinite(rows_ND).all():
            odd = self._odd(id_column, columns)
            raise odd or InputError(f"{self.url} holds a number that float32 cannot hold")
        return found, rows_ND

    def _head(self) -> tuple[int, str]:
        """The first line that has something in it: its number from 1, and its text."""
        for number, line in self._lines():
            if line.strip():
                return number, line.rstrip("\r\n")
        raise InputError(f"{self.url}: it cannot be read as a table: it is empty")

    def _lines(self) -> Iterator[tuple[int, str]]:
        try:
            with Path(self._path).open(encoding="utf-8-sig", newline="") as stream:
                yield from enumerate(stream, start=1)
        except UnicodeDecodeError as error:
            byte = error.object[error.start]
            raise InputError(
                f"{self.url}: it cannot be read as UTF-8 text (there is a byte 0x{byte:02x}); save "
                "it as UTF-8"
            ) from error

    def _odd(self, id_column: str, columns: Sequence[str]) -> InputError | None:
        """What the first faulty row is; read cell by cell, since Arrow does not say where it is."""
        rows = csv.reader((line for _, line in self._lines()), delimiter=self._delimiter)
        places = [(name, self.columns.index(name)) for name in columns]
        for cells in rows:
            if rows.line_num <= self._first_line or not cells:
                continue
            where = f"{self.url}:{rows.line_num}"
            if len(cells) != len(self.columns):
                return InputError(
                    f"{where} has {len(cells)} cells, the first line names {len(self.columns)} "
                    "columns; a cell with the delimiter in it stands in quotes"
                )
            for name, place in places:
                cell = cells[place].strip()
                if not self._is_number(cell):
                    of = cells[self.columns.index(id_column)].strip()
                    return InputError(f"{where}: {name} of {of!r} {self._told(cell, name)}")
        return None

    def _is_number(self, cell: str) -> bool:
        try:
            value = float(cell.replace(self._decimal, "."))
        except ValueError:
            return False
        return abs(value) <= _LARGEST and (self._decimal == "." or "." not in cell)

    def _told(self, cell: str, name: str) -> str:
        way_out = f"leave the column out (columns: {{drop: [{name}]}}), or the row"
        if not cell:
            return f"is empty; {way_out}"
        if self._decimal == "." and cell.count(",") == 1:
            way_out = f"with decimal: ',' such numbers are read; or {way_out}"
        return f"is {cell!r}, which is no finite number; {way_out}"


def _cells(line: str, delimiter: str) -> list[str]:
    return next(csv.reader([line], delimiter=delimiter), [])
