"""Probable label errors, from scores of clips that the systems had not learnt: confident learning
(Northcutt, Jiang and Chuang 2021).

Shapes: N clips, C classes, K doubts.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Places = NDArray[np.intp]
Scores = NDArray[np.floating]
_BLOCK = 65_536

NONE = -1
"""In place of a class: there is no such label, or nothing better is known."""


@dataclass(frozen=True)
class Doubts:
    """Doubts (K,) of one system in labels.

    row: which clip. given: the class that its label says, `NONE` where a label seems to be missing.
    better: the class that the scores speak for, `NONE` where a label seems to be wrong and no class
    takes its place. margin: by how much they do, in (0, 1]. share: of all labels that were looked
    at, about how many are wrong; NaN where that cannot be told.
    """

    row: Places
    given: Places
    better: Places
    margin: Floats
    share: float

    def __len__(self) -> int:
        return len(self.row)


def doubts(scores_NC: Scores, target_N: Places) -> Doubts:
    """The doubts in clips of one label each (`target_N`, a class index).

    A clip is confidently of a class where its score reaches the mean score of the clips that have
    that label; of several the highest counts. It is in doubt where that is not its label's. From
    the counts follows how many labels are wrong; where that is more, the clips whose highest score
    speaks most against their label are in doubt as well.
    """
    own = scores_NC[np.arange(len(target_N)), target_N].astype(np.float64)
    usual = _usual(own, target_N, scores_NC.shape[1])
    sure, sure_score = _highest(scores_NC, usual)
    joint = np.zeros((scores_NC.shape[1],) * 2)
    np.add.at(joint, (target_N[sure != NONE], sure[sure != NONE]), 1.0)
    share = _off_diagonal(joint, np.bincount(target_N, minlength=len(joint)))
    certain = (sure != NONE) & (sure != target_N) & (sure_score > own)
    best, score = _highest(scores_NC, np.where(np.isfinite(usual), 0.0, np.inf))
    best, margin = np.where(certain, sure, best), np.where(certain, sure_score, score) - own
    wrong = 0 if np.isnan(share) else round(share * len(target_N))
    found = np.lexsort((-margin, ~certain))[: max(int(certain.sum()), wrong)]
    found = found[np.argsort(-margin[found], kind="stable")]
    found = found[margin[found] > 0]
    return Doubts(found, target_N[found], best[found], margin[found], share)


def _highest(scores_NC: Scores, least_C: Floats) -> tuple[Places, Floats]:
    """The class (N,) with the highest of the scores that reach their least one, `NONE` for none,
    and that score."""
    best = np.full(len(scores_NC), NONE, np.intp)
    score = np.zeros(len(scores_NC))
    for start in range(0, len(scores_NC), _BLOCK):
        rows = slice(start, start + _BLOCK)
        reached = np.where(scores_NC[rows] >= least_C, scores_NC[rows], -np.inf)
        score[rows] = reached.max(axis=1)
        best[rows] = np.where(np.isfinite(score[rows]), reached.argmax(axis=1), NONE)
    return best, score


def doubts_of_several(scores_NC: Scores, truth_NC: NDArray[np.bool_]) -> Doubts:
    """The doubts in clips of several labels or none (`truth_NC`): every class is a question of its
    own, whether a clip has it."""
    parts = [
        _of_class(scores_NC[:, one], truth_NC[:, one], one) for one in range(truth_NC.shape[1])
    ]
    columns = zip(*((p.row, p.given, p.better, p.margin) for p in parts), strict=True)
    row, given, better, margin = map(np.concatenate, columns)
    order = np.argsort(-margin, kind="stable")
    known = [part.share for part in parts if not np.isnan(part.share)]
    share = float(np.mean(known)) if known else float("nan")
    return Doubts(row[order], given[order], better[order], margin[order], share)


def _of_class(score_N: Scores, has_N: NDArray[np.bool_], number: int) -> Doubts:
    if has_N.all() or not has_N.any():
        nothing = np.zeros(0, np.intp)
        return Doubts(nothing, nothing, nothing, np.zeros(0), float("nan"))
    both = np.stack([1 - score_N, score_N], axis=1)
    found = doubts(both, has_N.astype(np.intp))
    given = np.where(found.given == 1, number, NONE)
    better = np.where(found.better == 1, number, NONE)
    return Doubts(found.row, given, better, found.margin, found.share)


def _usual(own_N: Floats, target_N: Places, num_classes: int) -> Floats:
    """The mean score (C,) of the clips that have the label; infinite for a class without clips."""
    counts = np.bincount(target_N, minlength=num_classes)
    total = np.bincount(target_N, own_N, minlength=num_classes)
    return np.divide(total, counts, out=np.full(num_classes, np.inf), where=counts > 0)


def _off_diagonal(joint: Floats, clips_C: NDArray[np.intp]) -> float:
    """The share of wrong labels: rows of counts, brought to the number of clips of each label."""
    sums = joint.sum(axis=1)
    if not sums.any():
        return float("nan")
    right = np.divide(np.diag(joint), sums, out=np.ones(len(sums)), where=sums > 0)
    return float(((1 - right) * clips_C).sum() / clips_C.sum())
