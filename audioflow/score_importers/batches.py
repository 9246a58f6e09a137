"""From blocks of columns (Arrow) to a matrix on disk, for files that hold a table.

Shapes: N rows of the matrix, K columns, B rows of a block.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from audioflow.errors import InputError
from audioflow.score_importers.base import Matrix
from audioflow.spool import blank, spooled

Batches = Callable[[], Iterator[pa.RecordBatch]]
"""Begins to read the file, from its start."""


@contextlib.contextmanager
def wide_matrix(
    batches: Batches, id_column: str, classes: Sequence[str], source: str
) -> Iterator[Matrix]:
    """A column of numbers per class."""
    ids: list[str] = []

    def blocks() -> Iterator[NDArray[np.float32]]:
        for batch in batches():
            ids.extend(_ids(batch[id_column], source, len(ids)))
            columns = [_floats(batch[name]) for name in classes]
            yield np.stack(columns, axis=1)

    with spooled(blocks(), len(classes)) as values_NK:
        yield Matrix(ids, classes, values_NK, f"wide: {len(ids)} rows of {len(classes)} classes")


@contextlib.contextmanager
def list_matrix(
    batches: Batches, id_column: str, scores: str, classes: Sequence[str], source: str
) -> Iterator[Matrix]:
    """A column of lists, each with a number per class."""
    ids: list[str] = []

    def blocks() -> Iterator[NDArray[np.float32]]:
        for batch in batches():
            start = len(ids)
            ids.extend(_ids(batch[id_column], source, start))
            yield _lists(batch[scores], len(classes), f"{source}: column {scores!r}", start)

    with spooled(blocks(), len(classes)) as values_NK:
        yield Matrix(ids, classes, values_NK, f"lists: {len(ids)} rows of {len(classes)} classes")


@dataclass(frozen=True)
class LongColumns:
    """The columns of a file with a row per clip and class."""

    id: str
    label: str
    score: str


@contextlib.contextmanager
def long_matrix(
    batches: Batches, columns: LongColumns, absent: float | None, source: str
) -> Iterator[Matrix]:
    """A row per clip and class, in any order. absent: the value of pairs that are not listed."""
    rows: dict[str, int] = {}
    classes: dict[str, int] = {}
    listed = 0
    for batch in batches():
        for found, name in ((rows, columns.id), (classes, columns.label)):
            for text in _ids(pc.unique(batch[name]), source, listed):
                found.setdefault(text, len(found))
        listed += batch.num_rows
    with blank(len(rows), max(1, len(classes))) as values_NK:
        flat = values_NK.reshape(-1)
        for batch in batches():
            places_B = _places(batch[columns.id], rows) * len(classes)
            places_B += _places(batch[columns.label], classes)
            _refuse_twice(flat, places_B, batch, columns, source)
            scores_B = _floats(batch[columns.score])
            # NaN stands for what is not listed, infinity for what is no number.
            flat[places_B] = np.where(np.isnan(scores_B), np.inf, scores_B)
        if absent is not None:
            _fill(values_NK, absent)
        told = f"long: {listed} scores of {len(rows)} clips and {len(classes)} classes"
        yield Matrix(list(rows), list(classes), values_NK, told)


def _places(column: Any, known: dict[str, int]) -> NDArray[np.int64]:
    encoded = column.dictionary_encode()
    codes = np.array([known[text] for text in encoded.dictionary.to_pylist()], np.int64)
    return codes[encoded.indices.to_numpy(zero_copy_only=False)]


def _refuse_twice(
    flat: NDArray[np.float32],
    places_B: NDArray[np.int64],
    batch: pa.RecordBatch,
    columns: LongColumns,
    source: str,
) -> None:
    firsts = np.zeros(len(places_B), np.bool_)
    firsts[np.unique(places_B, return_index=True)[1]] = True
    twice = np.flatnonzero(~np.isnan(flat[places_B]) | ~firsts)
    if twice.size:
        row = int(twice[0])
        clip, label = batch[columns.id][row].as_py(), batch[columns.label][row].as_py()
        raise InputError(f"{source}: {clip!r} has two scores of {label!r}; keep one")


def _fill(values_NK: NDArray[np.float32], value: float) -> None:
    step = max(1, 2**22 // values_NK.shape[1])
    for start in range(0, len(values_NK), step):
        block_BK = values_NK[start : start + step]
        block_BK[np.isnan(block_BK)] = value


def _ids(column: Any, source: str, before: int) -> list[str]:
    """A column of ids (or classes) as texts; numbers count as texts."""
    found: list[str | None] = column.cast(pa.string()).to_pylist()
    empty = next((row for row, text in enumerate(found) if not text), None)
    if empty is not None:
        raise InputError(f"{source}: row {before + empty + 1} names no clip or class")
    return [text for text in found if text]


def _floats(column: Any) -> NDArray[np.float32]:
    """A column of numbers, NaN where there is none."""
    values = pc.fill_null(column.cast(pa.float32(), safe=False), float("nan"))
    found: NDArray[np.float32] = np.asarray(values.to_numpy(zero_copy_only=False), np.float32)
    return found


def _lists(column: Any, width: int, source: str, before: int) -> NDArray[np.float32]:
    lengths_B = np.asarray(pc.fill_null(pc.list_value_length(column), 0), np.int64)
    wrong = np.flatnonzero((lengths_B != width) & (lengths_B != 0))
    if wrong.size:
        row = int(wrong[0])
        raise InputError(
            f"{source} has {lengths_B[row]} numbers in row {before + row + 1}, expected {width}, "
            "one for each class"
        )
    found = np.full((len(lengths_B), width), np.nan, np.float32)
    found[lengths_B == width] = _floats(pc.list_flatten(column)).reshape(-1, width)
    return found
