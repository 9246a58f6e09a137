"""Golden vectors of `soundnet`, by NumPy in float64: every output step is a sum over the kernel.

Shapes: C channels, T steps in time.
"""

import numpy as np
from numpy.typing import NDArray

from audioflow.backbones.network import random_tensor
from audioflow.goldens import Case, batch

Array = NDArray[np.float64]

CASES = (
    Case("course", (2, 66_150), {"weights": "random"}),
    Case(
        "everything",
        (1, 220_500),
        {
            "weights": "random",
            "seed": 3,
            "activation": "post",
            "time": "max",
            "layers": [
                *("conv1", "pool1", "conv2", "pool2", "conv3", "conv4", "conv5", "pool5"),
                *("conv6", "conv7", "conv8_objs", "conv8_scns"),
            ],
        },
        1,
    ),
    Case(
        "sequence",
        (2, 44_100),
        {"weights": "random", "time": "sequence", "layers": ["conv3", "conv6"], "scale": 512.0},
        2,
    ),
)
_KERNELS = (64, 32, 16, 8, 4, 4, 4)
_POOLS = {1: 8, 2: 8, 5: 4}


def reference(case: Case) -> dict[str, NDArray[np.float32]]:
    """The layers of a case."""
    options = case.options
    scale = float(options.get("scale", 256.0))
    names = options.get("layers", ["pool5", "conv6", "conv7"])
    found = []
    for samples in batch(case):
        waveform = np.clip(samples / 32767.0 * scale, -scale, scale)
        post = options.get("activation", "pre") == "post"
        found.append(_layers(waveform, post, int(options.get("seed", 0)), names))
    time = str(options.get("time", "mean"))
    return {
        name: np.stack([_over_time(one[name], time) for one in found]).astype(np.float32)
        for name in names
    }


def _over_time(layer_CT: Array, time: str) -> Array:
    if time == "sequence":
        return layer_CT.T
    return np.asarray(layer_CT.mean(axis=1) if time == "mean" else layer_CT.max(axis=1))


def _layers(waveform: Array, post: bool, seed: int, names: list[str]) -> dict[str, Array]:
    """Every layer (C, T), of the waveform (T,)."""
    found: dict[str, Array] = {}
    flowing, width = waveform[None], 1
    for number, kernel in enumerate(_KERNELS, start=1):
        width = 16 * 2 ** (number - 1)
        before = _convolved(flowing, f"conv{number}", (width, kernel, kernel // 2), seed)
        flowing = np.maximum(_normalised(before, f"batchnorm{number}", seed), 0)
        found[f"conv{number}"] = flowing if post else before
        if number in _POOLS:
            size = _POOLS[number]
            steps = flowing.shape[1] // size
            flowing = flowing[:, : steps * size].reshape(width, steps, size).max(axis=2)
            found[f"pool{number}"] = flowing
    for name, classes in (("conv8_objs", 1000), ("conv8_scns", 401)):
        if name in names:
            found[name] = _convolved(flowing, name, (classes, 8, 0), seed)
    return found


def _convolved(layer_CT: Array, name: str, shape: tuple[int, int, int], seed: int) -> Array:
    """shape: width, kernel, padding; every second step."""
    width, size, padding = shape
    kernel = random_tensor(f"{name}.weight", (width, len(layer_CT), size), seed)
    padded = np.pad(layer_CT, ((0, 0), (padding, padding)))
    steps = (padded.shape[1] - size) // 2 + 1
    found = np.zeros((width, steps)) + _drawn(f"{name}.bias", width, seed)[:, None]
    for tap in range(size):
        taken = padded[:, tap : tap + 2 * steps - 1 : 2]
        found += kernel[:, :, tap].astype(np.float64) @ taken
    return found


def _normalised(layer_CT: Array, name: str, seed: int) -> Array:
    weight, bias, mean, variance = (
        _drawn(f"{name}.{kind}", len(layer_CT), seed)[:, None]
        for kind in ("weight", "bias", "running_mean", "running_var")
    )
    return (layer_CT - mean) / np.sqrt(variance + 1e-5) * weight + bias


def _drawn(name: str, width: int, seed: int) -> Array:
    return random_tensor(name, (width,), seed).astype(np.float64)
