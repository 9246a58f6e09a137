"""Resampling a waveform that comes in blocks: soxr HQ, as if it had come at once."""

import numpy as np
import soxr
from numpy.typing import NDArray

FULL_SCALE = 32767.0


class Resampler:
    """Blocks of mono float32 at one sample rate (Hz) -> blocks at another."""

    def __init__(self, rate: int, wanted: int) -> None:
        self._rates = rate, wanted
        self._stream: soxr.ResampleStream | None = None

    def push(self, samples: NDArray[np.float32], *, last: bool) -> NDArray[np.float32]:
        """What can be told of the output after this block; the filter holds back its length."""
        rate, wanted = self._rates
        if rate == wanted:
            return samples
        if self._stream is None and last:
            whole: NDArray[np.float32] = soxr.resample(samples, rate, wanted, "HQ")
            return whole
        if self._stream is None:
            self._stream = soxr.ResampleStream(rate, wanted, 1, dtype="float32", quality="HQ")
        block: NDArray[np.float32] = self._stream.resample_chunk(samples, last=last)
        return block


def int16(samples: NDArray[np.float32]) -> NDArray[np.int16]:
    """Samples in [-1, 1] as they travel between processes; louder ones are clipped."""
    return np.rint(np.clip(samples, -1.0, 1.0) * FULL_SCALE).astype(np.int16)
