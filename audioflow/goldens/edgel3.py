"""Golden vectors of `edgel3`, in NumPy and float64.

Shapes: T samples of a patch, M bands, F frames.
"""

import numpy as np
from numpy.typing import NDArray

from audioflow.goldens import Case, batch
from audioflow.goldens.l3 import below_loudest, network
from audioflow.goldens.numpy_layers import Array, power, same, triangles

CASES = (
    Case("random", (4, 8000), {"weights": "random"}),
    Case("other_seed", (2, 8000), {"weights": "random", "seed": 7}, seed=1),
)
_WIDTHS = (32, 32, 64, 64, 128, 128, 64, 64)


def reference(case: Case) -> dict[str, NDArray[np.float32]]:
    """The embeddings of a case."""
    seed = case.options.get("seed", 0)
    found = [
        network(spectrogram(samples), _WIDTHS, (8, 6), seed, last_norm=True)
        for samples in batch(case).astype(np.float64) / 32767.0
    ]
    return {"embedding": np.stack(found).astype(np.float32)}


def spectrogram(samples_T: Array) -> Array:
    """(M, F) in dB of one second at 8 kHz."""
    padded = np.pad(samples_T, same(samples_T, 1024, 160))
    mel = triangles(1024, 8000, 64, (0.0, 4000.0), "htk", area=True)
    return below_loudest(np.sqrt(power(padded, 1024, 160) @ mel).T)
