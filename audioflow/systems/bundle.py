"""A head bundle: everything a trained head needs to score, as safetensors or skops, and JSON.

heads/audio/
  head.json             what it reads, pooling, head and settings, classes, what it was trained on
  weights.safetensors   parameters (head.*, pooling.*) and normalisation (normalise.*)
  estimator.skops       instead of these, for a head that scikit-learn fitted
  epochs.json           one record per epoch
  calibration.json      where the recipe asks for one: see `calibration.system`
"""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from audioflow.errors import TableError
from audioflow.heads import HEADS
from audioflow.heads.base import is_estimator
from audioflow.registry import UnknownPlugin
from audioflow.storage import Folder
from audioflow.systems.inputs import ClipRows, InputSpec, Pool
from audioflow.systems.network import NetworkSpec, SystemNetwork, all_logits
from audioflow.systems.readout import Readout

WEIGHTS = "weights.safetensors"
ESTIMATOR = "estimator.skops"
HEAD = "head.json"
EPOCHS = "epochs.json"
BUNDLE_VERSION = 2


@dataclass(frozen=True)
class HeadSpec:
    """What a head is, apart from its numbers; the content of `head.json`.

    embeddings: fingerprint of what determines the vectors (backbone and its settings); scoring
    other vectors with this head is refused. layers: names and widths of the columns it reads.
    pooling: name, `on` and settings; None where the head itself pools. head_classes: what the head
    knows, in its order; merge: the class (by name) of each of them.
    """

    system: str
    backbone: str
    embeddings: str
    layers: dict[str, int]
    vectors_per_patch: int
    pooling: dict[str, Any] | None
    head: dict[str, Any]
    classes: list[str]
    head_classes: list[str]
    merge: dict[str, str] | None
    multi_label: bool
    temperature: float
    normalised: bool
    trained_on: dict[str, Any]
    fold: str | None = None
    version: int = BUNDLE_VERSION

    @property
    def inputs(self) -> InputSpec:
        """What it reads of an embeddings table."""
        pool = None
        if self.pooling is not None:
            options = {k: v for k, v in self.pooling.items() if k not in ("name", "on")}
            pool = Pool(self.pooling["name"], self.pooling["on"], options)
        takes = HEADS.load(self.head["name"]).takes
        names, widths = tuple(self.layers), tuple(self.layers.values())
        return InputSpec(names, widths, takes, pool, self.vectors_per_patch)

    @property
    def network(self) -> NetworkSpec:
        """What its network is made of."""
        return NetworkSpec(
            self.inputs, self.head, len(self.head_classes), self.normalised, self.multi_label
        )

    @property
    def readout(self) -> Readout:
        """What is done with its logits."""
        merge = None
        if self.merge is None and self.head_classes != self.classes:
            raise ValueError(
                f"head_classes {self.head_classes} are not classes {self.classes}, "
                "and merge does not say which are which"
            )
        if self.merge is not None:
            merge = tuple(self.classes.index(self.merge[name]) for name in self.head_classes)
        return Readout(len(self.classes), self.multi_label, self.temperature, merge)


class HeadBundle:
    """A trained head, ready to score.

    weights: tensors of its network's state, or what `estimators.save` gives.
    """

    def __init__(self, spec: HeadSpec, weights: Mapping[str, Tensor] | bytes) -> None:
        """Raises `TableError` where the weights are not those of the head that `spec` describes."""
        self.spec = spec
        self.inputs = spec.inputs
        self.weights = weights if isinstance(weights, bytes) else dict(weights)
        self._readout = spec.readout
        if isinstance(weights, bytes):
            self.network = _fitted(spec, weights).eval()
        else:
            self.network = _loaded(spec, weights).eval()

    @classmethod
    def load(cls, folder: Folder) -> "HeadBundle":
        """Read a bundle; raises `TableError` where it is missing, damaged or of another version."""
        try:
            data = json.loads(folder.read(HEAD))
        except FileNotFoundError as error:
            raise TableError(
                f"{folder.url} holds no head bundle; run the job train first"
            ) from error
        except ValueError as error:
            raise _damaged(folder, error) from error
        if not isinstance(data, dict) or data.get("version") != BUNDLE_VERSION:
            version = data.get("version") if isinstance(data, dict) else None
            raise TableError(
                f"{folder.file(HEAD)} has version {version}, "
                f"this audioflow reads {BUNDLE_VERSION}; train the head again"
            )
        try:
            return cls(HeadSpec(**data), _read_weights(folder, data))
        except UnknownPlugin as error:
            raise TableError(f"the head bundle {folder.url} cannot be used: {error}") from error
        except FileNotFoundError as error:
            raise _damaged(folder, error) from error
        except (
            AttributeError,
            KeyError,
            SafetensorError,
            TableError,
            TypeError,
            ValueError,
        ) as error:
            raise _damaged(folder, error) from error

    def save(self, folder: Folder, epochs: Sequence[Mapping[str, Any]]) -> dict[str, str]:
        """Write the bundle's three files, `head.json` last; returns the SHA-256 of each."""
        if isinstance(self.weights, bytes):
            files = {ESTIMATOR: self.weights}
        else:
            files = {WEIGHTS: save({key: v.contiguous() for key, v in self.weights.items()})}
        files |= {EPOCHS: _json(list(epochs)), HEAD: _json(asdict(self.spec))}
        for name, data in files.items():
            folder.write(name, data)
        return {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}

    def scores(self, clips: ClipRows) -> NDArray[np.float32]:
        """Scores (B, C) of clips in the order of `spec.classes`."""
        return self._readout.scores(self.logits(clips)).numpy()

    def logits(self, clips: ClipRows) -> Tensor:
        """Logits (R, B, F) of clips in the order of `spec.head_classes`."""
        self._refuse_widths(clips)
        return all_logits(self.network, clips.examples())

    def _refuse_widths(self, clips: ClipRows) -> None:
        shape, head = self.inputs.shape, f"head {self.spec.system!r}"
        if len(clips.rows) != len(shape.layers):
            wanted = ", ".join(shape.layers)
            raise TableError(f"{head} takes the layers {wanted}, got {len(clips.rows)} arrays")
        tall: tuple[int, ...] = ()
        what = "vectors"
        if "picture" in self.inputs.takes:
            tall = (shape.vectors_per_patch,)
            what = f"pictures of {shape.vectors_per_patch} vectors"
        for rows, width in zip(clips.rows, shape.widths, strict=True):
            if rows.shape[1:] != (*tall, width):
                raise TableError(
                    f"{head} takes {what} of width {width}, got an array of shape {rows.shape}"
                )


def _fitted(spec: HeadSpec, data: bytes) -> SystemNetwork:
    from audioflow.heads import estimators  # scikit-learn takes a while to import
    from audioflow.systems.estimator import EstimatorModule

    head = EstimatorModule(estimators.load(data), len(spec.head_classes), spec.multi_label)
    try:
        head(torch.zeros(1, spec.inputs.shape.width))
    except ValueError as error:
        raise TableError(
            f"the estimator of head {spec.system!r} does not fit {spec.layers} with "
            f"{len(spec.head_classes)} classes: {' '.join(str(error).split())}"
        ) from error
    return SystemNetwork(spec.network, head)


def _loaded(spec: HeadSpec, weights: Mapping[str, Tensor]) -> SystemNetwork:
    try:
        # No first weights are drawn, nor read from the file that training started from.
        with torch.device("meta"):
            network = SystemNetwork(spec.network)
        kinds = {name: weight.dtype for name, weight in network.state_dict().items()}
        own = {name: _copy(weight, kinds.get(name)) for name, weight in weights.items()}
        network.load_state_dict(own, assign=True)
    except (RuntimeError, KeyError, ValueError) as error:
        if isinstance(error, ValidationError):
            raise
        why = " ".join(str(error).split())
        raise TableError(
            f"the weights of head {spec.system!r} do not fit a {spec.head['name']} head on "
            f"{spec.layers} with {len(spec.head_classes)} classes: {why}"
        ) from error
    return network


def _copy(weight: Tensor, kind: torch.dtype | None) -> Tensor:
    return weight.to(kind or weight.dtype, copy=True)


def _read_weights(folder: Folder, data: Mapping[str, Any]) -> dict[str, Tensor] | bytes:
    if is_estimator(HEADS.load(data["head"]["name"])):
        return folder.read(ESTIMATOR)
    return load(folder.read(WEIGHTS))


def _json(value: Any) -> bytes:
    return json.dumps(_finite(value), indent=1, ensure_ascii=False, allow_nan=False).encode()


def _finite(value: Any) -> Any:
    """The value with null for numbers that JSON does not have."""
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _damaged(folder: Folder, error: Exception) -> TableError:
    return TableError(
        f"{folder.url} holds a damaged head bundle: {error}; remove it and run the job train again"
    )
