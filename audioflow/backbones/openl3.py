"""`openl3`: OpenL3, 512 or 6144 numbers per second of sound (Cramer et al. 2019).

What differs between the versions of the package is its front end; see `openl3_frontend.py`.

Shapes: P patches, T = 48,000 samples of a patch, D width.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, model_validator
from torch import Tensor, nn

from audioflow.backbones.base import Spectrum
from audioflow.backbones.folding import taken_out
from audioflow.backbones.l3 import L3, normed, patching, renamed
from audioflow.backbones.network import Network, NetworkSettings, fill
from audioflow.backbones.openl3_frontend import (
    BANDS,
    SAMPLE_RATE_HZ,
    FrontEnd,
    Representation,
    spectrogram,
    spectrum_of,
)
from audioflow.frontend import to_float
from audioflow.media.patches import Patching, Short
from audioflow.weights import KnownWeights, WeightsError, WeightsName

WIDTHS = (64, 64, 128, 128, 256, 256, 512, 512)
_LAST_POOL: Mapping[Representation, Mapping[int, tuple[int, int]]] = {
    "linear": {512: (32, 24), 6144: (8, 8)},
    "mel128": {512: (16, 24), 6144: (4, 8)},
    "mel256": {512: (32, 24), 6144: (8, 8)},
}
_CITATION = (
    "Cramer et al., Look, Listen and Learn More: Design Choices for Deep Audio Embeddings, "
    "ICASSP 2019"
)
_SHA256 = {"mel256_music": "e379f41e880b78e157c199ebddac80d3764e6a46282bcccdbe875bcf538f9afd"}


def _known(name: str) -> KnownWeights:
    trained = "videos of music" if name.endswith("music") else "videos of the environment"
    return KnownWeights(
        name,
        f"https://github.com/marl/openl3/raw/models/openl3_audio_{name}-v0_4_0.h5.gz",
        "CC-BY-4.0",
        _CITATION,
        sha256=_SHA256.get(name, ""),
        note=f"Keras; trained on {trained}; unchanged since the first release",
    )


class OpenL3Settings(NetworkSettings):
    """representation: of the sound. weights: `<representation>_music` or `<representation>_env`,
    after what they were trained on, or a file of this representation, from openl3 or torchopenl3;
    of these two settings one is enough.

    size: 6144, or 512 by more pooling. front_end: that of openl3 0.4 with Kapre (`kapre_0_4`) or
    librosa, or that of openl3 0.3.1 and before, and of torchopenl3 (`kapre_0_1`). Embeddings of one
    front end do not go with those of another; what was published before 2021 is of `kapre_0_1`.
    hop_s: distance of patches; a patch is 1 s. centre: half a second of silence goes ahead, so that
    the first patch has the first sample in its middle (the package's times are those of the
    middles, half a second after where patches start). short: what clips shorter than a patch get.
    """

    weights: WeightsName = "mel256_music"
    representation: Representation = "mel256"
    size: Literal[512, 6144] = 6144
    front_end: FrontEnd = "kapre_0_4"
    hop_s: float = Field(0.1, ge=0.01, le=60)
    centre: bool = True
    short: Short = "pad"

    @model_validator(mode="before")
    @classmethod
    def _one_is_enough(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        weights, representation = data.get("weights"), data.get("representation")
        if weights is None and representation in BANDS:
            return data | {"weights": f"{representation}_music"}
        if representation is None and isinstance(weights, str):
            named = weights.partition("_")[0]
            if weights in {known.name for known in OpenL3.known}:
                return data | {"representation": named}
        return data

    @model_validator(mode="after")
    def _same_representation(self) -> "OpenL3Settings":
        of_weights = self.weights.partition("_")[0]
        known = {known.name for known in OpenL3.known}
        if self.weights in known and of_weights != self.representation:
            raise ValueError(
                f"weights ({self.weights}) are for the representation {of_weights}, not "
                f"{self.representation}: leave representation out, or give "
                f"{self.representation}_music or {self.representation}_env"
            )
        return self


class OpenL3:
    """OpenL3's audio embeddings."""

    Settings = OpenL3Settings
    revision = 1
    known = tuple(_known(f"{kind}_{content}") for kind in BANDS for content in ("music", "env"))

    def __init__(self, settings: OpenL3Settings) -> None:
        self._settings = settings
        self._network: Network | None = None
        self._norm: nn.Module = nn.Identity()

    @property
    def input(self) -> Patching:
        settings = self._settings
        return patching(SAMPLE_RATE_HZ, settings.hop_s, settings.short, centre=settings.centre)

    @property
    def layers(self) -> Mapping[str, int]:
        return {"embedding": self._settings.size}

    def to(self, device: torch.device) -> None:
        """Load the weights."""
        settings = self._settings
        _refuse_other_name(settings.weights, settings.representation)
        pool = _LAST_POOL[settings.representation][settings.size]
        net = L3(WIDTHS, pool, last_norm=False)
        fill(net, settings.weights, settings.seed, self._renamed)
        net.fold()
        self._norm = taken_out(net, "batch_normalization_1").to(device)
        self._network = Network(net, device, settings)

    def embed(self, batch: Tensor) -> dict[str, Tensor]:
        """Waveforms (P, 48000) at 48 kHz -> {"embedding": float32 (P, 512 or 6144)}."""
        return self.from_spectrogram(self.spectrogram(batch))

    @property
    def spectrum(self) -> Spectrum:
        return spectrum_of(self._settings.representation, self._settings.front_end)

    def spectrogram(self, batch: Tensor) -> Tensor:
        """Waveforms (P, 48000) -> float32 (P, F, M) in dB below the loudest of each patch."""
        told = self._settings
        db_PMF = spectrogram(to_float(batch), told.representation, told.front_end)
        return db_PMF.transpose(1, 2)

    def from_spectrogram(self, spectrogram_PFM: Tensor) -> dict[str, Tensor]:
        """float32 (P, F, M) -> {"embedding": float32 (P, 512 or 6144)}."""
        assert self._network is not None, "to() comes first"
        normed_P1MF = normed(self._norm, spectrogram_PFM.transpose(1, 2))
        return {"embedding": self._network(normed_P1MF)}

    def _renamed(self, tensors: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """torchopenl3 keeps its filters beside the weights: they tell the representation."""
        bands = {"mel_basis": 0, "dft_real_kernels": 0}
        for name, axis in bands.items():
            values = tensors.get(f"speclayer.{name}")
            if values is None:
                continue
            stored, wanted = np.shape(values)[axis], BANDS[self._settings.representation]
            if stored != wanted:
                raise WeightsError(
                    f"{self._settings.weights} is for a spectrogram of {stored} bands, but "
                    f"representation {self._settings.representation} has {wanted}: give the "
                    "representation of the file"
                )
            break
        return renamed(tensors)


def _refuse_other_name(weights: str, representation: Representation) -> None:
    """Weights of two representations have the same shapes: their names are all there is to tell."""
    name = Path(weights).name.lower()
    named = [kind for kind in BANDS if re.search(rf"(?<![a-z0-9]){kind}(?![a-z0-9])", name)]
    if named and representation not in named:
        raise WeightsError(
            f"{weights} is for the representation {named[0]} by its name, but representation is "
            f"{representation}: give representation {named[0]}, or rename the file if it is not"
        )
