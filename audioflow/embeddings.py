"""Embeddings as Arrow rows, and read back as matrices.

Shapes: P patches of a clip, D width of a layer.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from audioflow.errors import InputError
from audioflow.tables import embeddings_schema


@dataclass(frozen=True)
class ClipEmbedding:
    """One clip's embeddings: (P, D) float32 per layer, patch starts (P,) in seconds."""

    layers: Mapping[str, NDArray[np.float32]]
    patch_start_s: NDArray[np.float64]
    duration_s: float
    coverage: float
    variant: int = 0


def joined(parts: Sequence[ClipEmbedding]) -> ClipEmbedding:
    """The embedding of a clip that came in parts; its length and coverage are those of the last."""
    if len(parts) == 1:
        return parts[0]
    layers = {
        name: np.concatenate([part.layers[name] for part in parts]) for name in parts[0].layers
    }
    starts = np.concatenate([part.patch_start_s for part in parts])
    last = parts[-1]
    return ClipEmbedding(layers, starts, last.duration_s, last.coverage, last.variant)


def embedding_rows(
    clip_ids: Sequence[str], clips: Sequence[ClipEmbedding], layers: Mapping[str, int]
) -> pa.Table:
    """Rows of an embeddings table; `layers` are names and widths."""
    columns = {
        "clip_id": pa.array(clip_ids, pa.string()),
        "variant": pa.array([clip.variant for clip in clips], pa.int32()),
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


def clips_of(rows: pa.Table, layers: Iterable[str]) -> list[tuple[str, ClipEmbedding]]:
    """The rows of an embeddings table (or shard) as clip ids with their embeddings."""
    matrices = {name: layer_rows(rows, name) for name in layers}
    columns = rows.select(["clip_id", "variant", "duration_s", "coverage", "patch_start_s"])
    return [
        (
            row["clip_id"],
            ClipEmbedding(
                {name: matrix.clip(index) for name, matrix in matrices.items()},
                np.asarray(row["patch_start_s"], np.float64),
                row["duration_s"],
                row["coverage"],
                row["variant"],
            ),
        )
        for index, row in enumerate(columns.to_pylist())
    ]


def patch_rows(rows: pa.Table, layers: Sequence[str]) -> pa.Table:
    """The patches of these rows, each as a row of its own, with these layers.

    Raises `InputError` for a clip whose vectors are not as many for each of its patches: they are
    of the clip as a whole.
    """
    starts = rows["patch_start_s"].combine_chunks()
    counts = np.asarray(starts.value_lengths(), np.int64)
    of = np.repeat(np.arange(len(counts)), counts)
    columns = {name: rows[name].take(pa.array(of)) for name in ("clip_id", "variant")}
    one_each = pa.array(np.arange(len(of) + 1), pa.int32())
    columns["patch_start_s"] = pa.ListArray.from_arrays(one_each, starts.flatten())
    for name in layers:
        layer = layer_rows(rows, name)
        vectors = np.diff(layer.offsets)
        uneven = np.flatnonzero(vectors % np.maximum(counts, 1))
        if uneven.size:
            place = int(uneven[0])
            raise InputError(
                f"clip {layer.clip_ids[place]!r} has {vectors[place]} vectors of the layer "
                f"{name!r} in {counts[place]} patches, not as many in each: patches cannot be "
                "scored by themselves (score.patches: false)"
            )
        lengths = (vectors // np.maximum(counts, 1))[of]
        ends = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
        width = layer.vectors.shape[1]
        flat = pa.FixedSizeListArray.from_arrays(pa.array(layer.vectors.reshape(-1)), width)
        columns[name] = pa.ListArray.from_arrays(pa.array(ends), flat)
    return pa.table(columns)


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
