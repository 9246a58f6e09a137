"""`vote`: every patch has a vote, for its largest logit's class; the share of votes is the score.

Shapes: B clips, P patches of a clip, C classes.

Nothing can be learned through a vote: heads are trained on patches by themselves (`train.unit`).
"""

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from audioflow.pooling.base import On
from audioflow.registry import Settings

_LEAST_SHARE = 1e-6
"""Stands for no vote at all, where a logarithm is needed."""


class VoteSettings(Settings):
    """Nothing to set."""


class Vote:
    """Majority vote of patches; of classes with as many votes the first one wins."""

    Settings = VoteSettings
    on: ClassVar[tuple[On, ...]] = ("logits",)
    learned: ClassVar[bool] = False

    def __init__(self, settings: VoteSettings) -> None:
        pass

    def width(self, layer_width: int) -> int:
        return layer_width

    def module(self, width: int, num_columns: int) -> nn.Module:
        return VoteModule()


class VoteModule(nn.Module):
    """Logits of patches -> logarithm of the share of votes, of which softmax is the share."""

    def forward(self, values_BPK: Tensor, vectors_BPD: Tensor, mask_BP: Tensor) -> Tensor:
        votes_BPC = F.one_hot(values_BPK.argmax(dim=2), values_BPK.shape[2])
        votes_BC = (votes_BPC * mask_BP[..., None]).sum(dim=1)
        share_BC = votes_BC / mask_BP.sum(dim=1, keepdim=True)
        return torch.log(share_BC.clamp(min=_LEAST_SHARE))
