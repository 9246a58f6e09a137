"""Golden vectors of `openl3`, in NumPy and float64.

Shapes: T samples of a patch, M bands, F frames.
"""

import numpy as np
from numpy.typing import NDArray

from audioflow.goldens import Case, batch
from audioflow.goldens.l3 import below_loudest, network
from audioflow.goldens.numpy_layers import Array, power, same, triangles

_RANDOM = {"weights": "random"}
CASES = (
    Case(
        "kapre_0_1",
        (2, 48_000),
        _RANDOM | {"representation": "mel128", "size": 512, "front_end": "kapre_0_1"},
    ),
    Case(
        "kapre_0_4",
        (1, 48_000),
        _RANDOM | {"representation": "mel256", "size": 6144, "front_end": "kapre_0_4", "seed": 3},
        seed=1,
    ),
    Case(
        "librosa",
        (1, 48_000),
        _RANDOM | {"representation": "mel128", "size": 6144, "front_end": "librosa"},
    ),
    Case("linear", (2, 48_000), _RANDOM | {"representation": "linear", "size": 512}),
)
_WIDTHS = (64, 64, 128, 128, 256, 256, 512, 512)
_POOLS = {
    ("linear", 512): (32, 24),
    ("linear", 6144): (8, 8),
    ("mel128", 512): (16, 24),
    ("mel128", 6144): (4, 8),
    ("mel256", 512): (32, 24),
    ("mel256", 6144): (8, 8),
}


def reference(case: Case) -> dict[str, NDArray[np.float32]]:
    """The embeddings of a case."""
    options = case.options
    kind, front_end = options["representation"], options.get("front_end", "kapre_0_4")
    pool, seed = _POOLS[kind, options["size"]], options.get("seed", 0)
    found = [
        network(spectrogram(samples, kind, front_end), _WIDTHS, pool, seed, last_norm=False)
        for samples in batch(case).astype(np.float64) / 32767.0
    ]
    return {"embedding": np.stack(found).astype(np.float32)}


def spectrogram(samples_T: Array, kind: str, front_end: str) -> Array:
    """(M, F) in dB of one second at 48 kHz."""
    if kind == "linear":
        return below_loudest(np.sqrt(power(samples_T, 512, 242)).T)
    bands = int(kind.removeprefix("mel"))
    if front_end == "kapre_0_1":
        padded = np.pad(samples_T, same(samples_T, 2048, 242))
        mel = triangles(2048, 48_000, bands, (0.0, 24_000.0), "htk", area=True)
        return below_loudest(np.sqrt(power(padded, 2048, 242) @ mel).T)
    behind = sum(same(samples_T, 2048, 242))
    padded = np.pad(samples_T, (0, behind) if front_end == "kapre_0_4" else (1024, 1024))
    mel = triangles(2048, 48_000, bands, (0.0, 24_000.0), "slaney", area=True)
    return below_loudest((np.sqrt(power(padded, 2048, 242)) @ mel).T)
