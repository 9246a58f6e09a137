"""Golden vectors of `musicnn`, in NumPy and float64.

Shapes: T samples of a patch, F frames, M mel bands, C channels.
"""

import numpy as np
from numpy.typing import NDArray

from audioflow.goldens import Case, batch
from audioflow.goldens.numpy_layers import (
    Array,
    Weights,
    decibel,
    mirrored,
    power,
    relu,
    sigmoid,
    triangles,
)

_ALL = {"weights": "random", "layers": ["scores", "penultimate", "max_pool", "mean_pool"]}
CASES = (
    Case("torch", (2, 48_000), _ALL),
    Case("tensorflow", (2, 48_128), _ALL | {"variant": "tensorflow"}),
    Case(
        "wide",
        (1, 48_000),
        {"weights": "random", "middle": 512, "layers": ["scores", "penultimate"], "seed": 4},
        seed=1,
    ),
)


def reference(case: Case) -> dict[str, NDArray[np.float32]]:
    """The layers of a case."""
    options = case.options
    middle, weights = options.get("middle", 64), Weights(options.get("seed", 0))
    tensorflow = options.get("variant") == "tensorflow"
    found = []
    for samples in batch(case).astype(np.float64) / 32767.0:
        if tensorflow:
            found.append(_tensorflow(log_mel(samples), middle, weights))
        else:
            found.append(_torch(mel_db(samples), middle, weights))
    return {
        name: np.stack([one[name] for one in found]).astype(np.float32)
        for name in options["layers"]
    }


def mel_db(samples_T: Array) -> Array:
    """(M, F) in dB, as torchaudio makes it."""
    mel = triangles(512, 16_000, 96, (0.0, 8000.0), "htk", area=False)
    return decibel(power(mirrored(samples_T, 256), 512, 256) @ mel).T


def log_mel(samples_T: Array) -> Array:
    """(M, F) of log10, as the package musicnn makes it with librosa."""
    mel = triangles(512, 16_000, 96, (0.0, 8000.0), "slaney", area=True)
    return np.log10(10_000.0 * (power(samples_T, 512, 256) @ mel) + 1.0).T


def _torch(db_MF: Array, middle: int, weights: Weights) -> dict[str, Array]:
    x = weights.norm("spec_bn", db_MF[None], 1e-5)
    front = []
    for number, height in enumerate((67, 38)):
        name = f"layers.{number}"
        seen = weights.conv(f"{name}.conv", x, (204, 1, height, 7), ((0, 0), (3, 3)))
        front.append(relu(weights.norm(f"{name}.bn", seen, 1e-5)).max(axis=1))
    average = x.mean(axis=1, keepdims=True)
    for number, length in enumerate((129, 65, 33), 2):
        name, half = f"layers.{number}", length // 2
        seen = weights.conv(f"{name}.conv", average, (51, 1, length), ((0, 0), (half, half)))
        front.append(relu(weights.norm(f"{name}.bn", seen, 1e-5))[:, 0])
    stages = [np.concatenate(front)]
    for number in (1, 2, 3):
        x = _along_time(stages[-1], middle, f"layer{number}.conv", weights)
        x = relu(weights.norm(f"layer{number}.bn", x, 1e-5))
        stages.append(x if number == 1 else x + stages[-1])
    features = np.concatenate(stages)
    loudest, mean = features.max(axis=1), features.mean(axis=1)
    dense = weights.linear("dense1", np.concatenate([loudest, mean]), 500 if middle > 64 else 200)
    penultimate = relu(weights.norm("bn", dense, 1e-5))
    scores = sigmoid(weights.linear("dense2", penultimate, 50))
    return {
        "scores": scores,
        "penultimate": penultimate,
        "max_pool": loudest,
        "mean_pool": mean,
    }


def _tensorflow(log_MF: Array, middle: int, weights: Weights) -> dict[str, Array]:
    x = weights.norm("batch_normalization_0", log_MF[None], 1e-3)
    front = []
    kernels = ((204, 38, 7), (204, 67, 7), (51, 1, 128), (51, 1, 64), (51, 1, 32))
    for number, (width, height, length) in enumerate(kernels):
        ahead = (length - 1) // 2
        around = ((0, 0), (ahead, length - 1 - ahead))
        seen = weights.conv(f"conv2d_{number}", x, (width, 1, height, length), around)
        seen = weights.norm(f"batch_normalization_{number + 1}", relu(seen), 1e-3)
        front.append(seen.max(axis=1))
    stages = [np.concatenate(front)]
    for number in (5, 6, 7):
        x = relu(_along_time(stages[-1], middle, f"conv2d_{number}", weights))
        x = weights.norm(f"batch_normalization_{number + 1}", x, 1e-3)
        stages.append(x if number == 5 else x + stages[-1])
    features = np.concatenate(stages)
    loudest, mean = features.max(axis=1), features.mean(axis=1)
    pooled = np.ravel([loudest, mean], order="F")
    dense = weights.linear("dense_0", weights.norm("batch_normalization_9", pooled, 1e-3), 200)
    penultimate = weights.norm("batch_normalization_10", relu(dense), 1e-3)
    scores = sigmoid(weights.linear("dense_1", penultimate, 50))
    return {
        "scores": scores,
        "penultimate": penultimate,
        "max_pool": loudest,
        "mean_pool": mean,
    }


def _along_time(x_CF: Array, width: int, name: str, weights: Weights) -> Array:
    """(width, F): a convolution of seven frames over all channels."""
    return weights.conv(name, x_CF[:, None], (width, len(x_CF), 7), ((0, 0), (3, 3)))[:, 0]
