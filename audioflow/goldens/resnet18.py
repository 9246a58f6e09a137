"""Golden vectors of `resnet18`: He et al. 2016, table 1, 18 layers, as sums over kernel places."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from audioflow.goldens import Case, batch
from audioflow.goldens.pictures import Array, Weights, normalised, relu

CASES = (
    Case(
        "wide",
        (2, 1, 256, 301, 3),
        {"weights": "random", "seed": 3, "layers": ["embedding", "logits"]},
    ),
)
SIDE = 224
MEAN = [0.485, 0.456, 0.406]
STD = [0.229, 0.224, 0.225]


def reference(case: Case) -> dict[str, NDArray[Any]]:
    """(2, 512) before, and (2, 1000) after the last layer."""
    weights = Weights(case.options["seed"])
    values = weights.convolve(
        normalised(batch(case), SIDE, MEAN, STD), "conv1", 64, (1, 7, 7), (1, 2, 2), flat=True
    )
    values = largest(relu(weights.normalise(values, "bn1")))
    for stage, width in enumerate((64, 128, 256, 512), start=1):
        for block in (0, 1):
            halved = stage > 1 and block == 0
            values = _block(weights, values, f"layer{stage}.{block}", width, halved)
    embedding = values.mean(axis=(2, 3, 4))
    logits = embedding @ weights("fc.weight", 1000, 512).T + weights("fc.bias", 1000)
    return {"embedding": embedding, "logits": logits}


def largest(values: Array) -> Array:
    """(B, C, 1, H, W) -> the largest of 3 x 3 pixels around every other one."""
    padded = np.pad(values, [(0, 0), (0, 0), (0, 0), (1, 1), (1, 1)], constant_values=-np.inf)
    size = values.shape[-1]
    seen = [padded[..., y : y + size : 2, x : x + size : 2] for y in range(3) for x in range(3)]
    return np.max(seen, axis=0)


def _block(weights: Weights, values: Array, name: str, width: int, halved: bool) -> Array:
    stride = (1, 2, 2) if halved else (1, 1, 1)
    inner = weights.convolve(values, f"{name}.conv1", width, (1, 3, 3), stride, flat=True)
    inner = relu(weights.normalise(inner, f"{name}.bn1"))
    inner = weights.convolve(inner, f"{name}.conv2", width, (1, 3, 3), flat=True)
    inner = weights.normalise(inner, f"{name}.bn2")
    if halved:
        values = weights.convolve(
            values, f"{name}.downsample.0", width, (1, 1, 1), stride, flat=True
        )
        values = weights.normalise(values, f"{name}.downsample.1")
    return relu(inner + values)
