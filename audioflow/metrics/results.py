"""What an evaluation of scores finds, and which of its metrics mean what.

Shapes: C classes.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from audioflow.bootstrap import Estimate

LESS_IS_BETTER = frozenset({"log_loss", "brier", "ece", "adaptive_ece", "hamming_loss"})
"""The metrics that are errors."""

NOT_SHARES = frozenset({"d_prime", "log_loss", "brier"})
"""The metrics that are not in [0, 1]."""


@dataclass(frozen=True)
class ClassResult:
    """One class against the rest. `support` is its number of clips.

    Precision, recall and F1 are 0 where they have nothing to divide by (scikit-learn's
    `zero_division=0`); the others are NaN where the class has no positive or no negative clip.
    `d_prime` is infinite where the ranking is perfect.
    """

    name: str
    support: int
    precision: float
    recall: float
    f1: float
    roc_auc: float
    average_precision: float
    d_prime: float = float("nan")


@dataclass(frozen=True)
class Evaluation:
    """What `evaluate` found; its docstring lists the keys of `summary` and `details`.

    `confusion` is (C, C) int: rows are true, columns predicted classes; None where a clip may have
    several labels (`multi_label`). `unlabelled` counts clips without any label. `undefined` has one
    sentence for each class, and each metric, that something was left out of.
    """

    num_clips: int
    num_groups: int
    classes: tuple[str, ...]
    summary: dict[str, Estimate]
    details: dict[str, Estimate]
    confusion: NDArray[np.int64] | None
    per_class: tuple[ClassResult, ...]
    undefined: tuple[str, ...]
    multi_label: bool = False
    unlabelled: int = 0
