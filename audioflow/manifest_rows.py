"""Rows of a manifest from clips as columns, and what has to hold before they are."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from audioflow.clip_columns import ClipColumns, Rows, rechunked, reorder, taken
from audioflow.division import Parts
from audioflow.errors import InputError
from audioflow.grouping import some_of
from audioflow.schemas import MANIFEST_SCHEMA


@dataclass(frozen=True)
class Placing:
    """Where clips are in the manifest: of every clip its id there, split, fold and group."""

    ids: Rows
    splits: Parts
    folds: Parts
    groups: Rows
    source: str


def manifest_rows(clips: ClipColumns, placing: Placing) -> pa.Table:
    """Clips as rows of `MANIFEST_SCHEMA`, in their order. Empties `clips.rows`."""
    rows, count = clips.rows, len(clips)
    if rows["fine_labels"].null_count < count:
        rows["fine_labels"] = pc.coalesce(rows["fine_labels"], rows["labels"])
        fine = rechunked(clips.label_texts("fine_labels"))
    else:
        fine = None
    labels = rechunked(clips.label_texts("labels"))
    del rows["labels"], rows["fine_labels"]
    found = {
        "labels": labels,
        "fine_labels": labels if fine is None else fine,
        "clip_id": rechunked(placing.ids),
        "split": placing.splits.texts(),
        "fold": placing.folds.texts(),
        "group": placing.groups,
        "source": rechunked(pa.chunked_array([pa.repeat(pa.scalar(placing.source), count)])),
    }
    shared = rows["uri"] is placing.groups
    for name in ("uri", "start_s", "duration_s", "size_bytes", "version"):
        found[name] = rechunked(rows.pop(name))
    found["group"] = found["uri"] if shared else rechunked(placing.groups)
    rows.clear()
    columns = [found.pop(field.name) for field in MANIFEST_SCHEMA]
    return pa.Table.from_arrays(columns, schema=MANIFEST_SCHEMA)


def sorted_by_id(rows: pa.Table) -> pa.Table:
    """Rows of a manifest in the order of their ids."""
    order = pc.sort_indices(rows["clip_id"]).to_numpy().astype(np.int64)
    columns = dict(zip(rows.column_names, rows.columns, strict=True))
    reorder(columns, order)
    return pa.Table.from_arrays([columns[name] for name in rows.column_names], schema=rows.schema)


def order_of_ids(clips: ClipColumns) -> NDArray[np.int64]:
    """The places of clips in the order of their ids; raises `InputError` for ids that occur
    twice."""
    ids = clips.rows["clip_id"]
    if pc.all(pc.less(ids.slice(0, len(ids) - 1), ids.slice(1))).as_py():
        return np.arange(len(ids))
    order = pc.sort_indices(ids).to_numpy().astype(np.int64)
    sorted_ids = taken(ids, order)
    same = pc.equal(sorted_ids.slice(0, len(ids) - 1), sorted_ids.slice(1)).to_numpy()
    # Alike stand in the order they were read; told in that order, too.
    seconds = np.flatnonzero(same) + 1
    seconds = seconds[np.argsort(order[seconds], kind="stable")]
    del sorted_ids
    pa.default_memory_pool().release_unused()
    if len(seconds):

        def told(at: int) -> str:
            first, second = int(order[at - 1]), int(order[at])
            both = f"{clips.origin(first)} and {clips.origin(second)}"
            return f"{clips.text('clip_id', first)!r} ({both})"

        count = "a clip id occurs" if len(seconds) == 1 else f"{len(seconds)} clip ids occur"
        raise InputError(
            f"{count} twice: {some_of(seconds.tolist(), told)}; remove one of each, or name an "
            "id_column whose values are unique"
        )
    return order
