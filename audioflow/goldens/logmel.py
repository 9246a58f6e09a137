"""Golden vectors of `logmel`, by NumPy in float64: frames cut by hand, the DFT as a matrix, every
triangle from its corners.

Shapes: F frames, K frequency bins, M mel bands.
"""

from math import exp, log

import numpy as np
from numpy.typing import NDArray

from audioflow.goldens import Case, batch, vggish

Array = NDArray[np.float64]

CASES = (
    Case("vggish", (1, 15_600)),
    Case("kinetics600", (2, 15_360), {"preset": "kinetics600", "sample_rate_hz": 16_000}, 1),
    Case("gtzan", (1, 11_025), {"preset": "gtzan", "patch_s": 0.5}, 2),
    Case(
        "musicnn",
        (1, 8_000),
        {
            "preset": "gtzan",
            "sample_rate_hz": 16_000,
            "n_fft": 512,
            "frame_hop_samples": 256,
            "num_mels": 96,
            "scale": "slaney",
            "norm": "slaney",
            "log": "log10",
            "factor": 10_000.0,
            "offset": 1.0,
            "pad_mode": "constant",
            "patch_s": 0.5,
        },
        3,
    ),
)


def reference(case: Case) -> dict[str, NDArray[np.float32]]:
    """The layer of a case."""
    make = {"vggish": vggish.log_mel} | {
        "kinetics600": _kinetics600,
        "gtzan": _gtzan,
        "musicnn": _musicnn,
    }
    patches = [make[case.name](samples / 32767.0) for samples in batch(case).astype(np.float64)]
    return {"logmel": np.stack(patches).astype(np.float32)}


def _kinetics600(samples: Array) -> Array:
    """At 16 kHz: frames of 401 samples every 161, dB below the loudest, 80 dB."""
    mel = np.sqrt(_power(samples, (401, 161), "reflect")) @ _slaney(16_000, 401, 64)
    db = 20 * np.log10(np.maximum(mel, 1e-5))
    return np.maximum(db - db.max(), -80)


def _gtzan(samples: Array) -> Array:
    mel = _power(samples, (1024, 512), "reflect") @ _htk(22_050, 1024, 128)
    return 10 * np.log10(np.maximum(mel, 1e-10))


def _musicnn(samples: Array) -> Array:
    mel = _power(samples, (512, 256), "constant") @ _slaney(16_000, 512, 96)
    return np.log10(1 + 10_000 * mel)


def _power(samples: Array, lengths: tuple[int, int], pad: str) -> Array:
    """(F, K), frames centred."""
    n_fft, hop = lengths
    padded = np.pad(samples, n_fft // 2, mode="reflect" if pad == "reflect" else "constant")
    n, k = np.arange(n_fft), np.arange(n_fft // 2 + 1)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * n / n_fft)
    starts = range(0, len(padded) - n_fft + 1, hop)
    frames = np.stack([padded[start : start + n_fft] * window for start in starts])
    angles = 2 * np.pi * np.outer(n, k) / n_fft
    return (frames @ np.cos(angles)) ** 2 + (frames @ np.sin(angles)) ** 2


def _htk(rate: int, n_fft: int, num_bands: int) -> Array:
    top = 1127 * log(1 + rate / 2 / 700)
    marks = [top * number / (num_bands + 1) for number in range(num_bands + 2)]
    return _triangles([700 * (exp(mark / 1127) - 1) for mark in marks], rate, n_fft)


def _slaney(rate: int, n_fft: int, num_bands: int) -> Array:
    """Linear to 1 kHz, then 27 steps per factor 6.4; triangles of equal area."""
    top = 15 + 27 * log(rate / 2 / 1000) / log(6.4)
    corners = []
    for number in range(num_bands + 2):
        mel = top * number / (num_bands + 1)
        corners.append(mel * 200 / 3 if mel < 15 else 1000 * 6.4 ** ((mel - 15) / 27))
    areas = np.array(corners[2:]) - np.array(corners[:-2])
    return _triangles(corners, rate, n_fft) * (2 / areas)


def _triangles(corners_hz: list[float], rate: int, n_fft: int) -> Array:
    found = np.zeros((n_fft // 2 + 1, len(corners_hz) - 2))
    for bin_ in range(n_fft // 2 + 1):
        hz = bin_ * rate / n_fft
        for band in range(len(corners_hz) - 2):
            low, peak, high = corners_hz[band : band + 3]
            if low < hz < high:
                rising = (hz - low) / (peak - low)
                found[bin_, band] = min(rising, (high - hz) / (high - peak))
    return found
