"""What every backbone offers.

Shapes: P patches, T samples of a patch, N frames of a patch, H and W their size, D width of a
layer, L vectors that a layer gives per patch; F frames of M bands of a spectrogram.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor
from typing_extensions import TypeIs

from audioflow.frontend.logmel import Constants
from audioflow.media.parts import FramePatching
from audioflow.media.patches import Patching
from audioflow.registry import Settings
from audioflow.weights import KnownWeights

Input = Patching | FramePatching
"""What a backbone takes: sound cut in one way, or pictures sampled and cut in one way."""


@dataclass(frozen=True)
class Spectrum:
    """The axes of a backbone's spectrograms.

    first_s: the middle of the first frame, in seconds after the begin of its patch. frame_s:
    distance of frames. bands_hz: the middle of every band, rising. quiet: what a band has in
    silence. unit: of the values, in words.
    """

    first_s: float
    frame_s: float
    bands_hz: tuple[float, ...]
    quiet: float
    unit: str


def spectrum_of(constants: Constants) -> Spectrum:
    """The axes of the log-mel spectrograms of these constants."""
    told = constants
    return Spectrum(told.first_s, told.frame_s, told.bands_hz, told.quiet, told.unit)


class Backbone(Protocol):
    """A network or recipe: patches in, vectors per patch and layer out.

    It is made from its settings alone, and cheaply: nothing is loaded before `to`. Settings of type
    `WeightsName` are `random` or a local path by then. `known` are the public weight files.
    `revision` goes up whenever the same input would give other vectors, so that tables made before
    are made again. `input` says which media it takes; `layers` names its outputs and their widths.
    A class may say by `patches_on_cpu` how many patches at once are fast on a CPU; else it is 32.
    It may have `COLUMN_NAMES`: layer name -> what each of its D columns is, in words, and
    `QUALITY`: those of its layer `embedding` that tell how much there is to hear.
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


class SpectrogramBackbone(Backbone, Protocol):
    """A backbone whose network sees a spectrogram, which can be looked at and altered on the way.

    `embed` is one step after the other. Where the network is torch's, gradients flow through the
    second one.
    """

    @property
    def spectrum(self) -> Spectrum:
        """The axes of its spectrograms."""
        ...

    def spectrogram(self, batch: Tensor) -> Tensor:
        """A batch of patches as for `embed` -> float32 (P, F, M): F frames of M bands."""
        ...

    def from_spectrogram(self, spectrogram_PFM: Tensor) -> dict[str, Tensor]:
        """Spectrograms float32 (P, F, M) -> what `embed` gives."""
        ...


def sees_spectrogram(backbone: Any) -> TypeIs[SpectrogramBackbone]:
    """Whether this is a `SpectrogramBackbone`."""
    return hasattr(backbone, "from_spectrogram")
