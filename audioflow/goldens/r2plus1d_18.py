"""Golden vectors of `r2plus1d_18`: Tran et al. 2018, as sums over kernel places.

Every convolution in space and time is one in space and one in time, with as many channels between
as make the number of weights that of the undivided one.
"""

from typing import Any

from numpy.typing import NDArray

from audioflow.goldens import Case, batch
from audioflow.goldens.pictures import Array, Weights, normalised, relu

CASES = (
    Case(
        "short",
        (1, 4, 128, 171, 3),
        {
            "weights": "random",
            "seed": 4,
            "frames_per_patch": 4,
            "layers": ["embedding", "logits"],
        },
    ),
)
SIDE = 112
MEAN = [0.43216, 0.394666, 0.37645]
STD = [0.22803, 0.22145, 0.216989]


def reference(case: Case) -> dict[str, NDArray[Any]]:
    """(1, 512) before, and (1, 400) after the last layer."""
    weights = Weights(case.options["seed"])
    values = normalised(batch(case), SIDE, MEAN, STD)
    values = weights.convolve(values, "stem.0", 45, (1, 7, 7), (1, 2, 2))
    values = relu(weights.normalise(values, "stem.1"))
    values = relu(weights.normalise(weights.convolve(values, "stem.3", 64, (3, 1, 1)), "stem.4"))
    for stage, width in enumerate((64, 128, 256, 512), start=1):
        for block in (0, 1):
            step = 2 if stage > 1 and block == 0 else 1
            values = _block(weights, values, f"layer{stage}.{block}", width, step)
    embedding = values.mean(axis=(2, 3, 4))
    logits = embedding @ weights("fc.weight", 400, 512).T + weights("fc.bias", 400)
    return {"embedding": embedding, "logits": logits}


def _block(weights: Weights, values: Array, name: str, width: int, step: int) -> Array:
    have = values.shape[1]
    between = have * width * 27 // (have * 9 + 3 * width)
    inner = relu(_divided(weights, values, f"{name}.conv1", between, width, step))
    inner = _divided(weights, inner, f"{name}.conv2", between, width, 1)
    if step > 1:
        values = weights.convolve(
            values, f"{name}.downsample.0", width, (1, 1, 1), (step, step, step)
        )
        values = weights.normalise(values, f"{name}.downsample.1")
    return relu(inner + values)


def _divided(
    weights: Weights, values: Array, name: str, between: int, width: int, step: int
) -> Array:
    values = weights.convolve(values, f"{name}.0.0", between, (1, 3, 3), (1, step, step))
    values = relu(weights.normalise(values, f"{name}.0.1"))
    values = weights.convolve(values, f"{name}.0.3", width, (3, 1, 1), (step, 1, 1))
    return weights.normalise(values, f"{name}.1")
