"""Cutting waveforms, and sampled frames, into patches of fixed length.

Shapes: N samples of a waveform, P patches, T samples of a patch; F frames of a clip, N frames of a
patch, H and W their size.
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from audioflow.errors import MediaError
from audioflow.media.parts import ExactSound, FramePatching, SoundSource

Short = Literal["pad", "repeat", "fail"]
Tail = Literal["drop", "pad"]


@dataclass(frozen=True)
class Patching:
    """Length and distance of patches, and what happens to short clips.

    short: what a clip gets that is shorter than one patch. min_duration_s: a shorter clip is
    repeated as a whole until it is at least that long, before anything else. lead_s: silence put in
    front, so that a patch starts that much before the clip. tail: what becomes of samples after the
    last patch: dropped, or covered by one more patch that silence fills up. exact: samples are
    float32, not rounded to int16, for front ends that hear -80 dB.

    whole: a patch is the clip as it is, of a longer one every stretch of 10 minutes (as they come
    from the decoder); `patch_s` is the least length then; `hop_s`, `lead_s` and `tail` say nothing.
    """

    sample_rate_hz: int
    patch_s: float
    hop_s: float
    short: Short = "pad"
    min_duration_s: float = 0.0
    lead_s: float = 0.0
    tail: Tail = "drop"
    whole: bool = False
    exact: bool = False

    @property
    def source(self) -> SoundSource:
        """What is decoded for it."""
        return ExactSound(self.sample_rate_hz) if self.exact else self.sample_rate_hz

    @property
    def patch_samples(self) -> int:
        return round(self.patch_s * self.sample_rate_hz)

    @property
    def hop_samples(self) -> int:
        return max(1, round(self.hop_s * self.sample_rate_hz))

    @property
    def lead_samples(self) -> int:
        return round(self.lead_s * self.sample_rate_hz)

    @property
    def run_up_samples(self) -> int:
        """How much of what came before has to be at hand to go on in the middle of a clip."""
        return max(self.patch_samples, round(self.min_duration_s * self.sample_rate_hz))


@dataclass(frozen=True)
class Stretch:
    """Samples (N,) of a waveform in a row, int16 or float32.

    first: the place of the first one in the waveform. done_to: up to where patches were cut before.
    whole: nothing comes after.
    """

    samples: NDArray[Any]
    first: int = 0
    done_to: int = 0
    whole: bool = True


def cut_patches(stretch: Stretch, patching: Patching) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """Waveform (N,) -> patches (P, T), a view where possible, and starts (P,) in seconds.

    Patches lie whole inside the waveform with its lead: P = 1 + (N - T) // hop, with `tail` as
    `pad` 1 + ceil((N - T) / hop). A waveform shorter than a patch gives one: zeros appended
    (`pad`), or itself repeated (`repeat`); `fail` raises `MediaError` of class `too_short`. Raises
    it too where there is no sample at all.

    A long waveform comes in stretches: from each the patches that end after `done_to`, so that all
    together are those of the whole.
    """
    if stretch.whole and stretch.first + stretch.samples.size == 0:
        raise MediaError("too_short", "the clip has no sample")
    if patching.whole:
        return _whole(stretch, patching)
    length, hop, lead = patching.patch_samples, patching.hop_samples, patching.lead_samples
    samples, first, done_to = stretch.samples, stretch.first, stretch.done_to
    if stretch.whole and first == 0:
        samples = _repeated(samples, patching)
    # From here on places are counted from the begin of the lead.
    if first == 0:
        samples = np.pad(samples, (lead, 0)) if lead else samples
        done_to += lead if done_to else 0
        if stretch.whole:
            samples = _lengthened(samples, patching)
    else:
        first, done_to = first + lead, done_to + lead
    end = first + samples.size
    begin = max(0, (done_to - length) // hop + 1) * hop
    if stretch.whole and patching.tail == "pad":
        next_begin = begin + max(0, (end - begin - length) // hop + 1) * hop
        covered = next_begin - hop + length if next_begin else 0
        if max(covered, next_begin) < end:
            samples = np.pad(samples, (0, next_begin + length - end))
            end = next_begin + length
    if begin + length > end:
        return np.zeros((0, length), samples.dtype), np.zeros(0)
    views = np.lib.stride_tricks.sliding_window_view(samples[begin - first :], length)[::hop]
    starts = begin - lead + np.arange(len(views), dtype=np.float64) * hop
    return views, starts / patching.sample_rate_hz


def _whole(stretch: Stretch, patching: Patching) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """What is new of the stretch as one patch; a short rest reaches back into what came before."""
    samples, first = stretch.samples, stretch.first
    begin = stretch.done_to - first
    if stretch.whole and first == 0 and stretch.done_to == 0:
        samples = _lengthened(_repeated(samples, patching), patching)
    if begin >= samples.size:
        return np.zeros((0, patching.patch_samples), samples.dtype), np.zeros(0)
    begin = max(0, min(begin, samples.size - patching.patch_samples))
    return samples[None, begin:], np.array([(first + begin) / patching.sample_rate_hz])


def _repeated(samples: NDArray[Any], patching: Patching) -> NDArray[Any]:
    """The samples, repeated as a whole to the least duration."""
    least = round(patching.min_duration_s * patching.sample_rate_hz)
    return np.tile(samples, -(-least // samples.size)) if samples.size < least else samples


def _lengthened(samples: NDArray[Any], patching: Patching) -> NDArray[Any]:
    """The samples, made as long as a patch asks for."""
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


@dataclass(frozen=True)
class FrameStretch:
    """Frames (F, H, W, 3) of a clip in a row, and their times (F,) in seconds.

    first: the place of the first one among the clip's sampled frames. done_to: up to where patches
    were cut before. whole: nothing comes after.
    """

    frames: NDArray[np.uint8]
    time_s: NDArray[np.float64]
    first: int = 0
    done_to: int = 0
    whole: bool = True


def cut_frames(
    stretch: FrameStretch, patching: FramePatching
) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """Frames (F, H, W, 3) -> patches (P, N, H, W, 3), a view where possible, and their times (P,).

    The time of a patch is that of its first frame. P = 1 + (F - N) // hop; of fewer than N frames
    one patch, in which the last frame is repeated; of none, no patch. As with `cut_patches`, the
    patches of all stretches together are those of the whole.
    """
    frames, time_s, first = stretch.frames, stretch.time_s, stretch.first
    length, hop = patching.frames_per_patch, patching.hop_frames
    if stretch.whole and first == 0 and 0 < len(frames) < length:
        lacking = length - len(frames)
        frames = np.concatenate([frames, np.repeat(frames[-1:], lacking, axis=0)])
        time_s = np.concatenate([time_s, np.repeat(time_s[-1:], lacking)])
    begin = max(0, (stretch.done_to - length) // hop + 1) * hop - first
    if begin + length > len(frames):
        return np.zeros((0, length, *frames.shape[1:]), np.uint8), np.zeros(0)
    views = np.lib.stride_tricks.sliding_window_view(frames[begin:], length, axis=0)[::hop]
    return np.moveaxis(views, -1, 1), time_s[begin : begin + len(views) * hop : hop]
