"""`litert`: any TFLite model of sound whose front end the recipe declares. CPU only.

Example: BirdNET 2.4 takes 3 s at 48 kHz and has its embedding in an inner tensor:
`{weights: BirdNET_GLOBAL_6K_V2.4_Model_FP32.tflite, sample_rate_hz: 48000, patch_s: 3,
outputs: {embedding: model/GLOBAL_AVG_POOL/Mean}}`.
"""

import os
from collections.abc import Mapping
from functools import lru_cache

import torch
from pydantic import Field
from torch import Tensor

from audioflow.backbones.declared import DeclaredSettings, FrontEnd, LayerName, embedded, widths
from audioflow.backbones.tflite import TFLite
from audioflow.media.patches import Patching

_NAME = "litert"


class LiteRTSettings(DeclaredSettings):
    """As `DeclaredSettings`, and

    outputs: layer -> name or index of a tensor of the file, inner ones too. Without it, the model's
    own outputs: `embedding` where there is one, else `output_0` and so on by their names.
    """

    outputs: dict[LayerName, str | int] = Field({}, max_length=64)


class LiteRT:
    """A TFLite model."""

    Settings = LiteRTSettings
    revision = 1
    known = ()

    def __init__(self, settings: LiteRTSettings) -> None:
        self._settings = settings
        self._front_end = FrontEnd(settings)
        self._model: TFLite | None = None

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
        """Load the file. The model runs on the CPU wherever the batches are."""
        self._model = _loaded(self._settings)

    def embed(self, batch: Tensor) -> dict[str, Tensor]:
        """int16 (P, T) -> float32 (P, D) per layer, or (P, L, D) for a `sequence`."""
        assert self._model is not None, "`to` comes first"
        return embedded(self._model, self._front_end, batch, self._settings.reduce)


@lru_cache(maxsize=32)
def _layers(settings_json: str, changed_ns: int) -> Mapping[str, int]:
    settings = LiteRTSettings.model_validate_json(settings_json)
    return widths(_loaded(settings), FrontEnd(settings), settings.reduce)


def _loaded(settings: LiteRTSettings) -> TFLite:
    return TFLite(settings.weights, settings.outputs, _NAME, one_by_one=settings.one_by_one)
