"""Golden vectors of `resnet50`: He et al. 2016, table 1, 50 layers, as sums over kernel places.

Where a stage halves its maps, the middle layer of a block does (torchvision's variant).
"""

from typing import Any

from numpy.typing import NDArray

from audioflow.goldens import Case, batch
from audioflow.goldens.pictures import Array, Weights, normalised, relu
from audioflow.goldens.resnet18 import MEAN, SIDE, STD, largest

CASES = (
    Case(
        "tall",
        (1, 1, 251, 232, 3),
        {"weights": "random", "seed": 6, "layers": ["embedding", "logits"]},
    ),
)
BLOCKS = (3, 4, 6, 3)


def reference(case: Case) -> dict[str, NDArray[Any]]:
    """(1, 2048) before, and (1, 1000) after the last layer."""
    weights = Weights(case.options["seed"])
    values = weights.convolve(
        normalised(batch(case), SIDE, MEAN, STD), "conv1", 64, (1, 7, 7), (1, 2, 2), flat=True
    )
    values = largest(relu(weights.normalise(values, "bn1")))
    for stage, count in enumerate(BLOCKS, start=1):
        for block in range(count):
            step = 2 if stage > 1 and block == 0 else 1
            values = _block(weights, values, f"layer{stage}.{block}", 32 * 2**stage, step)
    embedding = values.mean(axis=(2, 3, 4))
    logits = embedding @ weights("fc.weight", 1000, 2048).T + weights("fc.bias", 1000)
    return {"embedding": embedding, "logits": logits}


def _block(weights: Weights, values: Array, name: str, width: int, step: int) -> Array:
    inner = values
    layers = ((width, 1, 1), (width, 3, step), (4 * width, 1, 1))
    for number, (outputs, size, stride) in enumerate(layers, start=1):
        kernel, steps = (1, size, size), (1, stride, stride)
        inner = weights.convolve(inner, f"{name}.conv{number}", outputs, kernel, steps, flat=True)
        inner = weights.normalise(inner, f"{name}.bn{number}")
        inner = relu(inner) if number < 3 else inner
    if values.shape[1] != 4 * width:
        values = weights.convolve(
            values, f"{name}.downsample.0", 4 * width, (1, 1, 1), (1, step, step), flat=True
        )
        values = weights.normalise(values, f"{name}.downsample.1")
    return relu(inner + values)
