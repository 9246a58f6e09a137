"""What every backbone offers.

Shapes: P patches, T samples of a patch, N frames of a patch, H and W their size, D width of a
layer, L vectors that a layer gives per patch.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor

from audioflow.media.parts import FramePatching
from audioflow.media.patches import Patching
from audioflow.registry import Settings
from audioflow.weights import KnownWeights

Input = Patching | FramePatching
"""What a backbone takes: sound cut in one way, or pictures sampled and cut in one way."""


class Backbone(Protocol):
    """A network or recipe: patches in, vectors per patch and layer out.

    It is made from its settings alone, and cheaply: nothing is loaded before `to`. Settings of type
    `WeightsName` are `random` or a local path by then. `known` are the public weight files.
    `revision` goes up whenever the same input would give other vectors, so that tables made before
    are made again. `input` says which media it takes; `layers` names its outputs and their widths.
    A class may say by `patches_on_cpu` how many patches at once are fast on a CPU; else it is 32.
    """

    Settings: ClassVar[type[Settings]]
    revision: ClassVar[int]
    known: ClassVar[Sequence[KnownWeights]]

    def __init__(self, settings: Any) -> None: ...

    @property
    def input(self) -> Input:
        """Sound cut in this way, or pictures sampled and cut in this way."""
        ...

    @property
    def layers(self) -> Mapping[str, int]:
        """Layer name -> width D."""
        ...

    def to(self, device: torch.device) -> None:
        """Load weights, if any, and move to the device."""
        ...

    def embed(self, batch: Tensor) -> dict[str, Tensor]:
        """A batch of patches -> float32 (P, D) per layer, or (P, L, D) where L vectors each.

        Sound: int16 (P, T), full scale 32767, or float32 in [-1, 1] where the input is `exact`;
        `frontend.to_float` takes both. Pictures: uint8 RGB (P, N, H, W, 3). The batch is on
        the device, P is at least 1, the caller has switched gradients off.
        """
        ...
