"""Layers and spectrograms in NumPy and float64, one patch at a time, for golden vectors.

Convolutions are sums over the places of their kernels, the DFT is a matrix, mel bands are made bin
by bin: slow, and in no way how the backbones compute.

Shapes: C channels, O output channels, H and W of a picture, F frames, K frequency bins, M bands.
"""

from math import ceil, log, log10

import numpy as np
from numpy.typing import NDArray

from audioflow.backbones.network import random_tensor

Array = NDArray[np.float64]
Padding = tuple[tuple[int, int], tuple[int, int]]


class Weights:
    """Random weights by the names they have in the backbone's network."""

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def __call__(self, name: str, *shape: int) -> Array:
        return random_tensor(name, shape, self._seed).astype(np.float64)

    def norm(self, name: str, x: Array, epsilon: float) -> Array:
        """Batch normalisation of (C, ...) by its running statistics."""
        shape = (len(x), *[1] * (x.ndim - 1))
        gain, shift, mean, var = (
            self(f"{name}.{leaf}", len(x)).reshape(shape)
            for leaf in ("weight", "bias", "running_mean", "running_var")
        )
        return (x - mean) / np.sqrt(var + epsilon) * gain + shift

    def conv(
        self, name: str, x_CHW: Array, shape: tuple[int, ...], pad: Padding, *, bias: bool = True
    ) -> Array:
        """(O, H, W) with stride one; shape: (O, C, kH, kW), or (O, C, kW) where it is flat."""
        kernel = self(f"{name}.weight", *shape).reshape(shape if len(shape) == 4 else _tall(shape))
        padded = np.pad(x_CHW, ((0, 0), *pad))
        height = padded.shape[1] - kernel.shape[2] + 1
        width = padded.shape[2] - kernel.shape[3] + 1
        found = np.zeros((kernel.shape[0], height, width))
        for y in range(kernel.shape[2]):
            for x in range(kernel.shape[3]):
                seen = padded[:, y : y + height, x : x + width].reshape(len(padded), -1)
                found += (kernel[:, :, y, x] @ seen).reshape(found.shape)
        return found + self(f"{name}.bias", shape[0])[:, None, None] if bias else found

    def linear(self, name: str, x: Array, width: int) -> Array:
        """(width,) of a vector."""
        return self(f"{name}.weight", width, len(x)) @ x + self(f"{name}.bias", width)


def _tall(shape: tuple[int, ...]) -> tuple[int, ...]:
    return shape[0], shape[1], 1, shape[2]


def relu(x: Array) -> Array:
    return np.maximum(x, 0.0)


def sigmoid(x: Array) -> Array:
    return 1.0 / (1.0 + np.exp(-x))


def cells(x_CHW: Array, height: int, width: int) -> Array:
    """(C, H // height, W // width, height * width): what each cell of a pooling sees."""
    channels, rows, columns = len(x_CHW), x_CHW.shape[1] // height, x_CHW.shape[2] // width
    cut = x_CHW[:, : rows * height, : columns * width]
    split = cut.reshape(channels, rows, height, columns, width).swapaxes(2, 3)
    return split.reshape(channels, rows, columns, height * width)


def power(samples: Array, n_fft: int, hop: int) -> Array:
    """(F, K): power of a DFT of whole frames under a periodic Hann window."""
    n, k = np.arange(n_fft), np.arange(n_fft // 2 + 1)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * n / n_fft)
    starts = range(0, len(samples) - n_fft + 1, hop)
    frames = np.stack([samples[start : start + n_fft] * window for start in starts])
    angles = 2 * np.pi * (np.outer(n, k) % n_fft) / n_fft
    return (frames @ np.cos(angles)) ** 2 + (frames @ np.sin(angles)) ** 2


def mirrored(samples: Array, count: int) -> Array:
    """The samples with so many more on either side, reflected without the first and the last."""
    before, after = samples[count:0:-1], samples[-2 : -count - 2 : -1]
    return np.concatenate([before, samples, after])


def same(samples: Array, n_fft: int, hop: int) -> tuple[int, int]:
    """Zeros before and after, so that there are ceil(T / hop) frames: TensorFlow's `same`."""
    lacking = (ceil(len(samples) / hop) - 1) * hop + n_fft - len(samples)
    return lacking // 2, lacking - lacking // 2


def htk(hz: float) -> float:
    """HTK's mel."""
    return 2595.0 * log10(1.0 + hz / 700.0)


def htk_hz(mel: float) -> float:
    return 700.0 * (10.0 ** (mel / 2595.0) - 1.0)


def slaney(hz: float) -> float:
    """Slaney's mel: linear up to 1 kHz, then 27 steps per factor 6.4."""
    return hz * 3 / 200 if hz < 1000.0 else 15.0 + 27.0 * log(hz / 1000.0) / log(6.4)


def slaney_hz(mel: float) -> float:
    return mel * 200 / 3 if mel < 15.0 else 1000.0 * 6.4 ** ((mel - 15.0) / 27.0)


def triangles(
    n_fft: int, rate_hz: int, bands: int, range_hz: tuple[float, float], kind: str, *, area: bool
) -> Array:
    """(K, M): mel bands, linear in Hz; kind: `htk` or `slaney`; area: of equal area, not peak."""
    mel, hz = (htk, htk_hz) if kind == "htk" else (slaney, slaney_hz)
    low, high = (mel(edge) for edge in range_hz)
    corners = [hz(low + (high - low) * step / (bands + 1)) for step in range(bands + 2)]
    found = np.zeros((n_fft // 2 + 1, bands))
    for band in range(bands):
        left, peak, right = corners[band : band + 3]
        for k in range(n_fft // 2 + 1):
            at = k * rate_hz / n_fft
            height = min((at - left) / (peak - left), (right - at) / (right - peak))
            found[k, band] = max(0.0, height) * (2.0 / (right - left) if area else 1.0)
    return found


def decibel(values: Array) -> Array:
    return 10.0 * np.log10(np.maximum(values, 1e-10))
