"""`logmel`: log-mel spectrograms of patches, for heads that look at them as pictures.

No weights. What the spectrograms of published systems have in common and where they differ is in
`frontend/logmel.py`.

Shapes: P patches, T samples of a patch, F frames, M mel bands.
"""

from collections.abc import Mapping
from typing import Self

import torch
from pydantic import Field, model_validator
from torch import Tensor

from audioflow.backbones.base import Spectrum, spectrum_of
from audioflow.frontend import to_float
from audioflow.frontend.logmel import log_mel
from audioflow.frontend.logmel_settings import LogMelKeys, Preset, constants_of
from audioflow.media.patches import Patching, Short

_PATCHES: Mapping[str, tuple[int, float, float]] = {
    "vggish": (16_000, 0.975, 0.96),
    "yamnet": (16_000, 0.975, 0.48),
    "kinetics600": (44_100, 0.96, 0.96),
    "gtzan": (22_050, 29.1, 29.1),
}
"""Sample rate in Hz, length and distance of patches in seconds, by preset."""
_SHORTEST_HOP_S = 0.01


class LogMelSettings(LogMelKeys):
    """The keys of a log-mel spectrogram, of which `vggish` is the preset here, and

    sample_rate_hz: of the sound. patch_s, hop_s: length and distance of patches (as far apart as
    they are long, where only the length is given). By preset these are: vggish 16 kHz, 0.975 s
    (96 frames) every 0.96 s; yamnet the same every 0.48 s; kinetics600 44.1 kHz, 0.96 s (96
    frames); gtzan 22,050 Hz, 29.1 s (1254 frames). short: what shorter clips get.
    """

    preset: Preset = "vggish"
    sample_rate_hz: int | None = Field(None, ge=1000, le=384_000)
    patch_s: float | None = Field(None, gt=0, le=600)
    hop_s: float | None = Field(None, ge=_SHORTEST_HOP_S, le=600)
    short: Short = "pad"

    @model_validator(mode="after")
    def _fits(self) -> Self:
        cut = patching(self)
        constants_of(self, cut.sample_rate_hz, cut.patch_s)
        return self


class LogMel:
    """A vector of mel bands per frame of a patch."""

    Settings = LogMelSettings
    revision = 1
    patches_on_cpu = 8
    known = ()

    def __init__(self, settings: LogMelSettings) -> None:
        self._patching = patching(settings)
        cut = self._patching
        self._constants = constants_of(settings, cut.sample_rate_hz, cut.patch_s)

    @property
    def input(self) -> Patching:
        return self._patching

    @property
    def layers(self) -> Mapping[str, int]:
        return {"logmel": self._constants.num_mels}

    def to(self, device: torch.device) -> None:
        """Nothing to load: filters are made on first use on the input's device."""

    def embed(self, batch: Tensor) -> dict[str, Tensor]:
        """int16 (P, T) -> {"logmel": float32 (P, F, M)}."""
        return self.from_spectrogram(self.spectrogram(batch))

    @property
    def spectrum(self) -> Spectrum:
        return spectrum_of(self._constants)

    def spectrogram(self, batch: Tensor) -> Tensor:
        """int16 (P, T) -> float32 (P, F, M)."""
        return log_mel(to_float(batch), self._constants)

    def from_spectrogram(self, spectrogram_PFM: Tensor) -> dict[str, Tensor]:
        """They are the embedding."""
        return {"logmel": spectrogram_PFM}


def patching(settings: LogMelSettings) -> Patching:
    """How clips are cut. Raises `ValueError` where without a preset something is not given."""
    rate_hz, patch_s, hop_s = settings.sample_rate_hz, settings.patch_s, settings.hop_s
    if settings.preset != "none":
        usual_rate_hz, usual_s, usual_hop_s = _PATCHES[settings.preset]
        rate_hz = rate_hz or usual_rate_hz
        hop_s = hop_s or (usual_hop_s if patch_s is None else None)
        patch_s = patch_s or usual_s
    if rate_hz is None or patch_s is None:
        raise ValueError(
            f"sample_rate_hz ({rate_hz}) and patch_s ({patch_s}) have no default where preset is "
            f"none: give both, or a preset ({', '.join(_PATCHES)})"
        )
    return Patching(rate_hz, patch_s, hop_s or max(_SHORTEST_HOP_S, patch_s), settings.short)
