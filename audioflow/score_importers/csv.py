"""`csv`: scores as text, a row per clip (`wide`) or per clip and class (`long`).

    wide   id,dog,rain        long   id,class,score
           a.wav,0.9,0.1             a.wav,dog,0.9

Whatever its size, the file is read in blocks; the matrix lies in a temporary file meanwhile.
"""

import contextlib
import csv
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal

import pyarrow as pa
from pyarrow import csv as arrow_csv
from pydantic import Field, field_validator

from audioflow.downloads import LocalFile
from audioflow.errors import InputError
from audioflow.registry import nearest
from audioflow.score_importers.base import Matrix, Resolve, ScoreImporterSettings
from audioflow.score_importers.batches import LongColumns, long_matrix, wide_matrix
from audioflow.storage import Folder

_BLOCK_BYTES = 16 * 2**20
_NOTHING = ["", "NA", "N/A", "nan", "NaN", "null", "None"]


class CsvSettings(ScoreImporterSettings):
    """scores: the file. form: `auto` takes three columns, the second of texts, for `long`.

    delimiter: what separates columns. id_column: by default the first. ignore: columns of a wide
    file that are no classes. class_column, score_column: of a long file; by default the second and
    the third. absent: the value of a clip and class that a long file does not list; without, such a
    clip fails.
    """

    scores: str = Field(min_length=1)
    form: Literal["auto", "wide", "long"] = "auto"
    delimiter: str = Field(",", min_length=1, max_length=1)
    id_column: str | None = None
    ignore: list[str] = Field(default_factory=list)
    class_column: str | None = None
    score_column: str | None = None
    absent: float | None = None

    @field_validator("delimiter")
    @classmethod
    def _delimits(cls, value: str) -> str:
        if value in '"\r\n':
            raise ValueError(f"{value!r} cannot separate columns; allowed: any other character")
        return value


class CsvScores:
    """A text file of ids and scores."""

    Settings = CsvSettings
    revision: ClassVar[int] = 1

    def __init__(self, settings: CsvSettings) -> None:
        self.settings = settings

    def files(self, resolve: Resolve) -> Sequence[Folder]:
        return [resolve(self.settings.scores)]

    def what_counts(self) -> Mapping[str, Any]:
        return self.settings.model_dump(mode="json", exclude={"scores"})

    @contextlib.contextmanager
    def opened(self, files: Sequence[LocalFile]) -> Iterator[Matrix]:
        (file,) = files
        text = _Text(file, self.settings)
        if text.is_long:
            made = long_matrix(text.batches, text.long, self.settings.absent, file.url)
        else:
            made = wide_matrix(text.batches, text.id_column, text.classes, file.url)
        with made as matrix:
            yield matrix


class _Text:
    """A file, its columns, and which of them are wanted."""

    def __init__(self, file: LocalFile, settings: CsvSettings) -> None:
        self._file, self._settings = file, settings
        head = self._head()
        self._columns = head[0] if head else []
        self._refuse_columns()
        self.id_column = settings.id_column or self._columns[0]
        texts = len(head) > 1 and len(head[1]) == 3 and not _is_number(head[1][1])
        guess = len(self._columns) == 3 and texts
        self.is_long = settings.form == "long" or (settings.form == "auto" and guess)
        if self.is_long and len(self._columns) < 3:
            raise InputError(
                f"{file.url} has the columns {', '.join(self._columns)}; form long needs an id, a "
                "class and a score"
            )

    @property
    def classes(self) -> list[str]:
        """The columns of classes, of a wide file."""
        others = {self.id_column, *self._settings.ignore}
        return [name for name in self._columns if name not in others]

    @property
    def long(self) -> LongColumns:
        """The columns of a long file."""
        free = [name for name in self._columns if name != self.id_column]
        label = self._settings.class_column or free[0]
        score = self._settings.score_column or next(name for name in free if name != label)
        return LongColumns(self.id_column, label, score)

    def batches(self) -> Iterator[pa.RecordBatch]:
        """The wanted columns, block by block."""
        if self.is_long:
            long = self.long
            types = {long.id: pa.string(), long.label: pa.string(), long.score: pa.float32()}
        else:
            types = dict.fromkeys(self.classes, pa.float32()) | {self.id_column: pa.string()}
        convert = arrow_csv.ConvertOptions(
            column_types=types, include_columns=list(types), null_values=_NOTHING
        )
        try:
            reader = arrow_csv.open_csv(
                self._file.path,
                read_options=arrow_csv.ReadOptions(block_size=_BLOCK_BYTES),
                parse_options=arrow_csv.ParseOptions(delimiter=self._settings.delimiter),
                convert_options=convert,
            )
            yield from reader
        except (pa.ArrowException, OSError) as error:
            why = " ".join(str(error).split())
            raise InputError(
                f"{self._file.url} cannot be read: {why:.300}; columns that are no class are named "
                "by ignore, another separator by delimiter"
            ) from error

    def _head(self) -> list[list[str]]:
        """The cells of the first two rows."""
        try:
            with open(self._file.path, encoding="utf-8-sig", newline="") as stream:  # noqa: PTH123
                rows = csv.reader(stream, delimiter=self._settings.delimiter)
                return [row for row, _ in zip(rows, range(2), strict=False)]
        except (UnicodeDecodeError, csv.Error) as error:
            raise InputError(f"{self._file.url} is no CSV in UTF-8: {error}") from error

    def _refuse_columns(self) -> None:
        columns, url = self._columns, self._file.url
        twice = [name for name, times in Counter(columns).items() if times > 1]
        if twice:
            raise InputError(f"{url} has two columns named {twice[0]!r}; rename one of them")
        if len(columns) < 2:
            raise InputError(
                f"{url} has {len(columns)} columns; expected an id and scores, separated by "
                f"{self._settings.delimiter!r} (see delimiter)"
            )
        settings = self._settings
        keys = ("id_column", "class_column", "score_column")
        named = [(key, getattr(settings, key)) for key in keys]
        for key, name in [*named, *(("ignore", name) for name in settings.ignore)]:
            if name is not None and name not in columns:
                hint = nearest(name, columns)
                shown = ", ".join(columns[:20]) + (", ..." if len(columns) > 20 else "")
                raise InputError(
                    f"{url}: {key} names the column {name!r}, which is not there; columns: {shown}"
                    + (f"; did you mean {hint!r}?" if hint else "")
                )


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return cell in _NOTHING
    return True
