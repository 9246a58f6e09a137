"""Coloured noise, and noise added to a waveform at a ratio to it.

Shapes: N samples, K frequencies of a spectrum.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from audioflow.media.augment.effects import Sound, Waveform, uniform
from audioflow.recipe_augment import Color, NoiseSection

LOWEST_HZ = 20.0
"""Coloured noise has nothing below what is heard: the power of brown noise would all lie there."""

_EXPONENTS: dict[Color, float] = {"white": 0.0, "pink": 0.5, "brown": 1.0}
"""By what power of the frequency the amplitude falls."""


@dataclass(frozen=True)
class Noise:
    """Noise of one colour. seed: of its samples; the same gives the same noise at one rate."""

    color: Color
    snr_db: float
    seed: int

    @classmethod
    def draw(cls, section: NoiseSection, generator: Generator) -> Self:
        color = section.colors[generator.integers(len(section.colors))]
        seed = int(generator.integers(2**63))
        return cls(color, uniform(section.snr_db, generator), seed)

    def apply(self, sound: Sound) -> Waveform:
        generator = np.random.Generator(np.random.PCG64(self.seed))
        noise = colored_noise(sound.samples.size, sound.sample_rate_hz, self.color, generator)
        return sound.samples + noise * (sound.recorded_rms * 10 ** (-self.snr_db / 20))


def colored_noise(
    num_samples: int, sample_rate_hz: int, color: Color, generator: Generator
) -> NDArray[np.float32]:
    """Gaussian noise (N,) of RMS 1, with a power per hertz that falls as the colour has it.

    Made as in Timmer & Koenig 1995: a spectrum of independent complex Gaussian numbers times the
    amplitude, turned back. White noise is drawn sample by sample, down to 0 Hz.
    """
    if color == "white":
        return _unit_rms(generator.standard_normal(num_samples, dtype=np.float32))
    from scipy.fft import irfft, next_fast_len, rfftfreq

    # At least a second, so that a short piece too has all the low frequencies that it can show.
    length = next_fast_len(max(num_samples, sample_rate_hz), real=True)
    hz_K = rfftfreq(length, 1 / sample_rate_hz)
    first = int(np.searchsorted(hz_K, LOWEST_HZ))
    spectrum_K = np.zeros(hz_K.size, np.complex64)
    parts = generator.standard_normal(2 * (hz_K.size - first), dtype=np.float32)
    falling = (hz_K[first:] ** -_EXPONENTS[color]).astype(np.float32)
    spectrum_K[first:] = parts.view(np.complex64) * falling
    noise: NDArray[np.float32] = irfft(spectrum_K, length)[:num_samples]
    return _unit_rms(noise)


def _unit_rms(noise: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scaled so that the ratio to a clip is met by this very piece; all zeros stay."""
    rms = float(np.sqrt(np.mean(np.square(noise, dtype=np.float64)))) if noise.size else 0.0
    return noise / np.float32(rms) if rms else noise
