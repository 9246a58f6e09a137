"""Residual networks on spectrograms, for `resnet18` and `resnet50`.

He, Zhang, Ren and Sun, Deep residual learning for image recognition, CVPR 2016, as in torchvision
(whose names the tensors have), but of one input channel and with a first convolution of stride 1.

Shapes: N patches, V frames, D mel bands, H and W size of a map, C classes, K channels.
"""

from collections.abc import Sequence
from typing import Any

import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn

from audioflow.heads.blocks import BatchNorm2d
from audioflow.heads.pictures import as_map, start_convolutions
from audioflow.networks.filling import fill
from audioflow.registry import Settings
from audioflow.weights import RANDOM, WeightsName, resolved

_FIRST = 64
_LAST = "fc."


class ResNetSettings(Settings):
    """dropout: share of values zeroed in training before the last layer.

    weights: what training begins with: a file of this network, also a checkpoint (`.pth.tar`) of
    SoundtrackClassification, or `random`. The last layer always begins anew: its classes are in
    another order there, or others.
    """

    dropout: float = Field(0.0, ge=0, lt=1)
    weights: WeightsName = RANDOM


class _Block(nn.Module):
    """Convolutions, and their input added; `downsample` fits the input where size or width differ.

    Every ReLU is a module of its own, and none works in place: explanations hook into them.
    """

    expansion = 1

    def __init__(self, given: int, channels: int, stride: int) -> None:
        super().__init__()
        width = channels * self.expansion
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or given != width:
            self.downsample = nn.Sequential(
                nn.Conv2d(given, width, 1, stride, bias=False), BatchNorm2d(width)
            )
        self.relu = nn.ReLU()

    def inner(self, maps_NKHW: Tensor) -> Tensor:
        raise NotImplementedError

    def forward(self, maps_NKHW: Tensor) -> Tensor:
        output: Tensor = self.relu(self.inner(maps_NKHW) + self.downsample(maps_NKHW))
        return output


class BasicBlock(_Block):
    """Two 3 x 3 convolutions."""

    def __init__(self, given: int, channels: int, stride: int) -> None:
        super().__init__(given, channels, stride)
        self.conv1 = nn.Conv2d(given, channels, 3, stride, padding=1, bias=False)
        self.bn1 = BatchNorm2d(channels)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = BatchNorm2d(channels)

    def inner(self, maps_NKHW: Tensor) -> Tensor:
        first = self.relu1(self.bn1(self.conv1(maps_NKHW)))
        second: Tensor = self.bn2(self.conv2(first))
        return second


class Bottleneck(_Block):
    """1 x 1, 3 x 3 (which has the stride) and 1 x 1 convolutions."""

    expansion = 4

    def __init__(self, given: int, channels: int, stride: int) -> None:
        super().__init__(given, channels, stride)
        self.conv1 = nn.Conv2d(given, channels, 1, bias=False)
        self.bn1 = BatchNorm2d(channels)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(channels, channels, 3, stride, padding=1, bias=False)
        self.bn2 = BatchNorm2d(channels)
        self.relu2 = nn.ReLU()
        self.conv3 = nn.Conv2d(channels, channels * self.expansion, 1, bias=False)
        self.bn3 = BatchNorm2d(channels * self.expansion)

    def inner(self, maps_NKHW: Tensor) -> Tensor:
        first = self.relu1(self.bn1(self.conv1(maps_NKHW)))
        second = self.relu2(self.bn2(self.conv2(first)))
        third: Tensor = self.bn3(self.conv3(second))
        return third


class ResNet(nn.Module):
    """(N, V, D) -> logits (N, C); V and D as they come.

    depths: blocks of each of the four stages, whose channels double and whose maps halve.
    """

    def __init__(
        self, block: type[_Block], depths: Sequence[int], num_classes: int, dropout: float
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, _FIRST, 7, padding=3, bias=False)
        self.bn1 = BatchNorm2d(_FIRST)
        self.relu = nn.ReLU()
        self.maxpool = nn.MaxPool2d(3, 2, padding=1)
        given = _FIRST
        for number, depth in enumerate(depths, start=1):
            channels, blocks = _FIRST * 2 ** (number - 1), []
            for place in range(depth):
                stride = 2 if number > 1 and place == 0 else 1
                blocks.append(block(given, channels, stride))
                given = channels * block.expansion
            self.add_module(f"layer{number}", nn.Sequential(*blocks))
        self._stages = [f"layer{number}" for number in range(1, len(depths) + 1)]
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(given, num_classes)
        start_convolutions(self)

    def begin_with(self, settings: ResNetSettings) -> "ResNet":
        """Take the weights of a file, but for the last layer; on torch's meta device none is read.

        Raises `WeightsError` where there is no such file, and where it does not fit.
        """
        if settings.weights != RANDOM and torch.get_default_device().type != "meta":
            path = resolved(settings, ())[0].weights
            own = {f"{_LAST}{name}": each for name, each in self.fc.state_dict().items()}
            kept = {name: tensor.numpy() for name, tensor in own.items()}
            fill(self, path, renamed=lambda tensors: renamed(tensors) | kept)
        return self

    def forward(self, frames_NVD: Tensor) -> Tensor:
        maps_NKHW = self.maxpool(self.relu(self.bn1(self.conv1(as_map(frames_NVD)))))
        for name in self._stages:
            maps_NKHW = self.get_submodule(name)(maps_NKHW)
        logits: Tensor = self.fc(self.dropout(maps_NKHW.mean(dim=(2, 3))))
        return logits


def renamed(tensors: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Tensors named as in `ResNet`; SoundtrackClassification calls them `group1.conv1.weight`,
    `layer1.0.group1.conv1.weight`, `group2.fc.weight`."""
    return {
        name.replace("group1.", "").replace("group2.", ""): values
        for name, values in tensors.items()
    }
