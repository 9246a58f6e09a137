"""Embeddings as Arrow rows, and read back as matrices.

Shapes: P patches of a clip, D width of a layer.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from audioflow.tables import embeddings_schema


@dataclass(frozen=True)
class ClipEmbedding:
    """One clip's embeddings: (P, D) float32 per layer, patch starts (P,) in seconds."""

    layers: Mapping[str, NDArray[np.float32]]
    patch_start_s: NDArray[np.float64]
    duration_s: float
    coverage: float


def embedding_rows(
    clip_ids: Sequence[str], clips: Sequence[ClipEmbedding], layers: Mapping[str, int]
) -> pa.Table:
    """Rows of an embeddings table; `layers` are names and widths."""
    columns = {
        "clip_id": pa.array(clip_ids, pa.string()),
        "variant": pa.array([0] * len(clips), pa.int32()),
        "duration_s": pa.array([clip.duration_s for clip in clips], pa.float64()),
        "coverage": pa.array([clip.coverage for clip in clips], pa.float32()),
        "patch_start_s": pa.array(
            [clip.patch_start_s.tolist() for clip in clips], pa.list_(pa.float64())
        ),
    }
    for name, width in layers.items():
        columns[name] = _list_column([clip.layers[name] for clip in clips], width)
    return pa.Table.from_pydict(columns, schema=embeddings_schema(layers))


def _list_column(matrices: Sequence[NDArray[np.float32]], width: int) -> pa.Array:
    lengths = [len(matrix) for matrix in matrices]
    flat = np.concatenate([np.zeros((0, width), np.float32), *matrices]).astype(np.float32)
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(flat.reshape(-1)), width)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), vectors)


@dataclass(frozen=True)
class LayerRows:
    """One layer of many clips: vectors (sum of P, D), and where each clip's begin and end."""

    clip_ids: list[str]
    vectors: NDArray[np.float32]
    offsets: NDArray[np.int64]

    def clip(self, index: int) -> NDArray[np.float32]:
        """The (P, D) vectors of one clip."""
        return self.vectors[self.offsets[index] : self.offsets[index + 1]]


def layer_rows(rows: pa.Table, layer: str) -> LayerRows:
    """The layer of an embeddings table (or shard) as one matrix."""
    column = rows.column(layer).combine_chunks()
    if isinstance(column, pa.ChunkedArray):  # no chunk at all
        column = pa.array([], column.type)
    width = column.type.value_type.list_size
    flat = column.flatten().flatten().to_numpy(zero_copy_only=False)
    lengths = np.asarray(column.value_lengths().to_numpy(zero_copy_only=False), np.int64)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    ids = rows.column("clip_id").to_pylist()
    return LayerRows(ids, flat.astype(np.float32, copy=False).reshape(-1, width), offsets)
