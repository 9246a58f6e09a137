"""`yamnet`: 521 AudioSet classes and their 1024-d embedding, by a MobileNet v1 on log-mel patches.

After `research/audioset/yamnet` of github.com/tensorflow/models. A patch is 0.975 s at 16 kHz: 96
frames of 25 ms every 10 ms; patches start every 0.48 s and silence is added at the end, so that
every sample is heard. Shapes: P patches, T samples, F frames, M mel bands.
"""

from collections.abc import Mapping
from typing import Annotated, Literal, Self

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor

from audioflow.backbones.base import Spectrum, spectrum_of
from audioflow.backbones.network import AS_TUPLE, Network, NetworkSettings
from audioflow.backbones.tflite import TFLite
from audioflow.backbones.yamnet_network import NUM_CLASSES, WIDTH, filled
from audioflow.frontend import to_float
from audioflow.frontend.logmel import YAMNET, log_mel
from audioflow.media.patches import Patching, Short
from audioflow.registry import Settings
from audioflow.weights import RANDOM, KnownWeights, WeightsError, WeightsName

PATCH_S = YAMNET.samples_of(96) / YAMNET.sample_rate_hz
"""0.975: what the 96 frames of a patch see."""

Layer = Literal["embedding", "logits", "scores"]
_WIDTHS = {"embedding": WIDTH, "logits": NUM_CLASSES, "scores": NUM_CLASSES}
_IN_TFLITE = {
    "embedding": "tower0/network/layer28/reduce_mean",
    "logits": "tower0/network/layer29/fc/MatMul;tower0/network/layer29/fc/BiasAdd",
    "scores": "tower0/network/layer32/final_output:0",
}
_CITATION = (
    "M. Plakal, D. Ellis: YAMNet, github.com/tensorflow/models, research/audioset/yamnet, 2020"
)


class YAMNetSettings(NetworkSettings):
    """weights: `yamnet` (float32), `yamnet_int8`, `random`, or a .h5, .pth or .tflite file.

    engine: `torch`, for any weights and device, in batches; `litert` (extra `litert`) computes a
    .tflite file in the integers it was made for, on a CPU, several times as fast. layers: the
    embedding, the classes' logits, their scores. hop_s: distance of patches in seconds. short: rule
    for clips shorter than a patch.
    """

    weights: WeightsName = "yamnet"
    engine: Literal["torch", "litert"] = "torch"
    layers: Annotated[tuple[Layer, ...], AS_TUPLE] = Field(("embedding",), min_length=1)
    hop_s: float = Field(0.48, ge=0.01, le=60)
    short: Short = "pad"

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.engine == "litert" and self.weights == RANDOM:
            raise ValueError("engine litert needs a .tflite file, weights is random")
        return self


class YAMNet:
    """YAMNet with its own front end."""

    Settings: type[Settings] = YAMNetSettings
    revision = 1
    patches_on_cpu = 64
    known = (
        KnownWeights(
            "yamnet",
            "https://storage.googleapis.com/audioset/yamnet.h5",
            "Apache-2.0",
            _CITATION,
            sha256="13c3308955bbfaef262f175ac9c40e47b134573a93984f009220dd7cc12a1744",
            size_bytes=15_296_092,
            note="Keras weights, as trained",
        ),
        KnownWeights(
            "yamnet_int8",
            "https://raw.githubusercontent.com/google-coral/coralmicro/main/models/"
            "yamnet_spectra_in.tflite",
            "Apache-2.0",
            _CITATION,
            sha256="0a266465c46718f3fcc4137366be82882a8c93bfcc4f0278581a11d11dddcdf9",
            size_bytes=4_047_424,
            note="TFLite, 8-bit weights and activations; needs the extra litert",
        ),
        KnownWeights(
            "yamnet_torch_audioset",
            "https://github.com/w-hc/torch_audioset/releases/download/v0.1/yamnet.pth",
            "MIT (port), Apache-2.0 (weights)",
            _CITATION,
            note="yamnet.h5 as converted by github.com/w-hc/torch_audioset",
        ),
    )

    def __init__(self, settings: YAMNetSettings) -> None:
        self._settings = settings
        self._network: Network | None = None
        self._tflite: TFLite | None = None

    @property
    def input(self) -> Patching:
        told = self._settings
        return Patching(YAMNET.sample_rate_hz, PATCH_S, told.hop_s, told.short, tail="pad")

    @property
    def layers(self) -> Mapping[str, int]:
        return {layer: _WIDTHS[layer] for layer in self._settings.layers}

    def to(self, device: torch.device) -> None:
        """Load the weights. With `engine: litert` the network stays on the CPU."""
        told = self._settings
        if told.engine == "torch":
            self._network = Network(filled(told.weights, told.seed), device, told)
            return
        if not told.weights.endswith(".tflite"):
            raise WeightsError(
                f"engine litert needs a .tflite file, weights is {told.weights}: "
                "give yamnet_int8, or engine: torch"
            )
        wanted: dict[str, str | int] = {layer: _IN_TFLITE[layer] for layer in told.layers}
        self._tflite = TFLite(told.weights, wanted, "yamnet")

    def embed(self, batch: Tensor) -> dict[str, Tensor]:
        """int16 (P, T) at 16 kHz -> float32 (P, D) per layer."""
        return self.from_spectrogram(self.spectrogram(batch))

    @property
    def spectrum(self) -> Spectrum:
        return spectrum_of(YAMNET)

    def spectrogram(self, batch: Tensor) -> Tensor:
        """int16 (P, T) -> float32 (P, 96, 64)."""
        return log_mel(to_float(batch), YAMNET)

    def from_spectrogram(self, spectrogram_PFM: Tensor) -> dict[str, Tensor]:
        """float32 (P, 96, 64) -> float32 (P, D) per layer; no gradients with `engine: litert`."""
        if self._tflite is not None:
            given = spectrogram_PFM.detach()
            found = self._tflite(np.ascontiguousarray(given.cpu().numpy()))
            return {
                layer: torch.from_numpy(array.reshape(len(given), -1)).to(given.device)
                for layer, array in found.items()
            }
        assert self._network is not None, "`to` comes first"
        embedding, logits = self._network(spectrogram_PFM[:, None])
        found_all = {"embedding": embedding, "logits": logits, "scores": logits.sigmoid()}
        return {layer: found_all[layer] for layer in self._settings.layers}
