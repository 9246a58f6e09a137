"""The clips of one system that count on a split: those with scores and a label it knows.

N = such clips, C = classes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from audioflow.ids import IdIndex, id_column
from audioflow.report.data import SystemScores
from audioflow.texts import Codes, taken


@dataclass(frozen=True)
class EvalClips:
    """Scores, targets and groups of the clips that count; `row_N` is their row in the score table.

    With one label per clip, `left_out` counts clips of the split without exactly one label that is
    among the classes. Where a clip may have several, `truth_NC` says which, `target_N` is -1, and
    every clip counts; `unknown_labels` counts those that have a label which is no class.
    """

    scores_NC: NDArray[np.float32]
    target_N: NDArray[np.int64]
    group_N: NDArray[np.object_]
    row_N: NDArray[np.int64]
    left_out: int
    truth_NC: NDArray[np.bool_] | None = None
    unknown_labels: int = 0

    def __len__(self) -> int:
        return len(self.target_N)

    @property
    def targets(self) -> NDArray[np.int64] | NDArray[np.bool_]:
        """What metrics compare with: class indices (N,), or which labels a clip has (N, C)."""
        return self.target_N if self.truth_NC is None else self.truth_NC

    def at(self, keep: NDArray[np.int64]) -> "EvalClips":
        """The clips at these places."""
        return EvalClips(
            self.scores_NC[keep],
            self.target_N[keep],
            self.group_N[keep],
            self.row_N[keep],
            self.left_out,
            None if self.truth_NC is None else self.truth_NC[keep],
            self.unknown_labels,
        )


def eval_clips(system: SystemScores, split: str) -> EvalClips:
    """The clips of a system that count on `split`."""
    code = {name: index for index, name in enumerate(system.classes)}
    in_split = Codes.of(system.splits).each(lambda name: name == split, np.bool_)
    if system.label_sets is None:
        targets = Codes.of(system.labels).each(lambda label: code.get(label, -1), np.int64)
        rows = np.flatnonzero(in_split & (targets >= 0))
        truth_NC, unknown = None, 0
    else:
        targets = np.full(len(system.splits), -1)
        rows = np.flatnonzero(in_split)
        truth_NC, unknown = _truth([system.label_sets[row] for row in rows], code)
    # A clip without a group stands for itself.
    groups = np.array(taken(system.groups, rows), object)
    alone = np.flatnonzero(groups == "")
    groups[alone] = taken(system.clip_ids, rows[alone])
    whole = len(rows) == len(targets)
    return EvalClips(
        scores_NC=system.scores if whole else system.scores[rows],
        target_N=targets[rows],
        group_N=groups,
        row_N=rows,
        left_out=int(in_split.sum()) - len(rows),
        truth_NC=truth_NC,
        unknown_labels=unknown,
    )


def _truth(
    label_sets: Sequence[Sequence[str]], code: Mapping[str, int]
) -> tuple[NDArray[np.bool_], int]:
    """Which labels each clip has (N, C), and how many clips have others."""
    truth_NC = np.zeros((len(label_sets), len(code)), bool)
    unknown = 0
    for row, labels in enumerate(label_sets):
        known = [code[label] for label in labels if label in code]
        truth_NC[row, known] = True
        unknown += len(known) < len(labels)
    return truth_NC, unknown


def common_clips(
    a: SystemScores, a_clips: EvalClips, b: SystemScores, b_clips: EvalClips
) -> tuple[EvalClips, EvalClips] | None:
    """The clips that both systems have, in the order of the first; None where there is none."""
    there = IdIndex(id_column(taken(b.clip_ids, b_clips.row_N)))
    in_b = there.find(id_column(taken(a.clip_ids, a_clips.row_N)))
    in_a = np.flatnonzero(in_b >= 0)
    if not len(in_a):
        return None
    return a_clips.at(in_a), b_clips.at(in_b[in_a])
