"""`huggingface`: audio models of `transformers` (extra `huggingface`).

AST, CLAP's audio side, Whisper's encoder, and all that take a waveform: wav2vec 2.0, HuBERT, WavLM,
data2vec, UniSpeech, MMS and others. Sample rate and features are those of the model's own
`preprocessor_config.json`. Shapes: P patches, T samples, L positions in time, D width.
"""

from collections.abc import Mapping
from functools import cached_property
from typing import Annotated, Any, Literal, Self

import torch
from pydantic import Field, StringConstraints, model_validator
from torch import Tensor

from audioflow.backbones.network import AS_TUPLE, Network, NetworkSettings, fill_random
from audioflow.backbones.transformers_frontends import front_end, longest_s
from audioflow.backbones.transformers_models import (
    Architecture,
    Source,
    Tower,
    empty,
    from_config,
    from_folder,
    loaded,
    on_this_machine,
)
from audioflow.errors import AudioflowError
from audioflow.frontend import to_float
from audioflow.media.patches import Patching, Short, Tail
from audioflow.weights import RANDOM, WeightsName

USUAL_PATCH_S = 10.0
WHISPER_PATCH_S = 30.0

LayerName = Annotated[str, StringConstraints(pattern=r"^(embedding|pooled|hidden_\d{1,3})$")]


class HuggingFaceSettings(NetworkSettings):
    """weights: a folder as `save_pretrained` writes it, the name of a model of the Hugging Face hub
    that is in this machine's cache (`hf download NAME` puts it there), or `random`.

    architecture, config: which network where weights are random; options that differ from its
    default configuration. layers: `embedding`, the last hidden state; `pooled`, what the model
    pools itself (AST, CLAP's projection); `hidden_N`, the output of block N (0: its input). time:
    their mean over time, or the whole sequence. patch_s: seconds; 30 for Whisper, 10 for others,
    where it is not given. hop_s: as long as a patch where it is not given. short: rule for clips
    shorter than a patch. tail: whether what is left after the last patch is filled up or dropped.
    """

    weights: WeightsName
    architecture: Architecture | None = None
    config: dict[str, Any] = Field({}, max_length=200)
    layers: Annotated[tuple[LayerName, ...], AS_TUPLE] = Field(("embedding",), min_length=1)
    time: Literal["mean", "sequence"] = "mean"
    patch_s: float | None = Field(None, ge=0.05, le=600)
    hop_s: float | None = Field(None, ge=0.01, le=600)
    short: Short = "pad"
    tail: Tail = "pad"

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.weights == RANDOM) != (self.architecture is not None):
            raise ValueError(
                f"weights is {self.weights}, architecture {self.architecture}: architecture goes "
                "with weights: random, and only with it"
            )
        if self.config and self.architecture is None:
            raise ValueError("config goes with weights: random; a folder has its own")
        return self


class HuggingFace:
    """A model of transformers."""

    Settings = HuggingFaceSettings
    revision = 1
    known = ()

    @staticmethod
    def find_weights(name: str) -> str:
        """The folder of a model of the Hugging Face hub that is in this machine's cache."""
        return str(on_this_machine(name))

    def __init__(self, settings: HuggingFaceSettings) -> None:
        self._settings = settings
        self._network: Network | None = None

    @cached_property
    def _source(self) -> Source:
        """Read when it is first asked for: configuration files only, no weights."""
        told = self._settings
        if told.architecture is not None:
            return from_config(told.architecture, told.config)
        return from_folder(on_this_machine(told.weights))

    @property
    def input(self) -> Patching:
        """Raises `AudioflowError` where patches are longer than the model takes."""
        told, extractor = self._settings, self._source.extractor
        longest = longest_s(extractor)
        usual = WHISPER_PATCH_S if self._source.family == "whisper" else USUAL_PATCH_S
        patch_s = told.patch_s or min(usual, longest or usual)
        if longest is not None and patch_s > longest:
            raise AudioflowError(f"patch_s is {patch_s:g}, this model takes at most {longest:g} s")
        hop_s = told.hop_s or patch_s
        return Patching(
            extractor.sampling_rate, patch_s, hop_s, told.short, tail=told.tail, exact=True
        )

    @property
    def layers(self) -> Mapping[str, int]:
        """Raises `AudioflowError` for a layer that this model does not have."""
        hidden = self._source.hidden_widths
        there = {"embedding": self._source.width, "pooled": self._source.pooled_width}
        there |= {f"hidden_{number}": width for number, width in enumerate(hidden)}
        found = {}
        for layer in self._settings.layers:
            width = there.get(layer)
            if width is None:
                pooled = ", pooled" if there["pooled"] else ""
                raise AudioflowError(
                    f"this model has no layer {layer}; it has embedding{pooled}, hidden_0 to "
                    f"hidden_{len(hidden) - 1}"
                )
            if self._settings.time == "sequence" and self._folded(layer):
                raise AudioflowError(f"time: sequence is not possible for {layer} of CLAP")
            found[layer] = width
        return found

    def _folded(self, layer: str) -> bool:
        """Inside CLAP a spectrogram is folded into a square: no axis is time there."""
        return self._source.family == "clap" and layer.startswith("hidden_")

    def to(self, device: torch.device) -> None:
        """Load the weights, or draw them."""
        told, names = self._settings, tuple(self.layers)
        if self._source.folder is None:
            model = empty(self._source)
            fill_random(model, told.seed)
        else:
            model = loaded(self._source)
        hidden = tuple(int(name[7:]) for name in names if name.startswith("hidden_"))
        self._network = Network(Tower(model, self._source, hidden), device, told)

    def embed(self, batch: Tensor) -> dict[str, Tensor]:
        """Waveforms (P, T) -> float32 (P, D) per layer, or (P, L, D) with `time: sequence`."""
        assert self._network is not None, "`to` comes first"
        found = self._network(front_end(self._source.extractor)(to_float(batch)))
        layers = {}
        for name in self._settings.layers:
            vectors = found["last" if name == "embedding" else name]
            if vectors.ndim == 3:
                vectors = vectors[:, : self._heard(batch.shape[1])]
                if self._settings.time == "mean":
                    vectors = vectors.mean(dim=1)
            layers[name] = vectors
        return layers

    def _heard(self, samples: int) -> int | None:
        """Of Whisper's positions (30 s of them) those that the patch reaches; of others all."""
        if self._source.family != "whisper":
            return None
        return -(-samples // (2 * self._source.extractor.hop_length))
