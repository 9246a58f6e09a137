"""Golden vectors of `vggish`, by NumPy in float64: the DFT as a matrix, filters bin by bin,
convolutions as sums of shifted products.

Shapes: F frames, K frequency bins, M mel bands, C channels, H and W of a picture.
"""

from math import ceil, log

import numpy as np
from numpy.typing import NDArray

from audioflow.backbones.network import random_tensor
from audioflow.goldens import Case, batch

Array = NDArray[np.float64]

CASES = (
    Case(
        "layers",
        (2, 15_600),
        {"weights": "random", "layers": ["fc1_1", "fc1_2", "embedding"]},
    ),
    Case("no_final_relu", (2, 15_600), {"weights": "random", "seed": 5, "final_relu": False}, 1),
)
_CONVOLUTIONS = {0: (1, 64), 3: (64, 128), 6: (128, 256), 8: (256, 256)} | {
    11: (256, 512),
    13: (512, 512),
}
_POOLED_AFTER = (0, 3, 8, 13)


def reference(case: Case) -> dict[str, NDArray[np.float32]]:
    """The layers of a case."""
    seed = int(case.options.get("seed", 0))
    found = [_layers(samples / 32767.0, seed) for samples in batch(case).astype(np.float64)]
    wanted = case.options.get("layers", ["embedding"])
    stacked = {name: np.stack([one[name] for one in found]) for name in wanted}
    if case.options.get("final_relu", True):
        stacked["embedding"] = np.maximum(stacked["embedding"], 0)
    return {name: values.astype(np.float32) for name, values in stacked.items()}


def log_mel(samples: Array) -> Array:
    """(F, 64) of samples in [-1, 1] at 16 kHz."""
    n, k = np.arange(400), np.arange(257)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * n / 400)
    rows = [samples[start : start + 400] * window for start in range(0, len(samples) - 399, 160)]
    angles = 2 * np.pi * np.outer(n, k) / 512
    frames = np.stack(rows)
    magnitude = np.hypot(frames @ np.cos(angles), frames @ np.sin(angles))
    return np.log(magnitude @ _filters() + 0.01)


def _filters() -> Array:
    def mel(hz: float) -> float:
        return 1127 * log(1 + hz / 700)

    low, high = mel(125), mel(7500)
    step = (high - low) / 65
    found = np.zeros((257, 64))
    for bin_ in range(1, 257):
        place = (mel(bin_ * 16000 / 512) - low) / step  # 0 at the low end, 65 at the high one
        for band in range(max(0, ceil(place) - 2), min(64, ceil(place) + 1)):
            found[bin_, band] = max(0.0, 1 - abs(place - (band + 1)))
    return found


def _layers(samples: Array, seed: int) -> dict[str, Array]:
    picture = log_mel(samples)[None]
    for number, (given, width) in _CONVOLUTIONS.items():
        name = f"features.{number}"
        kernel = _drawn(f"{name}.weight", (width, given, 3, 3), seed)
        picture = np.maximum(_convolved(picture, kernel, _drawn(f"{name}.bias", (width,), seed)), 0)
        if number in _POOLED_AFTER:
            channels, height, width_ = picture.shape
            picture = picture.reshape(channels, height // 2, 2, width_ // 2, 2).max(axis=(2, 4))
    flat = np.moveaxis(picture, 0, -1).reshape(-1)
    found = {}
    for name, number, given, width in (
        ("fc1_1", 0, flat.size, 4096),
        ("fc1_2", 2, 4096, 4096),
        ("embedding", 4, 4096, 128),
    ):
        matrix = _drawn(f"embeddings.{number}.weight", (width, given), seed)
        flat = matrix @ flat + _drawn(f"embeddings.{number}.bias", (width,), seed)
        flat = flat if name == "embedding" else np.maximum(flat, 0)
        found[name] = flat
    return found


def _convolved(picture_CHW: Array, kernel: Array, bias: Array) -> Array:
    """3 x 3, zeros around."""
    _, height, width = picture_CHW.shape
    padded = np.pad(picture_CHW, ((0, 0), (1, 1), (1, 1)))
    found = np.zeros((len(kernel), height, width)) + bias[:, None, None]
    for row in range(3):
        for column in range(3):
            shifted = padded[:, row : row + height, column : column + width]
            found += np.tensordot(kernel[:, :, row, column], shifted, axes=1)
    return found


def _drawn(name: str, shape: tuple[int, ...], seed: int) -> Array:
    return random_tensor(name, shape, seed).astype(np.float64)
