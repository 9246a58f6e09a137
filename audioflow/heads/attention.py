"""`attention`: multi-head self-attention over a clip's patches, their mean, and an affine layer.

With the defaults the head of Splend1d/Tomofun-Challenge-Audio-Classificaiton on VGGish: 128 wide,
4 heads, no position: 67,983 parameters with 15 classes. That one has no mask.

Shapes: B clips, P patches of a clip, D width of a vector, H width of a token, C classes.
"""

import math
from typing import ClassVar, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from audioflow.heads.base import HeadShape, Takes
from audioflow.heads.sequences import AttentionPool, shown
from audioflow.registry import Settings

_LONGEST_WAVE = 10_000.0
_FIRST_SPREAD = 0.02


class AttentionSettings(Settings):
    """num_heads: that share the width of a token. dropout: of attention, in training.

    position: what a patch knows of its place: nothing, a learned vector for each of `max_patches`
    places (longer clips are an error), or sines and cosines (Vaswani et al. 2017), for any length.
    max_patches: the places of a learned position.
    residual: patches are added to what attention makes of them. hidden: width of a token, that of
    the vectors unless given; where it differs, a linear map comes first.
    """

    num_heads: int = Field(4, ge=1)
    dropout: float = Field(0.1, ge=0, lt=1)
    position: Literal["none", "learned", "sinusoidal"] = "none"
    max_patches: int | None = Field(None, ge=1)
    residual: bool = False
    hidden: int | None = Field(None, ge=1)

    @model_validator(mode="after")
    def _agreed(self) -> Self:
        if self.position == "learned" and self.max_patches is None:
            raise ValueError(
                "position (learned) has a vector for every place: give max_patches, the number of "
                "patches of the longest clip, or position sinusoidal, which has no limit"
            )
        if self.position != "learned" and self.max_patches is not None:
            raise ValueError(
                f"max_patches ({self.max_patches}) is for position learned, but position is "
                f"{self.position}: give position learned, or leave max_patches out"
            )
        if self.hidden is not None and self.hidden % self.num_heads:
            raise ValueError(
                f"hidden ({self.hidden}) is not divisible by num_heads ({self.num_heads}), which "
                "share it: change one of them"
            )
        return self


class Attention:
    """Self-attention pooling, then logits."""

    Settings = AttentionSettings
    takes: ClassVar[Takes] = "sequences"
    normalised: ClassVar[bool] = True

    def __init__(self, settings: AttentionSettings) -> None:
        self.settings = settings

    def build(self, shape: HeadShape, num_classes: int) -> nn.Module:
        """(B, P, D), mask (B, P) -> logits (B, C).

        Raises `ValueError` where D is not divisible by `num_heads` and `hidden` is not given.
        """
        told = self.settings
        if told.hidden is None and shape.width % told.num_heads:
            raise ValueError(
                f"the width {shape.width} of the vectors is not divisible by num_heads "
                f"({told.num_heads}), which share it: give another num_heads, or hidden, a "
                "multiple of it to which the vectors are mapped"
            )
        return AttentionModule(shape.width, num_classes, told)


class AttentionModule(nn.Module):
    """The network of `attention`."""

    def __init__(self, width: int, num_classes: int, settings: AttentionSettings) -> None:
        super().__init__()
        hidden = width if settings.hidden is None else settings.hidden
        self.project = nn.Identity() if hidden == width else nn.Linear(width, hidden)
        self.position: nn.Module | None = None
        if settings.position == "learned":
            assert settings.max_patches is not None
            self.position = _Learned(settings.max_patches, hidden)
        elif settings.position == "sinusoidal":
            self.position = _Sinusoidal()
        self.pool = AttentionPool(
            hidden, settings.num_heads, settings.dropout, residual=settings.residual
        )
        self.classifier = nn.Linear(hidden, num_classes)

    def forward(self, vectors_BPD: Tensor, mask_BP: Tensor) -> Tensor:
        """(B, C)."""
        logits: Tensor = self.classifier(self.pool(self._tokens(vectors_BPD, mask_BP), mask_BP))
        return logits

    def weights(self, vectors_BPD: Tensor, mask_BP: Tensor) -> Tensor:
        """(B, P): how much every patch counted (see `AttentionPool.weights`)."""
        return self.pool.weights(self._tokens(vectors_BPD, mask_BP), mask_BP)

    def _tokens(self, vectors_BPD: Tensor, mask_BP: Tensor) -> Tensor:
        tokens_BPH: Tensor = self.project(shown(vectors_BPD, mask_BP))
        return tokens_BPH if self.position is None else self.position(tokens_BPH, mask_BP)


class _Learned(nn.Module):
    """A vector for every place, added to the token there."""

    def __init__(self, max_patches: int, width: int) -> None:
        super().__init__()
        self.vectors = nn.Parameter(torch.empty(max_patches, width))
        nn.init.normal_(self.vectors, std=_FIRST_SPREAD)

    def forward(self, tokens_BPH: Tensor, mask_BP: Tensor) -> Tensor:
        given, most = tokens_BPH.shape[1], len(self.vectors)
        if given <= most:
            return tokens_BPH + self.vectors[:given]
        if mask_BP[:, most:].any():
            longest = int(mask_BP.any(dim=0).nonzero().max()) + 1
            raise ValueError(
                f"a clip of {longest} patches is longer than max_patches ({most}): give at least "
                f"{longest}, or position sinusoidal, and train again"
            )
        # Beyond is padding only, which does not count.
        return tokens_BPH + nn.functional.pad(self.vectors, (0, 0, 0, given - most))


class _Sinusoidal(nn.Module):
    """Sines and cosines of the place, in waves of 2 pi to 10,000 times that, added to the token."""

    def forward(self, tokens_BPH: Tensor, mask_BP: Tensor) -> Tensor:
        count, width = tokens_BPH.shape[1:]
        places_P1 = torch.arange(count, device=tokens_BPH.device)[:, None]
        even = torch.arange(0, width, 2, device=tokens_BPH.device)
        angles = places_P1 * torch.exp(even * (-math.log(_LONGEST_WAVE) / width))
        waves_PH = torch.stack([angles.sin(), angles.cos()], dim=2).flatten(1)[:, :width]
        return tokens_BPH + waves_PH
