"""`number_table`: a text file with a row per clip and a column per number.

    filename;length;chroma_stft_mean;...;mfcc20_var;label
    blues.00000.wav;661794;0,35;...;46.4;blues

The form of the Kaggle table `features_30_sec.csv` of GTZAN, and of what pandas and openSMILE write:
the first line names the columns, one of them has the names of clips, the others are their vector.
Columns that hold labels, or that have no name, are no part of it. The table is kept in memory.

Shapes: N rows of a table, P rows (patches) of a clip, D columns that are taken.
"""

import contextlib
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator, model_validator

from audioflow.embeddings import ClipEmbedding
from audioflow.errors import InputError
from audioflow.importers.base import (
    Imported,
    ImporterSettings,
    LayerName,
    LocalFile,
    Place,
    Resolve,
)
from audioflow.importers.number_rows import NumberFile
from audioflow.matching import KeyChoice, KeySettings
from audioflow.registry import Expression, Settings, nearest

_LABELS = ("label", "labels", "class", "category", "target", "genre", "y")
_SHOWN = 12


class ColumnFilter(Settings):
    """Which columns are taken, by their names; `*` stands for any letters. One of the two is given.

    keep: these alone. drop: all but these.
    """

    keep: list[str] | None = Field(None, min_length=1)
    drop: list[str] | None = Field(None, min_length=1)

    @model_validator(mode="after")
    def _one(self) -> "ColumnFilter":
        if (self.keep is None) == (self.drop is None):
            both = "both keep and drop" if self.keep is not None else "neither keep nor drop"
            raise ValueError(f"says {both}; allowed: one of them, a list of columns")
        return self

    def takes(self, column: str) -> bool:
        """Whether this column is taken."""
        named = any(fnmatchcase(column, pattern) for pattern in self.keep or self.drop or ())
        return named == (self.keep is not None)


class NumberTableSettings(ImporterSettings):
    """files: paths or urls. layer: what the vectors are called. columns: which are taken.

    id_column: with the names of clips, by default the first one. id_pattern: only what this regular
    expression matches of a name (its first group, where it has one). label_columns: such columns,
    in any case of letters, are left out unless columns.keep spells them. delimiter: what separates
    columns; by default it is told by the first line. decimal: the decimal point. patches: rows of
    one name are the patches of that clip, in their order; without, a second row is an error.
    hop_s: distance between patches; what a row covers, where there is one. key: how names are
    matched to clips.
    """

    files: list[str] = Field(min_length=1)
    layer: LayerName = "embedding"
    id_column: str | None = Field(None, min_length=1)
    id_pattern: Expression | None = Field(None, min_length=1)
    columns: ColumnFilter | None = None
    label_columns: list[str] = Field(default_factory=lambda: list(_LABELS))
    delimiter: str | None = Field(None, min_length=1, max_length=1)
    decimal: Literal[".", ","] = "."
    patches: bool = False
    hop_s: float = Field(1.0, gt=0)
    key: KeyChoice = KeySettings()

    @field_validator("delimiter")
    @classmethod
    def _delimits(cls, value: str | None) -> str | None:
        if value is not None and value in '"\r\n':
            raise ValueError(f"{value!r} cannot separate columns; allowed: any other character")
        return value

    @model_validator(mode="after")
    def _two_signs(self) -> "NumberTableSettings":
        if self.delimiter == self.decimal:
            raise ValueError(
                f"delimiter and decimal are both {self.decimal!r}; a number would be two cells"
            )
        return self


class NumberTableImporter:
    """Rows of numbers as one layer."""

    Settings = NumberTableSettings
    revision: ClassVar[int] = 1

    def __init__(self, settings: NumberTableSettings) -> None:
        self.settings = settings

    @property
    def layers(self) -> Sequence[str]:
        return (self.settings.layer,)

    def files(self, resolve: Resolve) -> Sequence[Place]:
        return [Place(resolve(path)) for path in self.settings.files]

    def what_counts(self) -> Mapping[str, Any]:
        return self.settings.model_dump(mode="json", exclude={"files"})

    @contextlib.contextmanager
    def opened(self, files: Sequence[LocalFile]) -> Iterator[Imported]:
        """Raises `InputError` also where files differ in their columns, or have a clip in common,
        and for a row that has no name or holds something else than finite numbers."""
        ordered = sorted(files, key=lambda file: file.url)
        columns: list[str] = []
        places: dict[str, _Rows] = {}
        parts: list[NDArray[np.float32]] = []
        for file in ordered:
            table = NumberFile(file, self.settings.delimiter, self.settings.decimal)
            id_column = self._id_column(table)
            mine = self._chosen(table, id_column)
            _refuse_others(ordered[0].url, columns or mine, file.url, mine)
            columns = columns or mine
            names, rows_ND = table.read(id_column, columns)
            before = sum(map(len, parts))
            for row, clip_id in enumerate(self._ids(table, id_column, names)):
                known = places.setdefault(clip_id, _Rows(table.url, table.line(row), []))
                if known.rows:
                    self._refuse_second(known, clip_id, table.url, table.line(row))
                known.rows.append(before + row)
            parts.append(rows_ND)
        yield _Vectors(self.settings, columns, np.concatenate(parts), places)

    def _id_column(self, table: NumberFile) -> str:
        wanted = self.settings.id_column
        if wanted is None:
            return next((name for name in table.columns if name), "")
        if wanted not in table.columns:
            raise _absent(table, "id_column", wanted)
        return wanted

    def _chosen(self, table: NumberFile, id_column: str) -> list[str]:
        """The columns of numbers, in the order of the file."""
        chooser = self.settings.columns
        free = [name for name in table.columns if name and name != id_column]
        for pattern in (chooser.keep or chooser.drop or ()) if chooser else ():
            if not any(fnmatchcase(name, pattern) for name in free):
                key = "columns.keep" if chooser and chooser.keep else "columns.drop"
                raise _absent(table, key, pattern)
        labels = {name.casefold() for name in self.settings.label_columns}
        spelled = set(chooser.keep or ()) if chooser else set()
        found = [
            name
            for name in free
            if (chooser is None or chooser.takes(name))
            and (name.casefold() not in labels or name in spelled)
        ]
        if not found:
            raise InputError(
                f"{table.url} has no column of numbers beside {id_column!r} that columns and "
                f"label_columns leave; it has {_listed(table.columns)}"
            )
        return found

    def _ids(self, table: NumberFile, id_column: str, names: Sequence[str]) -> list[str]:
        if self.settings.id_column is None and names and _is_fraction(names[0]):
            raise InputError(
                f"{table.url}: its first column, {id_column!r}, begins with {names[0]!r}, which is "
                "no name of a clip; say with id_column which one has the names (rows are matched "
                "by name, never by their order)"
            )
        if self.settings.id_pattern is None:
            return list(names)
        return [self._matched(table, row, name) for row, name in enumerate(names)]

    def _matched(self, table: NumberFile, row: int, name: str) -> str:
        found = re.search(self.settings.id_pattern or "", name)
        kept = None if found is None else found.group(1 if found.re.groups else 0)
        if not kept:
            raise InputError(
                f"{table.place(row)}: the name {name!r} has nothing that id_pattern "
                f"{self.settings.id_pattern!r} matches"
            )
        return str(kept)

    def _refuse_second(self, first: "_Rows", clip_id: str, url: str, line: int) -> None:
        if first.url != url:
            raise InputError(
                f"clip {clip_id!r} stands in {first.url} and in {url}; keep its rows in one file"
            )
        if not self.settings.patches:
            raise InputError(
                f"{url}:{line}: {clip_id!r} stands in line {first.line} already; a clip has one "
                "row, or, with patches: true, a row for every patch"
            )


@dataclass(frozen=True)
class _Rows:
    """Of one clip: its file, its first line there, and its rows of all files' together."""

    url: str
    line: int
    rows: list[int]


@dataclass(frozen=True)
class _Vectors:
    """Rows (N, D) of all files, and which of them are of each clip."""

    settings: NumberTableSettings
    columns: Sequence[str]
    rows_ND: NDArray[np.float32]
    places: Mapping[str, _Rows]

    @property
    def layers(self) -> Mapping[str, int]:
        return {self.settings.layer: self.rows_ND.shape[1]}

    @property
    def column_names(self) -> Mapping[str, Sequence[str]]:
        return {self.settings.layer: self.columns}

    @property
    def clip_ids(self) -> Collection[str]:
        return self.places.keys()

    def embedding(self, clip_id: str) -> ClipEmbedding:
        vectors_PD = self.rows_ND[self.places[clip_id].rows]
        starts_P = np.arange(len(vectors_PD), dtype=np.float64) * self.settings.hop_s
        duration_s = len(vectors_PD) * self.settings.hop_s
        return ClipEmbedding({self.settings.layer: vectors_PD}, starts_P, duration_s, 1.0)


def _absent(table: NumberFile, key: str, name: str) -> InputError:
    hint = nearest(name, table.columns)
    return InputError(
        f"{table.url}: {key} names the column {name!r}, which is not there; it has "
        + _listed(table.columns)
        + (f"; did you mean {hint!r}?" if hint else "")
    )


def _listed(columns: Sequence[str]) -> str:
    shown = ", ".join(name or "(no name)" for name in columns[:_SHOWN])
    return shown + (f" and {len(columns) - _SHOWN} more" if len(columns) > _SHOWN else "")


def _refuse_others(first: str, columns: Sequence[str], url: str, mine: Sequence[str]) -> None:
    """Columns of two files have to be the same, in any order."""
    for one, other, theirs in ((columns, mine, url), (mine, columns, first)):
        missing = [name for name in one if name not in other]
        if missing:
            raise InputError(
                f"{theirs} has no column {missing[0]!r}, which {first if theirs == url else url} "
                "has; import tables of different columns as entries of their own, or choose "
                "columns that both have"
            )


def _is_fraction(cell: str) -> bool:
    """Whether a cell is a number that no one would call a clip."""
    try:
        float(cell)
    except ValueError:
        return False
    return not cell.isdigit()
