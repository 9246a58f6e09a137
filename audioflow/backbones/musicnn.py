"""`musicnn`: MusiCNN, music tags and the features behind them, per 3 s (Pons and Serra 2019).

Shapes: P patches, T samples of a patch, F frames, K frequency bins, M = 96 mel bands, D width.
"""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from audioflow.backbones import musicnn_tags
from audioflow.backbones.base import Spectrum
from audioflow.backbones.folding import taken_out
from audioflow.backbones.musicnn_networks import (
    FRONT_CHANNELS,
    NUM_BANDS,
    TensorFlowMusicnn,
    TorchMusicnn,
    renamed_from_tensorflow,
    renamed_from_torch,
)
from audioflow.backbones.network import AS_TUPLE, Network, NetworkSettings, fill
from audioflow.frontend import decibel, mel_filters, power_spectrogram, to_float
from audioflow.frontend.mel import MelScale, centres_hz
from audioflow.media.patches import Patching, Short
from audioflow.weights import KnownWeights, WeightsName

Variant = Literal["torch", "tensorflow"]
Layer = Literal["scores", "penultimate", "max_pool", "mean_pool"]

SAMPLE_RATE_HZ = 16_000
N_FFT = 512
HOP = 256
TENSORFLOW_FRAMES = 187
PATCH_SAMPLES: Mapping[Variant, int] = {
    "torch": 48_000,
    "tensorflow": N_FFT + (TENSORFLOW_FRAMES - 1) * HOP,
}
_LEAD_SAMPLES: Mapping[Variant, int] = {"torch": 0, "tensorflow": N_FFT // 2}
_STEP_SAMPLES: Mapping[Variant, int] = {"torch": 48_000, "tensorflow": TENSORFLOW_FRAMES * HOP}
_DENSE = {64: 200, 512: 500}
_WON = "Won et al., Evaluation of CNN-based Automatic Music Tagging Models, SMC 2020"
_PONS = "Pons and Serra, musicnn: Pre-trained Convolutional Neural Networks for Music, ISMIR 2019"


class MusicnnSettings(NetworkSettings):
    """weights: `mtat`, or a file of minzwon's PyTorch training, or a checkpoint of the package
    musicnn (the folder `MTT_musicnn` or `MSD_musicnn` of its wheel).

    variant: which of the two the weights are for. `tensorflow` has the package's front end and
    network; its spectrogram is the package's without the rounding to half precision, in which loud
    music overflows there. middle: channels of the middle layers; 512 for minzwon's weights of the
    Million Song Dataset and for MSD_musicnn_big.
    layers: `scores` of the 50 tags (`musicnn_tags`), `penultimate`, and maximum and mean over
    time of all that comes before (`max_pool`, `mean_pool`).
    hop_s: distance of patches; `null` for one after the other (3 s, 2.992 s with `tensorflow`,
    whose spectrogram goes on from patch to patch where this is a multiple of 0.016 s). short: what
    shorter clips get.
    """

    weights: WeightsName = "mtat"
    variant: Variant = "torch"
    middle: Literal[64, 512] = 64
    layers: Annotated[tuple[Layer, ...], AS_TUPLE] = Field(("penultimate",), min_length=1)
    hop_s: float | None = Field(None, ge=0.016, le=60)
    short: Short = "pad"

    @model_validator(mode="after")
    def _consistent(self) -> "MusicnnSettings":
        if self.weights == "mtat" and (self.variant != "torch" or self.middle != 64):
            raise ValueError(
                f"weights (mtat) are for variant torch with middle 64, not for {self.variant} "
                f"with {self.middle}: leave variant and middle out, or name other weights"
            )
        return self


class Musicnn:
    """MusiCNN of either kind. `TAGS`: names of the scores, by the data set of the weights."""

    Settings = MusicnnSettings
    revision = 1
    patches_on_cpu = 8
    TAGS: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "mtat": musicnn_tags.MTAT,
        "msd": musicnn_tags.MSD,
    }
    known = (
        KnownWeights(
            "mtat",
            "https://github.com/philtgun/music-tagging-benchmark/raw/master/"
            "models/mtat/musicnn/best_model.pth",
            "MIT",
            f"{_WON}; {_PONS}",
            sha256="0a7ac8aa3daab3a1c59cae16a771b0bfa4064ac94502ebc990a5c32a2771e189",
            size_bytes=3_257_164,
            note="PyTorch, MagnaTagATune; by the author of minzwon/sota-music-tagging-models (MIT)",
        ),
    )

    def __init__(self, settings: MusicnnSettings) -> None:
        self._settings = settings
        self._network: Network | None = None
        self._norm: nn.Module = nn.Identity()

    @property
    def input(self) -> Patching:
        settings = self._settings
        patch_s = PATCH_SAMPLES[settings.variant] / SAMPLE_RATE_HZ
        hop_s = settings.hop_s or _STEP_SAMPLES[settings.variant] / SAMPLE_RATE_HZ
        lead_s = _LEAD_SAMPLES[settings.variant] / SAMPLE_RATE_HZ
        return Patching(SAMPLE_RATE_HZ, patch_s, hop_s, settings.short, lead_s=lead_s, exact=True)

    @property
    def layers(self) -> Mapping[str, int]:
        pooled = FRONT_CHANNELS + 3 * self._settings.middle
        widths = {"scores": 50, "penultimate": _DENSE[self._settings.middle]}
        widths |= {"max_pool": pooled, "mean_pool": pooled}
        return {name: widths[name] for name in self._settings.layers}

    def to(self, device: torch.device) -> None:
        """Load the weights."""
        settings = self._settings
        shape = (settings.middle, _DENSE[settings.middle])
        net: Any
        if settings.variant == "torch":
            net, first = TorchMusicnn(*shape), "spec_bn"
            fill(net, settings.weights, settings.seed, renamed_from_torch)
        else:
            net, first = TensorFlowMusicnn(*shape), "batch_normalization_0"
            fill(net, settings.weights, settings.seed, renamed_from_tensorflow)
        net.fold()
        self._norm = taken_out(net, first).to(device)
        self._network = Network(net, device, settings)

    def embed(self, batch: Tensor) -> dict[str, Tensor]:
        """Waveforms (P, T) at 16 kHz -> the wanted layers, float32 (P, D)."""
        return self.from_spectrogram(self.spectrogram(batch))

    @property
    def spectrum(self) -> Spectrum:
        torch_variant = self._settings.variant == "torch"
        scale: MelScale = "htk" if torch_variant else "slaney"
        bands_hz = tuple(centres_hz(NUM_BANDS, 0.0, SAMPLE_RATE_HZ / 2, scale).tolist())
        frame_s = HOP / SAMPLE_RATE_HZ
        if torch_variant:
            return Spectrum(0.0, frame_s, bands_hz, -100.0, "dB")
        return Spectrum(N_FFT / 2 / SAMPLE_RATE_HZ, frame_s, bands_hz, 0.0, "log10(10,000 x + 1)")

    def spectrogram(self, batch: Tensor) -> Tensor:
        """Waveforms (P, T) -> float32 (P, F, 96)."""
        waveform_PT = to_float(batch)
        return mel_db(waveform_PT) if self._settings.variant == "torch" else log_mel(waveform_PT)

    def from_spectrogram(self, spectrogram_PFM: Tensor) -> dict[str, Tensor]:
        """float32 (P, F, 96) -> the wanted layers, float32 (P, D)."""
        assert self._network is not None, "to() comes first"
        normed_P1MF = self._norm(spectrogram_PFM.transpose(1, 2)[:, None])
        found: dict[str, Tensor] = self._network(normed_P1MF)
        return {name: found[name] for name in self._settings.layers}


def mel_db(waveform_PT: Tensor) -> Tensor:
    """float32 (P, T) in [-1, 1] -> (P, F, 96) dB, as torchaudio's mel spectrogram: HTK's scale,
    bands of equal peak, centred with reflection, F = 1 + T // 256."""
    power_PFK = power_spectrogram(waveform_PT, N_FFT, HOP)
    top_hz = SAMPLE_RATE_HZ / 2
    mel_KM = mel_filters(N_FFT, SAMPLE_RATE_HZ, NUM_BANDS, 0.0, top_hz, "htk", None)
    return decibel(power_PFK @ mel_KM.to(power_PFK.device))


def log_mel(waveform_PT: Tensor) -> Tensor:
    """float32 (P, T) in [-1, 1] -> (P, F, 96) log10(10,000 mel + 1), as librosa's mel spectrogram:
    Slaney's scale, bands of equal area. The patch has half a window on either side already."""
    power_PFK = power_spectrogram(waveform_PT, N_FFT, HOP, center=False)
    mel_KM = mel_filters(N_FFT, SAMPLE_RATE_HZ, NUM_BANDS, 0.0, SAMPLE_RATE_HZ / 2)
    return torch.log10(10_000.0 * (power_PFK @ mel_KM.to(power_PFK.device)) + 1.0)
