"""The effects of augmentation: each with what was drawn for it, applied to a waveform.

Shapes: N samples of a waveform. Waveforms are float64 in the units of int16 (full scale 32767), so
that nothing is rounded or clipped between two effects. All parameters are in seconds, hertz and
decibels: an effect does the same at every sample rate.
"""

from dataclasses import dataclass
from typing import Protocol, Self

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from audioflow.recipe_augment import (
    CropSection,
    DelaySection,
    FilterSection,
    GainSection,
    Kind,
    PolaritySection,
    Range,
    ShiftSection,
)

Waveform = NDArray[np.float64]

_FILTER_ORDER = 4
_MOST_OF_NYQUIST = 0.95
"""A digital filter needs its cut-off below half the sample rate; near it, it is ill-conditioned."""


@dataclass(frozen=True)
class Sound:
    """A waveform (N,) on its way through the effects, and the RMS of the clip as recorded."""

    samples: Waveform
    sample_rate_hz: int
    recorded_rms: float

    def count(self, seconds: float) -> int:
        """Samples in so many seconds."""
        return round(seconds * self.sample_rate_hz)


class Effect(Protocol):
    """One effect as drawn; its fields are the parameters."""

    def apply(self, sound: Sound) -> Waveform:
        """The altered waveform; of another length where the effect changes the duration."""
        ...


@dataclass(frozen=True)
class Offset:
    """The clip from this moment on; at least half of it stays."""

    offset_s: float

    def apply(self, sound: Sound) -> Waveform:
        return sound.samples[min(sound.count(self.offset_s), sound.samples.size // 2) :]


@dataclass(frozen=True)
class Crop:
    """A window of the clip. place: where, from 0 (as early as can be) to 1 (as late)."""

    duration_s: float
    place: float

    @classmethod
    def draw(cls, section: CropSection, generator: Generator) -> Self:
        return cls(section.duration_s, generator.random())

    def apply(self, sound: Sound) -> Waveform:
        length = max(1, sound.count(self.duration_s))
        start = round(self.place * max(0, sound.samples.size - length))
        return sound.samples[start : start + length]


@dataclass(frozen=True)
class Shift:
    """The waveform later (more than 0) or earlier, by at most half of it unless it wraps."""

    shift_s: float
    wrap: bool

    @classmethod
    def draw(cls, section: ShiftSection, generator: Generator) -> Self:
        return cls(uniform(section.shift_s, generator), section.wrap)

    def apply(self, sound: Sound) -> Waveform:
        count, most = sound.count(self.shift_s), sound.samples.size // 2
        if self.wrap:
            return np.roll(sound.samples, count)
        count = max(-most, min(count, most))
        shifted = np.zeros_like(sound.samples)
        shifted[max(0, count) : shifted.size + min(0, count)] = sound.samples[
            max(0, -count) : shifted.size + min(0, -count)
        ]
        return shifted


@dataclass(frozen=True)
class Polarity:
    """Every sample with the other sign."""

    @classmethod
    def draw(cls, section: PolaritySection, generator: Generator) -> Self:
        return cls()

    def apply(self, sound: Sound) -> Waveform:
        return -sound.samples


@dataclass(frozen=True)
class Gain:
    """Louder (more than 0) or softer."""

    gain_db: float

    @classmethod
    def draw(cls, section: GainSection, generator: Generator) -> Self:
        return cls(uniform(section.gain_db, generator))

    def apply(self, sound: Sound) -> Waveform:
        return sound.samples * 10 ** (self.gain_db / 20)


@dataclass(frozen=True)
class Filter:
    """Butterworth filters of order 4, forwards only, from silence; None where there is none."""

    high_pass_hz: float | None
    low_pass_hz: float | None

    @classmethod
    def draw(cls, section: FilterSection, generator: Generator) -> Self:
        kind = section.kinds[generator.integers(len(section.kinds))]
        low, high = section.high_pass_hz, section.low_pass_hz
        return cls(
            None if kind == "low_pass" or low is None else _cut_off(low, generator),
            None if kind == "high_pass" or high is None else _cut_off(high, generator),
        )

    def apply(self, sound: Sound) -> Waveform:
        samples = sound.samples
        if self.high_pass_hz is not None:
            samples = _filtered(samples, "high_pass", self.high_pass_hz, sound.sample_rate_hz)
        if self.low_pass_hz is not None:
            samples = _filtered(samples, "low_pass", self.low_pass_hz, sound.sample_rate_hz)
        return samples


@dataclass(frozen=True)
class Delay:
    """Echoes: w[n] = x[n - d] + feedback w[n - d], and (1 - mix) x + mix w is heard."""

    delay_s: float
    feedback: float
    mix: float

    @classmethod
    def draw(cls, section: DelaySection, generator: Generator) -> Self:
        return cls(
            uniform(section.delay_s, generator),
            uniform(section.feedback, generator),
            uniform(section.mix, generator),
        )

    def apply(self, sound: Sound) -> Waveform:
        delay = max(1, sound.count(self.delay_s))
        echoes = np.zeros_like(sound.samples)
        for start in range(delay, echoes.size, delay):  # a delay's worth at a time
            now = slice(start, min(start + delay, echoes.size))
            before = slice(start - delay, now.stop - delay)
            echoes[now] = sound.samples[before] + self.feedback * echoes[before]
        return (1 - self.mix) * sound.samples + self.mix * echoes


def uniform(ends: Range, generator: Generator) -> float:
    """A number between the ends, every one as likely."""
    return float(generator.uniform(*ends))


def _cut_off(ends_hz: Range, generator: Generator) -> float:
    """A frequency between the ends, every octave as likely as the next."""
    low, high = ends_hz
    return float(low * (high / low) ** generator.random())


def _filtered(samples: Waveform, kind: Kind, cut_off_hz: float, sample_rate_hz: int) -> Waveform:
    from scipy.signal import butter, sosfilt

    if not samples.size:
        return samples
    cut_off_hz = min(cut_off_hz, _MOST_OF_NYQUIST * sample_rate_hz / 2)
    name = kind.replace("_", "")
    sections = butter(_FILTER_ORDER, cut_off_hz, name, fs=sample_rate_hz, output="sos")
    found: Waveform = sosfilt(sections, samples)
    return found
