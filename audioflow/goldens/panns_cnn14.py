"""Golden vectors of `panns_cnn14`, in NumPy and float64.

Shapes: T samples of a patch, F frames, M mel bands.
"""

import numpy as np
from numpy.typing import NDArray

from audioflow.goldens import Case, batch
from audioflow.goldens.numpy_layers import (
    Array,
    Weights,
    cells,
    decibel,
    mirrored,
    power,
    relu,
    sigmoid,
    triangles,
)

_BOTH = {"weights": "random", "layers": ["embedding", "scores"], "patch_s": 1.0}
CASES = (
    Case("32_khz", (2, 32_000), _BOTH),
    Case("16_khz", (1, 16_000), _BOTH | {"sample_rate_hz": 16_000, "seed": 2}),
    Case("8_khz", (1, 8000), _BOTH | {"sample_rate_hz": 8000}, seed=1),
)
_EPSILON = 1e-5
_RATES = {32_000: (1024, 320, 14_000.0), 16_000: (512, 160, 8000.0), 8000: (256, 80, 4000.0)}
_CHANNELS = (64, 128, 256, 512, 1024, 2048)


def reference(case: Case) -> dict[str, NDArray[np.float32]]:
    """The layers of a case."""
    rate_hz, seed = case.options.get("sample_rate_hz", 32_000), case.options.get("seed", 0)
    waveforms = batch(case).astype(np.float64) / 32767.0
    found = [_network(log_mel(samples, rate_hz), seed) for samples in waveforms]
    names = ("embedding", "scores")
    return {name: np.stack([one[name] for one in found]).astype(np.float32) for name in names}


def log_mel(samples_T: Array, rate_hz: int) -> Array:
    """(F, M) in dB."""
    n_fft, hop, high_hz = _RATES[rate_hz]
    mel = triangles(n_fft, rate_hz, 64, (50.0, high_hz), "slaney", area=True)
    return decibel(power(mirrored(samples_T, n_fft // 2), n_fft, hop) @ mel)


def _network(db_FM: Array, seed: int) -> dict[str, Array]:
    weights = Weights(seed)
    x = weights.norm("bn0", db_FM.T, _EPSILON).T[None]
    for number, channels in enumerate(_CHANNELS, 1):
        for part in (1, 2):
            name = f"conv_block{number}"
            shape = (channels, len(x), 3, 3)
            x = weights.conv(f"{name}.conv{part}", x, shape, ((1, 1), (1, 1)), bias=False)
            x = relu(weights.norm(f"{name}.bn{part}", x, _EPSILON))
        if number < len(_CHANNELS):
            x = cells(x, 2, 2).mean(axis=3)
    over_time = x.mean(axis=2)
    pooled = over_time.max(axis=1) + over_time.mean(axis=1)
    embedding = relu(weights.linear("fc1", pooled, 2048))
    return {
        "embedding": embedding,
        "scores": sigmoid(weights.linear("fc_audioset", embedding, 527)),
    }
