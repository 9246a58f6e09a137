"""Files that were found under a root, by their paths, as columns: for folders of millions."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from audioflow.listing import FoundFile
from audioflow.text_index import TextIndex

_AT_ONCE = 16_384

Rows = NDArray[np.int64]


class FileTable(Mapping[str, FoundFile]):
    """Files by their path below the root, in the order they were found."""

    def __init__(self, files: Iterable[FoundFile]) -> None:
        each = iter(files)
        self._base: str | None = None
        chunks = []
        while batch := list(islice(each, _AT_ONCE)):
            chunks.append(self._packed(batch))
        self._rows = pa.Table.from_batches(chunks, _SCHEMA)
        self.paths = self._rows["relative"]
        self._index = TextIndex(self.paths)

    def _packed(self, batch: list[FoundFile]) -> pa.RecordBatch:
        if self._base is None:
            self._base = batch[0].url.removesuffix(batch[0].relative)
        base = self._base
        columns = {
            "relative": [file.relative for file in batch],
            "url": [None if file.url == base + file.relative else file.url for file in batch],
            "size_bytes": [file.size_bytes for file in batch],
            "version": [file.version for file in batch],
        }
        return pa.RecordBatch.from_pydict(columns, _SCHEMA)

    def __len__(self) -> int:
        return self._rows.num_rows

    def __iter__(self) -> Iterator[str]:
        for chunk in self.paths.chunks:
            yield from chunk.to_pylist()

    def __contains__(self, path: object) -> bool:
        return isinstance(path, str) and bool(self._index.rows(path))

    def __getitem__(self, path: str) -> FoundFile:
        row = self._index.row(path)
        if row is None:
            raise KeyError(path)
        url, size_bytes, version = (column[row].as_py() for column in self._rows.columns[1:])
        return FoundFile(url or f"{self._base}{path}", path, size_bytes, version)

    def sorted(self, chosen: Callable[[str], bool]) -> Rows:
        """The rows of the files whose paths are chosen, in the order of their paths."""
        rows = np.flatnonzero(np.fromiter(map(chosen, self), np.bool_, len(self)))
        order = pc.sort_indices(self.paths.take(pa.array(rows))).to_numpy()
        found: Rows = rows[order]
        return found

    def at(self, rows: Rows) -> Iterator[FoundFile]:
        """The files at these rows."""
        for start in range(0, len(rows), _AT_ONCE):
            yield from self._files(rows[start : start + _AT_ONCE])

    def path(self, row: int) -> str:
        """The path of one file."""
        return str(self.paths[row].as_py())

    def _files(self, rows: Rows) -> list[FoundFile]:
        columns = self._rows.take(pa.array(rows)).to_pydict()
        return [
            FoundFile(url or f"{self._base}{relative}", relative, size_bytes, version)
            for relative, url, size_bytes, version in zip(*columns.values(), strict=True)
        ]


_SCHEMA = pa.schema(
    [
        pa.field("relative", pa.string()),
        pa.field("url", pa.string()),
        pa.field("size_bytes", pa.int64()),
        pa.field("version", pa.string()),
    ]
)
