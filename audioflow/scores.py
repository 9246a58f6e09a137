"""Score tables: rows of (clip, scores per class), and read back as matrices.

Shapes: N clips, C classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from audioflow.tables import scores_schema


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
    available: Sequence[Sequence[str]] | None = None,
) -> pa.Table:
    """Rows of a score table; the first class wins a tie."""
    best = scores_NC.argmax(axis=1) if len(scores_NC) else np.zeros(0, np.int64)
    flat = np.ascontiguousarray(scores_NC, np.float32).reshape(-1)
    columns = {
        "clip_id": pa.array(clips.clip_ids, pa.string()),
        "labels": pa.array([list(labels) for labels in clips.labels], pa.list_(pa.string())),
        "split": pa.array(clips.splits, pa.string()),
        "scores": pa.FixedSizeListArray.from_arrays(pa.array(flat), len(classes)),
        "predicted": pa.array([classes[index] for index in best], pa.string()),
        "score": pa.array(scores_NC[np.arange(len(best)), best], pa.float32()),
    }
    if available is not None:
        columns["available"] = pa.array([list(names) for names in available], pa.list_(pa.string()))
    schema = scores_schema(len(classes), fused=available is not None)
    return pa.Table.from_pydict(columns, schema=schema)


def score_matrix(rows: pa.Table) -> NDArray[np.float32]:
    """The `scores` column as (N, C) float32."""
    column = rows.column("scores").combine_chunks()
    width = column.type.list_size
    flat = column.flatten().to_numpy(zero_copy_only=False)
    return flat.astype(np.float32, copy=False).reshape(-1, width)
