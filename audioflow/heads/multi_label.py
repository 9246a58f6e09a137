"""Several labels at once, from a scikit-learn classifier of one: each class against the rest.

Shapes: N vectors, D their width, C classes.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit
from sklearn.base import BaseEstimator, clone
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier

Floats = NDArray[np.float32]


class MultiLabel(BaseEstimator):
    """Targets (N, C) of 0 and 1: one classifier per class against the rest.

    A neural network and nearest neighbours learn all classes in one. A class that every training
    vector has, or none, is not learned: its score is 1 or 0 for all. (`OneVsRestClassifier` passes
    no sample weights and gives a class without examples the decision 0, that is a score of 0.5.)
    """

    def __init__(self, estimator: Any) -> None:
        self.estimator = estimator

    def fit(self, vectors_ND: Floats, targets_NC: Floats, **weights: Any) -> "MultiLabel":
        share_C = targets_NC.mean(axis=0)
        self.constant_ = np.floor(share_C).astype(np.float32)
        self.learned_ = np.flatnonzero((share_C > 0) & (share_C < 1))
        targets = targets_NC[:, self.learned_].astype(np.int64)
        if isinstance(self.estimator, MLPClassifier | KNeighborsClassifier):
            columns = [targets if len(self.learned_) > 1 else targets.ravel()]
        else:
            columns = list(targets.T)
        self.estimators_ = [
            clone(self.estimator).fit(vectors_ND, column, **weights) for column in columns
        ]
        return self

    def scores(self, vectors_ND: Floats) -> Floats:
        """Scores (N, C), each class by itself."""
        scores_NC = np.tile(self.constant_, (len(vectors_ND), 1))
        first = self.estimators_[0]
        if hasattr(first, "decision_function"):
            decisions = [each.decision_function(vectors_ND) for each in self.estimators_]
            scores_NC[:, self.learned_] = expit(np.stack(decisions, axis=1))
            return scores_NC
        found = first.predict_proba(vectors_ND)
        if isinstance(found, list):
            found = np.stack([both[:, 1] for both in found], axis=1)
        scores_NC[:, self.learned_] = found[:, 1:] if len(self.learned_) == 1 else found
        return scores_NC
