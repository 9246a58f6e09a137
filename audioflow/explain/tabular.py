"""Which columns of a clip's vector a logit comes from: SHAP values (Lundberg and Lee 2017).

Shapes: N clips, B background clips, W width of a clip's vector.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from audioflow.errors import InputError
from audioflow.explain.extra import needed
from audioflow.explain.logits import ClassLogit
from audioflow.systems.inputs import InputSpec

_ROWS = 1_000_000
"""Vectors that go through the head for one clip, about; more columns get fewer orders."""
_MOST_ORDERS, _LEAST_ORDERS = 10, 2
_TOLERANCE = 1e-3


@dataclass(frozen=True)
class Shares:
    """What each column adds to the logit of a clip over the mean logit of the background.

    values_W: float32; they and `expected` add up to `logit`.
    """

    values_W: NDArray[np.float32]
    expected: float
    logit: float


def refuse_untabular(inputs: InputSpec, system: str) -> None:
    """Raise `InputError` for a head whose clips are not one vector each."""
    fits = inputs.takes == "vectors" and inputs.pool is not None and inputs.pool.while_reading
    if not fits:
        told = f"pools {inputs.pool.on} ({inputs.pool.name})" if inputs.pool else "pools by itself"
        raise InputError(
            f"shap explains heads that see a clip as one vector; that of {system} takes "
            f"{inputs.takes} and {told}: take --method integrated_gradients or occlusion"
        )


def shares(
    logit: ClassLogit,
    vectors_NW: NDArray[np.float32],
    background_BW: NDArray[np.float32],
    seed: int = 0,
) -> list[Shares]:
    """The SHAP values of clips, by orders of columns drawn with `seed`, each forth and back.

    Raises `InputError` where they do not add up to the logit.
    """
    shap = _shap()

    def of_vectors(given_NW: NDArray[np.float32]) -> NDArray[np.float64]:
        with torch.no_grad():
            rows = torch.from_numpy(np.ascontiguousarray(given_NW, np.float32))
            return logit.of_vectors(rows).double().numpy()

    per_order = 2 * vectors_NW.shape[1] + 1
    orders = _ROWS // (per_order * len(background_BW))
    orders = min(_MOST_ORDERS, max(_LEAST_ORDERS, orders))
    masker = shap.maskers.Independent(background_BW, max_samples=len(background_BW))
    method = shap.PermutationExplainer(of_vectors, masker, seed=seed)
    found = method(vectors_NW, max_evals=orders * per_order, silent=True)
    logits = of_vectors(vectors_NW)
    expected = np.broadcast_to(found.base_values, len(vectors_NW))
    rest = np.abs(found.values.sum(axis=1) + expected - logits)
    if np.any(rest > _TOLERANCE * (1 + np.abs(logits))):
        raise InputError(
            f"the SHAP values miss the logit by {rest.max():.4f}: the head is not a function of "
            "the clip's vector alone"
        )
    return [
        Shares(values.astype(np.float32), float(base), float(mine))
        for values, base, mine in zip(found.values, expected, logits, strict=True)
    ]


def _shap() -> Any:
    """The package, without compiling: that takes 20 s, and most calls are over in one."""
    config = needed("numba").config
    before, config.DISABLE_JIT = config.DISABLE_JIT, True
    try:
        return needed("shap")
    finally:
        config.DISABLE_JIT = before


def column_names(inputs: InputSpec, known: Mapping[str, Sequence[str]]) -> list[str]:
    """What the columns of a clip's vector are, in words. known: by layer, those of its backbone."""
    (layer,), (width,) = inputs.layers, inputs.widths
    names = list(known.get(layer) or (f"{layer} {number}" for number in range(width)))
    assert inputs.pool is not None
    parts = {
        "mean": ["{}"],
        "mean_std": ["{}", "{}, deviation over patches"],
        "mean_max": ["{}", "{}, largest of patches"],
        "max": ["{}, largest of patches"],
    }.get(inputs.pool.name, [f"{{}}, {inputs.pool.name} of patches"])
    return [part.format(name) for part in parts for name in names]
