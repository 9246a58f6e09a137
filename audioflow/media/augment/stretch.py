"""Speed without pitch and pitch without speed, by Signalsmith Stretch (package `python-stretch`).

The library's spectral blocks are 0.12 s long; transients stay within a few milliseconds of where
they belong. No other effect needs the library, so it is imported where it is used.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.random import Generator

from audioflow.media.augment.effects import Sound, Waveform, uniform
from audioflow.recipe_augment import PitchSection, StretchSection

_SEED = 0  # the library draws phases beyond twice the length only; without one it asks the system


@dataclass(frozen=True)
class Stretch:
    """Speed times as fast: N samples become N / speed, to the nearest one."""

    speed: float

    @classmethod
    def draw(cls, section: StretchSection, generator: Generator) -> Self:
        return cls(uniform(section.speed, generator))

    def apply(self, sound: Sound) -> Waveform:
        return _processed(sound, speed=self.speed)


@dataclass(frozen=True)
class Pitch:
    """Frequencies times 2 ** (semitones / 12); the length stays."""

    semitones: float

    @classmethod
    def draw(cls, section: PitchSection, generator: Generator) -> Self:
        return cls(uniform(section.semitones, generator))

    def apply(self, sound: Sound) -> Waveform:
        return _processed(sound, semitones=self.semitones)


def _processed(sound: Sound, speed: float = 1.0, semitones: float = 0.0) -> Waveform:
    peak = float(np.max(np.abs(sound.samples), initial=0.0))
    if peak == 0:  # nothing to place, so that the length is all that changes
        return np.zeros(max(1, round(sound.samples.size / speed)) if sound.samples.size else 0)
    if speed == 1 and semitones == 0:
        return sound.samples
    from python_stretch import Signalsmith

    stretch = Signalsmith.Stretch(_SEED)
    stretch.preset(1, sound.sample_rate_hz)
    stretch.setTimeFactor(speed)
    stretch.setTransposeSemitones(semitones)
    # The library keeps the level of what has a peak of about 1: at 8000 tones lose up to 7 dB.
    found = stretch.process((sound.samples[None] / peak).astype(np.float32))
    return np.asarray(found, np.float64)[0] * peak
