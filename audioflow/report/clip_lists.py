"""The clips worth a look and a listen: what a system is sure of, rightly, and what it is not.

N = clips of one split, C = classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from audioflow.report.clips import EvalClips
from audioflow.report.data import SystemScores

MOST = 10


@dataclass(frozen=True)
class PickedClip:
    """A clip with its highest score (`score`, of `predicted`) and that of its own label.

    Of several labels `label_score` is that of the one with the lowest score.
    """

    clip_id: str
    uri: str
    label: str
    predicted: str
    score: float
    label_score: float


def best_clips(system: SystemScores, clips: EvalClips) -> tuple[PickedClip, ...]:
    """The clips whose highest score is right and highest of all."""
    if not len(clips):
        return ()
    top_N = clips.scores_NC.max(axis=1)
    right = np.flatnonzero(is_right(clips))
    return _picked(system, clips, right[np.argsort(-top_N[right], kind="stable")[:MOST]])


def uncertain_clips(system: SystemScores, clips: EvalClips) -> tuple[PickedClip, ...]:
    """The clips whose two highest scores are closest; of several labels those with the score
    closest to one half, where it would tip over.
    """
    if not len(clips) or clips.scores_NC.shape[1] < 2:
        return ()
    if clips.truth_NC is not None:
        doubt_N = np.abs(clips.scores_NC - 0.5).min(axis=1)
    else:
        top_two_N2 = np.partition(clips.scores_NC, -2, axis=1)[:, -2:]
        doubt_N = top_two_N2[:, 1] - top_two_N2[:, 0]
    return _picked(system, clips, np.argsort(doubt_N, kind="stable")[:MOST])


def is_right(clips: EvalClips) -> NDArray[np.bool_]:
    """Whether the class with the highest score is the clip's, or one of its labels (N,)."""
    predicted_N = clips.scores_NC.argmax(axis=1)
    if clips.truth_NC is not None:
        return clips.truth_NC[np.arange(len(clips)), predicted_N]
    return np.asarray(predicted_N == clips.target_N)


def _picked(
    system: SystemScores, clips: EvalClips, places: Sequence[int] | NDArray[np.intp]
) -> tuple[PickedClip, ...]:
    found = []
    for place in np.asarray(places).tolist():
        row, scores_C = int(clips.row_N[place]), clips.scores_NC[place]
        guess = int(scores_C.argmax())
        found.append(
            PickedClip(
                clip_id=system.clip_ids[row],
                uri=system.uris[row],
                label=system.labels[row],
                predicted=system.classes[guess],
                score=round(float(scores_C[guess]), 6),
                label_score=round(label_score(clips, place), 6),
            )
        )
    return tuple(found)


def label_score(clips: EvalClips, place: int) -> float:
    """The score of a clip's label, of several the lowest; NaN where it has none."""
    scores_C = clips.scores_NC[place]
    if clips.truth_NC is None:
        return float(scores_C[clips.target_N[place]])
    own = scores_C[clips.truth_NC[place]]
    return float(own.min()) if len(own) else float("nan")
