"""A head bundle: everything a trained head needs to score, as safetensors and JSON.

heads/audio/
  weights.safetensors   parameters (head.*) and normalisation (normalise.mean, normalise.std)
  head.json             classes, layer, pooling, head and its settings, what it was trained on
  epochs.json           one record per epoch
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from audioflow.errors import TableError
from audioflow.heads import HEADS
from audioflow.registry import UnknownPlugin
from audioflow.storage import Folder

WEIGHTS = "weights.safetensors"
HEAD = "head.json"
EPOCHS = "epochs.json"
BUNDLE_VERSION = 1


@dataclass(frozen=True)
class HeadSpec:
    """What a head is, apart from its numbers; the content of `head.json`.

    embeddings: fingerprint of what determines the vectors (backbone and its settings); scoring
    other vectors with this head is refused.
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
        """Raises `TableError` where the weights are not those of the head that `spec` describes."""
        self.spec = spec
        self.weights = dict(weights)
        options = {key: value for key, value in spec.head.items() if key != "name"}
        self._module = HEADS.build(spec.head["name"], options).build(spec.width, len(spec.classes))
        try:
            self._module.load_state_dict(
                {
                    key.removeprefix("head."): value
                    for key, value in self.weights.items()
                    if key.startswith("head.")
                }
            )
            self._mean, self._std = (self.weights[f"normalise.{name}"] for name in ("mean", "std"))
            if self._mean.shape != (spec.width,) or self._std.shape != (spec.width,):
                raise ValueError(f"normalise.* have other shapes than ({spec.width},)")
        except (RuntimeError, KeyError, ValueError) as error:
            why = " ".join(str(error).split())
            raise TableError(
                f"the weights of head {spec.system!r} do not fit a {spec.head['name']} head of "
                f"width {spec.width} and {len(spec.classes)} classes: {why}"
            ) from error
        self._module.eval()

    @classmethod
    def load(cls, folder: Folder) -> "HeadBundle":
        """Read a bundle; raises `TableError` where it is missing, damaged or of another version."""
        try:
            data, weights = json.loads(folder.read(HEAD)), load(folder.read(WEIGHTS))
        except FileNotFoundError as error:
            raise TableError(
                f"{folder.url} holds no head bundle; run the job train first"
            ) from error
        except (ValueError, SafetensorError) as error:
            raise _damaged(folder, error) from error
        if not isinstance(data, dict) or data.get("version") != BUNDLE_VERSION:
            version = data.get("version") if isinstance(data, dict) else None
            raise TableError(
                f"{folder.file(HEAD)} has version {version}, "
                f"this audioflow reads {BUNDLE_VERSION}; train the head again"
            )
        try:
            return cls(HeadSpec(**data), weights)
        except UnknownPlugin as error:
            raise TableError(f"the head bundle {folder.url} cannot be used: {error}") from error
        except (TypeError, KeyError, ValueError, TableError) as error:
            raise _damaged(folder, error) from error

    def save(self, folder: Folder, epochs: Sequence[Mapping[str, Any]]) -> dict[str, str]:
        """Write the bundle's three files, `head.json` last; returns the SHA-256 of each."""
        files = {
            WEIGHTS: save({key: value.contiguous() for key, value in self.weights.items()}),
            EPOCHS: json.dumps(list(epochs), indent=1).encode(),
            HEAD: json.dumps(asdict(self.spec), indent=1, ensure_ascii=False).encode(),
        }
        for name, data in files.items():
            folder.write(name, data)
        return {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}

    def scores(self, vectors_ND: NDArray[np.float32]) -> NDArray[np.float32]:
        """Pooled vectors (N, D) -> softmax scores (N, C) in the order of `spec.classes`."""
        if vectors_ND.ndim != 2 or vectors_ND.shape[1] != self.spec.width:
            raise TableError(
                f"head {self.spec.system!r} takes vectors of width {self.spec.width}, "
                f"got an array of shape {vectors_ND.shape}"
            )
        with torch.inference_mode():
            vectors = torch.from_numpy(np.array(vectors_ND, np.float32))
            logits: Tensor = self._module((vectors - self._mean) / self._std)
            return torch.softmax(logits, dim=1).numpy()


def _damaged(folder: Folder, error: Exception) -> TableError:
    return TableError(
        f"{folder.url} holds a damaged head bundle: {error}; remove it and run the job train again"
    )
