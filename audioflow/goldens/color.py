"""Golden vectors of `color`: its histograms pixel by pixel.

Hue and saturation by Python's `colorsys`. The pictures are small, and of a seed of which no
pixel lies on the border between two bins, where rounding decides.
"""

import colorsys
import math
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audioflow.goldens import Case, batch

Array = NDArray[np.float64]

CASES = (Case("two_frames", (2, 1, 5, 6, 3), seed=546),)


def reference(case: Case) -> dict[str, NDArray[Any]]:
    """(F, 82) square roots of shares, and six statistics."""
    return {"embedding": np.stack([_described(frame[0]) for frame in batch(case)])}


def _described(frame_HWC: NDArray[np.uint8]) -> Array:
    pixels = [tuple(int(value) / 255 for value in pixel) for pixel in frame_HWC.reshape(-1, 3)]
    joint, brightness = np.zeros((12, 3)), np.zeros(8)
    for red, green, blue in pixels:
        hue, saturation, value = colorsys.rgb_to_hsv(red, green, blue)
        brightness[min(7, int(value * 8))] += 1
        if value > 0.1:
            joint[min(11, int(hue * 12)), min(2, int(saturation * 3))] += 1
    statistics = [*np.mean(pixels, axis=0), *np.std(pixels, axis=0)]
    gray = frame_HWC.astype(np.float64).mean(axis=2) / 255
    return np.array([*_shares(joint.ravel()), *_shares(brightness), *statistics, *_edges(gray)])


def _shares(weights: Array) -> Array:
    return np.sqrt(weights / max(weights.sum(), 1e-6))


def _edges(gray_HW: Array) -> Iterable[float]:
    """Directions modulo a half turn, weighted by strength, in 2 x 2 cells of the inner pixels."""
    height, width = gray_HW.shape[0] - 2, gray_HW.shape[1] - 2
    cells = np.zeros((2, 2, 8))
    for y in range(height):
        for x in range(width):
            across = gray_HW[y + 1, x + 2] - gray_HW[y + 1, x]
            down = gray_HW[y + 2, x + 1] - gray_HW[y, x + 1]
            direction = round(math.atan2(down, across) / math.pi * 8) % 8
            cell = int(y >= math.ceil(height / 2)), int(x >= math.ceil(width / 2))
            cells[*cell, direction] += math.hypot(across, down)
    return np.concatenate([_shares(cell) for cell in cells.reshape(4, 8)])
