"""Golden vectors of `quality`: its numbers sample by sample, in Python's own floats."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audioflow.goldens import Case, batch

CASES = (Case("one_second", (4, 16_000)), Case("short", (2, 1_700), {"patch_s": 0.10625}))


def reference(case: Case) -> dict[str, NDArray[Any]]:
    """(P, 5): level, peak, silent frames, clipped samples, mean."""
    return {"embedding": np.array([_described(patch) for patch in batch(case).tolist()])}


def _described(patch: list[int]) -> list[float]:
    samples = [value / 32767 for value in patch]
    starts = range(0, len(samples) - 159, 160)
    silent = [_level(samples[start : start + 160]) < -60 for start in starts]
    return [
        _level(samples),
        _decibel(max(value * value for value in samples)),
        sum(silent) / len(silent),
        sum(abs(value) >= 0.98 for value in samples) / len(samples),
        math.fsum(samples) / len(samples),
    ]


def _level(samples: list[float]) -> float:
    return _decibel(math.fsum(value * value for value in samples) / len(samples))


def _decibel(power: float) -> float:
    return 10 * math.log10(max(power, 1e-10))
