"""Log-mel spectrograms, and the constants in which those of published systems differ.

Shapes: P patches, T samples, F frames, N samples of an FFT, K frequency bins, M mel bands.
"""

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from audioflow.frontend import PadMode
from audioflow.frontend.mel import Axis, MelScale, Norm, centres_hz, mel_filters

Spectrum = Literal["magnitude", "power"]
Logarithm = Literal["natural", "log10", "db", "power_db", "none"]
Reference = Literal["one", "max"]

_QUIETEST = 1e-10
"""Power that is -100 dB."""
_MOST_ON_CPU = 2**16
"""float64 values of frames at once: what fits into a cache is done twice as fast."""
_MOST_ON_GPU = 2**27
"""1 GB: whatever the batch, memory stays bounded."""


@dataclass(frozen=True)
class Constants:
    """Everything that decides what a spectrogram holds; `LogMelKeys` says what each means."""

    sample_rate_hz: int
    n_fft: int
    window_samples: int
    frame_hop_samples: int
    num_mels: int
    low_hz: float
    high_hz: float
    scale: MelScale = "htk"
    linear_in: Axis = "hz"
    norm: Norm = "none"
    spectrum: Spectrum = "power"
    log: Logarithm = "natural"
    factor: float = 1.0
    offset: float = 0.0
    floor: float | None = None
    reference: Reference = "one"
    top_db: float | Literal["none"] = "none"
    center: bool = False
    pad_mode: PadMode = "reflect"
    num_frames: int | None = None

    @property
    def least(self) -> float:
        """What the logarithm is taken of at least."""
        if self.floor is not None:
            return self.floor
        return _QUIETEST if self.db_per_decade == 10 else _QUIETEST**0.5

    @property
    def db_per_decade(self) -> int:
        """How many dB a factor of ten is."""
        return 10 if self.spectrum == "power" or self.log == "power_db" else 20

    def samples_of(self, frames: int) -> int:
        """The samples that so many frames see, where they are not centred."""
        return self.window_samples + (frames - 1) * self.frame_hop_samples

    def frames_of(self, samples: int) -> int:
        """How many frames a waveform of so many samples has, at most `num_frames`."""
        # Of an odd n_fft, the padding of centred frames is a sample short of what one needs.
        length = self.window_samples if not self.center else self.n_fft % 2
        count = max(0, 1 + (samples - length) // self.frame_hop_samples)
        return min(count, self.num_frames or count)

    @property
    def first_s(self) -> float:
        """The middle of the first frame, in seconds after the begin of the waveform."""
        return 0.0 if self.center else self.window_samples / 2 / self.sample_rate_hz

    @property
    def frame_s(self) -> float:
        """The distance of frames in seconds."""
        return self.frame_hop_samples / self.sample_rate_hz

    @property
    def bands_hz(self) -> tuple[float, ...]:
        """The middle of every band."""
        found = centres_hz(self.num_mels, self.low_hz, self.high_hz, self.scale)
        return tuple(found.tolist())

    @property
    def quiet(self) -> float:
        """What a band has that is silent in a patch that is not."""
        if self.reference == "max" and self.top_db != "none":
            return -self.top_db
        if self.log == "none":
            return 0.0
        least = torch.zeros(1, 1, 1)
        return float(_logarithm(least, replace(self, reference="one", top_db="none")))

    @property
    def unit(self) -> str:
        """Of the values, in words."""
        words = {"natural": "ln", "log10": "log10", "none": self.spectrum}
        return words.get(self.log, "dB")


def vggish(sample_rate_hz: int) -> Constants:
    """Google's VGGish: Hershey et al. 2017, `research/audioset/vggish` of tensorflow/models."""
    window = round(0.025 * sample_rate_hz)
    return Constants(
        sample_rate_hz=sample_rate_hz,
        n_fft=1 << (window - 1).bit_length(),
        window_samples=window,
        frame_hop_samples=round(0.010 * sample_rate_hz),
        num_mels=64,
        low_hz=125.0,
        high_hz=7500.0,
        linear_in="mel",
        spectrum="magnitude",
        offset=0.01,
    )


def yamnet(sample_rate_hz: int) -> Constants:
    """`research/audioset/yamnet` of tensorflow/models: VGGish's with another offset."""
    return replace(vggish(sample_rate_hz), offset=0.001)


def kinetics600(sample_rate_hz: int) -> Constants:
    """The sound tracks of Kinetics-600 by librosa, which padded by reflection then."""
    n_fft = int(0.025 * sample_rate_hz) + 1
    return Constants(
        sample_rate_hz=sample_rate_hz,
        n_fft=n_fft,
        window_samples=n_fft,
        frame_hop_samples=int(0.010 * sample_rate_hz) + 1,
        num_mels=64,
        low_hz=0.0,
        high_hz=sample_rate_hz / 2,
        scale="slaney",
        norm="slaney",
        spectrum="magnitude",
        log="db",
        reference="max",
        top_db=80.0,
        center=True,
    )


def gtzan(sample_rate_hz: int) -> Constants:
    """Genres of GTZAN by torchaudio."""
    return Constants(
        sample_rate_hz=sample_rate_hz,
        n_fft=1024,
        window_samples=1024,
        frame_hop_samples=512,
        num_mels=128,
        low_hz=0.0,
        high_hz=sample_rate_hz / 2,
        log="db",
        center=True,
    )


VGGISH = vggish(16_000)
YAMNET = yamnet(16_000)


def log_mel(waveform_PT: Tensor, constants: Constants) -> Tensor:
    """Waveforms in [-1, 1] -> float32 (P, F, M), on the waveforms' device.

    F is `constants.frames_of(T)`; an incomplete last frame is dropped. T is at least a frame.
    """
    filters_KM = mel_filters(
        constants.n_fft,
        constants.sample_rate_hz,
        constants.num_mels,
        constants.low_hz,
        constants.high_hz,
        constants.scale,
        constants.norm,
        constants.linear_in,
    )
    filters_KM = filters_KM.to(waveform_PT.device)
    most = _MOST_ON_CPU if waveform_PT.device.type == "cpu" else _MOST_ON_GPU
    frames = constants.frames_of(waveform_PT.shape[1])
    at_once = max(1, most // (frames * constants.n_fft))
    parts = [
        _spectrum(waveform_PT[begin : begin + at_once], constants) @ filters_KM
        for begin in range(0, len(waveform_PT), at_once)
    ]
    mel_PFM = torch.cat(parts) if parts else filters_KM.new_empty(0, frames, constants.num_mels)
    return mel_PFM if constants.log == "none" else _logarithm(mel_PFM, constants)


def _spectrum(waveform_PT: Tensor, constants: Constants) -> Tensor:
    """float32 (P, F, K), the power or the magnitudes of frames under a periodic Hann window."""
    count = constants.frames_of(waveform_PT.shape[1])
    spare = constants.n_fft - constants.window_samples
    if constants.center:
        half = constants.n_fft // 2
        waveform_PT = functional.pad(waveform_PT[:, None], (half, half), constants.pad_mode)[:, 0]
        waveform_PT = waveform_PT[:, spare // 2 :]
    # Zeros behind the window, not around it: that turns phases, which are not looked at.
    window_N = functional.pad(
        torch.hann_window(constants.window_samples, dtype=torch.float64, device=waveform_PT.device),
        (0, spare),
    )
    # In float64: in float32, loud tones round to more than what quiet bands hold.
    waveform_PT = functional.pad(waveform_PT, (0, spare)).double()
    frames_PFN = waveform_PT.unfold(1, constants.n_fft, constants.frame_hop_samples)[:, :count]
    parts_PFK2 = torch.view_as_real(torch.fft.rfft(frames_PFN * window_N)).float()
    real, imaginary = parts_PFK2.unbind(dim=-1)
    power_PFK = real.square().addcmul_(imaginary, imaginary)
    return power_PFK if constants.spectrum == "power" else power_PFK.sqrt()


def _logarithm(mel_PFM: Tensor, constants: Constants) -> Tensor:
    values = mel_PFM if constants.factor == 1.0 else constants.factor * mel_PFM
    values = (values + constants.offset).clamp(min=constants.least)
    if constants.log == "natural":
        return values.log()
    if constants.log == "log10":
        return values.log10()
    db_PFM = constants.db_per_decade * values.log10()
    if constants.reference == "max":
        db_PFM = db_PFM - db_PFM.amax(dim=(1, 2), keepdim=True)
    if constants.top_db != "none":
        loudest = db_PFM.amax(dim=(1, 2), keepdim=True)
        db_PFM = torch.maximum(db_PFM, loudest - constants.top_db)
    return db_PFM
