"""`resnet18`: a residual network of 18 layers on a spectrogram of one channel, from scratch.

The smaller sister of `resnet50`, with the same first layers; the network is in `resnet.py`.
11 million parameters.

Shapes: N patches, V frames, D mel bands, C classes.
"""

from typing import ClassVar

from torch import nn

from audioflow.heads.base import HeadShape, Takes
from audioflow.heads.resnet import BasicBlock, ResNet, ResNetSettings
from audioflow.weights import KnownWeights


class ResNet18:
    """ResNet-18 on pictures of any size."""

    Settings = ResNetSettings
    takes: ClassVar[Takes] = "pictures"
    normalised: ClassVar[bool] = False
    known: ClassVar[tuple[KnownWeights, ...]] = ()
    weights_of: ClassVar[str] = "resnet18"

    def __init__(self, settings: ResNetSettings) -> None:
        self.settings = settings

    def build(self, shape: HeadShape, num_classes: int) -> nn.Module:
        """(N, V, D) -> logits (N, C); raises `WeightsError` for weights that do not fit."""
        network = ResNet(BasicBlock, (2, 2, 2, 2), num_classes, self.settings.dropout)
        return network.begin_with(self.settings)
