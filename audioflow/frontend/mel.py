"""Mel filters in every form in which the published front ends differ.

Shapes: K frequency bins, M mel bands.
"""

from functools import lru_cache
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

MelScale = Literal["slaney", "htk"]
Axis = Literal["hz", "mel"]
Norm = Literal["none", "slaney"]

_HTK_FACTOR = 1127.0
_HTK_CORNER_HZ = 700.0
_SLANEY_LINEAR_HZ = 200.0 / 3.0
"""Hz per mel below 1 kHz, which is 15 mel."""
_SLANEY_LOG_STEP = np.log(6.4) / 27.0


def to_mel(hz: NDArray[np.float64], scale: MelScale) -> NDArray[np.float64]:
    """Frequencies in mel: `htk` 1127 ln(1 + f / 700), `slaney` of his Auditory Toolbox (1998)."""
    if scale == "htk":
        return _HTK_FACTOR * np.log1p(hz / _HTK_CORNER_HZ)
    above = 15.0 + np.log(np.maximum(hz, 1000.0) / 1000.0) / _SLANEY_LOG_STEP
    return np.where(hz < 1000.0, hz / _SLANEY_LINEAR_HZ, above)


def to_hz(mel: NDArray[np.float64], scale: MelScale) -> NDArray[np.float64]:
    """The other way round."""
    if scale == "htk":
        return _HTK_CORNER_HZ * np.expm1(mel / _HTK_FACTOR)
    above = 1000.0 * np.exp((np.maximum(mel, 15.0) - 15.0) * _SLANEY_LOG_STEP)
    return np.where(mel < 15.0, mel * _SLANEY_LINEAR_HZ, above)


def centres_hz(
    num_bands: int, low_hz: float, high_hz: float, scale: MelScale
) -> NDArray[np.float64]:
    """(M,) the frequencies at which the filters of `mel_filters` peak."""
    ends = to_mel(np.array([low_hz, high_hz], np.float64), scale)
    return to_hz(np.linspace(ends[0], ends[1], num_bands + 2), scale)[1:-1]


@lru_cache(maxsize=32)
def mel_filters(  # noqa: PLR0913, PLR0917 - each is a constant in which front ends differ
    n_fft: int,
    sample_rate_hz: int,
    num_bands: int,
    low_hz: float,
    high_hz: float,
    scale: MelScale = "slaney",
    norm: Norm | None = "slaney",
    linear_in: Axis = "hz",
) -> Tensor:
    """(K, M) float32 triangular filters, corners at equal distances in mel; librosa's by default.

    scale: Slaney's mel or HTK's. norm: `slaney` gives every filter the area of 1 Hz, `none` (or
    None) the peak 1. linear_in: the axis on which their sides are straight lines: `hz` as in
    librosa and torchaudio, `mel` as in HTK and VGGish (so that a bin at 0 Hz counts for nothing
    where `low_hz` is 0 or more). Computed in float64.
    """
    bins_hz = np.asarray(np.fft.rfftfreq(n_fft, 1 / sample_rate_hz), np.float64)
    ends = to_mel(np.array([low_hz, high_hz], np.float64), scale)
    corners_mel = np.linspace(ends[0], ends[1], num_bands + 2)
    corners_hz = to_hz(corners_mel, scale)
    corners = corners_mel if linear_in == "mel" else corners_hz
    places = to_mel(bins_hz, scale) if linear_in == "mel" else bins_hz
    rising = (places[:, None] - corners[:-2]) / (corners[1:-1] - corners[:-2])
    falling = (corners[2:] - places[:, None]) / (corners[2:] - corners[1:-1])
    filters = np.asarray(np.maximum(0.0, np.minimum(rising, falling)), np.float64)
    if norm == "slaney":
        filters *= 2.0 / (corners_hz[2:] - corners_hz[:-2])
    return torch.from_numpy(filters.astype(np.float32))
