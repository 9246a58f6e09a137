"""The clips of one system that count on a split: those with scores and a label it knows.

N = such clips, C = classes.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from audioflow.report.data import SystemScores


@dataclass(frozen=True)
class EvalClips:
    """Scores, targets and groups of the clips that count; `row_N` is their row in the score table.

    `left_out` counts clips of the split without exactly one label that is among the classes.
    """

    scores_NC: NDArray[np.float32]
    target_N: NDArray[np.int64]
    group_N: NDArray[np.object_]
    row_N: NDArray[np.int64]
    left_out: int

    def __len__(self) -> int:
        return len(self.target_N)

    def at(self, keep: NDArray[np.int64]) -> "EvalClips":
        """The clips at these places."""
        return EvalClips(
            self.scores_NC[keep],
            self.target_N[keep],
            self.group_N[keep],
            self.row_N[keep],
            self.left_out,
        )


def eval_clips(system: SystemScores, split: str) -> EvalClips:
    """The clips of a system that count on `split`."""
    code = {name: index for index, name in enumerate(system.classes)}
    targets = np.fromiter((code.get(label, -1) for label in system.labels), np.int64)
    in_split = np.fromiter((name == split for name in system.splits), bool)
    rows = np.flatnonzero(in_split & (targets >= 0))
    # A clip without a group stands for itself.
    groups = np.array([system.groups[row] or system.clip_ids[row] for row in rows], object)
    whole = len(rows) == len(targets)
    return EvalClips(
        scores_NC=system.scores if whole else system.scores[rows],
        target_N=targets[rows],
        group_N=groups,
        row_N=rows,
        left_out=int(in_split.sum()) - len(rows),
    )


def common_clips(
    a: SystemScores, a_clips: EvalClips, b: SystemScores, b_clips: EvalClips
) -> tuple[EvalClips, EvalClips] | None:
    """The clips that both systems have, in the order of the first; None where there is none."""
    place = {b.clip_ids[row]: at for at, row in enumerate(b_clips.row_N.tolist())}
    in_b = np.array([place.get(a.clip_ids[row], -1) for row in a_clips.row_N.tolist()], np.int64)
    in_a = np.flatnonzero(in_b >= 0)
    if not len(in_a):
        return None
    return a_clips.at(in_a), b_clips.at(in_b[in_a])
