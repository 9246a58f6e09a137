"""Score tables: rows of (clip, scores per class), and read back as matrices.

Shapes: N clips, C classes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from audioflow.division import CROSS_VALIDATED
from audioflow.tables import scores_schema


def split_of_folds(manifest: pa.Table) -> str:
    """The split as which clips in folds are scored: `val` where a test split was held out."""
    held_out = pc.any(pc.equal(manifest["split"], "test")).as_py()
    return "val" if held_out else "test"


def is_scored(manifest: pa.Table, splits: Sequence[str]) -> pa.ChunkedArray:
    """(N,) which clips are scored for these splits: theirs, and those in folds where their split is
    among them, or they are tested."""
    folded = [CROSS_VALIDATED] if split_of_folds(manifest) in ("test", *splits) else []
    return pc.is_in(manifest["split"], pa.array([*splits, *folded]))


def clips_to_score(manifest: pa.Table, splits: Sequence[str]) -> pa.Table:
    """The rows of a manifest that are scored, with the split as which they are."""
    return as_scored(manifest.filter(is_scored(manifest, splits)), split_of_folds(manifest))


def as_scored(rows: pa.Table, folded: str) -> pa.Table:
    """Rows of a manifest with the split as which they are scored; `folded` is `split_of_folds`."""
    in_folds = pc.equal(rows["split"], CROSS_VALIDATED)
    told = pc.if_else(in_folds, folded, rows["split"])
    return rows.set_column(rows.column_names.index("split"), "split", told)


def vectors_column(values_NC: NDArray[np.float32]) -> pa.Array:
    """A vector (C,) per row, of fixed size."""
    flat = np.ascontiguousarray(values_NC, np.float32).reshape(-1)
    return pa.FixedSizeListArray.from_arrays(pa.array(flat), values_NC.shape[1])


@dataclass(frozen=True)
class ScoredClips:
    """Who was scored: ids, labels and splits of N clips."""

    clip_ids: Sequence[str]
    labels: Sequence[Sequence[str]]
    splits: Sequence[str]


def score_rows(
    clips: ScoredClips,
    scores_NC: NDArray[np.float32],
    classes: Sequence[str],
    available: Sequence[Sequence[str]] | pa.Array | None = None,
    more: Mapping[str, pa.Array] | None = None,
) -> pa.Table:
    """Rows of a score table; the first class wins a tie.

    more: by name the content of columns of `schemas.MORE_SCORES`, as Arrow arrays.
    """
    best = scores_NC.argmax(axis=1) if len(scores_NC) else np.zeros(0, np.int64)
    columns = {
        "clip_id": pa.array(clips.clip_ids, pa.string()),
        "labels": pa.array(clips.labels, pa.list_(pa.string())),
        "split": pa.array(clips.splits, pa.string()),
        "scores": vectors_column(scores_NC),
        "predicted": pa.array(classes, pa.string()).take(pa.array(best)),
        "score": pa.array(scores_NC[np.arange(len(best)), best], pa.float32()),
    }
    if available is not None:
        columns["available"] = pa.array(available, pa.list_(pa.string()))
    columns |= more or {}
    schema = scores_schema(len(classes), fused=available is not None, more=more or ())
    return pa.Table.from_pydict(columns, schema=schema)


def score_matrix(rows: pa.Table, column_name: str = "scores") -> NDArray[np.float32]:
    """The `scores` column, or that of `raw_scores`, as (N, C) float32."""
    column = rows.column(column_name).combine_chunks()
    width = column.type.list_size
    flat = column.flatten().to_numpy(zero_copy_only=False)
    return flat.astype(np.float32, copy=False).reshape(-1, width)
