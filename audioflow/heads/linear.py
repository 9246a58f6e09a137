"""`linear`: one affine layer, that is multinomial logistic regression.

Shapes: N vectors, D width of a vector, C classes.
"""

from typing import ClassVar

from torch import nn

from audioflow.heads.base import HeadShape, Takes
from audioflow.registry import Settings


class LinearSettings(Settings):
    """Nothing to set."""


class Linear:
    """Logits as an affine map of the vector."""

    Settings = LinearSettings
    takes: ClassVar[Takes] = "vectors"
    normalised: ClassVar[bool] = True

    def __init__(self, settings: LinearSettings) -> None:
        self.settings = settings

    def build(self, shape: HeadShape, num_classes: int) -> nn.Module:
        """(N, D) -> logits (N, C); starts at zero, so every class starts equally likely."""
        layer = nn.Linear(shape.width, num_classes)
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)
        return layer
