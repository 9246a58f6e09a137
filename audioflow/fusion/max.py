"""`max`: of each class the highest score that any system gives it. Nothing is fitted."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from audioflow.errors import Fault
from audioflow.fusion.base import Block, FitClips, Params, Scores, Task
from audioflow.fusion.links import blocks, shares
from audioflow.registry import Settings


class MaxSettings(Settings):
    """There is nothing to set."""


class Max:
    """One system that is sure is enough."""

    Settings = MaxSettings
    needs_quality = False
    needs_fit = False

    def __init__(self, settings: MaxSettings) -> None:
        self.settings = settings

    def problems(self, systems: Sequence[str]) -> list[Fault]:
        """Any systems will do."""
        return []

    def fit(self, task: Task, clips: FitClips | None) -> Params:
        """Nothing."""
        return {}

    def apply(self, task: Task, params: Mapping[str, Any], clips: Block) -> Scores:
        """The highest of the scores that are there."""
        fused_NC = np.empty((len(clips), len(task.classes)), np.float32)
        for rows in blocks(*fused_NC.shape):
            scores_SnC = np.where(clips.available[:, rows, None], clips.scores[:, rows], 0)
            most_nC = scores_SnC.max(axis=0)
            fused_NC[rows] = most_nC if task.multi_label else shares(most_nC)
        return fused_NC
