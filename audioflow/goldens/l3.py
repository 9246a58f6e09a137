"""The L3 network in NumPy, for the golden vectors of `openl3` and `edgel3`.

Shapes: M bands, F frames, D width.
"""

import numpy as np

from audioflow.goldens.numpy_layers import Array, Weights, cells, decibel, relu

_EPSILON = 1e-3
_AROUND = ((1, 1), (1, 1))


def network(
    db_MF: Array,
    widths: tuple[int, ...],
    last_pool: tuple[int, int],
    seed: int,
    *,
    last_norm: bool,
) -> Array:
    """(D,) of a spectrogram in dB."""
    weights = Weights(seed)
    x = weights.norm("batch_normalization_1", db_MF[None], _EPSILON)
    for number, width in enumerate(widths, 1):
        last = number == len(widths)
        name = "audio_embedding_layer" if last else f"conv2d_{number}"
        x = weights.conv(name, x, (width, len(x), 3, 3), _AROUND)
        if not last or last_norm:
            x = relu(weights.norm(f"batch_normalization_{number + 1}", x, _EPSILON))
        if number in (2, 4, 6):
            x = cells(x, 2, 2).max(axis=3)
    pooled = cells(x, *last_pool).max(axis=3)
    return np.moveaxis(pooled, 0, 2).ravel()


def below_loudest(values: Array) -> Array:
    """dB below the loudest of a patch, at least -80."""
    db = decibel(values)
    return np.maximum(db - db.max(), -80.0)
