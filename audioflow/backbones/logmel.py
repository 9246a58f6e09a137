"""`logmel`: log-mel spectrograms of patches, for heads that look at them as pictures.

No weights. What the spectrograms of published systems have in common and where they differ is in
`logmel_settings.py`.

Shapes: P patches, T samples of a patch, F frames, K frequency bins, M mel bands.
"""

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional

from audioflow.backbones.logmel_settings import LogMelSettings, Spectrogram, spectrogram
from audioflow.backbones.mel_triangles import mel_triangles
from audioflow.frontend import to_float
from audioflow.media.patches import Patching

QUIETEST = 1e-10
"""Power that is -100 dB: what is below counts as that."""


class LogMel:
    """A vector of mel bands per frame of a patch."""

    Settings = LogMelSettings
    revision = 1
    known = ()

    def __init__(self, settings: LogMelSettings) -> None:
        self._spectrogram = spectrogram(settings)
        self._short = settings.short

    @property
    def input(self) -> Patching:
        found = self._spectrogram
        return Patching(found.sample_rate_hz, found.patch_s, found.hop_s, self._short)

    @property
    def layers(self) -> Mapping[str, int]:
        return {"logmel": self._spectrogram.num_mels}

    def to(self, device: torch.device) -> None:
        """Nothing to load: filters are made on first use on the input's device."""

    def embed(self, batch: Tensor) -> dict[str, Tensor]:
        """int16 (P, T) -> {"logmel": float32 (P, F, M)}."""
        found = self._spectrogram
        mel_PFM = mel_spectrum(to_float(batch), found)
        return {"logmel": logarithm(mel_PFM, found)}


def mel_spectrum(waveform_PT: Tensor, found: Spectrogram) -> Tensor:
    """float32 waveforms -> float32 (P, F, M), the mel bands of their power or magnitudes."""
    device = waveform_PT.device
    spare = found.n_fft - found.window_samples
    if not found.center and spare:
        # The window lies in the middle of the FFT, and is to begin with the patch.
        waveform_PT = functional.pad(waveform_PT, (spare // 2, spare - spare // 2))
    # In float64: in float32, loud tones round to more than what quiet bands hold.
    spectrum_PKF = torch.stft(
        waveform_PT.double(),
        found.n_fft,
        found.frame_hop_samples,
        found.window_samples,
        torch.hann_window(found.window_samples, dtype=torch.float64, device=device),
        center=found.center,
        pad_mode=found.pad_mode,
        return_complex=True,
    )
    power_PFK = torch.view_as_real(spectrum_PKF).float().square().sum(dim=-1).transpose(1, 2)
    bins_PFK = power_PFK if found.spectrum == "power" else power_PFK.sqrt()
    filters = mel_triangles(
        found.n_fft,
        found.sample_rate_hz,
        found.num_mels,
        found.low_hz,
        found.high_hz,
        found.scale,
        found.linear_in,
        found.norm,
    )
    return bins_PFK @ filters.to(device)


def logarithm(mel_PFM: Tensor, found: Spectrogram) -> Tensor:
    """The bands as the settings want to see them."""
    if found.log == "none":
        return mel_PFM
    if found.log == "natural":
        return torch.log(mel_PFM + found.offset)
    if found.log == "log10":
        return torch.log10(1.0 + found.factor * mel_PFM)
    power = found.spectrum == "power"
    quietest = QUIETEST if power else QUIETEST**0.5
    db = (10.0 if power else 20.0) * torch.log10(mel_PFM.clamp(min=quietest))
    if found.reference == "max":
        db = db - db.amax(dim=(1, 2), keepdim=True)
    if found.top_db != "none":
        db = torch.maximum(db, db.amax(dim=(1, 2), keepdim=True) - found.top_db)
    return db
