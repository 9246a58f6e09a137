"""Cutting waveforms into patches of fixed length.

Shapes: N samples of a waveform, P patches, T samples of a patch.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from audioflow.errors import MediaError

Short = Literal["pad", "repeat", "fail"]


@dataclass(frozen=True)
class Patching:
    """Length and distance of patches, and what happens to a clip shorter than one patch."""

    sample_rate_hz: int
    patch_s: float
    hop_s: float
    short: Short = "pad"

    @property
    def patch_samples(self) -> int:
        return round(self.patch_s * self.sample_rate_hz)

    @property
    def hop_samples(self) -> int:
        return max(1, round(self.hop_s * self.sample_rate_hz))


def cut_patches(
    samples: NDArray[np.int16], patching: Patching
) -> tuple[NDArray[np.int16], NDArray[np.float64]]:
    """int16 waveform (N,) -> patches (P, T), a view where possible, and starts (P,) in seconds.

    Patches lie whole inside the waveform: P = 1 + (N - T) // hop. A waveform shorter than a patch
    gives one: zeros appended (`pad`), or itself repeated (`repeat`); `fail` raises `MediaError` of
    class `too_short`. Raises it too where there is no sample at all.
    """
    length = patching.patch_samples
    if samples.size == 0:
        raise MediaError("too_short", "the clip has no sample")
    if samples.size < length:
        samples = _lengthen(samples, length, patching)
    windows = np.lib.stride_tricks.sliding_window_view(samples, length)[:: patching.hop_samples]
    hop_s = patching.hop_samples / patching.sample_rate_hz
    starts = np.arange(len(windows), dtype=np.float64) * hop_s
    return windows, starts


def _lengthen(samples: NDArray[np.int16], length: int, patching: Patching) -> NDArray[np.int16]:
    if patching.short == "repeat":
        return np.resize(samples, length)
    if patching.short == "pad":
        return np.pad(samples, (0, length - samples.size))
    have_s = samples.size / patching.sample_rate_hz
    raise MediaError(
        "too_short", f"{have_s:.3f} s of sound, one patch needs {patching.patch_s:g} s"
    )
