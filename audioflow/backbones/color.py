"""`color`: colours and edges of sampled frames. No weights; useful in itself.

Per frame: a joint hue-saturation histogram (12 x 3) of bright enough pixels, a histogram of
brightness (8), the mean and spread of R, G and B (6), and in each of 2 x 2 cells a histogram of
gradient directions weighted by strength (8, after Dalal and Triggs 2005; the first is centred on
horizontal gradients, that is on vertical edges): 82 numbers, histograms as square roots of shares
(Hellinger), so that a linear head compares distributions.
"""

from collections.abc import Mapping
from math import pi
from typing import Self

import torch
from pydantic import Field, model_validator
from torch import Tensor

from audioflow.media.parts import FramePatching, FrameSampling
from audioflow.registry import Settings

NUM_HUES = 12
NUM_SATURATIONS = 3
NUM_VALUES = 8
NUM_DIRECTIONS = 8
CELLS = 2
PIXELS_AT_ONCE = 2**21
DARK = 0.1
"""Brightness (0 to 1) below which a pixel has no meaningful hue."""


NUM_FRAMES = 8


class ColorSettings(Settings):
    """num_frames: frames per clip, at equal distances (8 where fps is not given either).

    fps: instead of that, frames per second. short_side: pixels they are resized to.
    """

    num_frames: int | None = Field(None, ge=1, le=512)
    fps: float | None = Field(None, gt=0, le=60)
    short_side: int = Field(96, ge=16, le=1080)

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if self.num_frames is not None and self.fps is not None:
            raise ValueError(
                f"num_frames ({self.num_frames}) and fps ({self.fps:g}) exclude each other: "
                "give one of them"
            )
        return self


class Color:
    """Colour and gradient histograms of frames."""

    Settings = ColorSettings
    revision = 1
    known = ()

    def __init__(self, settings: ColorSettings) -> None:
        num_frames = None if settings.fps else settings.num_frames or NUM_FRAMES
        self._sampling = FrameSampling(num_frames, settings.short_side, settings.fps)

    @property
    def input(self) -> FramePatching:
        return FramePatching(self._sampling)

    @property
    def layers(self) -> Mapping[str, int]:
        width = NUM_HUES * NUM_SATURATIONS + NUM_VALUES + 6 + CELLS * CELLS * NUM_DIRECTIONS
        return {"embedding": width}

    def to(self, device: torch.device) -> None:
        """Nothing to load."""

    def embed(self, batch: Tensor) -> dict[str, Tensor]:
        """uint8 RGB (F, 1, H, W, 3) -> {"embedding": float32 (F, 82)}."""
        at_once = max(1, PIXELS_AT_ONCE // (batch.shape[2] * batch.shape[3]))
        parts = torch.split(batch[:, 0], at_once)
        return {"embedding": torch.cat([_describe(part) for part in parts])}


def _describe(frames_FHWC: Tensor) -> Tensor:
    rgb = frames_FHWC.to(torch.float32) / 255.0
    flat = rgb.flatten(1, 2)
    statistics = torch.cat([flat.mean(dim=1), flat.std(dim=1, correction=0)], dim=1)
    return torch.cat([_colors(rgb), statistics, _gradients(rgb.mean(dim=3))], dim=1)


def _colors(rgb_FHWC: Tensor) -> Tensor:
    value, _ = rgb_FHWC.max(dim=3)
    chroma = value - rgb_FHWC.min(dim=3).values
    saturation = chroma / value.clamp(min=1e-6)
    red, green, blue = rgb_FHWC.unbind(dim=3)
    safe = chroma.clamp(min=1e-6)
    hue = torch.where(
        value == red,
        torch.remainder((green - blue) / safe, 6),
        torch.where(value == green, (blue - red) / safe + 2, (red - green) / safe + 4),
    )
    hue_bin = (hue / 6 * NUM_HUES).long().clamp(0, NUM_HUES - 1)
    saturation_bin = (saturation * NUM_SATURATIONS).long().clamp(0, NUM_SATURATIONS - 1)
    joint = _histogram(
        hue_bin * NUM_SATURATIONS + saturation_bin,
        (value > DARK).float(),
        NUM_HUES * NUM_SATURATIONS,
    )
    brightness_bin = (value * NUM_VALUES).long().clamp(0, NUM_VALUES - 1)
    return torch.cat([joint, _histogram(brightness_bin, torch.ones_like(value), NUM_VALUES)], dim=1)


def _gradients(gray_FHW: Tensor) -> Tensor:
    across = gray_FHW[:, 1:-1, 2:] - gray_FHW[:, 1:-1, :-2]
    down = gray_FHW[:, 2:, 1:-1] - gray_FHW[:, :-2, 1:-1]
    strength = torch.hypot(across, down)
    direction = torch.atan2(down, across) / pi  # opposite directions are one: modulo 1
    bins = torch.remainder((direction * NUM_DIRECTIONS).round().long(), NUM_DIRECTIONS)
    cells = []
    for rows, weights in zip(
        bins.tensor_split(CELLS, 1), strength.tensor_split(CELLS, 1), strict=True
    ):
        for cell, weight in zip(
            rows.tensor_split(CELLS, 2), weights.tensor_split(CELLS, 2), strict=True
        ):
            cells.append(_histogram(cell, weight, NUM_DIRECTIONS))
    return torch.cat(cells, dim=1)


def _histogram(bins_FHW: Tensor, weights_FHW: Tensor, count: int) -> Tensor:
    """(F, count) square roots of the shares of weight per bin; zeros where there is no weight."""
    total = torch.zeros(bins_FHW.shape[0], count, device=bins_FHW.device)
    total.scatter_add_(1, bins_FHW.flatten(1), weights_FHW.flatten(1))
    return (total / total.sum(dim=1, keepdim=True).clamp(min=1e-6)).sqrt()
