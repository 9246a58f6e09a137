"""From a network's logits to the scores of clips.

Shapes: R readouts, B clips, F classes that the head knows, C classes of the manifest (as many,
unless fine ones were merged).
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

_LEAST_SCORE = 1e-7
"""Stands for a score of 0 where scores are independent, and its complement for one of 1."""


@dataclass(frozen=True)
class Readout:
    """What is done with logits: mean over readouts, temperature, softmax or sigmoid, merging.

    merge: the class of the manifest (index) of each class of the head, None where they are the
    same; merged classes add up their scores (the largest, where scores are independent).
    """

    num_classes: int
    multi_label: bool = False
    temperature: float = 1.0
    merge: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if not 0 < self.temperature < math.inf:
            raise ValueError(f"temperature {self.temperature} cannot divide; allowed: above 0")

    def scores(self, logits_RBF: Tensor) -> Tensor:
        """Scores (B, C) in [0, 1]."""
        logits_BF = logits_RBF.float().mean(dim=0) / self.temperature
        if self.multi_label:
            scores_BF = torch.sigmoid(logits_BF)
        else:
            scores_BF = torch.softmax(logits_BF, dim=1)
        return self._merged(scores_BF)

    def log_scores(self, logits_RBF: Tensor) -> Tensor:
        """Logarithm of the scores (B, C) of single labels; exact where nothing is merged."""
        logits_BF = logits_RBF.float().mean(dim=0) / self.temperature
        if self.merge is None:
            return torch.log_softmax(logits_BF, dim=1)
        return torch.log(self._merged(torch.softmax(logits_BF, dim=1)).clamp(min=1e-12))

    def loss(self, logits_RBF: Tensor, targets: Tensor) -> float:
        """Mean loss in nats: cross-entropy of class indices (B,), or over all classes of each clip
        of 0 and 1 (B, C). NaN where logits are."""
        if not self.multi_label:
            return float(F.nll_loss(self.log_scores(logits_RBF).double(), targets))
        scores_BC = self.scores(logits_RBF).double().clamp(_LEAST_SCORE, 1 - _LEAST_SCORE)
        right_BC = torch.where(targets > 0.5, scores_BC, 1 - scores_BC)
        return float(-right_BC.log().mean())

    def _merged(self, scores_BF: Tensor) -> Tensor:
        if self.merge is None:
            return scores_BF
        to = torch.tensor(self.merge, device=scores_BF.device).expand(len(scores_BF), -1)
        found = scores_BF.new_zeros((len(scores_BF), self.num_classes))
        how = "amax" if self.multi_label else "sum"
        return found.scatter_reduce(1, to, scores_BF, reduce=how)
