"""The columns of every table, as plain Arrow types that any reader of Parquet knows."""

from collections.abc import Collection, Mapping

import pyarrow as pa

MANIFEST_SCHEMA = pa.schema(
    [
        pa.field("clip_id", pa.string(), nullable=False),
        pa.field("uri", pa.string(), nullable=False),
        pa.field("start_s", pa.float64()),
        pa.field("duration_s", pa.float64()),
        pa.field("labels", pa.list_(pa.string()), nullable=False),
        pa.field("split", pa.string(), nullable=False),
        pa.field("fold", pa.string()),
        pa.field("group", pa.string(), nullable=False),
        pa.field("size_bytes", pa.int64()),
        pa.field("version", pa.string()),
        pa.field("source", pa.string(), nullable=False),
        pa.field("fine_labels", pa.list_(pa.string()), nullable=False),
    ]
)

FAILURES_SCHEMA = pa.schema(
    [
        pa.field("clip_id", pa.string(), nullable=False),
        pa.field("uri", pa.string()),
        pa.field("stage", pa.string(), nullable=False),
        pa.field("error", pa.string(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("attempts", pa.int32(), nullable=False),
        pa.field("node", pa.string()),
    ]
)


TRIALS_SCHEMA = pa.schema(
    [
        pa.field("number", pa.int32(), nullable=False),
        pa.field("values", pa.string(), nullable=False),
        pa.field("score", pa.float64()),
        pa.field("scores", pa.list_(pa.float64()), nullable=False),
        pa.field("epochs", pa.int32(), nullable=False),
        pa.field("seconds", pa.float64(), nullable=False),
        pa.field("state", pa.string(), nullable=False),
        pa.field("reason", pa.string()),
    ]
)


def embeddings_schema(layers: Mapping[str, int]) -> pa.Schema:
    """Schema of an embeddings table whose backbone has these layers (name -> width)."""
    columns = [
        pa.field("clip_id", pa.string(), nullable=False),
        pa.field("variant", pa.int32(), nullable=False),
        pa.field("duration_s", pa.float64(), nullable=False),
        pa.field("coverage", pa.float32(), nullable=False),
        pa.field("patch_start_s", pa.list_(pa.float64()), nullable=False),
    ]
    columns += [
        pa.field(name, pa.list_(pa.list_(pa.float32(), width))) for name, width in layers.items()
    ]
    return pa.schema(columns)


MORE_SCORES = ("above_threshold", "raw_scores", "patch_start_s", "patch_scores")
"""Columns that a score table may have beside its own, in this order."""


def scores_schema(
    num_classes: int, *, fused: bool = False, more: Collection[str] = ()
) -> pa.Schema:
    """Schema of a score table; `scores` follows the class order of the header.

    more: which of `MORE_SCORES` it has: the classes whose score reaches their threshold, the scores
    before calibration, the scores of every patch by itself and where patches start.
    """
    row = pa.list_(pa.float32(), num_classes)
    columns = [
        pa.field("clip_id", pa.string(), nullable=False),
        pa.field("labels", pa.list_(pa.string()), nullable=False),
        pa.field("split", pa.string(), nullable=False),
        pa.field("scores", row, nullable=False),
        pa.field("predicted", pa.string(), nullable=False),
        pa.field("score", pa.float32(), nullable=False),
    ]
    if fused:
        columns.append(pa.field("available", pa.list_(pa.string()), nullable=False))
    types = (pa.list_(pa.string()), row, pa.list_(pa.float64()), pa.list_(row))
    columns += [
        pa.field(name, kind, nullable=False)
        for name, kind in zip(MORE_SCORES, types, strict=True)
        if name in more
    ]
    return pa.schema(columns)
