"""`mlp`: fully connected layers with ReLU and dropout between the vector and the logits."""

from pydantic import Field, field_validator
from torch import nn

from audioflow.registry import Settings


class MlpSettings(Settings):
    """hidden: widths of the hidden layers; dropout: share of hidden values zeroed in training."""

    hidden: tuple[int, ...] = Field((256,), min_length=1)
    dropout: float = Field(0.2, ge=0, lt=1)

    @field_validator("hidden")
    @classmethod
    def _positive(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        wrong = [width for width in value if width < 1]
        if wrong:
            raise ValueError(f"hidden has the width {wrong[0]}; allowed: 1 or more")
        return value


class Mlp:
    """A multi-layer perceptron."""

    Settings = MlpSettings

    def __init__(self, settings: MlpSettings) -> None:
        self.settings = settings

    def build(self, width: int, num_classes: int) -> nn.Module:
        """(B, D) -> logits (B, C)."""
        layers: list[nn.Module] = []
        for hidden in self.settings.hidden:
            layers += [nn.Linear(width, hidden), nn.ReLU(), nn.Dropout(self.settings.dropout)]
            width = hidden
        return nn.Sequential(*layers, nn.Linear(width, num_classes))
