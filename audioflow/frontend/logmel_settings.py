"""The recipe keys of a log-mel spectrogram, wherever a recipe has one, and their checks."""

from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from typing import Any, Literal

from pydantic import Field

from audioflow.frontend import PadMode
from audioflow.frontend.logmel import (
    Constants,
    Logarithm,
    Reference,
    Spectrum,
    gtzan,
    kinetics600,
    vggish,
    yamnet,
)
from audioflow.frontend.mel import Axis, MelScale, Norm
from audioflow.registry import Settings

Preset = Literal["none", "vggish", "yamnet", "kinetics600", "gtzan"]

_PRESETS: Mapping[str, Callable[[int], Constants]] = {
    "vggish": vggish,
    "yamnet": yamnet,
    "kinetics600": kinetics600,
    "gtzan": gtzan,
}
_NEEDED = ("n_fft", "frame_hop_samples", "num_mels", "low_hz", "high_hz")
"""What has no default of its own."""
_OF_LOGARITHM = ("factor", "offset", "floor", "reference", "top_db")
_OF_DB = ("reference", "top_db")


class LogMelKeys(Settings):
    """preset: a published system, whose constants hold where no other value is given.

    `vggish`: at 16 kHz 25 ms every 10 ms, FFT of 512, 64 HTK bands from 125 to 7500 Hz of the
    magnitudes, straight in mel, ln(x + 0.01). `yamnet`: the same, ln(x + 0.001). `kinetics600`:
    25 ms every 10 ms, 64 Slaney bands of the magnitudes, dB below the patch's loudest, down to 80.
    `gtzan`: 1024 samples every 512, 128 HTK bands of the power, dB. At other sample rates what is
    in milliseconds here stays so, and bands that end at half the rate still do. `none`: n_fft,
    frame_hop_samples, num_mels, low_hz and high_hz are to be given; the rest is, unless it is
    given, htk, hz, none, power, natural, not centred.

    n_fft, window_samples, frame_hop_samples: of frames, in samples, under a periodic Hann window; a
    window shorter than n_fft is filled up with zeros (given n_fft alone, the window is as long).
    num_mels, low_hz, high_hz: the bands. scale: of mel. linear_in: where the sides of the triangles
    are straight, in `hz` (librosa, torchaudio) or in `mel` (HTK, TensorFlow). norm: `slaney` gives
    bands one area, `none` one peak. spectrum: what the bands sum up. factor, offset and floor: of
    the log. log: of factor x + offset, at least floor (by default -100 dB: 1e-10 of power, 1e-5 of
    magnitudes): `natural`, `log10`, `db` (10 log10 of power, 20 of magnitudes), `power_db` (10
    log10 of either, as some code has it), or `none`, for x itself. With a log that is not the
    preset's, the preset's factor, offset and the like are void. reference: what dB are relative to,
    full scale (`one`) or the patch's largest value (`max`). top_db: cut off so many dB below the
    largest. center: frames are centred on their time, by padding half an FFT in front and behind as
    pad_mode says; else frames lie inside the patch. pad_mode: what is padded with, the sound
    mirrored or (`constant`) zeros. num_frames: only the first so many.
    """

    preset: Preset = "none"
    n_fft: int | None = Field(None, ge=16, le=65_536)
    window_samples: int | None = Field(None, ge=16, le=65_536)
    frame_hop_samples: int | None = Field(None, ge=1, le=65_536)
    num_mels: int | None = Field(None, ge=1, le=1024)
    low_hz: float | None = Field(None, ge=0)
    high_hz: float | None = Field(None, gt=0)
    scale: MelScale | None = None
    linear_in: Axis | None = None
    norm: Norm | None = None
    spectrum: Spectrum | None = None
    log: Logarithm | None = None
    factor: float | None = Field(None, gt=0)
    offset: float | None = Field(None, ge=0)
    floor: float | None = Field(None, ge=0)
    reference: Reference | None = None
    top_db: float | Literal["none"] | None = None
    center: bool | None = None
    pad_mode: PadMode | None = None
    num_frames: int | None = Field(None, ge=1)


def constants_of(keys: LogMelKeys, sample_rate_hz: int, patch_s: float) -> Constants:
    """The preset with what was given in its place, for patches of this length.

    Raises `ValueError` where two values exclude each other, or one would say nothing.
    """
    given: dict[str, Any] = {
        field.name: value
        for field in fields(Constants)
        if (value := getattr(keys, field.name, None)) is not None
    }
    given["sample_rate_hz"] = sample_rate_hz
    if "n_fft" in given:
        given.setdefault("window_samples", given["n_fft"])
    found = _filled(keys.preset, given)
    _refuse_idle(found, given)
    _refuse_impossible(found)
    _refuse_short(found, patch_s)
    return found


def _filled(preset: Preset, given: dict[str, Any]) -> Constants:
    if preset == "none":
        lacking = [name for name in _NEEDED if name not in given]
        if lacking:
            raise ValueError(
                f"{', '.join(lacking)} missing in a log-mel spectrogram whose preset is none: give "
                f"all of {', '.join(_NEEDED)}, or a preset ({', '.join(_PRESETS)})"
            )
        return Constants(**given)
    found = _PRESETS[preset](given["sample_rate_hz"])
    if given.get("log", found.log) != found.log:
        plain: dict[str, Any] = {
            field.name: field.default for field in fields(Constants) if field.name in _OF_LOGARITHM
        }
        found = replace(found, **plain)
    return replace(found, **given)


def _refuse_idle(found: Constants, given: dict[str, Any]) -> None:
    """A value that is given and says nothing was meant to say something."""
    for name in _OF_LOGARITHM:
        if name not in given:
            continue
        if name in _OF_DB and found.log not in ("db", "power_db"):
            raise ValueError(
                f"{name} ({given[name]}) belongs to log: db or power_db, but log is {found.log}: "
                f"give one of these, or leave {name} out"
            )
        if found.log == "none":
            raise ValueError(
                f"{name} ({given[name]}) belongs to a logarithm, but log is none: give another "
                f"log, or leave {name} out"
            )
    if 0 < given.get("floor", 0) <= found.offset:
        raise ValueError(
            f"floor ({found.floor:g}) is not above offset ({found.offset:g}), so nothing ever lies "
            "below it: leave one of them out"
        )
    if "pad_mode" in given and not found.center:
        raise ValueError(
            f"pad_mode ({given['pad_mode']}) belongs to center: true, but center is false: "
            "give center: true, or leave pad_mode out"
        )


def _refuse_impossible(found: Constants) -> None:
    if found.window_samples > found.n_fft:
        raise ValueError(
            f"window_samples ({found.window_samples}) is more than n_fft ({found.n_fft}): give a "
            "larger n_fft or a shorter window"
        )
    nyquist_hz = found.sample_rate_hz / 2
    if not found.low_hz < found.high_hz <= nyquist_hz:
        raise ValueError(
            f"low_hz ({found.low_hz:g}) and high_hz ({found.high_hz:g}) must rise and end at half "
            f"of sample_rate_hz ({nyquist_hz:g}) at most: give others"
        )
    if isinstance(found.top_db, float) and found.top_db <= 0:
        raise ValueError(f"top_db ({found.top_db:g}) must be above 0, or none")
    if found.log != "none" and found.offset == 0 and found.least == 0:
        raise ValueError(
            "floor (0) and offset (0) leave the logarithm of silence infinite: give one of them"
        )


def _refuse_short(found: Constants, patch_s: float) -> None:
    samples = round(patch_s * found.sample_rate_hz)
    if found.center:
        needed = found.n_fft // 2 + 1 if found.pad_mode == "reflect" else 1
    else:
        needed = found.window_samples
    if samples < needed:
        raise ValueError(
            f"patch_s ({patch_s:g}) is {samples} samples, one frame needs {needed}: give longer "
            "patches or a shorter window"
        )
    count = replace(found, num_frames=None).frames_of(samples)
    if found.num_frames is not None and found.num_frames > count:
        raise ValueError(
            f"num_frames ({found.num_frames}) is more than the {count} frames that a patch of "
            f"{patch_s:g} s has: give fewer, or longer patches"
        )
