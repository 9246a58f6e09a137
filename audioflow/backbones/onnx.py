"""`onnx`: any ONNX model of sound whose front end the recipe declares, on a CPU or CUDA device.

Example: Spotify's Basic Pitch takes 43,844 samples at 22,050 Hz and gives three outputs:
`{weights: nmp.onnx, sample_rate_hz: 22050, patch_s: 1.9883900, reduce: mean}`. Inner tensors are
reached by their names (with the package onnx installed).
"""

import os
from collections.abc import Mapping
from functools import lru_cache

import torch
from pydantic import Field
from torch import Tensor

from audioflow.backbones.declared import DeclaredSettings, FrontEnd, LayerName, embedded, widths
from audioflow.backbones.onnx_session import ONNXSession
from audioflow.media.patches import Patching

_CPU = torch.device("cpu")


class ONNXSettings(DeclaredSettings):
    """As `DeclaredSettings`, and

    outputs: layer -> name of a tensor of the file. Without it, the model's own outputs: `embedding`
    where there is one, else `output_0` and so on in their order. constants: for every input beside
    the sound the value it is filled with, such as `{sr: 16000, state: 0}`.
    """

    outputs: dict[LayerName, str] = Field({}, max_length=64)
    constants: dict[str, float] = Field({}, max_length=64)


class ONNX:
    """An ONNX model."""

    Settings = ONNXSettings
    revision = 1
    known = ()

    def __init__(self, settings: ONNXSettings) -> None:
        self._settings = settings
        self._front_end = FrontEnd(settings)
        self._model: ONNXSession | None = None

    @property
    def input(self) -> Patching:
        return self._front_end.patching

    @property
    def layers(self) -> Mapping[str, int]:
        """Found by a call of the model. Raises `WeightsError` where there is no such tensor."""
        path = self._settings.weights
        changed = os.stat(path).st_mtime_ns if os.path.isfile(path) else 0
        return _layers(self._settings.model_dump_json(), changed)

    def to(self, device: torch.device) -> None:
        """Load the file. Raises `AudioflowError` where onnxruntime cannot use this device."""
        self._model = _loaded(self._settings, device)

    def embed(self, batch: Tensor) -> dict[str, Tensor]:
        """int16 (P, T) -> float32 (P, D) per layer, or (P, L, D) for a `sequence`."""
        assert self._model is not None, "`to` comes first"
        return embedded(self._model, self._front_end, batch, self._settings.reduce)


@lru_cache(maxsize=32)
def _layers(settings_json: str, changed_ns: int) -> Mapping[str, int]:
    settings = ONNXSettings.model_validate_json(settings_json)
    return widths(_loaded(settings, _CPU), FrontEnd(settings), settings.reduce)


def _loaded(settings: ONNXSettings, device: torch.device) -> ONNXSession:
    return ONNXSession(
        settings.weights,
        settings.outputs,
        settings.constants,
        device,
        one_by_one=settings.one_by_one,
    )
