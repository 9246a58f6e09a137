"""`mlp`: fully connected layers between the vector and the logits.

Shapes: N vectors, D width of a vector, C classes.
"""

from typing import ClassVar

from pydantic import Field
from torch import nn

from audioflow.heads.base import HeadShape, Takes
from audioflow.heads.blocks import Activation, Hidden, HiddenStyle, Norm, Skipping, hidden_layer
from audioflow.registry import Settings


class MlpSettings(Settings):
    """hidden: widths of the hidden layers; dropout: share of hidden values zeroed in training.

    norm: what follows the affine map of each: nothing, batch or layer normalisation. `batch`
    normalises a batch of one vector by the running statistics, also in training.
    activation: `leaky_relu` has the slope 0.2 below 0. residual: the input of every hidden layer
    is added to its output, through a linear map where the two differ in width.
    """

    hidden: Hidden = (256,)
    dropout: float = Field(0.2, ge=0, lt=1)
    norm: Norm = "none"
    activation: Activation = "relu"
    residual: bool = False


class Mlp:
    """A multi-layer perceptron."""

    Settings = MlpSettings
    takes: ClassVar[Takes] = "vectors"
    normalised: ClassVar[bool] = True

    def __init__(self, settings: MlpSettings) -> None:
        self.settings = settings

    def build(self, shape: HeadShape, num_classes: int) -> nn.Module:
        """(N, D) -> logits (N, C)."""
        told = self.settings
        style = HiddenStyle(told.norm, told.activation, told.dropout)
        layers: list[nn.Module] = []
        given = shape.width
        for width in told.hidden:
            hidden = hidden_layer(given, width, style)
            if told.residual:
                skip = nn.Identity() if given == width else nn.Linear(given, width)
                hidden = [Skipping(hidden, skip)]
            layers += hidden
            given = width
        return nn.Sequential(*layers, nn.Linear(given, num_classes))
