"""`hf_dataset`: a data set of Hugging Face on disk, with a column of ids and columns of vectors.

    features/                          <- folder
      dataset_info.json  state.json
      data-00000-of-00002.arrow        as `save_to_disk` writes them: Arrow streams
      data-00001-of-00002.arrow        (of several splits, a folder each); Parquet files will do

A row is a clip with a vector (or a list of vectors, its patches), or one patch of a clip: rows with
the same id, in their order. The package `datasets` is not needed; nothing is unpickled.

Shapes: P patches of a clip, D width of a vector.
"""

import contextlib
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pydantic import Field

from audioflow.embeddings import ClipEmbedding
from audioflow.errors import InputError
from audioflow.importers.base import (
    Imported,
    ImporterSettings,
    LayerName,
    LocalFile,
    Place,
    Resolve,
    files_below,
)
from audioflow.registry import nearest

_ENDINGS = (".arrow", ".parquet")
_ROWS_AT_ONCE = 1024
_Row = tuple[int, int]
"""Number of a table, and of a row in it."""
_EXPECTED = "a data set saved by save_to_disk, or Parquet files"


class HfDatasetSettings(ImporterSettings):
    """folder: with the files, at any depth. id_column: of texts; `a.b` is the field b of column a.

    layers: name of a layer -> column of vectors. hop_s: distance between patches.
    """

    folder: str = Field(min_length=1)
    id_column: str = Field(min_length=1)
    layers: dict[LayerName, str] = Field(min_length=1)
    hop_s: float = Field(1.0, gt=0)


class HfDatasetImporter:
    """Columns of vectors as layers."""

    Settings = HfDatasetSettings
    revision: ClassVar[int] = 1

    def __init__(self, settings: HfDatasetSettings) -> None:
        self.settings = settings

    @property
    def layers(self) -> Sequence[str]:
        return tuple(self.settings.layers)

    def files(self, resolve: Resolve) -> Sequence[Place]:
        """The Arrow and Parquet files; caches of `map` and `filter` beside them are left out."""
        found = files_below(resolve(self.settings.folder), *_ENDINGS, expected=_EXPECTED)
        kept = [one for one in found if not one.name.rpartition("/")[2].startswith("cache-")]
        return kept or found

    def what_counts(self) -> Mapping[str, Any]:
        return self.settings.model_dump(mode="json", exclude={"folder"})

    @contextlib.contextmanager
    def opened(self, files: Sequence[LocalFile]) -> Iterator[Imported]:
        """Raises `InputError` also where a file lacks a column, or two files have one clip."""
        with tempfile.TemporaryDirectory(prefix="audioflow-") as spare:
            tables = [
                (file, _mapped(file, Path(spare) / str(number)))
                for number, file in enumerate(sorted(files, key=lambda file: file.name))
            ]
            places: dict[str, list[_Row]] = {}
            for number, (file, table) in enumerate(tables):
                for row, clip_id in enumerate(self._ids(file, table)):
                    rows = places.setdefault(clip_id, [])
                    other = tables[rows[0][0]][0] if rows else file
                    if _above(other) != _above(file):
                        raise InputError(
                            f"clip {clip_id!r} stands in {other.url} and in {file.url}, which are "
                            "of different splits; import them as tables of their own"
                        )
                    rows.append((number, row))
            if not places:
                raise InputError(f"{files[0].url} and the files beside it hold no row")
            vectors = _Vectors(self.settings, tables, places, {})
            first = next(iter(places))
            vectors.layers = {
                layer: vectors.of(first, layer).shape[1] for layer in self.settings.layers
            }
            yield vectors

    def _ids(self, file: LocalFile, table: pa.Table) -> list[str]:
        for name in self.settings.layers.values():
            _refuse_absent(file, table.schema, name)
        name, *fields = self.settings.id_column.split(".")
        if self.settings.id_column in table.column_names:
            name, fields = self.settings.id_column, []
        _refuse_absent(file, table.schema, name)
        column = table[name]
        for field in fields:
            if not pa.types.is_struct(column.type) or column.type.get_field_index(field) < 0:
                raise InputError(
                    f"{file.url}: the column {name!r} is {column.type}, which has no {field!r}"
                )
            column = pa.chunked_array(
                [chunk.field(field) for chunk in column.chunks],
                column.type.field(field).type,
            )
        ids = column.to_pylist()
        odd = next(
            (row for row, one in enumerate(ids) if not isinstance(one, str) or not one), None
        )
        if odd is not None:
            raise InputError(
                f"{file.url}: {self.settings.id_column} of row {odd + 1} is {ids[odd]!r}; expected "
                "a text"
            )
        return ids


def _above(file: LocalFile) -> str:
    return file.name.rpartition("/")[0]


def _mapped(file: LocalFile, spare: Path) -> pa.Table:
    """The table of a file, mapped into memory; one of Parquet is unpacked to `spare` first."""
    path = file.path
    try:
        if file.name.endswith(_ENDINGS[1]):
            path = str(spare)
            with (
                pq.ParquetFile(file.path) as packed,
                pa.ipc.new_stream(path, packed.schema_arrow) as out,
            ):
                for batch in packed.iter_batches(_ROWS_AT_ONCE):
                    out.write_batch(batch)
        return pa.ipc.open_stream(pa.memory_map(path)).read_all()
    except (pa.ArrowException, OSError) as error:
        why = " ".join(str(error).split())
        raise InputError(
            f"{file.url}: it cannot be read as Arrow or Parquet: {why:.200}"
        ) from error


def _refuse_absent(file: LocalFile, schema: pa.Schema, name: str) -> None:
    if name not in schema.names:
        hint = nearest(name, schema.names)
        raise InputError(
            f"{file.url} has no column {name!r}; columns: {', '.join(schema.names)}"
            + (f"; did you mean {hint!r}?" if hint else "")
        )


@dataclass
class _Vectors:
    """Tables, where the rows of each clip stand, and the widths of the layers."""

    settings: HfDatasetSettings
    tables: Sequence[tuple[LocalFile, pa.Table]]
    places: Mapping[str, Sequence[_Row]]
    layers: Mapping[str, int]

    @property
    def clip_ids(self) -> Collection[str]:
        return self.places.keys()

    def embedding(self, clip_id: str) -> ClipEmbedding:
        found = {layer: self.of(clip_id, layer) for layer in self.layers}
        counts = {layer: len(vectors_PD) for layer, vectors_PD in found.items()}
        if len(set(counts.values())) > 1:
            raise InputError(
                f"{self._url(clip_id)}: clip {clip_id!r} has a different number of vectors in its "
                "layers: " + ", ".join(f"{name} {count}" for name, count in counts.items())
            )
        for layer, width in self.layers.items():
            if found[layer].shape[1] != width:
                raise self._odd(clip_id, layer, f"of width {width}, as the first clip has")
        hop_s, count = self.settings.hop_s, next(iter(counts.values()))
        starts_P = np.arange(count, dtype=np.float64) * hop_s
        return ClipEmbedding(found, starts_P, count * hop_s, 1.0)

    def of(self, clip_id: str, layer: str) -> NDArray[np.float32]:
        """The vectors of a clip (P, D)."""
        name = self.settings.layers[layer]
        rows = self.places[clip_id]
        try:
            values = [np.asarray(self.tables[at][1][name][row].as_py(), "f4") for at, row in rows]
            found_PD = np.concatenate([one[None] if one.ndim == 1 else one for one in values])
        except (TypeError, ValueError) as error:
            raise self._odd(clip_id, layer, f"({error})") from error
        if found_PD.ndim != 2 or not found_PD.size or not np.isfinite(found_PD).all():
            raise self._odd(clip_id, layer, "of finite numbers")
        return found_PD

    def _url(self, clip_id: str) -> str:
        return self.tables[self.places[clip_id][0][0]][0].url

    def _odd(self, clip_id: str, layer: str, told: str) -> InputError:
        return InputError(
            f"{self._url(clip_id)}: {self.settings.layers[layer]} of clip {clip_id!r} is no vector,"
            f" and no list of vectors, {told}"
        )
