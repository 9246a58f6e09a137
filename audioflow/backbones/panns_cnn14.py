"""`panns_cnn14`: CNN14 of the PANNs, 2048 numbers and the scores of 527 AudioSet classes (Kong et
al. 2020), for sound at 32, 16 or 8 kHz.

Shapes: P patches, T samples of a patch, F frames, K frequency bins, M = 64 mel bands.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional

from audioflow.backbones.base import Spectrum
from audioflow.backbones.folding import fold, taken_out
from audioflow.backbones.network import AS_TUPLE, Network, NetworkSettings, fill, unfilled
from audioflow.frontend import decibel, mel_filters, power_spectrogram, to_float
from audioflow.frontend.mel import centres_hz
from audioflow.media.patches import Patching, Short
from audioflow.weights import KnownWeights, WeightsError, WeightsName

Layer = Literal["embedding", "scores"]
WIDTHS: Mapping[str, int] = {"embedding": 2048, "scores": 527}
CHANNELS = (64, 128, 256, 512, 1024, 2048)
NUM_BANDS = 64
LOW_HZ = 50.0
SHORTEST_S = 0.32
"""Five halvings need 32 frames of 10 ms."""

_URL = "https://zenodo.org/records/3987831/files/"
_CITATION = (
    "Kong et al., PANNs: Large-Scale Pretrained Audio Neural Networks for Audio Pattern "
    "Recognition, IEEE/ACM TASLP 2020"
)


@dataclass(frozen=True)
class _Rate:
    """What differs between the sample rates; windows are 32 ms, hops 10 ms."""

    n_fft: int
    hop: int
    high_hz: float


RATES: Mapping[int, _Rate] = {
    32_000: _Rate(1024, 320, 14_000.0),
    16_000: _Rate(512, 160, 8000.0),
    8000: _Rate(256, 80, 4000.0),
}
_RATE_OF = {"cnn14": 32_000, "cnn14_16k": 16_000, "cnn14_8k": 8000}


class PannsSettings(NetworkSettings):
    """weights: `cnn14` (32 kHz), `cnn14_16k`, `cnn14_8k`, or a file of one of them.

    sample_rate_hz: of the network; known weights say it themselves. layers: `embedding`, 2048, and
    `scores`, the probabilities of AudioSet's 527 classes, in their order.
    patch_s: the network pools over whatever length it is given. 10 s, as it was trained on (with
    silence after shorter clips); `null` gives clips as a whole, as its own inference does. hop_s:
    distance of patches. What remains of a clip is one more patch, with silence after it. short:
    what clips shorter than a patch get.
    """

    weights: WeightsName = "cnn14"
    sample_rate_hz: Literal[32_000, 16_000, 8000] = 32_000
    layers: Annotated[tuple[Layer, ...], AS_TUPLE] = Field(("embedding",), min_length=1)
    patch_s: float | None = Field(10.0, ge=SHORTEST_S, le=600)
    hop_s: float = Field(10.0, ge=0.01, le=600)
    short: Short = "pad"

    @model_validator(mode="before")
    @classmethod
    def _one_is_enough(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        weights, rate = data.get("weights"), data.get("sample_rate_hz")
        if rate is None and weights in _RATE_OF:
            return data | {"sample_rate_hz": _RATE_OF[weights]}
        if weights is None and rate in RATES:
            return data | {"weights": next(name for name, hz in _RATE_OF.items() if hz == rate)}
        return data

    @model_validator(mode="after")
    def _consistent(self) -> "PannsSettings":
        if _RATE_OF.get(self.weights, self.sample_rate_hz) != self.sample_rate_hz:
            raise ValueError(
                f"weights ({self.weights}) are for {_RATE_OF[self.weights]} Hz, not for "
                f"sample_rate_hz {self.sample_rate_hz}: leave one of the two out"
            )
        return self


class PannsCnn14:
    """CNN14 of the PANNs."""

    Settings = PannsSettings
    revision = 1
    known = (
        KnownWeights(
            "cnn14",
            f"{_URL}Cnn14_mAP%3D0.431.pth",
            "CC-BY-4.0",
            _CITATION,
            sha256="0dc499e40e9761ef5ea061ffc77697697f277f6a960894903df3ada000e34b31",
            md5="541141fa2ee191a88f24a3219fff024e",
            size_bytes=327_428_481,
            note="32 kHz",
        ),
        KnownWeights(
            "cnn14_16k",
            f"{_URL}Cnn14_16k_mAP%3D0.438.pth",
            "CC-BY-4.0",
            _CITATION,
            sha256="e2ee543a27919542c2ea03eabaa70b24dcd4e6c8e05621de6b67a94e4c5058e6",
            md5="362fc5ff18f1d6ad2f6d464b45893f2c",
            size_bytes=358_668_570,
            note="16 kHz",
        ),
        KnownWeights(
            "cnn14_8k", f"{_URL}Cnn14_8k_mAP%3D0.416.pth", "CC-BY-4.0", _CITATION, note="8 kHz"
        ),
    )

    def __init__(self, settings: PannsSettings) -> None:
        self._settings = settings
        self._network: Network | None = None
        self._norm: nn.Module = nn.Identity()

    @property
    def input(self) -> Patching:
        settings = self._settings
        whole = settings.patch_s is None
        patch_s = SHORTEST_S if settings.patch_s is None else settings.patch_s
        return Patching(
            settings.sample_rate_hz,
            patch_s,
            settings.hop_s,
            settings.short,
            tail="pad",
            whole=whole,
            exact=True,
        )

    @property
    def layers(self) -> Mapping[str, int]:
        return {name: WIDTHS[name] for name in self._settings.layers}

    def to(self, device: torch.device) -> None:
        """Load the weights."""
        settings = self._settings
        with unfilled():
            net = Cnn14()
        fill(net, settings.weights, settings.seed, self._renamed)
        net.fold()
        self._norm = taken_out(net, "bn0").to(device)
        self._network = Network(net, device, settings)

    def embed(self, batch: Tensor) -> dict[str, Tensor]:
        """Waveforms (P, T) -> the wanted layers, float32 (P, 2048) and (P, 527)."""
        return self.from_spectrogram(self.spectrogram(batch))

    @property
    def spectrum(self) -> Spectrum:
        rate_hz = self._settings.sample_rate_hz
        rate = RATES[rate_hz]
        bands_hz = centres_hz(NUM_BANDS, LOW_HZ, rate.high_hz, "slaney")
        return Spectrum(0.0, rate.hop / rate_hz, tuple(bands_hz.tolist()), -100.0, "dB")

    def spectrogram(self, batch: Tensor) -> Tensor:
        """Waveforms (P, T) -> float32 (P, F, 64) in dB."""
        return log_mel(to_float(batch), self._settings.sample_rate_hz)

    def from_spectrogram(self, spectrogram_PFM: Tensor) -> dict[str, Tensor]:
        """float32 (P, F, 64) -> the wanted layers, float32 (P, 2048) and (P, 527)."""
        assert self._network is not None, "to() comes first"
        given = spectrogram_PFM.transpose(1, 2)[..., None]
        normed_P1FM = self._norm(given).permute(0, 3, 2, 1)
        found: dict[str, Tensor] = self._network(normed_P1FM)
        return {name: found[name] for name in self._settings.layers}

    def _renamed(self, tensors: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """The tensors without the front end, which tells the sample rate that they are for."""
        wanted = RATES[self._settings.sample_rate_hz].n_fft // 2 + 1
        filters = tensors.get("logmel_extractor.melW")
        if filters is not None and np.shape(filters)[0] != wanted:
            bins = np.shape(filters)[0]
            fits = [hz for hz, rate in RATES.items() if rate.n_fft // 2 + 1 == bins]
            raise WeightsError(
                f"{self._settings.weights} has mel filters of {bins} frequency bins, but "
                f"sample_rate_hz {self._settings.sample_rate_hz} has {wanted}: "
                + (f"give sample_rate_hz {fits[0]}" if fits else "no CNN14 of the PANNs has these")
            )
        front_end = ("spectrogram_extractor.", "logmel_extractor.")
        return {name: value for name, value in tensors.items() if not name.startswith(front_end)}


def log_mel(waveform_PT: Tensor, sample_rate_hz: int) -> Tensor:
    """float32 (P, T) in [-1, 1] -> (P, F, 64) dB of power mel bands on Slaney's scale, at least
    -100; centred, F = 1 + T // hop."""
    rate = RATES[sample_rate_hz]
    power_PFK = power_spectrogram(waveform_PT, rate.n_fft, rate.hop)
    mel_KM = mel_filters(rate.n_fft, sample_rate_hz, NUM_BANDS, LOW_HZ, rate.high_hz)
    return decibel(power_PFK @ mel_KM.to(power_PFK.device))


class Cnn14(nn.Module):
    """Normalised log-mel pictures (P, 1, F, 64) -> embedding (P, 2048), scores (P, 527).

    `bn0`, over the mel bands, comes before it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.bn0 = nn.BatchNorm2d(NUM_BANDS)
        given = 1
        for number, channels in enumerate(CHANNELS, 1):
            self.add_module(f"conv_block{number}", _Block(given, channels))
            given = channels
        self.fc1 = nn.Linear(2048, 2048)
        self.fc_audioset = nn.Linear(2048, 527)

    def forward(self, normed_P1FM: Tensor) -> dict[str, Tensor]:
        x = normed_P1FM
        for number in range(1, len(CHANNELS) + 1):
            x = self.get_submodule(f"conv_block{number}")(x)
            if number < len(CHANNELS):
                x = functional.avg_pool2d(x, 2)
        x = x.mean(dim=3)
        embedding = self.fc1(x.amax(dim=2) + x.mean(dim=2)).relu()
        # In float32, since a sigmoid near one has no digits in bfloat16.
        return {"embedding": embedding, "scores": self.fc_audioset(embedding).float().sigmoid()}

    def fold(self) -> None:
        """Work every normalisation but the first one into the convolution before it."""
        blocks = [f"conv_block{number}" for number in range(1, len(CHANNELS) + 1)]
        fold(self, [(f"{b}.conv{i}", f"{b}.bn{i}") for b in blocks for i in (1, 2)])


class _Block(nn.Module):
    """Two 3 x 3 convolutions, each normalised and with ReLU."""

    def __init__(self, given: int, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(given, channels, 3, padding=1, bias=False)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.bn2 = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn1(self.conv1(x)).relu()
        result: Tensor = self.bn2(self.conv2(x)).relu()
        return result
