"""Golden vectors of `yamnet`: NumPy in float64, a DFT matrix, mel filters band by band.

Convolutions are sums over kernel taps, with TensorFlow's rule for `same` padding.

Shapes: P patches, F frames, H and W of a feature map, C channels.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from audioflow.backbones.network import random_tensor
from audioflow.goldens import Case, batch

Array = NDArray[np.float64]

CASES = (
    Case(
        "all_layers",
        (2, 15_600),
        {"weights": "random", "seed": 5, "layers": ["embedding", "logits", "scores"]},
        seed=1,
    ),
)

_STRIDES = (2, 1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1)
_CHANNELS = (32, 64, 128, 128, 256, 256, 512, 512, 512, 512, 512, 512, 1024, 1024)


def reference(case: Case) -> dict[str, NDArray[np.float32]]:
    """Embedding, logits and scores of a case."""
    seed = int(case.options["seed"])
    waveforms = batch(case).astype(np.float64) / 32767.0
    maps = np.stack([_log_mel(waveform) for waveform in waveforms])[..., None]
    for number, (stride, channels) in enumerate(zip(_STRIDES, _CHANNELS, strict=True), start=1):
        before = maps.shape[3]
        if number == 1:
            maps = _convolved(maps, *_weights("layer1.conv", (channels, 1, 3, 3), seed), stride)
            continue
        depthwise = _weights(f"layer{number}.depthwise", (before, 1, 3, 3), seed)
        maps = _convolved(maps, *depthwise, stride, each_channel=True)
        pointwise = _weights(f"layer{number}.pointwise", (channels, before, 1, 1), seed)
        maps = _convolved(maps, *pointwise, 1)
    embedding = maps.mean(axis=(1, 2))
    matrix, bias = _weights("logits", (521, 1024), seed)
    logits = embedding @ matrix.T + bias
    found = {"embedding": embedding, "logits": logits, "scores": 1 / (1 + np.exp(-logits))}
    return {layer: vectors.astype(np.float32) for layer, vectors in found.items()}


def _weights(name: str, shape: tuple[int, ...], seed: int) -> tuple[Array, Array]:
    kernel = random_tensor(f"{name}.weight", shape, seed).astype(np.float64)
    return kernel, random_tensor(f"{name}.bias", shape[:1], seed).astype(np.float64)


def _log_mel(waveform: Array) -> Array:
    """(96, 64)"""
    sample = np.arange(400)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * sample / 400)
    bins = np.arange(257)
    transform = np.exp(-2j * np.pi * np.outer(sample, bins) / 512)
    frames = np.stack([waveform[160 * f : 160 * f + 400] for f in range(96)])
    magnitude = np.abs((frames * window) @ transform)
    return np.log(magnitude @ _mel_filters() + 0.001)


def _mel_filters() -> Array:
    """(257, 64)"""

    def mel(hz: Any) -> Any:
        return 1127.0 * np.log(1 + hz / 700.0)

    corners = [mel(125.0) + (mel(7500.0) - mel(125.0)) * k / 65 for k in range(66)]
    filters = np.zeros((257, 64))
    for place in range(1, 257):  # the bin of 0 Hz counts for none
        at = mel(place * 16_000 / 512)
        for band in range(64):
            low, centre, high = corners[band : band + 3]
            if low < at <= centre:
                filters[place, band] = (at - low) / (centre - low)
            elif centre < at < high:
                filters[place, band] = (high - at) / (high - centre)
    return filters


def _convolved(
    maps_PHWC: Array, kernel: Array, bias: Array, stride: int, *, each_channel: bool = False
) -> Array:
    """Convolution, bias, ReLU. Kernel (out, in, h, w); with `each_channel` (channel, 1, h, w)."""
    size = kernel.shape[2]
    padding, lengths = [], []
    for length in maps_PHWC.shape[1:3]:
        found = -(-length // stride)
        total = max((found - 1) * stride + size - length, 0)
        padding.append((total // 2, total - total // 2))
        lengths.append(found)
    padded = np.pad(maps_PHWC, ((0, 0), *padding, (0, 0)))
    result = np.zeros((len(maps_PHWC), *lengths, len(kernel))) + bias
    for down in range(size):
        for across in range(size):
            rows = slice(down, down + stride * (lengths[0] - 1) + 1, stride)
            columns = slice(across, across + stride * (lengths[1] - 1) + 1, stride)
            seen = padded[:, rows, columns]
            tap = kernel[:, :, down, across]
            result += seen * tap[:, 0] if each_channel else seen @ tap.T
    return np.maximum(result, 0)
