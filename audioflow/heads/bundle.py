"""A head bundle: everything a trained head needs to score, as safetensors and JSON.

heads/audio/
  weights.safetensors   parameters (head.*) and normalisation (normalise.mean, normalise.std)
  head.json             classes, layer, pooling, head and its settings, what it was trained on
  epochs.json           one record per epoch
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load, save
from torch import Tensor

from audioflow.embeddings import LayerRows
from audioflow.errors import TableError
from audioflow.heads import HEADS
from audioflow.storage import Folder

WEIGHTS = "weights.safetensors"
HEAD = "head.json"
EPOCHS = "epochs.json"
BUNDLE_VERSION = 1


@dataclass(frozen=True)
class HeadSpec:
    """What a head is, apart from its numbers; the content of `head.json`.

    embeddings: fingerprint of what determines the vectors (backbone and its settings); scoring other
    vectors with this head is refused.
    """

    system: str
    backbone: str
    embeddings: str
    layer: str
    width: int
    pooling: dict[str, Any]
    head: dict[str, Any]
    classes: list[str]
    trained_on: dict[str, Any]
    fold: str | None = None
    version: int = BUNDLE_VERSION


class HeadBundle:
    """A trained head, ready to score."""

    def __init__(self, spec: HeadSpec, weights: Mapping[str, Tensor]) -> None:
        self.spec = spec
        self.weights = dict(weights)
        options = {key: value for key, value in spec.head.items() if key != "name"}
        self._module = HEADS.build(spec.head["name"], options).build(spec.width, len(spec.classes))
        state = {
            key.removeprefix("head."): value
            for key, value in self.weights.items()
            if key.startswith("head.")
        }
        self._module.load_state_dict(state)
        self._module.eval()

    @classmethod
    def load(cls, folder: Folder) -> "HeadBundle":
        """Read a bundle; raises `TableError` where it is missing, damaged or of another version."""
        try:
            data = json.loads(folder.read(HEAD))
            weights = load(folder.read(WEIGHTS))
        except FileNotFoundError as error:
            raise TableError(
                f"{folder.url} holds no head bundle; run the job train first"
            ) from error
        except Exception as error:
            if type(error).__module__.partition(".")[0] not in ("safetensors", "json"):
                raise
            raise TableError(f"{folder.url} holds a damaged head bundle: {error}") from error
        if data.get("version") != BUNDLE_VERSION:
            raise TableError(
                f"{folder.file(HEAD)} has version {data.get('version')}, "
                f"this audioflow reads {BUNDLE_VERSION}; train the head again"
            )
        return cls(HeadSpec(**data), weights)

    def save(self, folder: Folder, epochs: Sequence[Mapping[str, Any]]) -> None:
        """Write the bundle's three files."""
        folder.write(
            WEIGHTS, save({key: value.contiguous() for key, value in self.weights.items()})
        )
        folder.write(EPOCHS, json.dumps(list(epochs), indent=1).encode())
        folder.write(HEAD, json.dumps(asdict(self.spec), indent=1, ensure_ascii=False).encode())

    def scores(self, vectors_ND: NDArray[np.float32]) -> NDArray[np.float32]:
        """Pooled vectors (N, D) -> softmax scores (N, C) in the order of `spec.classes`."""
        if vectors_ND.shape[1] != self.spec.width:
            raise TableError(
                f"head {self.spec.system!r} takes vectors of width {self.spec.width}, got {vectors_ND.shape[1]}"
            )
        with torch.inference_mode():
            vectors = torch.from_numpy(np.ascontiguousarray(vectors_ND))
            normal = (vectors - self.weights["normalise.mean"]) / self.weights["normalise.std"]
            return torch.softmax(self._module(normal), dim=1).numpy()

    def score_rows(self, rows: LayerRows, pooling: Any) -> NDArray[np.float32]:
        """Embedding rows of N clips -> scores (N, C)."""
        return self.scores(pooling.pool(rows))
