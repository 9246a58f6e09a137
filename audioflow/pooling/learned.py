"""`learned`: between the mean and the largest value over patches, how near to which is learned.

Shapes: B clips, P patches of a clip, D width of an embedding, K columns of what is pooled.

McFee, Salamon and Bello, Adaptive pooling operators for weakly labeled sound event detection,
IEEE/ACM TASLP 2018 (auto-pool).
"""

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from audioflow.pooling.base import On
from audioflow.registry import Settings


class LearnedSettings(Settings):
    """alpha: sharpness at first: 0 is the mean, 1 the mean weighed by softmax, infinity the max."""

    alpha: float = Field(1.0, ge=0, le=100)


class Learned:
    """A mean weighed by softmax of the values times a sharpness, of which every column has one."""

    Settings = LearnedSettings
    on: ClassVar[tuple[On, ...]] = ("logits", "scores", "embeddings")
    learned: ClassVar[bool] = True

    def __init__(self, settings: LearnedSettings) -> None:
        self._alpha = settings.alpha

    def width(self, layer_width: int) -> int:
        return layer_width

    def module(self, width: int, num_columns: int) -> nn.Module:
        return AutoPool(num_columns, self._alpha)


class AutoPool(nn.Module):
    """One sharpness `alpha` (K,)."""

    def __init__(self, num_columns: int, alpha: float) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.full((num_columns,), alpha))

    def forward(self, values_BPK: Tensor, vectors_BPD: Tensor, mask_BP: Tensor) -> Tensor:
        shown_BPK = values_BPK.masked_fill(~mask_BP[..., None], 0.0)
        marks_BPK = (self.alpha * shown_BPK).masked_fill(~mask_BP[..., None], -torch.inf)
        return (shown_BPK * torch.softmax(marks_BPK, dim=1)).sum(dim=1)
