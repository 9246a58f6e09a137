"""`multi_layer`: a residual MLP on every layer of the backbone, each with its own logits.

The head of lsy0882/Audio_classification_using_SoundNet (a solution of CMU 11-775), there on pool5,
conv6 and conv7 of SoundNet: 3,559,439, 4,214,799 and 5,525,519 parameters with 15 classes.

Shapes: R layers of the backbone, N vectors, D width of a layer, C classes.
"""

from typing import ClassVar, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from audioflow.heads.base import HeadShape, Layers, Takes
from audioflow.heads.blocks import LEAKY_SLOPE, Hidden, HiddenStyle, Skipping, hidden_layer
from audioflow.registry import Settings


class MultiLayerSettings(Settings):
    """hidden: widths of the hidden layers, each with batch normalisation and leaky ReLU.

    skip_to: the hidden layer (from 1) to whose output a linear map of the input is added, 0 for
    none; by default the last but one. dropout: share of hidden values zeroed in training.
    leaky_slope: of the ReLU below 0.
    """

    hidden: Hidden = (2048, 1024, 512, 512)
    skip_to: int | None = Field(None, ge=0)
    dropout: float = Field(0.4, ge=0, lt=1)
    leaky_slope: float = Field(LEAKY_SLOPE, ge=0, lt=1)

    @model_validator(mode="after")
    def _skip_lands(self) -> Self:
        if self.skip_to is not None and self.skip_to > len(self.hidden):
            raise ValueError(
                f"skip_to ({self.skip_to}) is beyond the {len(self.hidden)} layers of hidden; "
                f"allowed: 0 (no skip) to {len(self.hidden)}"
            )
        return self


class MultiLayer:
    """One MLP per layer; the logits of a clip are one readout for each."""

    Settings = MultiLayerSettings
    takes: ClassVar[Takes] = "layers"
    normalised: ClassVar[bool] = True

    def __init__(self, settings: MultiLayerSettings) -> None:
        self.settings = settings

    def build(self, shape: HeadShape, num_classes: int) -> nn.Module:
        """R times (N, D) -> logits (R, N, C)."""
        return _Readouts([self._readout(width, num_classes) for width in shape.widths])

    def _readout(self, width: int, num_classes: int) -> nn.Module:
        told = self.settings
        style = HiddenStyle("batch", "leaky_relu", told.dropout, told.leaky_slope)
        widths = (width, *told.hidden)
        blocks = [
            nn.Sequential(*hidden_layer(given, hidden, style))
            for given, hidden in zip(widths[:-1], told.hidden, strict=True)
        ]
        place = max(1, len(blocks) - 1) if told.skip_to is None else told.skip_to
        beside = blocks[:place]
        skipping = [Skipping(beside, nn.Linear(width, widths[place]))] if place else []
        return nn.Sequential(*skipping, *blocks[place:], nn.Linear(widths[-1], num_classes))


class _Readouts(nn.Module):
    def __init__(self, heads: list[nn.Module]) -> None:
        super().__init__()
        self.heads = nn.ModuleList(heads)

    def forward(self, layers: Layers) -> Tensor:
        pairs = zip(self.heads, layers, strict=True)
        return torch.stack([head(vectors_ND) for head, vectors_ND in pairs])
