"""From rows of an embeddings table to what the network of a system takes.

Shapes: B clips, P patches of a clip, N patches of all clips, V vectors of a patch, D width of a
vector.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from audioflow.embeddings import LayerRows, layer_rows
from audioflow.errors import InputError
from audioflow.heads.base import HeadShape, Takes
from audioflow.pooling import POOLINGS
from audioflow.pooling.base import On
from audioflow.systems.examples import Examples

_PICTURES = ("pictures", "picture_sequences")


@dataclass(frozen=True)
class Pool:
    """A pooling of a recipe: its name, what it is used on, its settings."""

    name: str
    on: On
    options: Mapping[str, Any]

    def built(self) -> Any:
        return POOLINGS.build(self.name, self.options)

    @property
    def while_reading(self) -> bool:
        """Whether it can be applied before anything is trained: a clip is one vector then."""
        return self.on == "embeddings" and not POOLINGS.load(self.name).learned


@dataclass(frozen=True)
class ClipRows:
    """Clips as read: ids, and their rows as in `Examples`."""

    clip_ids: list[str]
    rows: tuple[NDArray[np.float32], ...]
    offsets: NDArray[np.int64]

    def examples(self) -> Examples:
        """The clips as examples, of which no target is known."""
        return Examples(self.rows, self.offsets, np.zeros(len(self.clip_ids), np.int64))


@dataclass(frozen=True)
class InputSpec:
    """What a system reads of an embeddings table.

    layers and widths: the columns and their D. vectors_per_patch: V, for heads that take pictures.
    pool: None where the head itself pools.
    """

    layers: tuple[str, ...]
    widths: tuple[int, ...]
    takes: Takes
    pool: Pool | None
    vectors_per_patch: int = 1

    @property
    def shape(self) -> HeadShape:
        """What the head is built for: widths after pooling."""
        widths = self.widths
        if self.pool is not None and self.pool.on == "embeddings":
            pooling = self.pool.built()
            widths = tuple(pooling.width(width) for width in widths)
        return HeadShape(self.layers, widths, self.vectors_per_patch)

    @property
    def columns(self) -> list[str]:
        """The columns that `read` needs."""
        extra = ["patch_start_s"] if self.takes in _PICTURES else []
        return ["clip_id", "variant", *extra, *self.layers]

    def read(self, rows: pa.Table) -> ClipRows:
        """The clips of a table (or shard), in its order; a clip without a patch is an error."""
        layers = [layer_rows(rows, layer) for layer in self.layers]
        for layer in layers:
            _refuse_empty(layer)
        if self.takes in _PICTURES:
            counts = np.asarray(pc.list_value_length(rows["patch_start_s"]), np.int64)
            offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
            return ClipRows(layers[0].clip_ids, (self._pictures(layers[0], counts),), offsets)
        if self.pool is not None and self.pool.while_reading:
            pooling = self.pool.built()
            vectors = tuple(pooling.pool(layer) for layer in layers)
            return ClipRows(layers[0].clip_ids, vectors, np.arange(rows.num_rows + 1))
        _refuse_uneven(self.layers, layers)
        return ClipRows(
            layers[0].clip_ids, tuple(layer.vectors for layer in layers), layers[0].offsets
        )

    def _pictures(self, layer: LayerRows, counts: NDArray[np.int64]) -> NDArray[np.float32]:
        there = np.diff(layer.offsets)
        wrong = np.flatnonzero(there != counts * self.vectors_per_patch)
        if wrong.size:
            place = int(wrong[0])
            raise InputError(
                f"clip {layer.clip_ids[place]!r} has {there[place]} vectors of the layer "
                f"{self.layers[0]!r} in {counts[place]} patches, other clips have "
                f"{self.vectors_per_patch} in each; a head that takes pictures needs as many in all"
            )
        return layer.vectors.reshape(int(counts.sum()), self.vectors_per_patch, self.widths[0])


def vectors_per_patch(rows: pa.Table, layer: str) -> int:
    """V of a layer, by the first clip of some rows with `patch_start_s`; 1 where there is none."""
    if not rows.num_rows:
        return 1
    patches = len(rows["patch_start_s"][0].as_py())
    return int(len(rows[layer][0]) // max(1, patches))


def _refuse_empty(layer: LayerRows) -> None:
    empty = np.flatnonzero(np.diff(layer.offsets) == 0)
    if empty.size:
        raise InputError(f"clip {layer.clip_ids[int(empty[0])]!r} has no patch in the embeddings")


def _refuse_uneven(names: tuple[str, ...], layers: list[LayerRows]) -> None:
    for name, layer in zip(names[1:], layers[1:], strict=True):
        if not np.array_equal(layer.offsets, layers[0].offsets):
            place = int(np.flatnonzero(np.diff(layer.offsets) != np.diff(layers[0].offsets))[0])
            raise InputError(
                f"clip {layer.clip_ids[place]!r} has unequal numbers of vectors in the layers "
                f"{names[0]!r} and {name!r}; pool embeddings (pooling.on: embeddings) to use both"
            )
