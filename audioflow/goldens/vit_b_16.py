"""Golden vectors of `vit_b_16`: Dosovitskiy et al. 2021, in matrices and float64.

Shapes: B pictures, S squares of a picture with the class before them, D = 768.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import erf

from audioflow.goldens import Case, batch
from audioflow.goldens.pictures import Array, Weights, normalised
from audioflow.goldens.resnet18 import MEAN, SIDE, STD

CASES = (
    Case(
        "wide",
        (1, 1, 256, 290, 3),
        {"weights": "random", "seed": 7, "layers": ["embedding", "logits"]},
    ),
)
LAYERS, HEADS, WIDTH, SQUARE, INNER = 12, 12, 768, 16, 3072
EPSILON = 1e-6


def reference(case: Case) -> dict[str, NDArray[Any]]:
    """(1, 768) before, and (1, 1000) after the last layer."""
    weights = Weights(case.options["seed"])
    values = _squares(weights, normalised(batch(case), SIDE, MEAN, STD)[:, :, 0])
    first = np.broadcast_to(weights("class_token", 1, 1, WIDTH), (len(values), 1, WIDTH))
    values = np.concatenate([first, values], axis=1)
    values = values + weights("encoder.pos_embedding", 1, values.shape[1], WIDTH)
    for number in range(LAYERS):
        name = f"encoder.layers.encoder_layer_{number}"
        values = values + _attention(weights, layer_norm(weights, values, f"{name}.ln_1"), name)
        inner = layer_norm(weights, values, f"{name}.ln_2")
        inner = gelu(linear(weights, inner, f"{name}.mlp.0", INNER))
        values = values + linear(weights, inner, f"{name}.mlp.3", WIDTH)
    embedding = layer_norm(weights, values, "encoder.ln")[:, 0]
    return {"embedding": embedding, "logits": linear(weights, embedding, "heads.head", 1000)}


def _squares(weights: Weights, pictures_BCHW: Array) -> Array:
    """(B, S - 1, D), row by row."""
    count = SIDE // SQUARE
    cut = pictures_BCHW.reshape(-1, 3, count, SQUARE, count, SQUARE)
    cut = cut.transpose(0, 2, 4, 1, 3, 5).reshape(-1, count * count, 3 * SQUARE * SQUARE)
    kernel = weights("conv_proj.weight", WIDTH, 3, SQUARE, SQUARE).reshape(WIDTH, -1)
    return cut @ kernel.T + weights("conv_proj.bias", WIDTH)


def _attention(weights: Weights, values_BSD: Array, name: str) -> Array:
    inside = f"{name}.self_attention"
    matrix = weights(f"{inside}.in_proj_weight", 3 * WIDTH, WIDTH)
    shift = weights(f"{inside}.in_proj_bias", 3 * WIDTH)
    size = WIDTH // HEADS
    mixed = np.empty_like(values_BSD)
    for head in range(HEADS):
        rows = [
            slice(part * WIDTH + head * size, part * WIDTH + (head + 1) * size) for part in range(3)
        ]
        query, key, value = (values_BSD @ matrix[row].T + shift[row] for row in rows)
        strength = np.exp(query @ key.transpose(0, 2, 1) / np.sqrt(size))
        mixed[..., head * size : (head + 1) * size] = (
            strength / strength.sum(axis=2, keepdims=True) @ value
        )
    return linear(weights, mixed, f"{inside}.out_proj", WIDTH)


def linear(weights: Weights, values: Array, name: str, outputs: int) -> Array:
    """Along the last axis."""
    matrix = weights(f"{name}.weight", outputs, values.shape[-1])
    return values @ matrix.T + weights(f"{name}.bias", outputs)


def layer_norm(weights: Weights, values: Array, name: str) -> Array:
    """Along the last axis."""
    centred = values - values.mean(axis=-1, keepdims=True)
    scaled = centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + EPSILON)
    width = values.shape[-1]
    return scaled * weights(f"{name}.weight", width) + weights(f"{name}.bias", width)


def gelu(values: Array) -> Array:
    found: Array = values * (1 + erf(values / np.sqrt(2))) / 2
    return found
