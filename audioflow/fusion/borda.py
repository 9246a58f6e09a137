"""`borda`: within each clip, every system ranks the classes; ranks are averaged.

How high a score is does not matter (but between equal ranks), only what it is higher than: for
systems whose scores cannot be compared. Nothing is fitted, and what comes out are no probabilities.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from audioflow.errors import Fault
from audioflow.fusion.base import Block, FitClips, Float, Params, Scores, Task
from audioflow.fusion.links import blocks, shares
from audioflow.registry import Settings


class BordaSettings(Settings):
    """There is nothing to set."""


class Borda:
    """A class gets a point for every class that it beats, and half of one for a tie."""

    Settings = BordaSettings
    needs_quality = False
    needs_fit = False

    def __init__(self, settings: BordaSettings) -> None:
        self.settings = settings

    def problems(self, systems: Sequence[str]) -> list[Fault]:
        """Any systems will do."""
        return []

    def fit(self, task: Task, clips: FitClips | None) -> Params:
        """Nothing."""
        return {}

    def apply(self, task: Task, params: Mapping[str, Any], clips: Block) -> Scores:
        """Mean points of the systems that are there, from 0 (last of all classes) to 1 (first).

        Of classes with equal points the one with the higher mean score is ahead.
        """
        fused_NC = np.empty((len(clips), len(task.classes)), np.float32)
        for rows in blocks(*fused_NC.shape):
            there_Sn1 = clips.available[:, rows, None]
            scores_SnC = np.where(there_Sn1, clips.scores[:, rows], 0)
            points_SnC = np.stack([_points(scores_nC) for scores_nC in scores_SnC])
            count_n1 = there_Sn1.sum(axis=0)
            mean_nC = np.where(there_Sn1, points_SnC, 0).sum(axis=0) / count_n1
            # Less than any difference of points, so that only what is equal is told apart.
            least_n1 = 0.25 / (count_n1 * max(scores_SnC.shape[2] - 1, 1))
            mean_nC = (mean_nC + least_n1 * scores_SnC.sum(axis=0) / count_n1) / (1 + least_n1)
            fused_NC[rows] = mean_nC if task.multi_label else shares(mean_nC)
        return fused_NC


def _points(scores_nC: Scores) -> Float:
    """The share of the other classes that each class beats, half of those with the same score."""
    num_classes = scores_nC.shape[1]
    order_nC = np.argsort(scores_nC, axis=1, kind="stable")
    sorted_nC = np.take_along_axis(scores_nC, order_nC, axis=1)
    place_C = np.arange(num_classes)
    new_nC = np.ones(sorted_nC.shape, bool)
    new_nC[:, 1:] = sorted_nC[:, 1:] > sorted_nC[:, :-1]
    first_nC = np.maximum.accumulate(np.where(new_nC, place_C, 0), axis=1)
    ends_nC = np.ones(sorted_nC.shape, bool)
    ends_nC[:, :-1] = new_nC[:, 1:]
    behind_nC = np.where(ends_nC, place_C, num_classes)[:, ::-1]
    last_nC = np.minimum.accumulate(behind_nC, axis=1)[:, ::-1]
    points_nC = np.empty(scores_nC.shape)
    beaten_nC = (first_nC + last_nC) / 2
    np.put_along_axis(points_nC, order_nC, beaten_nC / max(num_classes - 1, 1), axis=1)
    return points_nC
