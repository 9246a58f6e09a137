"""`gated_attention`: a weighted mean of a clip's patches, the weights from a small gated network.

Ilse, Tomczak and Welling, Attention-based deep multiple instance learning, ICML 2018:
a patch weighs w . (tanh(V h) * sigmoid(U h)), made to sum to 1 over a clip by softmax.

Shapes: B clips, P patches of a clip, D width of a vector, K attention maps, C classes.
"""

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from audioflow.heads.base import HeadShape, Takes
from audioflow.heads.sequences import shown
from audioflow.registry import Settings


class GatedAttentionSettings(Settings):
    """hidden: values between a vector and its weight, and gates on them.

    heads: maps of weights, each with its own mean; the means are put side by side. dropout: share
    of the means' values zeroed in training.
    """

    hidden: int = Field(128, ge=1)
    heads: int = Field(1, ge=1)
    dropout: float = Field(0.0, ge=0, lt=1)


class GatedAttention:
    """Gated attention pooling, then logits."""

    Settings = GatedAttentionSettings
    takes: ClassVar[Takes] = "sequences"
    normalised: ClassVar[bool] = True

    def __init__(self, settings: GatedAttentionSettings) -> None:
        self.settings = settings

    def build(self, shape: HeadShape, num_classes: int) -> nn.Module:
        """(B, P, D), mask (B, P) -> logits (B, C)."""
        return GatedAttentionModule(shape.width, num_classes, self.settings)


class GatedAttentionModule(nn.Module):
    """The network of `gated_attention`."""

    def __init__(self, width: int, num_classes: int, settings: GatedAttentionSettings) -> None:
        super().__init__()
        self.value = nn.Sequential(nn.Linear(width, settings.hidden), nn.Tanh())
        self.gate = nn.Sequential(nn.Linear(width, settings.hidden), nn.Sigmoid())
        # Without a bias: softmax takes out what all patches have in common.
        self.score = nn.Linear(settings.hidden, settings.heads, bias=False)
        self.dropout = nn.Dropout(settings.dropout)
        self.classifier = nn.Linear(settings.heads * width, num_classes)

    def forward(self, vectors_BPD: Tensor, mask_BP: Tensor) -> Tensor:
        """(B, C)."""
        vectors_BPD = shown(vectors_BPD, mask_BP)
        maps_BKP = self._maps(vectors_BPD, mask_BP)
        logits: Tensor = self.classifier(self.dropout((maps_BKP @ vectors_BPD).flatten(1)))
        return logits

    def weights(self, vectors_BPD: Tensor, mask_BP: Tensor) -> Tensor:
        """(B, P): how much every patch counted, mean over maps; sums to 1 over the patches."""
        return self._maps(shown(vectors_BPD, mask_BP), mask_BP).mean(dim=1)

    def _maps(self, vectors_BPD: Tensor, mask_BP: Tensor) -> Tensor:
        scores_BPK = self.score(self.value(vectors_BPD) * self.gate(vectors_BPD))
        # Not minus infinity: of a clip without patches it would make NaN.
        hidden_B1P = ~mask_BP[:, None]
        scores_BKP = scores_BPK.transpose(1, 2).masked_fill(
            hidden_B1P, torch.finfo(scores_BPK.dtype).min
        )
        return torch.softmax(scores_BKP, dim=2).masked_fill(hidden_B1P, 0.0)
