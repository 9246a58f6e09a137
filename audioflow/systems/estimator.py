"""A scikit-learn classifier in the place of a head in a network, for scoring alone.

Shapes: N vectors, D their width, C classes.
"""

from typing import Any

import torch
from torch import Tensor, nn

from audioflow.heads import estimators

_LEAST = 1e-7


class EstimatorModule(nn.Module):
    """Vectors (N, D) -> logits (N, C), of which softmax (or sigmoid) gives the scores."""

    def __init__(self, estimator: Any, num_classes: int, multi_label: bool) -> None:
        super().__init__()
        self._estimator = estimator
        self._num_classes = num_classes
        self._multi_label = multi_label

    def forward(self, vectors_ND: Tensor) -> Tensor:
        if not len(vectors_ND):
            return torch.zeros((0, self._num_classes))
        found = estimators.scores(self._estimator, vectors_ND.cpu().numpy(), self._num_classes)
        scores_NC = torch.from_numpy(found)
        if self._multi_label:
            return torch.logit(scores_NC.clamp(_LEAST, 1 - _LEAST))
        return torch.log(scores_NC.clamp(min=_LEAST))
