"""The spectrograms that OpenL3 was fed with: three representations, and what changed between its
versions although the weights did not (marl/openl3#80).

Shapes: P patches, T = 48,000 samples, M bands, F frames, K frequency bins.
"""

from collections.abc import Mapping
from typing import Literal

from torch import Tensor
from torch.nn import functional

from audioflow.backbones.base import Spectrum
from audioflow.backbones.l3 import DYNAMIC_RANGE_DB, kapre_0_1_mel, relative_db
from audioflow.frontend import mel_filters, power_spectrogram
from audioflow.frontend.mel import MelScale, centres_hz

Representation = Literal["linear", "mel128", "mel256"]
FrontEnd = Literal["kapre_0_4", "librosa", "kapre_0_1"]

SAMPLE_RATE_HZ = 48_000
HOP = 242
N_FFT = 2048
LINEAR_N_FFT = 512
BANDS: Mapping[Representation, int] = {"linear": 257, "mel128": 128, "mel256": 256}


def spectrogram(waveform_PT: Tensor, representation: Representation, front_end: FrontEnd) -> Tensor:
    """float32 waveforms (P, 48000) in [-1, 1] -> (P, M, F) in dB below the loudest, at least -80.

    linear: magnitudes of 257 bins, 197 frames, no padding; the same in all versions. mel128,
    mel256: 199 frames. `kapre_0_4` and `librosa` take mel bands of magnitudes on Slaney's scale;
    the former puts zeros behind the patch, the latter on both sides. `kapre_0_1`: see `l3`.
    """
    if representation == "linear":
        power_PFK = power_spectrogram(waveform_PT, LINEAR_N_FFT, HOP, center=False)
        return relative_db(power_PFK.sqrt().transpose(1, 2))
    bands = BANDS[representation]
    if front_end == "kapre_0_1":
        return relative_db(kapre_0_1_mel(waveform_PT, N_FFT, HOP, SAMPLE_RATE_HZ, bands))
    samples = waveform_PT.shape[1]
    lacking = max(0, (-(-samples // HOP) - 1) * HOP + N_FFT - samples)
    before, after = (0, lacking) if front_end == "kapre_0_4" else (N_FFT // 2, N_FFT // 2)
    padded = functional.pad(waveform_PT, (before, after))
    power_PFK = power_spectrogram(padded, N_FFT, HOP, center=False)
    mel_KM = mel_filters(N_FFT, SAMPLE_RATE_HZ, bands, 0.0, SAMPLE_RATE_HZ / 2)
    return relative_db((power_PFK.sqrt() @ mel_KM.to(power_PFK.device)).transpose(1, 2))


def spectrum_of(representation: Representation, front_end: FrontEnd) -> Spectrum:
    """The axes of `spectrogram`."""
    frame_s, unit = HOP / SAMPLE_RATE_HZ, "dB below the loudest"
    top_hz, bands = SAMPLE_RATE_HZ / 2, BANDS[representation]
    if representation == "linear":
        bins_hz = tuple(top_hz * number / (bands - 1) for number in range(bands))
        middle_s = LINEAR_N_FFT / 2 / SAMPLE_RATE_HZ
        return Spectrum(middle_s, frame_s, bins_hz, -DYNAMIC_RANGE_DB, unit)
    scale: MelScale = "htk" if front_end == "kapre_0_1" else "slaney"
    bands_hz = tuple(centres_hz(bands, 0.0, top_hz, scale).tolist())
    # Kapre 0.1 shares what it adds between both sides, Kapre 0.4 adds all of it behind.
    lacking = (-(-SAMPLE_RATE_HZ // HOP) - 1) * HOP + N_FFT - SAMPLE_RATE_HZ
    before = {"kapre_0_4": 0, "librosa": N_FFT // 2, "kapre_0_1": lacking // 2}[front_end]
    middle_s = (N_FFT / 2 - before) / SAMPLE_RATE_HZ
    return Spectrum(middle_s, frame_s, bands_hz, -DYNAMIC_RANGE_DB, unit)
