"""What every head offers.

Shapes: B clips of a batch, N vectors or pictures, P patches of a clip, V vectors of a patch,
D width of a vector, C classes, R readouts.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol

from torch import Tensor, nn

from audioflow.registry import Settings

Takes = Literal["vectors", "layers", "pictures", "sequences", "picture_sequences"]
"""What a module's `forward` takes, always float32, and gives, always logits float32:

vectors            (N, D) -> (N, C); N are clips or patches
layers             a list of (N, D), one per layer of the recipe -> (R, N, C): a readout per layer
pictures           (N, V, D): the V vectors of a patch as the rows of a picture -> (N, C)
sequences          (B, P, D), mask bool (B, P): True where there is a patch -> (B, C)
picture_sequences  (B, P, V, D), mask bool (B, P) -> (B, C)

Of N or B there may be none, and of P at least one; a clip's logits depend on its own patches alone
(but for batch normalisation in training). What is not in a mask does not count, whatever it holds.
"""


@dataclass(frozen=True)
class HeadShape:
    """What a head is built for.

    layers and widths: names and widths D of the layers it gets, one but for `layers` heads.
    vectors_per_patch: V, 1 where a layer gives one vector per patch.
    """

    layers: tuple[str, ...]
    widths: tuple[int, ...]
    vectors_per_patch: int = 1

    @property
    def width(self) -> int:
        """D of the only layer."""
        (width,) = self.widths
        return width


class Head(Protocol):
    """A classifier that torch trains.

    normalised: whether its inputs are shifted and scaled to mean 0 and deviation 1 over the train
    clips, each column by itself.
    """

    Settings: ClassVar[type[Settings]]
    takes: ClassVar[Takes]
    normalised: ClassVar[bool]

    def __init__(self, settings: Any) -> None: ...

    def build(self, shape: HeadShape, num_classes: int) -> nn.Module:
        """A fresh module, its first parameters by torch's seed.

        It may have a method `rates() -> Mapping[str, float]`: by the beginning of parameters'
        names, the factor of their learning rate (1 for those that it does not name, 0 to freeze).
        Raises `ValueError` for a shape it cannot take.
        """
        ...


class EstimatorHead(Protocol):
    """A classifier that scikit-learn fits, on vectors; it selects no epoch and needs no `val`."""

    Settings: ClassVar[type[Settings]]
    takes: ClassVar[Takes]

    def __init__(self, settings: Any) -> None: ...

    def estimator(self, seed: int) -> Any:
        """A fresh scikit-learn classifier (a pipeline with its scaling), not fitted."""
        ...


def is_estimator(head: type[Any]) -> bool:
    """Whether scikit-learn fits this head."""
    return hasattr(head, "estimator")


Layers = Sequence[Tensor]
Rates = Mapping[str, float]
