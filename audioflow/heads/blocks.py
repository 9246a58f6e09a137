"""What heads share: hidden layers, skips, and batch normalisation of as few rows as there are.

Shapes: N rows, H and W size of a map.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import AfterValidator, Field
from torch import Tensor, nn
from torch.nn import functional as F

Norm = Literal["none", "batch", "layer"]
Activation = Literal["relu", "leaky_relu", "gelu"]
LEAKY_SLOPE = 0.2


def _positive(hidden: tuple[int, ...]) -> tuple[int, ...]:
    wrong = [width for width in hidden if width < 1]
    if wrong:
        raise ValueError(f"hidden has the width {wrong[0]}; allowed: 1 or more")
    return hidden


Hidden = Annotated[tuple[int, ...], Field(min_length=1), AfterValidator(_positive)]
"""A setting `hidden`: widths of hidden layers, from the input on."""


@dataclass(frozen=True)
class HiddenStyle:
    """What follows the affine map of a hidden layer. leaky_slope: of `leaky_relu`, below 0."""

    norm: Norm
    activation: Activation
    dropout: float
    leaky_slope: float = LEAKY_SLOPE


def hidden_layer(given: int, width: int, style: HiddenStyle) -> list[nn.Module]:
    """Affine map, normalisation where there is one, activation, dropout."""
    norms: dict[str, list[nn.Module]] = {
        "none": [],
        "batch": [BatchNorm1d(width)],
        "layer": [nn.LayerNorm(width)],
    }
    activations: dict[str, nn.Module] = {
        "relu": nn.ReLU(),
        "leaky_relu": nn.LeakyReLU(style.leaky_slope),
        "gelu": nn.GELU(),
    }
    return [
        nn.Linear(given, width),
        *norms[style.norm],
        activations[style.activation],
        nn.Dropout(style.dropout),
    ]


class Skipping(nn.Module):
    """Layers, and what `skip` makes of their input added to their output."""

    def __init__(self, layers: Iterable[nn.Module], skip: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)
        self.skip = skip

    def forward(self, rows: Tensor) -> Tensor:
        """(N, width of the input) -> (N, width of the output)."""
        output: Tensor = self.layers(rows) + self.skip(rows)
        return output


class BatchNorm1d(nn.BatchNorm1d):
    """Batch normalisation that takes a single row, or none, in training too.

    One value per column has no spread, which torch refuses; such a batch (the end of an epoch, a
    worker's share) is normalised by the running statistics, which stay as they are.
    """

    def forward(self, input: Tensor) -> Tensor:
        """(N, C) -> (N, C)."""
        return _by_running(self, input) if _too_few(self, input) else super().forward(input)


class BatchNorm2d(nn.BatchNorm2d):
    """The same for maps: where there is no map, or one of a single place."""

    def forward(self, input: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H, W)."""
        return _by_running(self, input) if _too_few(self, input) else super().forward(input)


def _too_few(norm: nn.BatchNorm1d | nn.BatchNorm2d, values: Tensor) -> bool:
    return norm.training and values.numel() < 2 * norm.num_features


def _by_running(norm: nn.BatchNorm1d | nn.BatchNorm2d, values: Tensor) -> Tensor:
    return F.batch_norm(
        values, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps
    )
