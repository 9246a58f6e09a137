"""`linear`: one affine layer, that is multinomial logistic regression."""

from torch import nn

from audioflow.registry import Settings


class LinearSettings(Settings):
    """Nothing to set."""


class Linear:
    """Logits as an affine map of the vector."""

    Settings = LinearSettings

    def __init__(self, settings: LinearSettings) -> None:
        self.settings = settings

    def build(self, width: int, num_classes: int) -> nn.Module:
        """(B, D) -> logits (B, C); starts at zero, so every class starts equally likely."""
        layer = nn.Linear(width, num_classes)
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)
        return layer
