"""`torchaudio`: the speech models of `torchaudio.pipelines`, wav2vec 2.0, HuBERT, WavLM and XLS-R.

Shapes: P patches, T samples, L positions in time (every 20 ms), D width.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal, Self

import torch
from numpy.typing import NDArray
from pydantic import Field, StringConstraints, field_validator, model_validator
from torch import Tensor, nn
from torchaudio import models, pipelines

from audioflow.backbones.network import AS_TUPLE, Network, NetworkSettings, fill
from audioflow.frontend import to_float
from audioflow.media.patches import Patching, Short, Tail
from audioflow.weights import KnownWeights, WeightsName

_SITE = "https://download.pytorch.org/torchaudio/models/"
_DEFAULT = "WAV2VEC2_BASE"
_PUBLISHED = (
    (
        "WAV2VEC2_XLSR53",
        "MIT",
        "A. Conneau et al., Unsupervised Cross-lingual Representation, 2020",
    ),
    ("WAV2VEC2_XLSR", "MIT", "A. Babu et al., XLS-R, 2021"),
    ("WAV2VEC2", "MIT", "A. Baevski et al., wav2vec 2.0, NeurIPS 2020"),
    ("HUBERT", "MIT", "W.-N. Hsu et al., HuBERT, 2021"),
    ("WAVLM", "MIT", "S. Chen et al., WavLM, 2022"),
    ("VOXPOPULI", "CC BY-NC 4.0", "C. Wang et al., VoxPopuli, 2021"),
    ("MMS_FA", "CC BY-NC 4.0", "V. Pratap et al., Scaling Speech Technology to 1,000+ Languages"),
)
"""First letters of bundles, the licence of their weights and whom to cite (torchaudio's docs)."""


def _bundles() -> dict[str, Any]:
    found = {name: getattr(pipelines, name) for name in sorted(dir(pipelines))}
    kind = pipelines.Wav2Vec2Bundle
    return {name: bundle for name, bundle in found.items() if isinstance(bundle, kind)}


BUNDLES: Mapping[str, Any] = _bundles()

LayerName = Annotated[str, StringConstraints(pattern=r"^(embedding|layer_[1-9]\d?)$")]


class TorchaudioSettings(NetworkSettings):
    """bundle: its name in `torchaudio.pipelines`. weights: the bundle's own, `random`, or a file.

    layers: `embedding`, what the network gives at its end, without the letters that a model for
    speech recognition then spells; `layer_N`, what block N gives. time: their mean over time, or
    the whole sequence. patch_s, hop_s: length and distance of patches in seconds; hop_s is as long
    as a patch where it is not given. short: rule for clips shorter than a patch. tail: whether what
    is left after the last patch is filled up or dropped.
    """

    bundle: str = _DEFAULT
    weights: WeightsName = _DEFAULT
    layers: Annotated[tuple[LayerName, ...], AS_TUPLE] = Field(("embedding",), min_length=1)
    time: Literal["mean", "sequence"] = "mean"
    patch_s: float = Field(10.0, ge=0.05, le=600)
    hop_s: float | None = Field(None, ge=0.01, le=600)
    short: Short = "pad"
    tail: Tail = "pad"

    @field_validator("bundle")
    @classmethod
    def _there(cls, bundle: str) -> str:
        if bundle not in BUNDLES:
            raise ValueError(f"{bundle!r} is none of torchaudio's: {', '.join(BUNDLES)}")
        return bundle

    @model_validator(mode="before")
    @classmethod
    def _own_weights(cls, given: Any) -> Any:
        """Without `weights`, those of the bundle."""
        if isinstance(given, Mapping) and "bundle" in given and "weights" not in given:
            return {**given, "weights": given["bundle"]}
        return given

    @model_validator(mode="after")
    def _agreed(self) -> Self:
        if self.weights in BUNDLES and self.weights != self.bundle:
            raise ValueError(f"weights are those of {self.weights}, bundle is {self.bundle}")
        blocks = BUNDLES[self.bundle]._params["encoder_num_layers"]
        for layer in self.layers:
            if layer != "embedding" and int(layer[6:]) > blocks:
                raise ValueError(f"layers: {self.bundle} has layer_1 to layer_{blocks}, no {layer}")
        return self

    @property
    def deepest(self) -> int:
        """The last block whose output is wanted."""
        blocks = int(BUNDLES[self.bundle]._params["encoder_num_layers"])
        return max(blocks if name == "embedding" else int(name[6:]) for name in self.layers)


class TorchaudioBundle:
    """A speech model of torchaudio."""

    Settings = TorchaudioSettings
    revision = 1
    known = tuple(
        KnownWeights(
            name,
            bundle._path if bundle._path.startswith("https://") else _SITE + bundle._path,
            *next((licence, cite) for start, licence, cite in _PUBLISHED if name.startswith(start)),
            note=f"as torchaudio.pipelines.{name} loads it",
        )
        for name, bundle in BUNDLES.items()
    )

    def __init__(self, settings: TorchaudioSettings) -> None:
        self._settings = settings
        self._bundle = BUNDLES[settings.bundle]
        self._network: Network | None = None

    @property
    def input(self) -> Patching:
        told = self._settings
        hop_s = told.hop_s or told.patch_s
        rate = int(self._bundle.sample_rate)
        return Patching(rate, told.patch_s, hop_s, told.short, tail=told.tail, exact=True)

    @property
    def layers(self) -> Mapping[str, int]:
        width = self._bundle._params["encoder_embed_dim"]
        return dict.fromkeys(self._settings.layers, width)

    def to(self, device: torch.device) -> None:
        """Load the blocks that are wanted, or draw them."""
        told = self._settings
        params = self._bundle._params | {"aux_num_out": None, "encoder_num_layers": told.deepest}
        wavlm = self._bundle._model_type == "WavLM"
        model = (models.wavlm_model if wavlm else models.wav2vec2_model)(**params)
        fill(model, told.weights, told.seed, lambda tensors: renamed(tensors, told.deepest))
        self._network = Network(Tower(model, told.layers), device, told)

    def embed(self, batch: Tensor) -> dict[str, Tensor]:
        """Waveforms (P, T) -> float32 (P, D) per layer, or (P, L, D) with `time: sequence`."""
        assert self._network is not None, "`to` comes first"
        waveform_PT = to_float(batch)
        if self._bundle._normalize_waveform:
            # torchaudio normalises over the whole batch; here each patch counts for itself.
            waveform_PT = nn.functional.layer_norm(waveform_PT, waveform_PT.shape[1:])
        found: dict[str, Tensor] = self._network(waveform_PT)
        if self._settings.time == "sequence":
            return found
        return {name: state_PLD.mean(dim=1) for name, state_PLD in found.items()}


class Tower(nn.Module):
    """(P, T) -> per layer (P, L, D): `layer_N` of a block, `embedding` of the whole.

    Networks that normalise in front of every block have one more norm, after the last one.
    """

    def __init__(self, model: nn.Module, layers: Sequence[str]) -> None:
        super().__init__()
        self.model = model
        self._layers = tuple(layers)

    def forward(self, waveform_PT: Tensor) -> dict[str, Tensor]:
        model: Any = self.model
        states, _ = model.extract_features(waveform_PT)
        found = {f"layer_{number}": state for number, state in enumerate(states, start=1)}
        transformer = model.encoder.transformer
        last = states[-1]
        found["embedding"] = last if transformer.layer_norm_first else transformer.layer_norm(last)
        return {name: found[name] for name in self._layers}


def renamed(tensors: dict[str, NDArray[Any]], blocks: int) -> dict[str, NDArray[Any]]:
    """The tensors of a bundle's file that the first blocks need, by the names of torch 2."""
    return dict(_renamed(tensors, blocks))


def _renamed(tensors: dict[str, NDArray[Any]], blocks: int) -> Iterator[tuple[str, NDArray[Any]]]:
    start = "encoder.transformer.layers."
    norm = {".weight_g": "original0", ".weight_v": "original1"}
    for name, array in tensors.items():
        if name.startswith("aux."):
            continue
        if name.startswith(start) and int(name[len(start) :].split(".")[0]) >= blocks:
            continue
        ending = name[-len(".weight_g") :]
        if "pos_conv_embed.conv" in name and ending in norm:
            yield name.removesuffix(ending) + f".parametrizations.weight.{norm[ending]}", array
        else:
            yield name, array
