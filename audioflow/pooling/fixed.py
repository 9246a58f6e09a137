"""Poolings without parameters: mean, max, both, mean and deviation, mean of the k largest.

On embeddings they are applied as the table is read, by NumPy; in a network by torch.

Shapes: B clips, P patches of a clip, D width of an embedding, K columns of what is pooled.
"""

from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn

from audioflow.embeddings import LayerRows
from audioflow.pooling.base import On
from audioflow.registry import Settings

_ANYWHERE: tuple[On, ...] = ("embeddings", "logits", "scores")


class NoSettings(Settings):
    """Nothing to set."""


class Mean:
    """Arithmetic mean over patches."""

    Settings = NoSettings
    on: ClassVar[tuple[On, ...]] = _ANYWHERE
    learned: ClassVar[bool] = False

    def __init__(self, settings: NoSettings) -> None:
        pass

    def width(self, layer_width: int) -> int:
        return layer_width

    def pool(self, rows: LayerRows) -> NDArray[np.float32]:
        return _mean(rows)

    def module(self, width: int, num_columns: int) -> nn.Module:
        return _MeanModule()


class Max:
    """Largest value over patches."""

    Settings = NoSettings
    on: ClassVar[tuple[On, ...]] = _ANYWHERE
    learned: ClassVar[bool] = False

    def __init__(self, settings: NoSettings) -> None:
        pass

    def width(self, layer_width: int) -> int:
        return layer_width

    def pool(self, rows: LayerRows) -> NDArray[np.float32]:
        starts = _starts(rows)
        if not starts.size:
            return np.zeros((0, rows.vectors.shape[1]), np.float32)
        return np.maximum.reduceat(rows.vectors, starts, axis=0)

    def module(self, width: int, num_columns: int) -> nn.Module:
        return _TopKModule(1)


class MeanStd:
    """Mean and (population) standard deviation over patches, side by side."""

    Settings = NoSettings
    on: ClassVar[tuple[On, ...]] = ("embeddings",)
    learned: ClassVar[bool] = False

    def __init__(self, settings: NoSettings) -> None:
        pass

    def width(self, layer_width: int) -> int:
        return 2 * layer_width

    def pool(self, rows: LayerRows) -> NDArray[np.float32]:
        mean = _mean(rows)
        repeated = np.repeat(mean, np.diff(rows.offsets), axis=0)
        squared = LayerRows(rows.clip_ids, (rows.vectors - repeated) ** 2, rows.offsets)
        return np.concatenate([mean, np.sqrt(_mean(squared))], axis=1)

    def module(self, width: int, num_columns: int) -> nn.Module:
        raise NotImplementedError("mean_std is applied as embeddings are read")


class MeanMax:
    """Arithmetic mean and largest value over patches, side by side."""

    Settings = NoSettings
    on: ClassVar[tuple[On, ...]] = ("embeddings",)
    learned: ClassVar[bool] = False

    def __init__(self, settings: NoSettings) -> None:
        self._max = Max(settings)

    def width(self, layer_width: int) -> int:
        return 2 * layer_width

    def pool(self, rows: LayerRows) -> NDArray[np.float32]:
        return np.concatenate([_mean(rows), self._max.pool(rows)], axis=1)

    def module(self, width: int, num_columns: int) -> nn.Module:
        raise NotImplementedError("mean_max is applied as embeddings are read")


class TopKSettings(Settings):
    """k: how many patches count, in each column by itself; of fewer all."""

    k: int = Field(3, ge=1)


class TopK:
    """Mean of the k largest values over patches: between `max` (k of 1) and `mean`."""

    Settings = TopKSettings
    on: ClassVar[tuple[On, ...]] = ("logits", "scores", "embeddings")
    learned: ClassVar[bool] = False

    def __init__(self, settings: TopKSettings) -> None:
        self._k = settings.k

    def width(self, layer_width: int) -> int:
        return layer_width

    def pool(self, rows: LayerRows) -> NDArray[np.float32]:
        _starts(rows)
        found = np.zeros((len(rows.clip_ids), rows.vectors.shape[1]), np.float32)
        for index in range(len(found)):
            clip_PD = rows.clip(index)
            k = min(self._k, len(clip_PD))
            found[index] = np.partition(clip_PD, len(clip_PD) - k, axis=0)[-k:].mean(axis=0)
        return found

    def module(self, width: int, num_columns: int) -> nn.Module:
        return _TopKModule(self._k)


class _MeanModule(nn.Module):
    def forward(self, values_BPK: Tensor, vectors_BPD: Tensor, mask_BP: Tensor) -> Tensor:
        shown_BPK = values_BPK.masked_fill(~mask_BP[..., None], 0.0)
        return shown_BPK.sum(dim=1) / mask_BP.sum(dim=1, keepdim=True)


class _TopKModule(nn.Module):
    def __init__(self, k: int) -> None:
        super().__init__()
        self._k = k

    def forward(self, values_BPK: Tensor, vectors_BPD: Tensor, mask_BP: Tensor) -> Tensor:
        hidden_BPK = values_BPK.masked_fill(~mask_BP[..., None], -torch.inf)
        best_BkK = hidden_BPK.topk(min(self._k, values_BPK.shape[1]), dim=1).values
        there_BkK = best_BkK > -torch.inf
        return best_BkK.masked_fill(~there_BkK, 0.0).sum(dim=1) / there_BkK.sum(dim=1)


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
