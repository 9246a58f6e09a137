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
    """Length and distance of patches, and what happens to short clips.

    short: what a clip gets that is shorter than one patch. min_duration_s: a shorter clip is
    repeated as a whole until it is at least that long, before anything else.
    """

    sample_rate_hz: int
    patch_s: float
    hop_s: float
    short: Short = "pad"
    min_duration_s: float = 0.0

    @property
    def patch_samples(self) -> int:
        return round(self.patch_s * self.sample_rate_hz)

    @property
    def hop_samples(self) -> int:
        return max(1, round(self.hop_s * self.sample_rate_hz))

    @property
    def run_up_samples(self) -> int:
        """How much of what came before has to be at hand to go on in the middle of a clip."""
        return max(self.patch_samples, round(self.min_duration_s * self.sample_rate_hz))


@dataclass(frozen=True)
class Stretch:
    """Samples (N,) of a waveform in a row.

    first: the place of the first one in the waveform. done_to: up to where patches were cut before.
    whole: nothing comes after.
    """

    samples: NDArray[np.int16]
    first: int = 0
    done_to: int = 0
    whole: bool = True


def cut_patches(
    stretch: Stretch, patching: Patching
) -> tuple[NDArray[np.int16], NDArray[np.float64]]:
    """int16 waveform (N,) -> patches (P, T), a view where possible, and starts (P,) in seconds.

    Patches lie whole inside the waveform: P = 1 + (N - T) // hop. A waveform shorter than a patch
    gives one: zeros appended (`pad`), or itself repeated (`repeat`); `fail` raises `MediaError` of
    class `too_short`. Raises it too where there is no sample at all.

    A long waveform comes in stretches: from each the patches that end after `done_to`, so that all
    together are those of the whole.
    """
    length, hop = patching.patch_samples, patching.hop_samples
    samples, first = stretch.samples, stretch.first
    end = first + samples.size
    if stretch.whole and end == 0:
        raise MediaError("too_short", "the clip has no sample")
    if stretch.whole and first == 0:
        samples = _lengthened(samples, patching)
        end = samples.size
    begin = max(0, (stretch.done_to - length) // hop + 1) * hop
    if begin + length > end:
        return np.zeros((0, length), np.int16), np.zeros(0)
    views = np.lib.stride_tricks.sliding_window_view(samples[begin - first :], length)[::hop]
    starts = (begin + np.arange(len(views), dtype=np.float64) * hop) / patching.sample_rate_hz
    return views, starts


def _lengthened(samples: NDArray[np.int16], patching: Patching) -> NDArray[np.int16]:
    """The samples, made as long as a patch and `min_duration_s` ask for."""
    least = round(patching.min_duration_s * patching.sample_rate_hz)
    if samples.size < least:
        samples = np.tile(samples, -(-least // samples.size))
    length = patching.patch_samples
    if samples.size >= length:
        return samples
    if patching.short == "repeat":
        return np.resize(samples, length)
    if patching.short == "pad":
        return np.pad(samples, (0, length - samples.size))
    have_s = samples.size / patching.sample_rate_hz
    raise MediaError(
        "too_short", f"{have_s:.3f} s of sound, one patch needs {patching.patch_s:g} s"
    )
