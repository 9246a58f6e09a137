"""Pooling: a clip's patches -> one vector per clip, on embeddings.

Shapes: N clips, P patches of a clip, D width of the layer.
"""

from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from audioflow.embeddings import LayerRows
from audioflow.registry import Registry, Settings


class Pooling(Protocol):
    """Patches to clip."""

    Settings: ClassVar[type[Settings]]

    def __init__(self, settings: Any) -> None: ...

    def width(self, layer_width: int) -> int:
        """Length of a clip's vector."""
        ...

    def pool(self, rows: LayerRows) -> NDArray[np.float32]:
        """(sum of P, D) -> (N, width) float32."""
        ...


class NoSettings(Settings):
    """Nothing to set."""


def _starts(rows: LayerRows) -> NDArray[np.int64]:
    if np.any(np.diff(rows.offsets) == 0):
        index = int(np.argmin(np.diff(rows.offsets)))
        raise ValueError(f"clip {rows.clip_ids[index]!r} has no patch to pool")
    return rows.offsets[:-1]


def _mean(rows: LayerRows) -> NDArray[np.float32]:
    starts = _starts(rows)
    if not starts.size:
        return np.zeros((0, rows.vectors.shape[1]), np.float32)
    total = np.add.reduceat(rows.vectors, starts, axis=0, dtype=np.float64)
    return (total / np.diff(rows.offsets)[:, None]).astype(np.float32)


class Mean:
    """Arithmetic mean over patches."""

    Settings = NoSettings

    def __init__(self, settings: NoSettings) -> None:
        pass

    def width(self, layer_width: int) -> int:
        return layer_width

    def pool(self, rows: LayerRows) -> NDArray[np.float32]:
        return _mean(rows)


class Max:
    """Largest value over patches."""

    Settings = NoSettings

    def __init__(self, settings: NoSettings) -> None:
        pass

    def width(self, layer_width: int) -> int:
        return layer_width

    def pool(self, rows: LayerRows) -> NDArray[np.float32]:
        starts = _starts(rows)
        if not starts.size:
            return np.zeros((0, rows.vectors.shape[1]), np.float32)
        return np.maximum.reduceat(rows.vectors, starts, axis=0)


class MeanStd:
    """Mean and (population) standard deviation over patches, side by side."""

    Settings = NoSettings

    def __init__(self, settings: NoSettings) -> None:
        pass

    def width(self, layer_width: int) -> int:
        return 2 * layer_width

    def pool(self, rows: LayerRows) -> NDArray[np.float32]:
        mean = _mean(rows)
        repeated = np.repeat(mean, np.diff(rows.offsets), axis=0)
        squared = LayerRows(rows.clip_ids, (rows.vectors - repeated) ** 2, rows.offsets)
        return np.concatenate([mean, np.sqrt(_mean(squared))], axis=1)


class MeanMax:
    """Arithmetic mean and largest value over patches, side by side."""

    Settings = NoSettings

    def __init__(self, settings: NoSettings) -> None:
        self._max = Max(settings)

    def width(self, layer_width: int) -> int:
        return 2 * layer_width

    def pool(self, rows: LayerRows) -> NDArray[np.float32]:
        return np.concatenate([_mean(rows), self._max.pool(rows)], axis=1)


POOLINGS = Registry(
    "pooling",
    {
        "mean": "audioflow.pooling:Mean",
        "max": "audioflow.pooling:Max",
        "mean_max": "audioflow.pooling:MeanMax",
        "mean_std": "audioflow.pooling:MeanStd",
    },
)
