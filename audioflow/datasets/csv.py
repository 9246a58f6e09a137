"""`csv`: a list of clips with a file column and a label column, whose names the recipe gives."""

import os
import posixpath
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from pydantic import Field, field_validator

from audioflow.clip import Clip
from audioflow.datasets.base import About, Resolve, clip_id
from audioflow.datasets.lines import split_rows, text_lines
from audioflow.errors import InputError
from audioflow.file_table import FileTable
from audioflow.listing import FoundFile, each_file
from audioflow.redaction import has_password, masked, unsigned
from audioflow.registry import Settings, nearest
from audioflow.storage import Folder, is_local, local_path, path_url

_SHOWN = 10


class CsvSettings(Settings):
    """list: the CSV file or url. root: what files are relative to; the list's folder if None.

    file_column, label_column: columns with the path and the class. id_column: with the clip's id;
    by default it is made from the path, and the span where there is one. start_column,
    duration_column: with the span of the recording, in seconds; the whole recording without.
    label_separator: splits a cell into several labels. delimiter: what separates columns.

    A byte-order mark, and blanks around a cell, are ignored.
    """

    list: str = Field(min_length=1)
    root: str | None = Field(None, min_length=1)
    file_column: str = Field(min_length=1)
    label_column: str = Field(min_length=1)
    id_column: str | None = None
    start_column: str | None = None
    duration_column: str | None = None
    label_separator: str | None = Field(None, min_length=1)
    delimiter: str = Field(",", min_length=1, max_length=1)

    @field_validator("delimiter")
    @classmethod
    def _delimits(cls, value: str) -> str:
        if value in '"\r\n':
            raise ValueError(f"{value!r} cannot separate columns; allowed: any other character")
        return value

    @property
    def named(self) -> dict[str, str]:
        """Setting -> column, of the columns that are named."""
        given = self.model_dump(
            include={name for name in type(self).model_fields if "column" in name}
        )
        return {setting: column for setting, column in given.items() if column is not None}


class CsvReader:
    """Clips from the lines of a CSV file."""

    Settings = CsvSettings
    makes_media: ClassVar[bool] = False
    about: ClassVar[About] = About(
        recipe="manifest: {reader: csv, list: clips.csv, file_column: file, label_column: label}"
    )

    def __init__(self, settings: CsvSettings) -> None:
        self.settings = settings

    @property
    def source(self) -> str:
        return self.settings.list

    def read(self, resolve: Resolve) -> Iterator[Clip]:
        """One clip per line. All faulty lines are reported at once."""
        place = resolve(self.settings.list)
        folder, _ = place.split()
        files = _Files(resolve(self.settings.root) if self.settings.root else folder)
        url = masked(place.url, place.options.secrets)
        rows = split_rows(_lines(place, url), url, self.settings.delimiter)
        _, columns = next(rows, (0, []))
        _check_columns(columns, url, self.settings)
        faults, wrong = [], 0
        for number, cells in rows:
            try:
                row = _by_column(cells, columns)
                clip = _clip(row, self.settings, files, f"{url}:{number}")
            except _LineError as error:
                wrong += 1
                if wrong <= _SHOWN:
                    faults.append(f"line {number}: {error}")
            else:
                yield clip
        if wrong:
            count = "1 line is" if wrong == 1 else f"{wrong} lines are"
            more = f"\n  and {wrong - _SHOWN} more" if wrong > _SHOWN else ""
            raise InputError(f"{url}: {count} wrong\n  " + "\n  ".join(faults) + more)


class _LineError(Exception):
    """One line of the list is wrong; all of them are reported together."""


def _lines(place: Folder, url: str) -> Iterator[str]:
    try:
        return text_lines(place)
    except FileNotFoundError:
        raise InputError(f"{url} does not exist (manifest.list)") from None


def _check_columns(columns: Sequence[str], url: str, settings: CsvSettings) -> None:
    if not columns:
        raise InputError(f"{url} is empty; its first line has to name the columns")
    twice = [name for name, times in Counter(columns).items() if name and times > 1]
    if twice:
        raise InputError(f"{url} has two columns named {twice[0]!r}; rename one of them")
    absent = []
    for setting, column in settings.named.items():
        if column not in columns:
            hint = nearest(column, columns)
            absent.append(
                f"manifest.{setting} is {column!r}" + (f" (did you mean {hint!r}?)" if hint else "")
            )
    if absent:
        split = (
            f"; is manifest.delimiter {settings.delimiter!r} right?" if len(columns) == 1 else ""
        )
        raise InputError(
            f"{url} has the columns {', '.join(map(repr, columns))}, but {', '.join(absent)}{split}"
        )


def _by_column(cells: Sequence[str], columns: Sequence[str]) -> dict[str, str]:
    if len(cells) != len(columns):
        raise _LineError(
            f"{len(cells)} cells, but there are {len(columns)} columns; a cell with the delimiter "
            "in it stands in quotes"
        )
    return {column: cell for column, cell in zip(columns, cells, strict=True) if column}


@dataclass(frozen=True)
class _Found:
    url: str
    relative: str
    size_bytes: int | None = None
    version: str | None = None


class _Files:
    """Size and version of the files a list names: by `stat` on disk, by one listing of a bucket."""

    def __init__(self, folder: Folder) -> None:
        self.root = folder.url
        self._options = folder.options
        self._listed: Mapping[str, FoundFile] | None = None

    def find(self, name: str) -> _Found:
        """The file `name`, also where it is not there: that is a failure of its clips only."""
        if name.startswith("file://"):
            return _stat(local_path(name), name, name)
        if "://" in name:
            return _Found(
                name, unsigned(name)
            )  # a signature changes and is a secret, an id neither
        name = posixpath.normpath(name)
        if is_local(self.root):
            path = os.path.normpath(os.path.join(local_path(self.root), name))
            return _stat(path, path_url(path), name)
        if self._listed is None:
            # A web server has no listing; whether a file is there shows when it is fetched.
            web = self.root.startswith(("http://", "https://"))
            self._listed = {} if web else FileTable(each_file(self.root, self._options))
        listed = self._listed.get(name)
        url = f"{self.root.rstrip('/')}/{name}"
        return _Found(url, name, listed.size_bytes, listed.version) if listed else _Found(url, name)


def _stat(path: str, url: str, relative: str) -> _Found:
    try:
        state = os.stat(path)
    except OSError:
        return _Found(url, relative)
    return _Found(url, relative, state.st_size, str(state.st_mtime_ns))


def _clip(row: Mapping[str, str], settings: CsvSettings, files: _Files, place: str) -> Clip:
    name = _filled(row, settings.file_column)
    if "\0" in name:
        raise _LineError(f"{settings.file_column} is {name!r}, which no file can be named")
    if "@" in name and has_password(name):  # nearly no path has one
        raise _LineError(
            f"{settings.file_column} is {masked(name)!r}, a url with a password; give that in the "
            "recipe's storage_options or in the environment, and here the url without it"
        )
    cell = _filled(row, settings.label_column)
    parts = cell.split(settings.label_separator) if settings.label_separator else [cell]
    labels = tuple(dict.fromkeys(part.strip() for part in parts if part.strip()))
    if not labels:
        raise _LineError(f"{settings.label_column} is {cell!r}, which has no label in it")
    start_s = _seconds(row, settings.start_column)
    duration_s = _seconds(row, settings.duration_column)
    if duration_s == 0:
        raise _LineError(f"{settings.duration_column} is 0; allowed: more than 0 seconds")
    own_id = _filled(row, settings.id_column) if settings.id_column else None
    found = files.find(name)
    return Clip(
        clip_id=own_id or clip_id(found.relative, start_s, duration_s),
        uri=found.url,
        labels=labels,
        start_s=start_s,
        duration_s=duration_s,
        size_bytes=found.size_bytes,
        version=found.version,
        columns=row,
        place=place,
    )


def _filled(row: Mapping[str, str], column: str) -> str:
    if not row[column]:
        raise _LineError(f"{column} is empty")
    return row[column]


def _seconds(row: Mapping[str, str], column: str | None) -> float | None:
    """The cell as seconds; None where it is empty, which means the whole recording."""
    if column is None or not row[column]:
        return None
    try:
        value = float(row[column])
    except ValueError:
        raise _LineError(f"{column} is {row[column]!r}, not a number of seconds") from None
    if not 0 <= value < float("inf"):
        raise _LineError(f"{column} is {row[column]!r}; allowed: 0 seconds or more")
    return value
