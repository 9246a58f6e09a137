"""Losses of single examples, and what is done to examples before: mixing, masking.

Shapes: R readouts, B examples, C classes, N pictures, V vectors (time) and D bands of a picture.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from audioflow.recipe_train import SpecAugmentSection, TrainSection


@dataclass(frozen=True)
class Loss:
    """The loss of every example, in nats, the mean over readouts; classes are weighed outside,
    but for several labels, where `weights` (C,) are those of positives."""

    section: TrainSection
    weights: Tensor

    def __call__(self, logits_RBC: Tensor, targets: Tensor) -> Tensor:
        """(B,) of targets (B,) int64, or (B, C) float32 where a clip may have several labels."""
        if targets.dim() == 2:
            return torch.stack([self._several(logits, targets) for logits in logits_RBC]).mean(0)
        return torch.stack([self._single(logits, targets) for logits in logits_RBC]).mean(0)

    def _single(self, logits_BC: Tensor, targets_B: Tensor) -> Tensor:
        smoothing = self.section.label_smoothing
        plain_B = F.cross_entropy(logits_BC, targets_B, reduction="none", label_smoothing=smoothing)
        if self.section.loss != "focal":
            return plain_B
        own_B = F.softmax(logits_BC, dim=1).gather(1, targets_B[:, None])[:, 0]
        return _unsure(own_B) ** self.section.focal_gamma * plain_B

    def _several(self, logits_BC: Tensor, targets_BC: Tensor) -> Tensor:
        smoothing = self.section.label_smoothing
        smooth_BC = targets_BC * (1 - smoothing) + 0.5 * smoothing
        plain_BC = F.binary_cross_entropy_with_logits(
            logits_BC, smooth_BC, reduction="none", pos_weight=self.weights
        )
        if self.section.loss == "focal":
            score_BC = torch.sigmoid(logits_BC)
            right_BC = targets_BC * score_BC + (1 - targets_BC) * (1 - score_BC)
            plain_BC = _unsure(right_BC) ** self.section.focal_gamma * plain_BC
        return plain_BC.mean(dim=1)


def _unsure(right: Tensor) -> Tensor:
    """1 - right, but never 0, of which a root has no gradient."""
    return (1 - right).clamp(min=1e-7)


@dataclass(frozen=True)
class Mixed:
    """Examples mixed in pairs: rows, and how much each is of itself and not of its partner."""

    rows: tuple[Tensor, ...]
    share: float
    partners: Tensor

    def blend(self, own: Tensor, other: Tensor) -> Tensor:
        """What becomes of two numbers per example, for its own target and for its partner's."""
        return self.share * own + (1 - self.share) * other


def mixed(rows: tuple[Tensor, ...], alpha: float) -> Mixed:
    """Rows (B, ...) mixed with those of another example, by torch's seed.

    Zhang et al., mixup: Beyond Empirical Risk Minimization, ICLR 2018.
    """
    share = float(torch.distributions.Beta(alpha, alpha).sample())
    partners = torch.randperm(len(rows[0]), device="cpu").to(rows[0].device)
    return Mixed(
        tuple(share * layer + (1 - share) * layer[partners] for layer in rows), share, partners
    )


def masked(pictures_NVD: Tensor, section: SpecAugmentSection) -> Tensor:
    """Pictures with stripes of time and of bands set to the picture's mean, by torch's seed."""
    count, num_times, num_bands = pictures_NVD.shape
    hidden = torch.zeros(pictures_NVD.shape, dtype=torch.bool)
    for _ in range(section.time_masks):
        hidden |= _stripe(count, num_times, section.time_share)[:, :, None]
    for _ in range(section.mel_masks):
        hidden |= _stripe(count, num_bands, section.mel_share)[:, None, :]
    means = pictures_NVD.mean(dim=(1, 2), keepdim=True)
    return torch.where(hidden.to(pictures_NVD.device), means, pictures_NVD)


def _stripe(count: int, length: int, share: float) -> Tensor:
    """One stripe per picture (N, length), from nothing to `share` of the length."""
    most = math.floor(share * length + 1e-9)
    width = torch.floor(torch.rand(count) * (most + 1)).clamp(max=most)
    start = torch.floor(torch.rand(count) * (length - width + 1))
    place = torch.arange(length)
    return (place >= start[:, None]) & (place < (start + width)[:, None])
