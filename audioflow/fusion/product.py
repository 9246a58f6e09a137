"""`product`: the systems as independent witnesses, who tell of one clip without hearing each other.

Shapes: N clips, C classes.

By Bayes' rule the product of their probabilities counts the share of a class among all clips once
for each system, and all but one of these are taken out (Kittler et al., On Combining Classifiers,
PAMI 1998). With systems that err together the result is too sure of itself.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from audioflow.errors import Fault
from audioflow.fusion.base import Block, FitClips, Float, Params, Scores, Task
from audioflow.fusion.links import Link, blocks
from audioflow.registry import Settings


class ProductSettings(Settings):
    """prior: `fit` takes the share of each class from the clips; `even` leaves it in."""

    prior: Literal["fit", "even"] = "fit"


class Product:
    """The product of the systems' probabilities (of odds, with several labels)."""

    Settings = ProductSettings
    needs_quality = False

    def __init__(self, settings: ProductSettings) -> None:
        self.settings = settings

    @property
    def needs_fit(self) -> bool:
        """Whether the shares of the classes are needed."""
        return self.settings.prior == "fit"

    def problems(self, systems: Sequence[str]) -> list[Fault]:
        """Any systems will do."""
        return []

    def fit(self, task: Task, clips: FitClips | None) -> Params:
        """`prior`: the share of clips of each class, half a clip of each taken as seen before."""
        if clips is None or self.settings.prior == "even":
            return {}
        size = len(task.classes)
        if task.multi_label:
            counts_C = clips.targets.sum(axis=0)
            return {"prior": ((counts_C + 0.5) / (len(clips) + 1)).tolist()}
        counts_C = np.bincount(clips.targets, minlength=size)
        return {"prior": ((counts_C + 0.5) / (len(clips) + 0.5 * size)).tolist()}

    def apply(self, task: Task, params: Mapping[str, Any], clips: Block) -> Scores:
        """A system that a clip lacks says nothing."""
        link = Link("logits" if task.multi_label else "log_probabilities", task.multi_label)
        prior_C = self._prior(task, params)
        fused_NC = np.empty((len(clips), len(task.classes)), np.float32)
        for rows in blocks(*fused_NC.shape):
            there_Sn1 = clips.available[:, rows, None]
            total_nC = (1.0 - there_Sn1.sum(axis=0)) * prior_C
            for there_n1, scores_nC in zip(there_Sn1, clips.scores[:, rows], strict=True):
                total_nC = total_nC + np.where(
                    there_n1, link.values(np.where(there_n1, scores_nC, 0)), 0
                )
            fused_NC[rows] = link.scores(total_nC)
        return fused_NC

    def _prior(self, task: Task, params: Mapping[str, Any]) -> Float:
        """Logarithm (of the odds, with several labels) of the share of each class, (C,)."""
        if "prior" not in params:
            return np.zeros(len(task.classes))
        share_C = np.array(params["prior"])
        return np.log(share_C) - (np.log1p(-share_C) if task.multi_label else 0)
