"""Log-mel spectrograms by their constants, as the makers of a model tell them.

Shapes: P patches, T samples, F frames, W samples of a window, K frequency bins, M mel bands.
"""

from functools import lru_cache
from typing import Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, model_validator
from torch import Tensor

from audioflow.frontend import mel_filters
from audioflow.registry import Settings


class LogMel(Settings):
    """The constants of a log-mel spectrogram.

    window, hop: length and distance of frames in samples, under a periodic Hann window. n_fft: of
    the transform of a frame, which zeros fill up. centred: frames lie around multiples of `hop`
    (1 + T // hop of them) and reach beyond the ends by `padding`; else inside the waveform alone.
    bands, low_hz, high_hz: mel bands between two frequencies. mel: formula of the scale.
    triangles: whether a filter rises and falls linearly in Hz (librosa, torchaudio) or in mel
    (TensorFlow). area: whether filters have equal areas (Slaney) or equal peaks. power: 1 for mel
    bands of the magnitude, 2 of the power. log: natural, to base 10, or 10 log10 (`decibel`), of
    the value plus `offset`, at least `floor`. frames: only the first so many.
    """

    window: int = Field(ge=2, le=65_536)
    hop: int = Field(ge=1, le=65_536)
    n_fft: int = Field(ge=2, le=65_536)
    bands: int = Field(ge=1, le=1024)
    low_hz: float = Field(ge=0)
    high_hz: float = Field(gt=0)
    mel: Literal["htk", "slaney"] = "htk"
    triangles: Literal["hz", "mel"] = "hz"
    area: bool = False
    power: Literal[1, 2] = 2
    log: Literal["natural", "base10", "decibel"] = "natural"
    offset: float = Field(0.0, ge=0)
    floor: float = Field(1e-10, ge=0)
    centred: bool = False
    padding: Literal["reflect", "constant"] = "reflect"
    frames: int | None = Field(None, ge=1)

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.window > self.n_fft:
            raise ValueError(f"window ({self.window}) is longer than n_fft ({self.n_fft})")
        if self.low_hz >= self.high_hz:
            raise ValueError(f"low_hz ({self.low_hz:g}) is not below high_hz ({self.high_hz:g})")
        if self.offset == 0 and self.floor == 0:
            raise ValueError("offset and floor are both 0: the logarithm of silence is infinite")
        if self.triangles == "mel" and (self.mel == "slaney" or self.area):
            raise ValueError("triangles: mel goes with mel: htk and area: false")
        return self


def _of_vggish(offset: float) -> LogMel:
    return LogMel(
        window=400,
        hop=160,
        n_fft=512,
        bands=64,
        low_hz=125.0,
        high_hz=7500.0,
        triangles="mel",
        power=1,
        offset=offset,
        floor=0.0,
    )


NAMED_SAMPLE_RATE_HZ = 16_000
VGGISH = _of_vggish(0.01)
"""Hershey et al. 2017, `research/audioset/vggish` of tensorflow/models; at 16 kHz."""
YAMNET = _of_vggish(0.001)
"""`research/audioset/yamnet` of tensorflow/models: VGGish's with another offset; at 16 kHz."""


def log_mel(waveform_PT: Tensor, sample_rate_hz: int, constants: LogMel) -> Tensor:
    """float32 waveforms -> (P, F, M), on the waveforms' device."""
    spectrum_PFK = torch.fft.rfft(_frames(waveform_PT, constants), constants.n_fft)
    values = spectrum_PFK.real.square().addcmul_(spectrum_PFK.imag, spectrum_PFK.imag)
    if constants.power == 1:
        values = values.sqrt_()
    mel_PFM = values @ _filters(sample_rate_hz, constants).to(waveform_PT.device)
    mel_PFM = mel_PFM.add_(constants.offset).clamp_(min=constants.floor)
    if constants.log == "natural":
        return mel_PFM.log_()
    mel_PFM = mel_PFM.log10_()
    return mel_PFM.mul_(10.0) if constants.log == "decibel" else mel_PFM


def num_frames(samples: int, constants: LogMel) -> int:
    """How many frames a waveform of so many samples has."""
    if constants.centred:
        count = 1 + samples // constants.hop
    else:
        count = max(0, 1 + (samples - constants.window) // constants.hop)
    return min(count, constants.frames or count)


def _frames(waveform_PT: Tensor, constants: LogMel) -> Tensor:
    """(P, F, W) windowed frames."""
    count = num_frames(waveform_PT.shape[1], constants)
    if constants.centred:
        around = constants.n_fft // 2
        padded = torch.nn.functional.pad(
            waveform_PT[:, None], (around, around), mode=constants.padding
        )
        waveform_PT = padded[:, 0, (constants.n_fft - constants.window) // 2 :]
    window_W = torch.hann_window(constants.window, device=waveform_PT.device)
    return waveform_PT.unfold(1, constants.window, constants.hop)[:, :count] * window_W


@lru_cache(maxsize=16)
def _filters(sample_rate_hz: int, constants: LogMel) -> Tensor:
    """(K, M) of these constants."""
    if constants.triangles == "mel":
        return triangles_in_mel(sample_rate_hz, constants)
    return mel_filters(
        constants.n_fft,
        sample_rate_hz,
        constants.bands,
        constants.low_hz,
        constants.high_hz,
        constants.mel,
        "slaney" if constants.area else None,
    )


def triangles_in_mel(sample_rate_hz: int, constants: LogMel) -> Tensor:
    """(K, M) filters that rise and fall linearly in HTK's mel = 1127 ln(1 + f / 700).

    All peaks are 1; the bin of 0 Hz counts for none (tensorflow/models, `mel_features.py`).
    """
    bins_mel = _htk_mel(np.linspace(0.0, sample_rate_hz / 2, constants.n_fft // 2 + 1))
    low_mel, high_mel = _htk_mel(np.array([constants.low_hz, constants.high_hz]))
    corners = np.linspace(low_mel, high_mel, constants.bands + 2)
    width = np.diff(corners)
    rising = (bins_mel[:, None] - corners[:-2]) / width[:-1]
    falling = (corners[2:] - bins_mel[:, None]) / width[1:]
    filters_KM = np.maximum(0.0, np.minimum(rising, falling))
    filters_KM[0] = 0.0
    return torch.from_numpy(filters_KM.astype(np.float32))


def _htk_mel(hz: NDArray[np.float64]) -> NDArray[np.float64]:
    return 1127.0 * np.log1p(hz / 700.0)
