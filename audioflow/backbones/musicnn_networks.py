"""The two MusiCNNs: that of the package musicnn, in TensorFlow, and its re-training in PyTorch.

They differ: in TensorFlow normalisation comes after ReLU and once more before the dense layers, the
tempo filters go over every band and the loudest is taken, and kernels are of even length. In
PyTorch bands are averaged before the tempo filters, and kernels are of odd length.

Shapes: P patches, M = 96 mel bands, F frames, C channels.
"""

import re
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from audioflow.backbones.folding import fold
from audioflow.backbones.l3 import KERAS_EPSILON

NUM_BANDS = 96
FRONT_CHANNELS = 204 + 204 + 51 + 51 + 51


class _ConvNorm(nn.Module):
    """A convolution and a normalisation, called as in minzwon's PyTorch files."""

    def __init__(self, conv: nn.Module, norm: nn.Module) -> None:
        super().__init__()
        self.conv, self.bn = conv, norm


def _pooled(features_PCF: Tensor) -> tuple[Tensor, Tensor]:
    """Maximum and mean over time, (P, C) each."""
    return features_PCF.amax(dim=2), features_PCF.mean(dim=2)


def _loudest_band(x_PCMF: Tensor) -> Tensor:
    """(P, C, F); by pooling, which channels last is seven times as fast as `amax` on a CPU."""
    return functional.max_pool2d(x_PCMF, (x_PCMF.shape[2], 1))[:, :, 0]


class TorchMusicnn(nn.Module):
    """Normalised mel pictures in dB (P, 1, M, F) -> all layers; Won et al. 2020.

    middle, dense: channels of the three middle layers and of the penultimate one.
    """

    def __init__(self, middle: int, dense: int) -> None:
        super().__init__()
        self.spec_bn = nn.BatchNorm2d(1)
        timbre = [
            _ConvNorm(nn.Conv2d(1, 204, (height, 7), padding=(0, 3)), nn.BatchNorm2d(204))
            for height in (67, 38)
        ]
        tempo = [
            _ConvNorm(nn.Conv1d(1, 51, length, padding=length // 2), nn.BatchNorm1d(51))
            for length in (129, 65, 33)
        ]
        self.layers = nn.ModuleList([*timbre, *tempo])
        for number, given in enumerate((FRONT_CHANNELS, middle, middle), 1):
            conv = nn.Conv1d(given, middle, 7, padding=3)
            self.add_module(f"layer{number}", _ConvNorm(conv, nn.BatchNorm1d(middle)))
        self.dense1 = nn.Linear(2 * (FRONT_CHANNELS + 3 * middle), dense)
        self.bn = nn.BatchNorm1d(dense)
        self.dense2 = nn.Linear(dense, 50)

    def forward(self, normed_P1MF: Tensor) -> dict[str, Tensor]:
        average_P1F = normed_P1MF.mean(dim=2)
        front: list[Tensor] = []
        layer: Any
        for number, layer in enumerate(self.layers):
            x = layer.bn(layer.conv(normed_P1MF if number < 2 else average_P1F))
            # The loudest band first: a ReLU keeps the order, and has less to do then.
            front.append((_loudest_band(x) if number < 2 else x).relu())
        stages = [torch.cat(front, dim=1)]
        for number in (1, 2, 3):
            layer = self.get_submodule(f"layer{number}")
            x = layer.bn(layer.conv(stages[-1])).relu()
            stages.append(x if number == 1 else x + stages[-1])
        loudest, mean = _pooled(torch.cat(stages, dim=1))
        penultimate = self.bn(self.dense1(torch.cat([loudest, mean], dim=1))).relu()
        return {
            "max_pool": loudest,
            "mean_pool": mean,
            "penultimate": penultimate,
            "scores": self.dense2(penultimate).float().sigmoid(),
        }

    def fold(self) -> None:
        """Work normalisations into the convolutions before them."""
        names = [f"layers.{number}" for number in range(5)]
        names += [f"layer{number}" for number in (1, 2, 3)]
        fold(self, [(f"{name}.conv", f"{name}.bn") for name in names])


class TensorFlowMusicnn(nn.Module):
    """Normalised log-mel pictures (P, 1, M, F) -> all layers; Pons and Serra 2019.

    Layers are called as in the package's checkpoints, numbered from 0 on; kernels are here
    (bands, frames).
    """

    def __init__(self, middle: int, dense: int) -> None:
        super().__init__()
        kernels = ((38, 7), (67, 7), (1, 128), (1, 64), (1, 32))
        widths = (204, 204, 51, 51, 51)
        self.batch_normalization_0 = nn.BatchNorm2d(1, KERAS_EPSILON)
        for number, (width, kernel) in enumerate(zip(widths, kernels, strict=True)):
            self.add_module(f"conv2d_{number}", nn.Conv2d(1, width, kernel))
            self.add_module(
                f"batch_normalization_{number + 1}", nn.BatchNorm2d(width, KERAS_EPSILON)
            )
        for number, given in enumerate((FRONT_CHANNELS, middle, middle), 5):
            self.add_module(f"conv2d_{number}", nn.Conv1d(given, middle, 7, padding=3))
            self.add_module(
                f"batch_normalization_{number + 1}", nn.BatchNorm1d(middle, KERAS_EPSILON)
            )
        pooled = 2 * (FRONT_CHANNELS + 3 * middle)
        self.batch_normalization_9 = nn.BatchNorm1d(pooled, KERAS_EPSILON)
        self.dense_0 = nn.Linear(pooled, dense)
        self.batch_normalization_10 = nn.BatchNorm1d(dense, KERAS_EPSILON)
        self.dense_1 = nn.Linear(dense, 50)

    def forward(self, normed_P1MF: Tensor) -> dict[str, Tensor]:
        front = [self._front(normed_P1MF, number) for number in range(5)]
        stages = [torch.cat(front, dim=1)]
        for number in (5, 6, 7):
            x = self._after(number, self.get_submodule(f"conv2d_{number}")(stages[-1]))
            stages.append(x if number == 5 else x + stages[-1])
        loudest, mean = _pooled(torch.cat(stages, dim=1))
        # Maximum and mean of a channel are neighbours there.
        pooled = torch.stack([loudest, mean], dim=2).flatten(1)
        dense = self.dense_0(self.batch_normalization_9(pooled)).relu()
        penultimate = self.batch_normalization_10(dense)
        return {
            "max_pool": loudest,
            "mean_pool": mean,
            "penultimate": penultimate,
            "scores": self.dense_1(penultimate).float().sigmoid(),
        }

    def _front(self, normed_P1MF: Tensor, number: int) -> Tensor:
        """(P, C, F) of one of the five filters, the loudest band of each.

        An even kernel gets its odd zero behind, as with TensorFlow's `same`.
        """
        conv: Any = self.get_submodule(f"conv2d_{number}")
        lacking = conv.kernel_size[1] - 1
        padded = functional.pad(normed_P1MF, (lacking // 2, lacking - lacking // 2))
        return _loudest_band(self._after(number, conv(padded)))

    def _after(self, number: int, x: Tensor) -> Tensor:
        result: Tensor = self.get_submodule(f"batch_normalization_{number + 1}")(x.relu())
        return result

    def fold(self) -> None:
        """Nothing can be worked in: a ReLU stands between."""


_TF_NAME = re.compile(r"^(conv2d|batch_normalization|dense)(?:_(\d+))?[/.](\w+)$")
_TF_LEAVES = {
    "kernel": "weight",
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}
_TF_TRAINING = re.compile(r"(^beta\d_power|[/.]Adam(_\d+)?)$")


def renamed_from_tensorflow(tensors: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """The tensors of a checkpoint of the package, named and shaped as in `TensorFlowMusicnn`.

    Its kernels are (frames, bands, in, out), where the middle layers have channels for bands.
    """
    found = {}
    for name, values in tensors.items():
        part = _TF_NAME.match(name)
        if part is None:
            if not _TF_TRAINING.search(name):
                found[name] = values
            continue
        kind, number, leaf = part[1], int(part[2] or 0), part[3]
        if leaf == "kernel":
            values = np.asarray(values)  # noqa: PLW2901 - the same tensor, turned
            if kind == "dense":
                values = values.T  # noqa: PLW2901
            else:
                turned = np.transpose(values, (3, 2, 1, 0))
                values = turned[:, 0] if number >= 5 else turned  # noqa: PLW2901
        found[f"{kind}_{number}.{_TF_LEAVES.get(leaf, leaf)}"] = values
    return found


def renamed_from_torch(tensors: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """The tensors without the spectrogram's window and filters."""
    return {name: value for name, value in tensors.items() if not name.startswith("spec.")}
