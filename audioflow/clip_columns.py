"""Clips as columns: ten million of them in a few gigabytes, where objects would take twenty.

Shapes: N clips, L labels of all clips one after the other.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from audioflow.clip import Clip

CHUNK = 65_536
"""Clips that are objects at one time."""

GROUP_ROWS = 2**20
"""Rows of a chunk: those that Parquet puts into one row group, so that a file of a table in chunks
has the bytes of one in a single chunk."""

MOST_TEXT = 2**31 - 2**26
"""Bytes of a column of texts, offsets included, that are sure to fit into one array of 32 bits."""

_LABELS = pa.list_(pa.int32())
_TYPES = {
    "clip_id": pa.string(),
    "uri": pa.string(),
    "group": pa.string(),
    "start_s": pa.float64(),
    "duration_s": pa.float64(),
    "size_bytes": pa.int64(),
    "version": pa.string(),
    "labels": _LABELS,
    "fine_labels": _LABELS,
}
_TOLD = {"place": pa.dictionary(pa.int32(), pa.string()), "line": pa.int64(), "shape": pa.int32()}

Rows: TypeAlias = pa.ChunkedArray


class ClipColumns:
    """N clips in some order.

    rows: the fields of `Clip` by name; `group` is null where a clip has none, labels are places in
    `classes`, and `fine_labels` null where none was merged. columns: those of the readers' columns
    that were asked for, null where a clip has none of that name.
    """

    def __init__(self, clips: Iterable[Clip], wanted: Collection[str] = ()) -> None:
        """Read all clips; wanted: which of their columns are kept."""
        self._codes: dict[str, int] = {}
        self._shapes: dict[tuple[str, ...], int] = {}
        self.rows: dict[str, Rows] = {}
        self.columns: dict[str, Rows] = {}
        chunks: dict[str, list[pa.Array]] = {name: [] for name in (*_TYPES, *_TOLD)}
        kept: dict[str, list[pa.Array]] = {name: [] for name in wanted}
        for batch in _batches(clips):
            for name, values in self._packed(batch).items():
                chunks[name].append(values)
            for name, found in kept.items():
                found.append(_texts([clip.columns.get(name) for clip in batch]))
        self.rows = {name: pa.chunked_array(chunks[name], of) for name, of in _TYPES.items()}
        self.columns = {name: pa.chunked_array(found, pa.string()) for name, found in kept.items()}
        self._told = {name: pa.chunked_array(chunks[name], of) for name, of in _TOLD.items()}
        pa.default_memory_pool().release_unused()
        self._order: NDArray[np.int64] | None = None
        """Where in `_told`, which stays as it was read, a clip is told of."""

    def _packed(self, batch: Sequence[Clip]) -> dict[str, pa.Array]:
        names = ("start_s", "duration_s", "size_bytes")
        found = {
            name: pa.array([getattr(clip, name) for clip in batch], _TYPES[name]) for name in names
        }
        for name in ("clip_id", "uri", "version"):
            found[name] = _texts([getattr(clip, name) for clip in batch])
        found["group"] = _texts([clip.group or None for clip in batch])
        found["labels"] = self._coded([clip.labels for clip in batch])
        found["fine_labels"] = self._coded([clip.fine_labels for clip in batch])
        places = [_place(clip.place) for clip in batch]
        found["place"] = _texts([place for place, _ in places]).dictionary_encode()
        found["line"] = pa.array([line for _, line in places], _TOLD["line"])
        shapes = self._shapes
        shaped = [shapes.setdefault(tuple(clip.columns), len(shapes)) for clip in batch]
        found["shape"] = pa.array(shaped, _TOLD["shape"])
        return found

    def _coded(self, labels: Sequence[tuple[str, ...] | None]) -> pa.Array:
        codes = self._codes
        if not any(each is not None for each in labels):
            return pa.nulls(len(labels), _LABELS)
        flat = [codes.setdefault(label, len(codes)) for each in labels for label in each or ()]
        ends = np.cumsum([0, *(len(each or ()) for each in labels)], dtype=np.int32)
        nulls = pa.array([each is None for each in labels])
        return pa.ListArray.from_arrays(pa.array(ends), pa.array(flat, pa.int32()), mask=nulls)

    def __len__(self) -> int:
        return len(self.rows["clip_id"])

    @property
    def classes(self) -> list[str]:
        """All labels, by code."""
        return list(self._codes)

    def origin(self, row: int) -> str:
        """Where a clip was read, for messages."""
        told = self._told_at(row)
        place = self._told["place"][told].as_py()
        line = self._told["line"][told].as_py()
        place = place if line is None else f"{place}:{line}"
        return str(place or self.rows["uri"][row].as_py())

    def shape(self, row: int) -> tuple[str, ...]:
        """The names of a clip's columns."""
        return list(self._shapes)[self._told["shape"][self._told_at(row)].as_py()]

    def _told_at(self, row: int) -> int:
        return row if self._order is None else int(self._order[row])

    def text(self, name: str, row: int) -> str:
        """A clip's `clip_id`, `uri` or another text."""
        return str(self.rows[name][row].as_py())

    def reorder(self, places: NDArray[np.int64]) -> None:
        """Keep the clips at these places, in this order."""
        for columns in (self.rows, self.columns):
            reorder(columns, places)
        self._order = places if self._order is None else self._order[places]

    def merge(self, merge: Mapping[str, str]) -> None:
        """Put classes in place of the labels that become them; none of a clip's stands twice."""
        if self.used_labels().isdisjoint(merge):
            return
        names = [merge.get(label, label) for label in self.classes]
        codes = self._codes
        becomes = np.array([codes.setdefault(name, len(codes)) for name in names], np.int32)
        fine = self.rows["fine_labels"] = self.rows["labels"]
        chunks = [_without_repeats(chunk, becomes) for chunk in fine.chunks]
        self.rows["labels"] = pa.chunked_array(chunks, _LABELS)

    def used_labels(self) -> set[str]:
        """The labels that some clip has."""
        classes = self.classes
        codes = pc.unique(pc.list_flatten(self.rows["labels"]))
        return {classes[code] for code in codes.to_pylist()}

    def flat_labels(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Of every label (L,): the place of the clip that has it, and its code."""
        return flat_lists(self.rows["labels"])

    def label_texts(self, name: str) -> Rows:
        """`labels` or `fine_labels` as lists of texts."""
        words = pa.array(self.classes, pa.string())
        chunks = [
            pa.ListArray.from_arrays(_offsets(chunk), words.take(chunk.flatten()))
            for chunk in self.rows[name].chunks
        ]
        return pa.chunked_array(chunks, pa.list_(pa.string()))


def flat_lists(lists: Rows) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Of every value (L,) of lists of numbers: the row of its list, and itself."""
    lengths = pc.fill_null(pc.list_value_length(lists), 0).to_numpy()
    values = pc.list_flatten(lists).to_numpy()
    return np.repeat(np.arange(len(lengths)), lengths), values.astype(np.int64)


def reorder(columns: dict[str, Rows], places: NDArray[np.int64]) -> None:
    """Put the rows at these places into the place of all, column by column, so that no second copy
    of all columns is needed; in chunks of `GROUP_ROWS`."""
    for name in list(columns):
        column = columns.pop(name)
        kind, whole = column.type, _in_one(column)
        del column
        pa.default_memory_pool().release_unused()  # it would keep the pages of many small pieces
        columns[name] = _pieces(whole, places, kind)
        del whole
    pa.default_memory_pool().release_unused()


def taken(column: Rows, places: NDArray[np.int64]) -> Rows:
    """The rows of a column at these places, in chunks of `GROUP_ROWS`."""
    return _pieces(_in_one(column), places, column.type)


def _in_one(column: Rows) -> pa.Array:
    if pa.types.is_string(column.type) and column.nbytes > MOST_TEXT:
        column = column.cast(pa.large_string())
    return column.combine_chunks()


def _pieces(whole: pa.Array, places: NDArray[np.int64], kind: pa.DataType) -> Rows:
    starts = range(0, len(places), GROUP_ROWS)
    parts = (whole.take(pa.array(places[start : start + GROUP_ROWS])) for start in starts)
    return pa.chunked_array([part.cast(kind) for part in parts], kind)


def rechunked(column: Rows) -> Rows:
    """A column in chunks of `GROUP_ROWS`."""
    parts = (column.slice(start, GROUP_ROWS) for start in range(0, len(column), GROUP_ROWS))
    chunks = [part.chunk(0) if part.num_chunks == 1 else part.combine_chunks() for part in parts]
    return pa.chunked_array(chunks, column.type)


def texts_at(column: Rows, places: NDArray[np.int64]) -> Iterator[list[bytes]]:
    """The texts at rising places as UTF-8, some thousands at a time."""
    start = 0
    for chunk in column.chunks:
        first, last = np.searchsorted(places, [start, start + len(chunk)])
        for at in range(first, last, CHUNK):
            inside = places[at : min(at + CHUNK, last)] - start
            yield chunk.take(pa.array(inside)).cast(pa.binary()).to_pylist()
        start += len(chunk)


def _batches(clips: Iterable[Clip]) -> Iterator[list[Clip]]:
    each = iter(clips)
    while batch := list(islice(each, CHUNK)):
        yield batch


def _place(place: str) -> tuple[str, int | None]:
    """A place without the number of its line, which would make every place another text."""
    file, _, line = place.rpartition(":")
    if file and line.isdecimal() and line.isascii() and len(line) < 18 and line[0] != "0":
        return file, int(line)
    return place, None


def _texts(texts: Sequence[str | None]) -> pa.Array:
    return pa.array(texts, pa.string())


def _offsets(lists: pa.ListArray) -> pa.Array:
    """The offsets of lists (N + 1,) into what `flatten` gives of them."""
    lengths = pc.fill_null(pc.list_value_length(lists), 0).to_numpy()
    return pa.array(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32))


def _without_repeats(lists: pa.ListArray, becomes: NDArray[np.int32]) -> pa.ListArray:
    """Lists of labels under their new codes, each once, where it stood first."""
    lengths = pc.list_value_length(lists).to_numpy()
    codes = becomes[lists.flatten().to_numpy()].astype(np.int64)
    rows = np.repeat(np.arange(len(lengths)), lengths)
    keys = rows * (int(becomes.max(initial=0)) + 1) + codes
    first = np.sort(np.unique(keys, return_index=True)[1])
    kept = np.bincount(rows[first], minlength=len(lengths))
    ends = np.concatenate([[0], np.cumsum(kept)]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(ends), pa.array(codes[first].astype(np.int32)))
