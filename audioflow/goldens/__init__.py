"""Golden vectors: what each backbone has to give for known input, with weights from a seed.

`<backbone>.npz` beside this file holds them. `<backbone>.py` computed them from an independent
formulation: it has `CASES`, and `reference(case)` gives the layers of a case.
`python -m audioflow.goldens <backbone>` computes them anew.

Shapes: P patches, T samples of a patch, N frames of a patch, H and W their size, D width, L vectors
per patch.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_FOLDER = Path(__file__).parent

FLOAT32_ERROR = 1e-4
"""The largest difference that float32 may make, as a share of the largest value of a layer."""

BFLOAT16_COSINE = 0.999
"""The smallest cosine between a vector in bfloat16 and the golden one."""


@dataclass(frozen=True)
class Case:
    """One batch through a backbone with these options.

    shape: of the input, (P, T) for sound, (P, N, H, W, 3) for pictures. seed: of the input.
    """

    name: str
    shape: tuple[int, ...]
    options: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 0


def batch(case: Case) -> NDArray[Any]:
    """The input of a case, the same on every machine: int16 (P, T), or uint8 (P, N, H, W, 3)."""
    return sound(case.shape[0], case.shape[1], case.seed) if len(case.shape) == 2 else _shown(case)


def sound(count: int, samples: int, seed: int = 0) -> NDArray[np.int16]:
    """int16 (P, T): in every patch a rising saw tooth over noise, louder from patch to patch.

    Made in integers, so that no rounding of a sine differs between machines.
    """
    generator = np.random.default_rng([seed, samples])
    place = np.arange(samples, dtype=np.int64)
    found = np.empty((count, samples), np.int16)
    for number in range(count):
        slow = 2**16 // 160 * (number + 1)  # of 2^16 a sample: 100 Hz at 16 kHz, 200 Hz, ...
        tooth = (place * slow + place * place // (8 * (number + 1))) % 2**16 - 2**15
        noise = generator.integers(-(2**12), 2**12, samples)
        found[number] = (tooth // 4 + noise) * (number + 1) // (count + 1) * 2
    return found


def _shown(case: Case) -> NDArray[np.uint8]:
    """uint8 (P, N, H, W, 3): colour ramps that move from frame to frame, under noise."""
    count, frames, height, width, _ = case.shape
    generator = np.random.default_rng([case.seed, height, width])
    p, n, y, x, c = np.ogrid[:count, :frames, :height, :width, :3]
    ramp = (x * (2 + c) + y * (3 - c) + 8 * n + 40 * p) % 224
    return (ramp + generator.integers(0, 32, ramp.shape)).astype(np.uint8)


@dataclass(frozen=True)
class Golden:
    """A case and what it has to give: (P, D) or (P, L, D) per layer."""

    case: Case
    layers: Mapping[str, NDArray[np.float32]]


def names() -> list[str]:
    """The backbones that there are golden vectors for."""
    return sorted(path.stem for path in _FOLDER.glob("*.npz"))


def load(name: str) -> list[Golden]:
    """The golden vectors of a backbone."""
    with np.load(_FOLDER / f"{name}.npz", allow_pickle=False) as arrays:
        found = []
        for told in json.loads(str(arrays["cases"])):
            case = Case(told["name"], tuple(told["shape"]), told["options"], told["seed"])
            prefix = f"{case.name}/"
            layers = {key[len(prefix) :]: arrays[key] for key in arrays if key.startswith(prefix)}
            found.append(Golden(case, layers))
        return found


def save(name: str, goldens: list[Golden]) -> None:
    """Write the golden vectors of a backbone beside this file."""
    arrays: dict[str, Any] = {"cases": json.dumps([asdict(golden.case) for golden in goldens])}
    for golden in goldens:
        for layer, vectors in golden.layers.items():
            arrays[f"{golden.case.name}/{layer}"] = np.asarray(vectors, np.float32)
    np.savez_compressed(_FOLDER / f"{name}.npz", **arrays)


def relative_error(found: NDArray[Any], expected: NDArray[Any]) -> float:
    """The largest difference as a share of the largest expected value."""
    if found.shape != expected.shape:
        return float("inf")
    scale = float(np.abs(expected).max(initial=0.0)) or 1.0
    return float(np.abs(found - expected).max(initial=0.0)) / scale
