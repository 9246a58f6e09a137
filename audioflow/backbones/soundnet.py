"""`soundnet`: SoundNet-8, which hears what ImageNet and Places networks saw (Aytar et al. 2016).

A one-dimensional convolutional network on the waveform at 22,050 Hz: conv1 to conv7, each with
batch normalisation (eps 1e-5) and ReLU, max-pooling after conv1, conv2 and conv5, and two
convolutions that give logits of 1000 objects and 401 scenes.

Shapes: P patches, T samples of a patch, L steps in time, D width.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

import torch
from numpy.typing import NDArray
from pydantic import Field, model_validator
from torch import Tensor, nn

from audioflow.backbones.network import AS_TUPLE, Network, NetworkSettings, fill
from audioflow.frontend import to_float
from audioflow.media.patches import Patching, Short
from audioflow.weights import KnownWeights, WeightsName

SAMPLE_RATE_HZ = 22_050
EPS = 1e-5

Layer = Literal[
    "conv1",
    "pool1",
    "conv2",
    "pool2",
    "conv3",
    "conv4",
    "conv5",
    "pool5",
    "conv6",
    "conv7",
    "conv8_objs",
    "conv8_scns",
]
"""In the order of the network; the last two are side by side."""


@dataclass(frozen=True)
class _Conv:
    """A convolution in time; `pool`: length (and distance) of the max-pooling after it, if any."""

    name: str
    given: int
    width: int
    kernel: int
    padding: int
    pool: int = 0


STRIDE = 2
_CONVOLUTIONS = (
    _Conv("conv1", 1, 16, 64, 32, 8),
    _Conv("conv2", 16, 32, 32, 16, 8),
    _Conv("conv3", 32, 64, 16, 8),
    _Conv("conv4", 64, 128, 8, 4),
    _Conv("conv5", 128, 256, 4, 2, 4),
    _Conv("conv6", 256, 512, 4, 2),
    _Conv("conv7", 512, 1024, 4, 2),
)
_HEADS = (_Conv("conv8_objs", 1024, 1000, 8, 0), _Conv("conv8_scns", 1024, 401, 8, 0))

_CITATION = (
    "Aytar, Vondrick, Torralba, SoundNet: Learning Sound Representations from Unlabeled Video, "
    "NIPS 2016"
)


class SoundNetSettings(NetworkSettings):
    """weights: `sound8` (fetched by hand, see its note), or a file of the network.

    layers: conv1 ... conv7, pool1, pool2, pool5, conv8_objs, conv8_scns; what lies behind the
    deepest is not computed. activation: of the conv layers, `pre` straight from the convolution,
    `post` after batch normalisation and ReLU. A pool layer comes after both in either case, conv8
    has neither. The defaults are what the course solution of CMU 11-775 gives: pool5, and conv6 and
    conv7 before normalisation, as means over time.
    time: `mean` or `max` over time, or `sequence`: a vector per step. scale: what full scale
    becomes; the network was trained on 256, and on +-1 it gives much worse vectors, not an error.
    patch_s, hop_s: patches of that length and distance (the same as the length, where it is not
    given); without patch_s, a patch is the clip as it is. min_duration_s: shorter clips are
    repeated first. short: what clips get that are still shorter than a patch, or than the deepest
    layer needs.
    """

    weights: WeightsName = "sound8"
    layers: Annotated[tuple[Layer, ...], AS_TUPLE] = Field(
        ("pool5", "conv6", "conv7"), min_length=1
    )
    activation: Literal["pre", "post"] = "pre"
    time: Literal["mean", "max", "sequence"] = "mean"
    scale: float = Field(256.0, gt=0, le=65_536)
    patch_s: float | None = Field(None, gt=0, le=600)
    hop_s: float | None = Field(None, ge=0.01, le=600)
    min_duration_s: float = Field(20.0, ge=0, le=600)
    short: Short = "pad"

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.hop_s is not None and self.patch_s is None:
            raise ValueError(
                f"hop_s ({self.hop_s:g}) without patch_s says nothing, for a patch is the whole "
                "clip then: give patch_s too, or leave hop_s out"
            )
        deepest = max(self.layers, key=_depth)
        needed_s = least_samples(deepest) / SAMPLE_RATE_HZ
        if self.patch_s is not None and round(self.patch_s * SAMPLE_RATE_HZ) < least_samples(
            deepest
        ):
            raise ValueError(
                f"patch_s ({self.patch_s:g}) is too short for {deepest}, which needs "
                f"{needed_s:.4f} s: give longer patches, or name less deep layers"
            )
        return self


def least_samples(layer: str) -> int:
    """The length of the shortest waveform that gives one step of a layer.

    4,574 for pool5, 209,374 for conv8.
    """
    need = 1
    head = next((conv for conv in _HEADS if conv.name == layer), None)
    chain: Sequence[_Conv] = (*_CONVOLUTIONS, head) if head else _CONVOLUTIONS[: _depth(layer) + 1]
    for conv in reversed(chain):
        if conv.pool and not (conv is chain[-1] and layer == conv.name):
            need *= conv.pool
        need = max(1, (need - 1) * STRIDE + conv.kernel - 2 * conv.padding)
    return need


def _depth(layer: str) -> int:
    """0 for conv1 and pool1, ..., 6 for conv7, 7 for conv8."""
    return int(layer.removeprefix("conv").removeprefix("pool")[0]) - 1


class SoundNet:
    """SoundNet-8, as deep as is wanted."""

    Settings = SoundNetSettings
    revision = 1
    patches_on_cpu = 4
    known = (
        KnownWeights(
            "sound8",
            "https://drive.google.com/uc?export=download&id=0B9wE6h4m--wjR015M1RLZW45OEU",
            "MIT (cvondrick/soundnet)",
            _CITATION,
            note="sound8.npy of eborboihuc/SoundNet-tensorflow, converted from soundnet8_final.t7; "
            "a shared drive, which may ask for a browser: then give the path of a copy",
        ),
    )

    def __init__(self, settings: SoundNetSettings) -> None:
        self._settings = settings
        self._network: Network | None = None

    @property
    def input(self) -> Patching:
        settings = self._settings
        length_s = settings.patch_s or max(map(least_samples, settings.layers)) / SAMPLE_RATE_HZ
        return Patching(
            SAMPLE_RATE_HZ,
            length_s,
            settings.hop_s or length_s,
            settings.short,
            settings.min_duration_s,
            whole=settings.patch_s is None,
        )

    @property
    def layers(self) -> Mapping[str, int]:
        widths = {conv.name: conv.width for conv in (*_CONVOLUTIONS, *_HEADS)}
        return {name: widths[name.replace("pool", "conv")] for name in self._settings.layers}

    def to(self, device: torch.device) -> None:
        """Load the weights."""
        net = Net(self._settings.layers, self._settings.activation)
        fill(net, self._settings.weights, self._settings.seed, renamed)
        self._network = Network(net, device, self._settings)

    def embed(self, batch: Tensor) -> dict[str, Tensor]:
        """int16 (P, T) at 22,050 Hz -> the wanted layers, float32 (P, D) or (P, L, D)."""
        assert self._network is not None, "to() comes first"
        scale = self._settings.scale
        waveform_PT = (to_float(batch) * scale).clamp(-scale, scale)
        layers_PDL: dict[str, Tensor] = self._network(waveform_PT[:, None])
        return {name: self._over_time(layer) for name, layer in layers_PDL.items()}

    def _over_time(self, layer_PDL: Tensor) -> Tensor:
        if self._settings.time == "sequence":
            return layer_PDL.transpose(1, 2).contiguous()
        return layer_PDL.mean(dim=2) if self._settings.time == "mean" else layer_PDL.amax(dim=2)


class Net(nn.Module):
    """Scaled waveforms (P, 1, T) -> the wanted layers (P, D, L), in the order they are given."""

    def __init__(self, layers: Sequence[str], activation: str) -> None:
        super().__init__()
        self._wanted = tuple(layers)
        self._activation = activation
        for number, conv in enumerate(_CONVOLUTIONS, start=1):
            self.add_module(conv.name, _module(conv))
            self.add_module(f"batchnorm{number}", nn.BatchNorm1d(conv.width, eps=EPS))
        for conv in _HEADS:
            self.add_module(conv.name, _module(conv))

    def forward(self, waveform_P1T: Tensor) -> dict[str, Tensor]:
        found: dict[str, Tensor] = {}
        deepest = max(map(_depth, self._wanted))
        flowing = waveform_P1T
        for number, conv in enumerate(_CONVOLUTIONS[: deepest + 1], start=1):
            before = self.get_submodule(conv.name)(flowing)
            flowing = self.get_submodule(f"batchnorm{number}")(before).relu()
            found[conv.name] = before if self._activation == "pre" else flowing
            pool = f"pool{number}"
            if conv.pool and (number <= deepest or pool in self._wanted):
                flowing = nn.functional.max_pool1d(flowing, conv.pool)
                found[pool] = flowing
        for conv in _HEADS:
            if conv.name in self._wanted:
                found[conv.name] = self.get_submodule(conv.name)(flowing)
        return {name: found[name] for name in self._wanted}


def _module(conv: _Conv) -> nn.Conv1d:
    return nn.Conv1d(conv.given, conv.width, conv.kernel, STRIDE, conv.padding)


_TENSORFLOW = {
    "weights": "weight",
    "biases": "bias",
    "gamma": "weight",
    "beta": "bias",
    "mean": "running_mean",
    "var": "running_var",
}
_OF_NORM = {"gamma", "beta", "mean", "var"}
_TO_HEAD = {"conv8": "conv8_objs", "conv8_2": "conv8_scns"}


def renamed(tensors: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """The tensors of any circulating file, named and shaped as in `Net`.

    `sound8.npy`: `conv1.weights` (k, 1, in, out), `conv1.gamma`, ...; `sound8.pth`:
    `conv1.0.weight` (out, in, k, 1), `conv1.1.running_mean`, ...; the class of the course solution:
    `conv1.weight`, `batchnorm1.weight`, `conv8_objs.weight`, ...
    """
    return dict(_renamed(name, values) for name, values in tensors.items())


def _renamed(name: str, values: NDArray[Any]) -> tuple[str, NDArray[Any]]:
    layer, _, kind = name.rpartition(".")
    if kind in _TENSORFLOW:
        if kind in _OF_NORM:
            layer = layer.replace("conv", "batchnorm")
        if values.ndim == 4:
            values = values.transpose(3, 2, 0, 1)
        kind = _TENSORFLOW[kind]
    layer, _, part = layer.partition(".")
    if part == "1":
        layer = layer.replace("conv", "batchnorm")
    if values.ndim == 4 and values.shape[3] == 1:
        values = values[..., 0]
    return f"{_TO_HEAD.get(layer, layer)}.{kind}", values
