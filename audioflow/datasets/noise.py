"""`noise`: clips of coloured noise as a class of their own, made where they are not there.

A class of sounds that are nothing teaches a head what none of its classes is. Mixed in by
`manifest.extra`, it is learnt from and never tested on. The power of the noise falls with frequency
as 1 / f^beta.

Every file depends on the settings and on its own number, not on how many there are; it is named by
both, so that other settings make other files and clips.

Shapes: S samples of a clip; its spectrum has S // 2 + 1 values.
"""

import io
import wave
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from audioflow.clip import Clip
from audioflow.datasets.base import About, Resolve
from audioflow.errors import InputError
from audioflow.records import fingerprint
from audioflow.registry import Settings

REVISION = 1
"""Raise it whenever the settings give other samples than before."""

_FULL_SCALE = 32767


class LevelSettings(Settings):
    """How loud a clip is, full scale being 1: `peak_divisor` or `rms`, one of them.

    peak_divisor: the loudest sample is 1 / peak_divisor. rms: root mean square of all samples.
    """

    peak_divisor: float | None = Field(None, ge=1)
    rms: float | None = Field(None, gt=0, le=1)

    @model_validator(mode="after")
    def _one(self) -> "LevelSettings":
        if (self.peak_divisor is None) == (self.rms is None):
            both = "both peak_divisor and rms" if self.rms is not None else "nothing"
            raise ValueError(f"says {both}; allowed: {{peak_divisor: 1.5}} or {{rms: 0.1}}")
        return self


class NoiseSettings(Settings):
    """root: folder that holds, or gets, the files. label: their class. count: how many.

    duration_s, sample_rate_hz: of each. beta: 0 is white, 1 pink, 2 brown noise. level: how loud
    they are. seed: another one gives others.
    """

    root: str = Field(min_length=1)
    label: str = Field(min_length=1)
    count: int = Field(ge=1, le=1_000_000)
    duration_s: float = Field(5.0, gt=0, le=3600)
    sample_rate_hz: int = Field(16_000, ge=1000, le=384_000)
    beta: float = Field(1.0, ge=-2, le=4)
    level: LevelSettings = LevelSettings(peak_divisor=1.5)
    seed: int = Field(0, ge=0, le=2**32 - 1)

    @property
    def num_samples(self) -> int:
        """S."""
        return max(2, round(self.duration_s * self.sample_rate_hz))

    @property
    def key(self) -> str:
        """A hash of what decides the samples of a clip, beside its number."""
        return fingerprint(REVISION, self.model_dump(exclude={"root", "label", "count"}))[:12]


class NoiseReader:
    """Clips of coloured noise."""

    Settings = NoiseSettings
    makes_media: ClassVar[bool] = True
    about: ClassVar[About] = About(
        recipe="manifest:\n"
        "  reader: csv\n"
        "  list: clips.csv\n"
        "  file_column: file\n"
        "  label_column: label\n"
        "  extra:\n"
        "    nothing: {reader: noise, root: noise, label: silence, count: 200, new_classes: true}"
    )

    def __init__(self, settings: NoiseSettings) -> None:
        self.settings = settings

    @property
    def source(self) -> str:
        return self.settings.root

    def read(self, resolve: Resolve) -> Sequence[Clip]:
        """Write the files that are not there, and name all of them as 16-bit wav.

        Raises `InputError` for an `rms` at which a clip would be louder than full scale.
        """
        settings = self.settings
        series = f"beta{settings.beta:g}-{settings.key}"
        folder = resolve(settings.root) / series
        there = set(folder.names())
        clips = []
        for number in range(settings.count):
            name = f"{number:06d}.wav"
            if name not in there:
                folder.write(name, wav_bytes(make_noise(settings, number), settings.sample_rate_hz))
            clips.append(
                Clip(
                    f"{series}/{name}",
                    folder.file(name),
                    (settings.label,),
                    size_bytes=44 + 2 * settings.num_samples,
                    version=settings.key,
                )
            )
        return clips


def make_noise(settings: NoiseSettings, number: int) -> NDArray[np.float32]:
    """The waveform (S,) of one clip, in [-1, 1], without a constant part.

    White noise whose spectrum is multiplied by f^(-beta / 2), as in Timmer and Koenig (1995).
    """
    rng = np.random.default_rng([settings.seed, number])
    spectrum = np.fft.rfft(rng.standard_normal(settings.num_samples))
    spectrum[0] = 0
    bins = np.arange(1, len(spectrum), dtype=np.float64)
    spectrum[1:] *= bins ** (-settings.beta / 2)
    waveform = np.fft.irfft(spectrum, settings.num_samples)
    return (waveform * _gain(waveform, settings, number)).astype(np.float32)


def _gain(waveform: NDArray[Any], settings: NoiseSettings, number: int) -> float:
    peak, rms = float(np.abs(waveform).max()), float(np.sqrt(np.mean(waveform**2)))
    level = settings.level
    if level.rms is None:
        return 1 / (peak * (level.peak_divisor or 1.0))
    gain = level.rms / rms
    if gain * peak > 1:
        raise InputError(
            f"noise of level.rms {level.rms:g} would be cut off: the loudest sample of clip "
            f"{number} would be {gain * peak:.3g}, full scale is 1; this clip allows up to rms "
            f"{rms / peak:.3g}"
        )
    return gain


def wav_bytes(waveform: NDArray[np.float32], sample_rate_hz: int) -> bytes:
    """A waveform (S,) in [-1, 1] as a wav file, mono, 16 bit."""
    with io.BytesIO() as target:
        with wave.open(target, "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(sample_rate_hz)
            file.writeframes(np.round(waveform * _FULL_SCALE).astype("<i2").tobytes())
        return target.getvalue()
