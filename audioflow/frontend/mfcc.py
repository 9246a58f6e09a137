"""39 MFCC per frame, as HTK computes `MFCC_0_D_A` and openSMILE's `MFCC12_0_D_A.conf` after it.

16 kHz; frames of 25 ms every 10 ms, each pre-emphasised by itself (0.97) under a Hamming window;
power of an FFT of 512; 26 mel bands from 0 to 8 kHz, triangles linear in mel; natural logarithm,
of 1 at least; DCT of which all 13 coefficients are scaled by sqrt(2 / 26); liftered by 22.
Then c1 ... c12, c0, their regression over two frames to either side, and that of those; at the
ends the first and last frames are repeated, as HTK does (The HTK Book 3.4, 5.2 to 5.9).

Shapes: P patches, T samples of a patch, L frames, K frequency bins, M = 26 mel bands.
"""

from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional

from audioflow.frontend.mel import mel_filters

SAMPLE_RATE_HZ = 16_000
WINDOW = 400
HOP = 160
WIDTH = 39

_N_FFT = 512
_NUM_MELS = 26
_HIGH_HZ = 8000.0
_NUM_CEPSTRA = 13
_EMPHASIS = 0.97
_LIFTER = 22
_REACH = 2
_FRAMES_AT_ONCE = 8192
"""An hour of sound is 360,000 frames; their spectra together would be gigabytes."""


def mfcc_0_d_a(samples_PT: Tensor) -> Tensor:
    """int16 (P, T) at 16 kHz, T at least 400 -> float64 (P, L, 39), L = 1 + (T - 400) // 160.

    The scale of samples is that of int16, as in HTK. In float64 throughout: a quantiser behind it
    must not depend on what else is in the batch.
    """
    frames_PLW = samples_PT.unfold(1, WINDOW, HOP)
    at_once = max(1, _FRAMES_AT_ONCE // len(samples_PT))
    parts = torch.split(frames_PLW, at_once, dim=1)
    static = torch.cat([_cepstra(part) for part in parts], dim=1)
    delta = _regression(static)
    return torch.cat([static, delta, _regression(delta)], dim=2)


def _cepstra(frames_PLW: Tensor) -> Tensor:
    """(P, L, 13): c1 ... c12, c0."""
    frames = frames_PLW.double()
    before = torch.cat([frames[..., :1], frames[..., :-1]], dim=2)
    shaped = (frames - _EMPHASIS * before) * torch.hamming_window(
        WINDOW, periodic=False, dtype=torch.float64, device=frames.device
    )
    spectrum_PLK = torch.view_as_real(torch.fft.rfft(shaped, _N_FFT))
    power_PLK = spectrum_PLK.square().sum(dim=-1)
    filters = mel_filters(_N_FFT, SAMPLE_RATE_HZ, _NUM_MELS, 0.0, _HIGH_HZ, "htk", None, "mel")
    mel_PLM = power_PLK @ filters.to(frames.device, torch.float64)
    return mel_PLM.clamp(min=1.0).log() @ _liftered_dct().to(frames.device)


@lru_cache(maxsize=1)
def _liftered_dct() -> Tensor:
    """(M, 13) for c1 ... c12, c0."""
    number = torch.tensor([*range(1, _NUM_CEPSTRA), 0], dtype=torch.float64)
    band = torch.arange(_NUM_MELS, dtype=torch.float64)
    cosines = torch.cos(torch.pi / _NUM_MELS * (band[:, None] + 0.5) * number)
    lifter = 1 + _LIFTER / 2 * torch.sin(torch.pi * number / _LIFTER)
    return cosines * lifter * (2 / _NUM_MELS) ** 0.5


def _regression(values_PLC: Tensor) -> Tensor:
    """The slope over five frames, by least squares."""
    turned = values_PLC.transpose(1, 2)
    padded = functional.pad(turned, (_REACH, _REACH), mode="replicate").transpose(1, 2)
    length = values_PLC.shape[1]
    total = torch.zeros_like(values_PLC)
    for step in range(1, _REACH + 1):
        later = padded[:, _REACH + step : _REACH + step + length]
        earlier = padded[:, _REACH - step : _REACH - step + length]
        total += step * (later - earlier)
    return total / (2 * sum(step * step for step in range(1, _REACH + 1)))
