"""Waveforms to spectrograms, in torch, batched over patches, on whatever device the input is on.

Shapes: P patches, T samples, F frames, K frequency bins, M mel bands. Each constant is named by the
code or paper it follows, since embeddings are only comparable when every one of them is the same.
"""

from functools import lru_cache
from typing import Literal

import torch
from torch import Tensor
from torchaudio import functional as F

from audioflow.frontend.mel import MelScale, mel_filters

__all__ = (
    "MelScale",
    "PadMode",
    "chroma_filters",
    "dct_matrix",
    "decibel",
    "mel_filters",
    "power_spectrogram",
    "to_float",
)

PadMode = Literal["reflect", "constant"]


def to_float(samples_PT: Tensor) -> Tensor:
    """int16 samples -> float32 in [-1, 1]; float samples as they are, in float32."""
    if samples_PT.is_floating_point():
        return samples_PT.to(torch.float32)
    return samples_PT.to(torch.float32) / 32767.0


def power_spectrogram(
    waveform_PT: Tensor,
    n_fft: int,
    hop: int,
    *,
    win_length: int | None = None,
    center: bool = True,
    pad_mode: PadMode = "reflect",
) -> Tensor:
    """float32 waveforms -> (P, F, K) power of an STFT with a periodic Hann window.

    Centred: F = 1 + T // hop. Else no padding, and an incomplete last frame is dropped:
    F = 1 + (T - n_fft) // hop. win_length: of the window, in the middle of `n_fft`.
    """
    window = torch.hann_window(win_length or n_fft, device=waveform_PT.device)
    spectrum = torch.stft(
        waveform_PT,
        n_fft,
        hop,
        win_length or n_fft,
        window,
        center=center,
        pad_mode=pad_mode,
        return_complex=True,
    )
    power = spectrum.real.square().addcmul_(spectrum.imag, spectrum.imag)
    return power.transpose(1, 2).contiguous()


@lru_cache(maxsize=8)
def dct_matrix(num_coefficients: int, num_bands: int) -> Tensor:
    """(M, coefficients) orthonormal DCT-II, as for MFCC."""
    return F.create_dct(num_coefficients, num_bands, norm="ortho")


@lru_cache(maxsize=8)
def chroma_filters(n_fft: int, sample_rate_hz: int, low_hz: float = 55.0) -> Tensor:
    """(K, 12) share of every frequency bin in the 12 pitch classes, C first, A4 = 440 Hz.

    A bin counts for the pitch classes near it with a Gaussian of a semitone's width (two standard
    deviations). Bins below `low_hz` count for none: there, one bin is several semitones wide.
    """
    hz = torch.linspace(0, sample_rate_hz / 2, n_fft // 2 + 1)
    semitone = 12 * torch.log2(hz.clamp(min=1.0) / 440.0) + 9  # C = 0
    distance = torch.remainder(semitone[:, None] - torch.arange(12)[None, :] + 6, 12) - 6
    filters = torch.exp(-0.5 * (distance / 0.5) ** 2)
    filters = filters / filters.sum(dim=1, keepdim=True)
    filters[hz < low_hz] = 0.0
    return filters


def decibel(power: Tensor, floor: float = 1e-10) -> Tensor:
    """10 log10 of a power, at least `floor`."""
    return 10.0 * torch.log10(power.clamp(min=floor))
