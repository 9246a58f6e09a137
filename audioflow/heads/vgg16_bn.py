"""`vgg16_bn`: VGG16 with batch normalisation on a mel spectrogram drawn to a square.

The "VGGish" of stusiojan/AudioConcept on GTZAN (29.1 s or 3.96 s, 128 mel bands in dB), which is
not AudioSet's VGGish: 134,308,812 parameters for 10 classes, from scratch. Simonyan and Zisserman,
Very Deep Convolutional Networks for Large-Scale Image Recognition, ICLR 2015, configuration D.

Shapes: N patches, V frames, D mel bands, C classes.
"""

from typing import ClassVar

from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from audioflow.heads.base import HeadShape, Takes
from audioflow.heads.blocks import BatchNorm2d
from audioflow.heads.pictures import as_map, start_convolutions
from audioflow.registry import Settings

_CONVOLUTIONS = (64, 64, 0, 128, 128, 0, *(256,) * 3, 0, *(512,) * 3, 0, *(512,) * 3, 0)
"""Channels of every 3 x 3 convolution; 0 is a max-pooling by two."""
_HALVINGS = _CONVOLUTIONS.count(0)
_LAST_CHANNELS = 512
_WIDTH = 4096


class Vgg16BnSettings(Settings):
    """size: side of the square that spectrograms are drawn to (bilinear), at least 32.

    dropout: share of values zeroed in training after either wide layer.
    """

    size: int = Field(224, ge=2**_HALVINGS, le=1024)
    dropout: float = Field(0.5, ge=0, lt=1)


class Vgg16Bn:
    """VGG16 with batch normalisation, of one input channel; it takes pictures of any size."""

    Settings = Vgg16BnSettings
    takes: ClassVar[Takes] = "pictures"
    normalised: ClassVar[bool] = False

    def __init__(self, settings: Vgg16BnSettings) -> None:
        self.settings = settings

    def build(self, shape: HeadShape, num_classes: int) -> nn.Module:
        """(N, V, D) -> logits (N, C)."""
        return _Vgg(num_classes, self.settings)


class _Vgg(nn.Module):
    def __init__(self, num_classes: int, settings: Vgg16BnSettings) -> None:
        super().__init__()
        self._size = settings.size
        self.norm = BatchNorm2d(1)
        self.features = nn.Sequential(*_features())
        side = settings.size // 2**_HALVINGS
        self.classifier = nn.Sequential(
            nn.Linear(_LAST_CHANNELS * side * side, _WIDTH),
            nn.ReLU(),
            nn.Dropout(settings.dropout),
            nn.Linear(_WIDTH, _WIDTH),
            nn.ReLU(),
            nn.Dropout(settings.dropout),
            nn.Linear(_WIDTH, num_classes),
        )
        start_convolutions(self)

    def forward(self, frames_NVD: Tensor) -> Tensor:
        maps_N1DV = self.norm(as_map(frames_NVD))
        square_N1HW = F.interpolate(maps_N1DV, (self._size, self._size), mode="bilinear")
        logits: Tensor = self.classifier(self.features(square_N1HW).flatten(1))
        return logits


def _features() -> list[nn.Module]:
    layers: list[nn.Module] = []
    given = 1
    for channels in _CONVOLUTIONS:
        if channels:
            layers += [nn.Conv2d(given, channels, 3, padding=1), BatchNorm2d(channels), nn.ReLU()]
            given = channels
        else:
            layers.append(nn.MaxPool2d(2))
    return layers
