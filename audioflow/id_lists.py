"""Lists that other programs keep beside their arrays: ids or paths, and the names of classes.

ids       .npy (texts); .csv or .tsv with a header; any other text: one per line
classes   .npy; .json (a list, or names and numbers); text: one name per line, or number, name
"""

import csv
import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from audioflow.downloads import LocalFile
from audioflow.errors import InputError
from audioflow.npy_arrays import texts
from audioflow.registry import nearest

_NUMBER = re.compile(r"\d{1,9}")
_NUMBER_FIRST = re.compile(r"(\d{1,9})\s+(\S.*)")

_DELIMITERS = {".csv": ",", ".tsv": "\t"}

Cells = list[str]


def read_ids(file: LocalFile, column: str | None = None) -> list[str]:
    """`each_id` at once."""
    return list(each_id(file, column))


def each_id(file: LocalFile, column: str | None = None) -> Iterator[str]:
    """The ids of a list, in order.

    column: of a file with a header; by default its first one. Raises `InputError` for a file that
    is no such list, a column that is not there, and, at the end, for an id that is empty.
    """
    if column is not None and _suffix(file) not in _DELIMITERS:
        raise InputError(f"{file.url} has no columns, so {column!r} cannot be one; leave it out")
    count, empty = 0, None
    for name in _named(file, column):
        count += 1
        if not name and empty is None:
            empty = count
        if empty is None:
            yield name
    if empty is not None:
        raise InputError(f"{file.url}: id {empty} of {count} is empty")
    if not count:
        raise InputError(f"{file.url} holds no id")


def _named(file: LocalFile, column: str | None) -> Iterator[str]:
    if _suffix(file) == ".npy":
        yield from texts(file)
        return
    if _suffix(file) in _DELIMITERS:
        yield from _column(file, column)
        return
    blank = 0
    for line in _lines(file):
        name = line.strip()
        if not name:  # an id that is empty, but for the end of the file
            blank += 1
            continue
        yield from [""] * blank
        blank = 0
        yield name


def read_classes(file: LocalFile) -> list[str]:
    """The names of classes in the order of their numbers; raises as `class_numbers` does."""
    return list(class_numbers(file).values())


def class_numbers(file: LocalFile) -> dict[int, str]:
    """Numbers of classes, from 0 or 1 upwards, and their names; from 0 where it numbers none.

    Raises `InputError` for a file that is no such list, for names that stand twice or are empty,
    and for numbers that leave a gap.
    """
    suffix = _suffix(file)
    if suffix == ".npy":
        found = dict(enumerate(texts(file)))
    elif suffix == ".json":
        found = _json_names(file)
    else:
        found = _text_names(file, suffix)
    if not found:
        raise InputError(f"{file.url} names no class")
    counts = Counter(found.values())
    odd = next((name for name, times in counts.items() if not name or times > 1), None)
    if odd is not None:
        raise InputError(f"{file.url}: the class {odd!r} stands twice or is empty")
    return found


def each_label(file: LocalFile, delimiter: str | None = None) -> Iterator[tuple[str, str]]:
    """Ids (or paths) and labels, such as `id,label` or `path n_frames label`: of every line its
    first cell and its last.

    delimiter: by default a tab in .tsv, a comma in .csv, else blanks; a path may hold blanks then,
    and numbers before the label are not part of it.
    """
    delimiter = delimiter or _DELIMITERS.get(_suffix(file))
    for cells in _rows(file, delimiter):
        if len(cells) < 2:
            raise InputError(
                f"{file.url}: {cells[0]!r} has no label beside it (see delimiter); expected lines "
                "such as `id,label` or `path n_frames label`"
            )
        *before, label = cells
        while delimiter is None and len(before) > 1 and before[-1].isdigit():
            before.pop()
        yield " ".join(before) if delimiter is None else before[0], label


def _rows(file: LocalFile, delimiter: str | None) -> Iterator[Cells]:
    """The cells of every line that has some, without blanks around them; None: between blanks."""
    if delimiter is None:
        yield from (line.split() for line in _lines(file) if line.strip())
        return
    stream = _stream(file)
    try:
        for cells in csv.reader(stream, delimiter=delimiter, strict=True, skipinitialspace=True):
            stripped = [cell.strip() for cell in cells]
            if any(stripped):
                yield stripped
    except csv.Error as error:
        raise InputError(f"{file.url} is not CSV: {error}") from error


def _stream(file: LocalFile) -> Iterator[str]:
    """The lines of a text with their ends, one after the other."""
    try:
        with Path(file.path).open(encoding="utf-8-sig", newline="") as stream:
            yield from stream
    except UnicodeDecodeError:
        _text(file)  # tells the place in the whole file
        raise


def _lines(file: LocalFile) -> Iterator[str]:
    """The lines of a text as `str.splitlines` gives them, one after the other."""
    for line in _stream(file):
        yield from line.splitlines()


def _suffix(file: LocalFile) -> str:
    return Path(file.url.partition("?")[0] if "://" in file.url else file.url).suffix.lower()


def _text(file: LocalFile) -> str:
    try:
        return Path(file.path).read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        byte = error.object[error.start]
        raise InputError(
            f"{file.url} is not UTF-8 text (byte {error.start} is 0x{byte:02x}); save it as UTF-8"
        ) from error


def _column(file: LocalFile, column: str | None) -> Iterator[str]:
    rows = _rows(file, _DELIMITERS[_suffix(file)])
    header = next(rows, [])
    if column is not None and column not in header:
        hint = nearest(column, header)
        raise InputError(
            f"{file.url} has no column {column!r}; columns: {', '.join(header)}"
            + (f"; did you mean {hint!r}?" if hint else "")
        )
    place = 0 if column is None else header.index(column)
    for number, cells in enumerate(rows, start=2):
        if len(cells) <= place:
            raise InputError(f"{file.url}: row {number} has no cell in column {header[place]!r}")
        yield cells[place]


def _json_names(file: LocalFile) -> dict[int, str]:
    try:
        found = json.loads(_text(file))
    except ValueError as error:
        raise InputError(f"{file.url} is not JSON: {error}") from error
    if isinstance(found, list) and all(isinstance(name, str) for name in found):
        return dict(enumerate(found))
    if isinstance(found, dict):
        return _ordered(file, [_numbered(file, [str(key), value]) for key, value in found.items()])
    raise InputError(
        f"{file.url} holds {type(found).__name__}; expected a list of names, or a mapping between "
        "names and numbers"
    )


def _text_names(file: LocalFile, suffix: str) -> dict[int, str]:
    lines = [line.strip() for line in _text(file).splitlines() if line.strip()]
    delimiter = "\t" if all("\t" in line for line in lines) else "," if suffix == ".csv" else None
    if delimiter is not None:
        rows = list(_rows(file, delimiter))
        if any(map(_is_numbered, rows)):
            has_header = not _is_numbered(rows[0])
            return _ordered(file, [_numbered(file, cells) for cells in rows[has_header:]])
        return dict(enumerate(cells[0] for cells in rows))
    pairs = [match.groups() for match in map(_NUMBER_FIRST.fullmatch, lines) if match]
    numbered = sorted((int(number), name) for number, name in pairs)
    if len(numbered) == len(lines) and _first(numbered) is not None:
        return dict(numbered)
    return dict(enumerate(lines))


def _is_numbered(cells: Sequence[Any]) -> bool:
    return len(cells) >= 2 and any(_NUMBER.fullmatch(str(cell)) for cell in cells[:2])


def _numbered(file: LocalFile, cells: Sequence[Any]) -> tuple[int, str]:
    """Number and name, whichever stands first."""
    for number, name in ((0, 1), (1, 0)):
        if len(cells) >= 2 and _NUMBER.fullmatch(str(cells[number])):
            return int(cells[number]), str(cells[name])
    raise InputError(f"{file.url}: {list(cells)} is no number of a class and its name")


def _ordered(file: LocalFile, numbered: Sequence[tuple[int, str]]) -> dict[int, str]:
    ordered = sorted(numbered)
    if _first(ordered) is None:
        told = [number for number, _ in ordered]
        raise InputError(
            f"{file.url} numbers {len(told)} classes from {told[0]} to {told[-1]}; expected every "
            "number from 0 or 1 upwards once"
        )
    return dict(ordered)


def _first(ordered: Sequence[tuple[int, str]]) -> int | None:
    """The number that a list of classes begins with; None where it leaves a gap."""
    told = [number for number, _ in ordered]
    return next((at for at in (0, 1) if told == list(range(at, at + len(told)))), None)
