"""What the golden vectors of networks for pictures share, in NumPy and float64.

Shapes: B pictures or films, C channels, N frames, H and W their size, O outputs of a layer.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from audioflow.backbones.network import random_tensor

Array = NDArray[np.float64]
EPSILON = 1e-5


def normalised(
    frames_BNHWC: NDArray[np.uint8], side: int, mean: list[float], std: list[float]
) -> Array:
    """The middle `side` x `side` pixels as (B, C, N, side, side), this mean and spread taken out.

    What begins at half a pixel begins at the even one, as `round` has it.
    """
    top, left = (round((size - side) / 2) for size in frames_BNHWC.shape[2:4])
    middle = frames_BNHWC[:, :, top : top + side, left : left + side] / 255.0
    return np.moveaxis((middle - mean) / std, -1, 1)


@dataclass(frozen=True)
class Weights:
    """The random weights of a seed, by name."""

    seed: int

    def __call__(self, name: str, *shape: int) -> Array:
        return random_tensor(name, shape, self.seed).astype(np.float64)

    def normalise(self, values: Array, name: str) -> Array:
        """Batch normalisation along axis 1, as a trained network does it."""
        parts = ("running_mean", "running_var", "weight", "bias")
        mean, var, scale, shift = (
            self(f"{name}.{part}", values.shape[1]).reshape(-1, 1, 1, 1) for part in parts
        )
        return (values - mean) / np.sqrt(var + EPSILON) * scale + shift

    def convolve(
        self,
        values: Array,
        name: str,
        outputs: int,
        kernel: tuple[int, int, int],
        stride: tuple[int, int, int] = (1, 1, 1),
        flat: bool = False,
    ) -> Array:
        """(B, C, N, H, W) -> (B, O, ...): every place of the kernel in turn, half of it as margin.

        flat: the kernel has no axis for time.
        """
        shape = kernel[1:] if flat else kernel
        weights = self(f"{name}.weight", outputs, values.shape[1], *shape)
        weights = weights.reshape(outputs, values.shape[1], *kernel)
        padded = np.pad(values, [(0, 0), (0, 0), *((size // 2, size // 2) for size in kernel)])
        counts = [
            (have - size) // step + 1
            for have, size, step in zip(padded.shape[2:], kernel, stride, strict=True)
        ]
        found = np.zeros((values.shape[0], outputs, *counts))
        for place in np.ndindex(*kernel):
            seen = padded[
                :,
                :,
                *(
                    slice(begin, begin + step * (count - 1) + 1, step)
                    for begin, step, count in zip(place, stride, counts, strict=True)
                ),
            ]
            found += np.einsum("oc,bcnhw->bonhw", weights[:, :, *place], seen, optimize=True)
        return found


def relu(values: Array) -> Array:
    return np.maximum(values, 0.0)
