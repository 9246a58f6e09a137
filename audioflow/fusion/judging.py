"""How good scores are, in the few numbers that a fit is judged by.

Shapes: N clips, C classes.
"""

import numpy as np

from audioflow.fusion.base import Flags, Scores, Targets
from audioflow.fusion.links import Link
from audioflow.ranking import ranking


def judged(scores_NC: Scores, targets: Targets) -> dict[str, float]:
    """`accuracy` (with several labels: `map`, the mean average precision over the classes that some
    clip has and some lacks; left out where there is none) and `log_loss`."""
    link = Link("probabilities", targets.ndim == 2)
    loss = {"log_loss": float(link.loss(link.values(scores_NC), targets).mean())}
    if targets.ndim == 1:
        return {"accuracy": float((scores_NC.argmax(axis=1) == targets).mean())} | loss
    columns = zip(targets.astype(bool).T, scores_NC.T, strict=True)
    found = [_average_precision(*column) for column in columns]
    defined = [value for value in found if not np.isnan(value)]
    return ({"map": float(np.mean(defined))} if defined else {}) | loss


def _average_precision(truth_N: Flags, scores_N: Scores) -> float:
    once_1N = np.ones((1, len(scores_N)), np.uint32)
    return float(ranking(truth_N, np.ascontiguousarray(scores_N), once_1N)[1][0])
