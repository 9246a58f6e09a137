"""`parquet`: one file, or a folder of them such as a score table of another run.

A file has a column of ids and either a column of lists (a number per class) or a column of numbers
per class. The names of the classes of lists stand in `_header.json` of a score table, or in a list
of their own.
"""

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field

from audioflow.downloads import LocalFile
from audioflow.errors import InputError
from audioflow.id_lists import read_classes
from audioflow.registry import nearest
from audioflow.score_importers.base import Matrix, Resolve, ScoreImporterSettings
from audioflow.score_importers.batches import list_matrix, wide_matrix
from audioflow.storage import Folder
from audioflow.tables import HEADER

_ROWS_AT_ONCE = 4096
_SUFFIX = ".parquet"


class ParquetSettings(ScoreImporterSettings):
    """scores: a file, or a folder whose files are read together. id_column: by default `clip_id`,
    else the first column of texts. score_column: of lists, where there are several. classes: their
    names, where no header tells them. ignore: columns of numbers that are no classes."""

    scores: str = Field(min_length=1)
    id_column: str | None = None
    score_column: str | None = None
    classes: str | None = None
    ignore: list[str] = Field(default_factory=list)


class ParquetScores:
    """Parquet files with ids and scores."""

    Settings = ParquetSettings
    revision: ClassVar[int] = 1

    def __init__(self, settings: ParquetSettings) -> None:
        self.settings = settings

    def files(self, resolve: Resolve) -> Sequence[Folder]:
        """The Parquet files, and after them what names the classes, where there is such a file."""
        place = resolve(self.settings.scores)
        lists = [resolve(self.settings.classes)] if self.settings.classes else []
        if place.url.partition("?")[0].endswith(_SUFFIX):
            return [place, *lists]
        names = place.names()
        found = [place / name for name in names if name.endswith(_SUFFIX)]
        if not found:
            raise InputError(
                f"{place.url} holds no {_SUFFIX} file; expected one, or a folder of them such as "
                "scores/<system> of another run"
            )
        if not lists and HEADER in names:
            lists = [place / HEADER]
        return [*found, *lists]

    def what_counts(self) -> Mapping[str, Any]:
        return self.settings.model_dump(mode="json", exclude={"scores", "classes"})

    @contextlib.contextmanager
    def opened(self, files: Sequence[LocalFile]) -> Iterator[Matrix]:
        named = bool(self.settings.classes) or files[-1].url.endswith(HEADER)
        tables = files[:-1] if named else files
        classes = _classes(files[-1]) if named else None
        columns = _Columns(tables, self.settings)
        source = tables[0].url
        if columns.lists is None:
            wanted = [columns.id, *columns.numbers]
            made = wide_matrix(
                lambda: _batches(tables, wanted), columns.id, columns.numbers, source
            )
        else:
            if classes is None:
                raise InputError(
                    f"{source}: column {columns.lists!r} is of lists, and nothing names their "
                    "classes; give classes, a list of them"
                )
            wanted = [columns.id, columns.lists]
            made = list_matrix(
                lambda: _batches(tables, wanted), columns.id, columns.lists, classes, source
            )
        with made as matrix:
            yield matrix


class _Columns:
    """Which columns of the files are what, by the first of them."""

    def __init__(self, files: Sequence[LocalFile], settings: ParquetSettings) -> None:
        self._schema = _schema(files[0])
        self._url = files[0].url
        for key in ("id_column", "score_column"):
            self._refuse_absent(key, getattr(settings, key))
        for name in settings.ignore:
            self._refuse_absent("ignore", name)
        self.id = settings.id_column or self._usual_id()
        free = [one for one in self._schema if one.name not in {self.id, *settings.ignore}]
        lists = [one.name for one in free if _is_list(one.type)]
        if settings.score_column is None and len(lists) > 1 and "scores" in lists:
            lists = ["scores"]
        if settings.score_column is None and len(lists) > 1:
            raise InputError(
                f"{self._url} has lists of numbers in {', '.join(lists)}; say by score_column "
                "which are the scores"
            )
        self.lists = settings.score_column or (lists[0] if lists else None)
        self.numbers = [one.name for one in free if _is_number(one.type)]
        if self.lists is None and not self.numbers:
            raise InputError(f"{self._url} has no column of numbers, or of lists of numbers")

    def _usual_id(self) -> str:
        texts = [one.name for one in self._schema if _is_text(one.type)]
        if not texts:
            raise InputError(f"{self._url} has no column of texts for ids; name one by id_column")
        return "clip_id" if "clip_id" in texts else str(texts[0])

    def _refuse_absent(self, key: str, name: str | None) -> None:
        names = self._schema.names
        if name is not None and name not in names:
            hint = nearest(name, names)
            raise InputError(
                f"{self._url}: {key} names the column {name!r}, which is not there; columns: "
                f"{', '.join(names)}" + (f"; did you mean {hint!r}?" if hint else "")
            )


def _is_list(kind: pa.DataType) -> bool:
    lists = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    return any(one(kind) for one in lists) and _is_number(kind.value_type)


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_floating(kind) or pa.types.is_integer(kind))


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _schema(file: LocalFile) -> pa.Schema:
    try:
        return pq.read_schema(file.path)
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(file, error) from error


def _batches(files: Sequence[LocalFile], columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    for file in files:
        try:
            with pq.ParquetFile(file.path) as opened:
                missing = [name for name in columns if name not in opened.schema_arrow.names]
                if missing:
                    raise InputError(
                        f"{file.url} has no column {missing[0]!r}, which {files[0].url} has"
                    )
                yield from opened.iter_batches(_ROWS_AT_ONCE, columns=list(columns))
        except (pa.ArrowException, OSError) as error:
            raise _unreadable(file, error) from error


def _unreadable(file: LocalFile, error: Exception) -> InputError:
    why = " ".join(str(error).split())
    return InputError(f"{file.url} cannot be read as Parquet: {why:.300}")


def _classes(file: LocalFile) -> list[str]:
    if not file.url.endswith(HEADER):
        return read_classes(file)
    try:
        found = json.loads(Path(file.path).read_bytes())["classes"]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{file.url} is no header of a score table: {error!r}") from error
    return [str(name) for name in found]
