"""The constants in which log-mel spectrograms differ: presets of published systems, and checks."""

from dataclasses import dataclass, fields, replace
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from audioflow.backbones.mel_triangles import Axis, Norm
from audioflow.frontend import MelScale, PadMode
from audioflow.media.patches import Short
from audioflow.registry import Settings

Preset = Literal["vggish", "kinetics600", "gtzan"]
Logarithm = Literal["natural", "db", "log10", "none"]
Reference = Literal["one", "max"]


@dataclass(frozen=True)
class Spectrogram:
    """Everything that decides what a spectrogram holds; see `LogMelSettings`."""

    sample_rate_hz: int
    n_fft: int
    window_samples: int
    frame_hop_samples: int
    num_mels: int
    low_hz: float
    high_hz: float
    scale: MelScale
    linear_in: Axis
    norm: Norm
    spectrum: Literal["magnitude", "power"]
    log: Logarithm
    center: bool
    patch_s: float
    hop_s: float
    pad_mode: PadMode = "reflect"
    offset: float = 0.01
    factor: float = 10_000.0
    reference: Reference = "one"
    top_db: float | Literal["none"] = "none"

    @property
    def patch_samples(self) -> int:
        return round(self.patch_s * self.sample_rate_hz)

    @property
    def num_frames(self) -> int:
        """Frames of a patch."""
        if self.center:
            # With an odd length, the padding is a sample short of what the last frame needs.
            padded = self.patch_samples + 2 * (self.n_fft // 2) - self.n_fft
            return 1 + padded // self.frame_hop_samples
        return 1 + (self.patch_samples - self.window_samples) // self.frame_hop_samples


def _vggish(rate: int) -> Spectrogram:
    """Google's VGGish (systems of dog sounds and of transfer learning)."""
    window = round(0.025 * rate)
    return Spectrogram(
        sample_rate_hz=rate,
        n_fft=1 << (window - 1).bit_length(),
        window_samples=window,
        frame_hop_samples=round(0.010 * rate),
        num_mels=64,
        low_hz=125.0,
        high_hz=7500.0,
        scale="htk",
        linear_in="mel",
        norm="none",
        spectrum="magnitude",
        log="natural",
        center=False,
        patch_s=0.975,
        hop_s=0.96,
    )


def _kinetics600(rate: int) -> Spectrogram:
    """The sound tracks of Kinetics-600 by librosa, which padded by reflection then."""
    n_fft = int(0.025 * rate) + 1
    return Spectrogram(
        sample_rate_hz=rate,
        n_fft=n_fft,
        window_samples=n_fft,
        frame_hop_samples=int(0.010 * rate) + 1,
        num_mels=64,
        low_hz=0.0,
        high_hz=rate / 2,
        scale="slaney",
        linear_in="hz",
        norm="slaney",
        spectrum="magnitude",
        log="db",
        reference="max",
        top_db=80.0,
        center=True,
        patch_s=0.96,
        hop_s=0.96,
    )


def _gtzan(rate: int) -> Spectrogram:
    """Genres of GTZAN by torchaudio."""
    return Spectrogram(
        sample_rate_hz=rate,
        n_fft=1024,
        window_samples=1024,
        frame_hop_samples=512,
        num_mels=128,
        low_hz=0.0,
        high_hz=rate / 2,
        scale="htk",
        linear_in="hz",
        norm="none",
        spectrum="power",
        log="db",
        center=True,
        patch_s=29.1,
        hop_s=29.1,
    )


_PRESETS = {
    "vggish": (_vggish, 16_000),
    "kinetics600": (_kinetics600, 44_100),
    "gtzan": (_gtzan, 22_050),
}


class LogMelSettings(Settings):
    """preset: a published system, whose constants hold where no other value is given.

    `vggish`: 16 kHz, 25 ms every 10 ms, 64 HTK bands 125-7500 Hz of the magnitudes, natural
    logarithm, 96 frames. `kinetics600`: 44.1 kHz, 25 ms every 10 ms, 64 Slaney bands of the
    magnitudes, dB below the patch's loudest, 96 frames. `gtzan`: 22,050 Hz, 1024 samples every 512,
    128 HTK bands of the power, dB, 1254 frames (29.1 s). With another `sample_rate_hz`, what is
    in milliseconds here stays so, and bands that end at half the rate still do.

    n_fft, window_samples, frame_hop_samples: of the spectrogram, in samples; a window shorter than
    n_fft is filled up with zeros (given n_fft alone, the window is as long). num_mels, low_hz,
    high_hz: the bands. scale: of mel. linear_in: where the sides of the triangles are straight.
    norm: `slaney` gives bands one area, `none` one peak. spectrum: what the bands sum up.
    log: `natural` ln(x + offset), `db` 10 log10 of power (20 of magnitude), at least -100 dB,
    relative to full scale or (reference: max) to the patch's largest value, cut off `top_db` below
    the largest; `log10` log10(1 + factor x); `none`. center: frames are centred on their time, by
    padding half an FFT in front and behind as `pad_mode` says; else frames lie inside the patch.
    patch_s, hop_s: length and distance of patches (as far apart as they are long, where only the
    length is given). short: what shorter clips get.
    """

    preset: Preset = "vggish"
    sample_rate_hz: int | None = Field(None, ge=1000, le=384_000)
    n_fft: int | None = Field(None, ge=16, le=65_536)
    window_samples: int | None = Field(None, ge=16, le=65_536)
    frame_hop_samples: int | None = Field(None, ge=1, le=65_536)
    num_mels: int | None = Field(None, ge=1, le=1024)
    low_hz: float | None = Field(None, ge=0)
    high_hz: float | None = Field(None, gt=0)
    scale: MelScale | None = None
    linear_in: Axis | None = None
    norm: Norm | None = None
    spectrum: Literal["magnitude", "power"] | None = None
    log: Logarithm | None = None
    offset: float | None = Field(None, gt=0)
    factor: float | None = Field(None, gt=0)
    reference: Reference | None = None
    top_db: float | Literal["none"] | None = None
    center: bool | None = None
    pad_mode: PadMode | None = None
    patch_s: float | None = Field(None, gt=0, le=600)
    hop_s: float | None = Field(None, ge=0.01, le=600)
    short: Short = "pad"

    @model_validator(mode="after")
    def _fits(self) -> Self:
        spectrogram(self)
        return self


def spectrogram(settings: LogMelSettings) -> Spectrogram:
    """The preset with what was given in its place.

    Raises `ValueError` where two values exclude each other, or one would say nothing.
    """
    make, rate = _PRESETS[settings.preset]
    found = make(settings.sample_rate_hz or rate)
    given: dict[str, Any] = {
        field.name: getattr(settings, field.name)
        for field in fields(Spectrogram)
        if getattr(settings, field.name) is not None
    }
    if "n_fft" in given:
        given.setdefault("window_samples", given["n_fft"])
    if "patch_s" in given:
        given.setdefault("hop_s", max(0.01, given["patch_s"]))
    found = replace(found, **given)
    _refuse_idle(found, given)
    _refuse_impossible(found)
    return found


def _refuse_idle(found: Spectrogram, given: dict[str, Any]) -> None:
    """A value that is given and says nothing was meant to say something."""
    for log, names in {
        "natural": ("offset",),
        "log10": ("factor",),
        "db": ("reference", "top_db"),
    }.items():
        for name in names:
            if name in given and found.log != log:
                raise ValueError(
                    f"{name} ({given[name]}) belongs to log: {log}, but log is {found.log}: "
                    f"give log: {log}, or leave {name} out"
                )
    if "pad_mode" in given and not found.center:
        raise ValueError(
            f"pad_mode ({given['pad_mode']}) belongs to center: true, but center is false: "
            "give center: true, or leave pad_mode out"
        )


def _refuse_impossible(found: Spectrogram) -> None:
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
    if found.center:
        needed = found.n_fft // 2 + 1 if found.pad_mode == "reflect" else 1
    else:
        needed = found.window_samples
    if found.patch_samples < needed:
        raise ValueError(
            f"patch_s ({found.patch_s:g}) is {found.patch_samples} samples, one frame needs "
            f"{needed}: give longer patches or a shorter window"
        )
