"""`edgel3`: EdgeL3's small network for urban sound, 64 numbers per second of sound at 8 kHz.

SEA-UST of Srivastava et al. (2020): L3 made small and specialised on the sound of New York's
streets. Front end and layers as its Keras file states them.

Shapes: P patches, T = 8000 samples of a patch, M bands, F frames.
"""

from collections.abc import Mapping

import torch
from pydantic import Field
from torch import Tensor, nn

from audioflow.backbones.base import Spectrum
from audioflow.backbones.folding import taken_out
from audioflow.backbones.l3 import (
    DYNAMIC_RANGE_DB,
    L3,
    kapre_0_1_mel,
    normed,
    patching,
    relative_db,
    renamed,
)
from audioflow.backbones.network import Network, NetworkSettings, fill
from audioflow.frontend import to_float
from audioflow.frontend.mel import centres_hz
from audioflow.media.patches import Patching, Short
from audioflow.weights import KnownWeights, WeightsName

SAMPLE_RATE_HZ = 8000
N_FFT = 1024
HOP = 160
NUM_BANDS = 64
WIDTHS = (32, 32, 64, 64, 128, 128, 64, 64)
LAST_POOL = (8, 6)


class EdgeL3Settings(NetworkSettings):
    """weights: `sea_ust_64`, or a file of it.

    hop_s: distance of patches; a patch is 1 s. centre: half a second of silence goes ahead, so that
    the first patch has the first sample in its middle. short: what clips shorter than a patch get.
    """

    weights: WeightsName = "sea_ust_64"
    hop_s: float = Field(0.1, ge=0.01, le=60)
    centre: bool = True
    short: Short = "pad"


class EdgeL3:
    """EdgeL3 SEA-UST with 64 numbers."""

    Settings = EdgeL3Settings
    revision = 1
    patches_on_cpu = 8
    known = (
        KnownWeights(
            "sea_ust_64",
            "https://github.com/ksangeeta2429/edgel3/raw/models/edgel3_sea_ust_audio_emb_64.h5.gz",
            "MIT",
            "Srivastava et al., Specialized Embedding Approximation for Edge Intelligence: "
            "A Case Study in Urban Sound Classification, ICASSP 2021",
            sha256="d1cf0ce5640e93f07b3eef950f0694c40f3be33d8d7241deaea7f71e2f929a7f",
            size_bytes=3_875_049,
            note="Keras, with Kapre 0.1 as its first layer",
        ),
    )

    def __init__(self, settings: EdgeL3Settings) -> None:
        self._settings = settings
        self._network: Network | None = None
        self._norm: nn.Module = nn.Identity()

    @property
    def input(self) -> Patching:
        settings = self._settings
        return patching(SAMPLE_RATE_HZ, settings.hop_s, settings.short, centre=settings.centre)

    @property
    def layers(self) -> Mapping[str, int]:
        return {"embedding": WIDTHS[-1]}

    def to(self, device: torch.device) -> None:
        """Load the weights."""
        net = L3(WIDTHS, LAST_POOL, last_norm=True)
        fill(net, self._settings.weights, self._settings.seed, renamed)
        net.fold()
        self._norm = taken_out(net, "batch_normalization_1").to(device)
        self._network = Network(net, device, self._settings)

    def embed(self, batch: Tensor) -> dict[str, Tensor]:
        """Waveforms (P, 8000) at 8 kHz -> {"embedding": float32 (P, 64)}."""
        return self.from_spectrogram(self.spectrogram(batch))

    @property
    def spectrum(self) -> Spectrum:
        bands_hz = centres_hz(NUM_BANDS, 0.0, SAMPLE_RATE_HZ / 2, "htk")
        # The 50 frames of 1024 samples reach 432 beyond either end of the patch.
        lacking = 49 * HOP + N_FFT - SAMPLE_RATE_HZ
        middle_s = (N_FFT / 2 - lacking // 2) / SAMPLE_RATE_HZ
        quiet, unit = -DYNAMIC_RANGE_DB, "dB below the loudest"
        return Spectrum(middle_s, HOP / SAMPLE_RATE_HZ, tuple(bands_hz.tolist()), quiet, unit)

    def spectrogram(self, batch: Tensor) -> Tensor:
        """Waveforms (P, 8000) -> float32 (P, 50, 64) in dB below the loudest of each patch."""
        return spectrogram(to_float(batch)).transpose(1, 2)

    def from_spectrogram(self, spectrogram_PFM: Tensor) -> dict[str, Tensor]:
        """float32 (P, 50, 64) -> {"embedding": float32 (P, 64)}."""
        assert self._network is not None, "to() comes first"
        normed_P1MF = normed(self._norm, spectrogram_PFM.transpose(1, 2))
        return {"embedding": self._network(normed_P1MF)}


def spectrogram(waveform_PT: Tensor) -> Tensor:
    """float32 (P, 8000) in [-1, 1] -> (P, 64, 50) in dB below the loudest, at least -80."""
    return relative_db(kapre_0_1_mel(waveform_PT, N_FFT, HOP, SAMPLE_RATE_HZ, NUM_BANDS))
