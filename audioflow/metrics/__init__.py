"""Metrics of scores against labels, one per clip or several, checked against scikit-learn.

Shapes: N clips, C classes.

`evaluate` gives everything about one system, `by_group` its metrics site by site, `all_curves`
what is drawn; `mcnemar`, `paired_gain` and `paired_differences` compare two systems on the same
clips. How far scores are from probabilities is in `calibration_error`.
"""

from audioflow.bootstrap import Estimate, planned_draws
from audioflow.metrics.curves import ClassCurves, Curves, all_curves
from audioflow.metrics.evaluation import d_prime, evaluate
from audioflow.metrics.groups import GroupResult, GroupTable, by_group
from audioflow.metrics.paired import McNemar, mcnemar, paired_differences, paired_gain
from audioflow.metrics.results import LESS_IS_BETTER, NOT_SHARES, ClassResult, Evaluation

__all__ = [
    "LESS_IS_BETTER",
    "NOT_SHARES",
    "ClassCurves",
    "ClassResult",
    "Curves",
    "Estimate",
    "Evaluation",
    "GroupResult",
    "GroupTable",
    "McNemar",
    "all_curves",
    "by_group",
    "d_prime",
    "evaluate",
    "mcnemar",
    "paired_differences",
    "paired_gain",
    "planned_draws",
]
