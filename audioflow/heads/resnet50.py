"""`resnet50`: a residual network of 50 layers on a spectrogram of one channel, from scratch.

The network of zhaojw1998/SoundtrackClassification on the sound of Kinetics-600: patches of 96
frames and 64 mel bands in dB (mel x time), a first convolution of stride 1, 24,731,160 parameters
with 600 classes. Its last pooling, `AvgPool2d(4, 6)` on a map of 4 x 6, reads as a kernel of 4 x 4
and so leaves out the last third of time: a fault, which is not reproduced; the mean is over the
whole map here. The network is in `resnet.py`.

Shapes: N patches, V frames, D mel bands, C classes.
"""

from typing import ClassVar

from torch import nn

from audioflow.heads.base import HeadShape, Takes
from audioflow.heads.resnet import Bottleneck, ResNet, ResNetSettings
from audioflow.weights import KnownWeights


class ResNet50:
    """ResNet-50 on pictures of any size."""

    Settings = ResNetSettings
    takes: ClassVar[Takes] = "pictures"
    normalised: ClassVar[bool] = False
    known: ClassVar[tuple[KnownWeights, ...]] = ()
    weights_of: ClassVar[str] = "resnet50"

    def __init__(self, settings: ResNetSettings) -> None:
        self.settings = settings

    def build(self, shape: HeadShape, num_classes: int) -> nn.Module:
        """(N, V, D) -> logits (N, C); raises `WeightsError` for weights that do not fit."""
        network = ResNet(Bottleneck, (3, 4, 6, 3), num_classes, self.settings.dropout)
        return network.begin_with(self.settings)
