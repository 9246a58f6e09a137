"""`rank`: every score becomes its rank among the scores of the same system, and ranks are averaged.

Shapes: S systems, N clips, C classes, K knots of a table.

Ranks over clips would need all of them at once. They are looked up in a table of quantiles that was
fitted on the clips of one split, so that a clip's result does not depend on what else is scored.
What comes out orders clips or classes; it is no probability.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from audioflow.errors import Fault
from audioflow.fusion.base import Block, FitClips, Float, Params, Scores, Task
from audioflow.fusion.links import blocks, shares, sigmoid
from audioflow.registry import Settings

NUM_KNOTS = 33
FARTHEST = 10.0
"""Log odds of the outermost quantiles: what matters lies among the highest few scores."""


class RankSettings(Settings):
    """over: a score's rank among those of its class, or of all classes of the system. `auto` is
    `class` where clips may have several labels, else `all`, since the classes of a clip compete.
    """

    over: Literal["auto", "class", "all"] = "auto"


class Rank:
    """The mean of ranks from 0 (lowest score) to 1 (highest)."""

    Settings = RankSettings
    needs_quality = False
    needs_fit = True

    def __init__(self, settings: RankSettings) -> None:
        self.settings = settings

    def problems(self, systems: Sequence[str]) -> list[Fault]:
        """Any systems will do."""
        return []

    def fit(self, task: Task, clips: FitClips | None) -> Params:
        """`knots`: by system, the scores (per class, or once) at `NUM_KNOTS` quantiles."""
        assert clips is not None
        over = self.settings.over
        by_class = task.multi_label if over == "auto" else over == "class"
        found = {}
        for system, scores_NC in zip(task.systems, clips.clips.scores, strict=True):
            columns = scores_NC if by_class else scores_NC.reshape(-1, 1)
            knots_KC = np.quantile(columns, _levels(), axis=0)
            found[system] = np.round(knots_KC.T, 9).tolist()
        return {"knots": found}

    def apply(self, task: Task, params: Mapping[str, Any], clips: Block) -> Scores:
        """The mean over the systems that are there."""
        levels_K = _levels()
        total_NC = np.zeros((len(clips), len(task.classes)))
        for index, system in enumerate(task.systems):
            there = np.flatnonzero(clips.available[index])
            for rows in blocks(len(there), total_NC.shape[1]):
                scores_nC = clips.scores[index][there[rows]]
                total_NC[there[rows]] += _ranks(params["knots"][system], levels_K, scores_nC)
        mean_NC = total_NC / clips.available.sum(axis=0)[:, None]
        return (mean_NC if task.multi_label else shares(mean_NC)).astype(np.float32)


def _levels() -> Float:
    """The quantiles (K,) whose scores are kept, close together at both ends."""
    inner = sigmoid(np.linspace(-FARTHEST, FARTHEST, NUM_KNOTS - 2))
    return np.concatenate([[0.0], inner, [1.0]])


def _ranks(knots: Sequence[Sequence[float]], levels_K: Float, scores_nC: Scores) -> Float:
    """Ranks (n, C) of scores in the table of their class, or in the one table."""
    if len(knots) == 1:
        xs, ys = _curve(knots[0], levels_K)
        return np.interp(scores_nC, xs, ys)
    columns = [
        np.interp(column_n, *_curve(own, levels_K))
        for own, column_n in zip(knots, scores_nC.T, strict=True)
    ]
    return np.stack(columns, axis=1)


def _curve(knots: Sequence[float], levels_K: Float) -> tuple[Float, Float]:
    """Scores rising from 0 to 1 with the rank of each; equal scores have their mean rank."""
    scores_K, index_K = np.unique(np.concatenate([[0.0], knots, [1.0]]), return_inverse=True)
    levels = np.concatenate([[0.0], levels_K, [1.0]])
    return scores_K, np.bincount(index_K, levels) / np.bincount(index_K)
