"""Golden vectors of `convnext_tiny`: Liu et al. 2022, in float64.

Shapes: B pictures, H and W of a map, C channels, last as layer normalisation wants them.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from audioflow.goldens import Case, batch
from audioflow.goldens.pictures import Array, Weights, normalised
from audioflow.goldens.resnet18 import MEAN, SIDE, STD
from audioflow.goldens.vit_b_16 import gelu, layer_norm, linear

CASES = (
    Case(
        "wide",
        (1, 1, 236, 277, 3),
        {"weights": "random", "seed": 8, "layers": ["embedding", "logits"]},
    ),
)
WIDTHS, BLOCKS = (96, 192, 384, 768), (3, 3, 9, 3)


def reference(case: Case) -> dict[str, NDArray[Any]]:
    """(1, 768) before, and (1, 1000) after the last layer."""
    weights = Weights(case.options["seed"])
    values = np.moveaxis(normalised(batch(case), SIDE, MEAN, STD)[:, :, 0], 1, -1)
    values = layer_norm(
        weights, _cut(weights, values, "features.0.0", WIDTHS[0], 4), "features.0.1"
    )
    for stage, (width, count) in enumerate(zip(WIDTHS, BLOCKS, strict=True)):
        if stage:
            name = f"features.{2 * stage}"
            values = _cut(weights, layer_norm(weights, values, f"{name}.0"), f"{name}.1", width, 2)
        for block in range(count):
            values = values + _inner(weights, values, f"features.{2 * stage + 1}.{block}")
    embedding = layer_norm(weights, values.mean(axis=(1, 2)), "classifier.0")
    return {"embedding": embedding, "logits": linear(weights, embedding, "classifier.2", 1000)}


def _cut(weights: Weights, values_BHWC: Array, name: str, outputs: int, size: int) -> Array:
    """A convolution whose kernel is as large as its step."""
    count, height, width, channels = values_BHWC.shape
    cut = values_BHWC.reshape(count, height // size, size, width // size, size, channels)
    cut = cut.transpose(0, 1, 3, 5, 2, 4).reshape(count, height // size, width // size, -1)
    kernel = weights(f"{name}.weight", outputs, channels, size, size).reshape(outputs, -1)
    return cut @ kernel.T + weights(f"{name}.bias", outputs)


def _inner(weights: Weights, values_BHWC: Array, name: str) -> Array:
    width = values_BHWC.shape[3]
    kernel = weights(f"{name}.block.0.weight", width, 1, 7, 7)[:, 0]
    padded = np.pad(values_BHWC, [(0, 0), (3, 3), (3, 3), (0, 0)])
    height, length = values_BHWC.shape[1:3]
    seen = np.zeros_like(values_BHWC) + weights(f"{name}.block.0.bias", width)
    for y, x in np.ndindex(7, 7):
        seen += padded[:, y : y + height, x : x + length] * kernel[:, y, x]
    seen = layer_norm(weights, seen, f"{name}.block.2")
    seen = gelu(linear(weights, seen, f"{name}.block.3", 4 * width))
    scale = weights(f"{name}.layer_scale", width, 1, 1).reshape(-1)
    return linear(weights, seen, f"{name}.block.5", width) * scale
