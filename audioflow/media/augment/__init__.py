"""Altered copies of training clips: the same for the same recipe, clip and number, anywhere.

What happens to a variant is drawn before its waveform is looked at, and in seconds, hertz and
decibels: it is the same at every sample rate, in every process and in any order. Each effect has a
generator of its own, so that another effect in the recipe changes nothing about the others.
Only the samples of noise differ between rates; its colour and level do not. Where another machine's
libraries round otherwise, a sample may differ by one step of int16.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from numpy.random import PCG64, Generator
from numpy.typing import NDArray

from audioflow.media.augment.effects import (
    Crop,
    Delay,
    Effect,
    Filter,
    Gain,
    Offset,
    Polarity,
    Shift,
    Sound,
    Waveform,
)
from audioflow.media.augment.noise import Noise
from audioflow.media.augment.stretch import Pitch, Stretch
from audioflow.media.resampling import FULL_SCALE
from audioflow.recipe_augment import EFFECTS, AugmentSection

REVISION = 1
"""Goes up whenever the same settings would give other waveforms, so that tables are made again."""


class _Drawable(Protocol):
    def draw(self, section: Any, generator: Generator) -> Effect: ...


_CLASSES: Mapping[str, _Drawable] = {
    "crop": Crop,
    "shift": Shift,
    "polarity": Polarity,
    "noise": Noise,
    "gain": Gain,
    "filter": Filter,
    "delay": Delay,
    "stretch": Stretch,
    "pitch": Pitch,
}


def augmented(
    samples: NDArray[Any],
    sample_rate_hz: int,
    section: AugmentSection,
    clip_id: str,
    variant: int,
) -> NDArray[Any]:
    """Variant 1, 2, ... of a clip: mono (N,), int16 or float32 in [-1, 1] -> the same kind of
    samples, not always as many.

    Variant 0, and one for which no effect was drawn, is `samples` itself. What is too loud is
    clipped; a clip of silence stays one. Raises ValueError for a variant that the settings do not
    have, and for samples of another type or shape.
    """
    effects = draw(section, clip_id, variant)
    exact = samples.dtype == np.float32
    if not (exact or samples.dtype == np.int16) or samples.ndim != 1:
        raise ValueError(
            f"samples are {samples.dtype} of shape {samples.shape}; "
            "allowed: int16 or float32 of shape (N,)"
        )
    if not effects or not samples.size:
        return samples
    waveform = samples.astype(np.float64) * (FULL_SCALE if exact else 1.0)
    recorded_rms = float(np.sqrt(np.mean(np.square(waveform))))
    for effect in effects.values():
        waveform = effect.apply(Sound(waveform, sample_rate_hz, recorded_rms))
    if exact:
        return np.clip(waveform / FULL_SCALE, -1.0, 1.0).astype(np.float32)
    return _to_int16(waveform)


def draw(section: AugmentSection, clip_id: str, variant: int) -> dict[str, Effect]:
    """The effects of one variant by name, in the order in which they are applied."""
    if not 0 <= variant <= section.variants:
        raise ValueError(
            f"variant {variant} of clip {clip_id!r} does not exist; allowed: 0 (as recorded) to "
            f"{section.variants} (augment.variants)"
        )
    effects: dict[str, Effect] = {}
    if variant == 0:
        return effects
    if section.offsets_s:
        effects["offset"] = Offset(section.offsets_s[variant - 1])
    for name in EFFECTS:
        options = getattr(section, name)
        if options is None:
            continue
        generator = _generator(section.seed, clip_id, variant, name)
        if generator.random() < options.probability:
            effects[name] = _CLASSES[name].draw(options, generator)
    return effects


def describe(section: AugmentSection, clip_id: str, variant: int) -> dict[str, dict[str, Any]]:
    """What was drawn for one variant: effect -> parameter -> value, in plain types."""
    effects = draw(section, clip_id, variant)
    return {name: dict(vars(effect)) for name, effect in effects.items()}


def _generator(seed: int, clip_id: str, variant: int, effect: str) -> Generator:
    """Random numbers that depend on nothing but these four."""
    # JSON keeps the four apart and is ASCII, whatever an id holds.
    key = json.dumps([seed, clip_id, variant, effect]).encode("ascii")
    return Generator(PCG64(int.from_bytes(hashlib.sha256(key).digest(), "big")))


def _to_int16(waveform: Waveform) -> NDArray[np.int16]:
    ends = np.iinfo(np.int16)
    return np.clip(np.rint(waveform), ends.min, ends.max).astype(np.int16)
