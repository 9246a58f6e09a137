"""`csv`: a list of clips with a file column and a label column, whose names the recipe gives."""

import csv
import io
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pydantic import Field

from audioflow.datasets.base import Resolve, clip_id
from audioflow.errors import InputError
from audioflow.manifest import Clip
from audioflow.registry import Settings, nearest
from audioflow.storage import Folder, FoundFile, find_files, is_local, local_path, path_url

_SHOWN = 10


class CsvSettings(Settings):
    """list: the CSV file or url. root: what the file column is relative to; the list's folder if None.

    The `*_column` settings name columns of the list. `label_separator` splits one cell into several
    labels. `delimiter` separates columns. A byte-order mark is ignored.
    """

    list: str
    root: str | None = None
    file_column: str
    label_column: str
    id_column: str | None = None
    start_column: str | None = None
    duration_column: str | None = None
    label_separator: str | None = Field(None, min_length=1)
    delimiter: str = Field(",", min_length=1, max_length=1)

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

    def __init__(self, settings: CsvSettings) -> None:
        self.settings = settings

    @property
    def source(self) -> str:
        return self.settings.list

    def read(self, resolve: Resolve) -> Sequence[Clip]:
        """One clip per line. All faulty lines are reported at once."""
        url = resolve(self.settings.list)
        folder, _, name = url.rpartition("/")
        root = resolve(self.settings.root) if self.settings.root else folder
        lines = _lines(folder, name, url, self.settings)
        files = _Files(root)
        clips, faults = [], []
        for number, row in lines:
            place = f"{url}:{number}"
            try:
                clips.append(_clip(row, self.settings, files, place))
            except _LineError as error:
                faults.append(f"line {number}: {error}")
        if faults:
            more = f"\n  and {len(faults) - _SHOWN} more" if len(faults) > _SHOWN else ""
            raise InputError(
                f"{url}: {len(faults)} lines are wrong\n  " + "\n  ".join(faults[:_SHOWN]) + more
            )
        return clips


class _LineError(Exception):
    """One line of the list is wrong; all of them are reported together."""


def _lines(
    folder: str, name: str, url: str, settings: CsvSettings
) -> list[tuple[int, dict[str, str]]]:
    try:
        text = Folder(folder).read(name).decode("utf-8-sig")
    except FileNotFoundError:
        raise InputError(f"{url} does not exist (manifest.list)") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{url} cannot be read as UTF-8 text: {error}") from error
    reader = csv.DictReader(
        io.StringIO(text, newline=""), delimiter=settings.delimiter, strict=True
    )
    columns = reader.fieldnames or []
    missing = []
    for setting, column in settings.named.items():
        if column not in columns:
            hint = nearest(column, columns)
            missing.append(
                f"manifest.{setting} is {column!r}" + (f" (did you mean {hint!r}?)" if hint else "")
            )
    if missing:
        raise InputError(
            f"{url} has the columns {', '.join(columns) or 'none'}; but {', '.join(missing)}"
        )
    found = []
    try:
        for row in reader:
            if None in row or None in row.values():
                raise InputError(
                    f"{url}:{reader.line_num} has another number of cells than the {len(columns)} columns"
                )
            found.append((reader.line_num, row))
    except csv.Error as error:
        raise InputError(f"{url}:{reader.line_num} is not CSV: {error}") from error
    return found


@dataclass(frozen=True)
class _Found:
    url: str
    relative: str
    size_bytes: int | None
    version: str | None


class _Files:
    """Size and version of the files a list names: by `stat` on disk, by one listing of a bucket."""

    def __init__(self, root: str) -> None:
        self.root = root
        self._listed: Mapping[str, FoundFile] | None = None

    def find(self, name: str) -> _Found:
        if "://" in name:
            return _Found(name, name, None, None)
        if not is_local(self.root):
            if self._listed is None:
                self._listed = {file.relative: file for file in find_files(self.root)}
            listed = self._listed.get(name)
            url = f"{self.root.rstrip('/')}/{name}"
            if listed is None:
                return _Found(url, name, None, None)
            return _Found(url, name, listed.size_bytes, listed.version)
        path = os.path.join(local_path(self.root), name)
        try:
            state = os.stat(path)
        except OSError:  # a clip whose file is missing is a failure of that clip, not of the list
            return _Found(path_url(path), name, None, None)
        return _Found(path_url(path), name, state.st_size, str(state.st_mtime_ns))


def _clip(row: Mapping[str, str], settings: CsvSettings, files: _Files, place: str) -> Clip:
    name = row[settings.file_column].strip()
    if not name:
        raise _LineError(f"{settings.file_column} is empty")
    cell = row[settings.label_column]
    parts = cell.split(settings.label_separator) if settings.label_separator else [cell]
    labels = tuple(dict.fromkeys(part.strip() for part in parts if part.strip()))
    if not labels:
        raise _LineError(f"{settings.label_column} is empty")
    start_s = _seconds(row, settings.start_column, least=0.0)
    duration_s = _seconds(row, settings.duration_column, least=1e-6)
    found = files.find(name)
    own_id = row[settings.id_column].strip() if settings.id_column else None
    if own_id == "":
        raise _LineError(f"{settings.id_column} is empty")
    return Clip(
        own_id or clip_id(found.relative, start_s, duration_s),
        found.url,
        labels,
        start_s,
        duration_s,
        found.size_bytes,
        found.version,
        {column: value for column, value in row.items() if column},
        place,
    )


def _seconds(row: Mapping[str, str], column: str | None, least: float) -> float | None:
    if column is None or not row[column].strip():
        return None
    try:
        value = float(row[column])
    except ValueError:
        raise _LineError(f"{column} is {row[column]!r}, not a number of seconds") from None
    if not least <= value < float("inf"):
        raise _LineError(f"{column} is {row[column]!r}; allowed: seconds from {least:g} on")
    return value
