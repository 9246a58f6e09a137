"""`attention`: a weighted mean over patches, the weights learned from their embeddings.

Shapes: B clips, P patches of a clip, D width of an embedding, K columns of what is pooled, H hidden
values.

Ilse, Tomczak and Welling, Attention-based deep multiple instance learning, ICML 2018.
"""

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from audioflow.pooling.base import On
from audioflow.registry import Settings


class AttentionSettings(Settings):
    """hidden: values between an embedding and its weight; gated: these times a learned gate."""

    hidden: int = Field(64, ge=1)
    gated: bool = False


class Attention:
    """Weights from a small network on every embedding, made to sum to 1 over a clip."""

    Settings = AttentionSettings
    on: ClassVar[tuple[On, ...]] = ("embeddings", "logits", "scores")
    learned: ClassVar[bool] = True

    def __init__(self, settings: AttentionSettings) -> None:
        self._settings = settings

    def width(self, layer_width: int) -> int:
        return layer_width

    def module(self, width: int, num_columns: int) -> nn.Module:
        return AttentionModule(width, self._settings.hidden, gated=self._settings.gated)


class AttentionModule(nn.Module):
    """The last layer begins at zero, and so pooling as a plain mean."""

    def __init__(self, width: int, hidden: int, *, gated: bool) -> None:
        super().__init__()
        self.hidden = nn.Linear(width, hidden)
        self.gate = nn.Linear(width, hidden) if gated else None
        # Without a bias: softmax takes out what all patches have in common.
        self.weight = nn.Linear(hidden, 1, bias=False)
        nn.init.zeros_(self.weight.weight)

    def weights(self, vectors_BPD: Tensor, mask_BP: Tensor) -> Tensor:
        """How much every patch counts (B, P); 0 where there is none, 1 together."""
        hidden_BPH = torch.tanh(self.hidden(vectors_BPD))
        if self.gate is not None:
            hidden_BPH = hidden_BPH * torch.sigmoid(self.gate(vectors_BPD))
        marks_BP = self.weight(hidden_BPH)[..., 0].masked_fill(~mask_BP, -torch.inf)
        return torch.softmax(marks_BP, dim=1)

    def forward(self, values_BPK: Tensor, vectors_BPD: Tensor, mask_BP: Tensor) -> Tensor:
        shown_BPD = vectors_BPD.masked_fill(~mask_BP[..., None], 0.0)
        shown_BPK = values_BPK.masked_fill(~mask_BP[..., None], 0.0)
        return (shown_BPK * self.weights(shown_BPD, mask_BP)[..., None]).sum(dim=1)
