"""Golden vectors of `mfcc_bof`, by the HTK Book's formulas, frame by frame in NumPy's float64.

Shapes: L frames, C coefficients.
"""

import numpy as np
from numpy.typing import NDArray

from audioflow.backbones.network import random_tensor
from audioflow.goldens import Case, batch

Array = NDArray[np.float64]

CASES = (
    Case("frames", (2, 8_000), {"output": "frames"}),
    Case("bag", (3, 48_000), {"codebook": "random", "clusters": 20, "seed": 4}, 1),
)


def reference(case: Case) -> dict[str, NDArray[np.float32]]:
    """The layer of a case."""
    frames = [mfcc(samples.astype(np.float64)) for samples in batch(case)]
    if case.options.get("output") == "frames":
        return {"frames": np.stack(frames).astype(np.float32)}
    shape = (int(case.options["clusters"]), 39)
    centres = random_tensor("centres", shape, int(case.options["seed"])).astype(np.float64)
    found = np.zeros((len(frames), len(centres)), np.float32)
    for number, clip in enumerate(frames):
        for frame in clip:
            word = int(np.argmin(((centres - frame) ** 2).sum(axis=1)))
            found[number, word] += np.float32(1 / len(clip))
    return {"embedding": found}


def mfcc(samples: Array) -> Array:
    """(L, 39) of int16 samples at 16 kHz: c1 ... c12, c0, their deltas, the deltas of these."""
    static = np.stack(
        [_cepstra(samples[start : start + 400]) for start in range(0, len(samples) - 399, 160)]
    )
    delta = _deltas(static)
    return np.concatenate([static, delta, _deltas(delta)], axis=1)


def _cepstra(frame: Array) -> Array:
    emphasised = frame.copy()
    emphasised[1:] -= 0.97 * frame[:-1]
    emphasised[0] *= 1 - 0.97
    n = np.arange(400)
    windowed = emphasised * (0.54 - 0.46 * np.cos(2 * np.pi * n / 399))
    angles = 2 * np.pi * np.outer(np.arange(257), n) / 512
    power = (np.cos(angles) @ windowed) ** 2 + (np.sin(angles) @ windowed) ** 2
    bands = np.log(np.maximum(_mel_bands(power), 1.0))
    found = []
    for i in [*range(1, 13), 0]:
        cosines = np.cos(np.pi * i / 26 * (np.arange(1, 27) - 0.5))
        lifter = 1 + 22 / 2 * np.sin(np.pi * i / 22)
        found.append(np.sqrt(2 / 26) * lifter * (bands @ cosines))
    return np.array(found)


def _mel_bands(power: Array) -> Array:
    """As HTK does it: every bin is shared by the two bands whose centres it lies between."""
    bands = np.zeros(28)
    step = 1127 * np.log(1 + 8000 / 700) / 27
    for bin_ in range(1, 257):
        place = 1127 * np.log(1 + bin_ * 31.25 / 700) / step
        below = min(int(place), 26)
        bands[below] += (1 - (place - below)) * power[bin_]
        bands[below + 1] += (place - below) * power[bin_]
    return bands[1:27]


def _deltas(values_LC: Array) -> Array:
    last = len(values_LC) - 1
    found = np.zeros_like(values_LC)
    for at in range(len(values_LC)):
        for reach in (1, 2):
            later = values_LC[min(last, at + reach)]
            found[at] += reach * (later - values_LC[max(0, at - reach)])
    return found / (2 * (1 + 4))
