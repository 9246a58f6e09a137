"""`short_chunk_cnn`: a small CNN on a clip-long mel spectrogram, 40,124 parameters for 10 classes.

The "CNN" of stusiojan/AudioConcept on GTZAN (29.1 s: 1254 frames of 128 mel bands in dB), which has
it from mamodrzejewski's course and the tutorial of Won, Spijkervet and Choi, Music Classification:
Beyond Supervised Learning, Towards Real-world Applications, ISMIR 2021.

Shapes: N patches, V frames, D mel bands, H and W size of a map, C classes.
"""

import math
from typing import ClassVar

from pydantic import Field
from torch import Tensor, nn

from audioflow.heads.base import HeadShape, Takes
from audioflow.heads.blocks import BatchNorm1d, BatchNorm2d
from audioflow.heads.pictures import as_map
from audioflow.registry import Settings

_BLOCKS = ((16, (2, 3)), (16, (3, 4)), (32, (2, 5)), (32, (3, 3)), (64, (3, 4)))
"""Channels of every 3 x 3 convolution, and the max-pooling after it, mel x time."""
_WIDTH = 64
LEAST_BANDS = math.prod(bands for _, (bands, _) in _BLOCKS)
LEAST_FRAMES = math.prod(frames for _, (_, frames) in _BLOCKS)


class ShortChunkCnnSettings(Settings):
    """dropout: share of values zeroed in training after every block of convolutions.

    last_dropout: the same before the last layer.
    """

    dropout: float = Field(0.1, ge=0, lt=1)
    last_dropout: float = Field(0.5, ge=0, lt=1)


class ShortChunkCnn:
    """Five blocks of convolutions, two fully connected layers; from scratch."""

    Settings = ShortChunkCnnSettings
    takes: ClassVar[Takes] = "pictures"
    normalised: ClassVar[bool] = False

    def __init__(self, settings: ShortChunkCnnSettings) -> None:
        self.settings = settings

    def build(self, shape: HeadShape, num_classes: int) -> nn.Module:
        """(N, V, D) -> logits (N, C).

        Raises `ValueError` where nothing would be left of V or D after the last pooling.
        """
        frames, bands = shape.vectors_per_patch, shape.width
        if frames < LEAST_FRAMES or bands < LEAST_BANDS:
            raise ValueError(
                f"short_chunk_cnn needs patches of at least {LEAST_FRAMES} frames (V) and "
                f"{LEAST_BANDS} mel bands (D), for its poolings divide by these; got V = {frames}, "
                f"D = {bands}: give the backbone a longer patch_s or more bands, or take the head "
                "vgg16_bn or resnet18, which fit any"
            )
        return _ShortChunk(num_classes, self.settings)


class _ShortChunk(nn.Module):
    def __init__(self, num_classes: int, settings: ShortChunkCnnSettings) -> None:
        super().__init__()
        layers: list[nn.Module] = [BatchNorm2d(1)]
        given = 1
        for channels, pool in _BLOCKS:
            layers += [nn.Conv2d(given, channels, 3, padding=1), BatchNorm2d(channels), nn.ReLU()]
            layers += [nn.MaxPool2d(pool), nn.Dropout(settings.dropout)]
            given = channels
        self.features = nn.Sequential(*layers)
        # The published size leaves one place; of more the largest value counts, as in the tutorial.
        self.rest = nn.AdaptiveMaxPool2d(1)
        self.classifier = nn.Sequential(
            nn.Linear(given, _WIDTH),
            BatchNorm1d(_WIDTH),
            nn.ReLU(),
            nn.Dropout(settings.last_dropout),
            nn.Linear(_WIDTH, num_classes),
        )

    def forward(self, frames_NVD: Tensor) -> Tensor:
        maps_NCHW = self.rest(self.features(as_map(frames_NVD)))
        logits: Tensor = self.classifier(maps_NCHW.flatten(1))
        return logits
