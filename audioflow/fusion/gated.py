"""`gated`: how much a system counts depends on what is known of the clip's sound.

Shapes: S systems, N clips, C classes, Q quality columns.

The weights of a clip are softmax(bias + slopes x quality): a mixture of experts with a linear gate
(Jacobs et al., Adaptive Mixtures of Local Experts, 1991) whose experts are given. Slopes are held
small by a penalty that is chosen by cross-validation over groups; with the strongest there is no
slope, and the gate is the rule `weighted`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from pydantic import Field

from audioflow.errors import Fault, TableError
from audioflow.fusion.base import Block, FitClips, Float, Params, Scores, Task
from audioflow.fusion.folds import held_out, sample
from audioflow.fusion.gate import fitted_gate, gate_loss, scale_of, weights_of
from audioflow.fusion.links import Link, On, blocks
from audioflow.fusion.weighted import weighted_scores
from audioflow.registry import Settings

MOST_CELLS = 4_000_000
"""Scores that the cross-validation looks at."""


class GatedSettings(Settings):
    """on: what is averaged. spreads: standard deviations of the slopes to choose from (the change
    of a system's log weight for one standard deviation of a quality); 0 is always among them.
    """

    on: On = "probabilities"
    spreads: list[float] = Field([0.1, 0.3, 1.0, 3.0], min_length=1, max_length=10)


class Gated:
    """A weighted mean whose weights are functions of quality."""

    Settings = GatedSettings
    needs_quality = True
    needs_fit = True

    def __init__(self, settings: GatedSettings) -> None:
        self.settings = settings

    def problems(self, systems: Sequence[str]) -> list[Fault]:
        """Spreads that are none."""
        return [
            Fault("spreads", f"{spread} is no standard deviation", spread, "above 0")
            for spread in self.settings.spreads
            if spread <= 0
        ]

    def fit(self, task: Task, clips: FitClips | None) -> Params:
        """`gate`: mean and scale of the qualities, bias (S,) and slopes (S, Q or, where some are
        unknown, Q + 1); `spread`: what was chosen; `weights`: the mean weights of the clips.
        """
        assert clips is not None
        quality_NQ = _known(task, clips.clips)
        link = Link(self.settings.on, task.multi_label)
        scale = scale_of(quality_NQ)
        spread, loss = self._spread(link, clips, scale)
        gate = scale | fitted_gate(link, clips, scale, spread)
        weights_SN = weights_of(gate, clips.clips)
        mean_S = weights_SN.mean(axis=1).tolist()
        return {
            "weights": dict(zip(task.systems, mean_S, strict=True)),
            "gate": gate | {"columns": list(task.quality)},
            "spread": spread,
            "out_of_fold": loss,
        }

    def apply(self, task: Task, params: Mapping[str, Any], clips: Block) -> Scores:
        """A quality that is unknown counts as the mean one."""
        link = Link(self.settings.on, task.multi_label)
        weights_SN1 = weights_of(params["gate"], clips)[:, :, None]
        fused_NC = np.empty((len(clips), len(task.classes)), np.float32)
        for rows in blocks(*fused_NC.shape):
            fused_NC[rows] = weighted_scores(link, weights_SN1[:, rows], clips, rows)
        return fused_NC

    def _spread(
        self, link: Link, clips: FitClips, scale: Params
    ) -> tuple[float, dict[str, float] | None]:
        """The spread with the least loss on held-out groups, and that loss; 0 for one group."""
        pairs = list(held_out(sample(clips, MOST_CELLS)))
        if not pairs:
            return 0.0, None
        losses = {}
        for spread in (0.0, *sorted(self.settings.spreads)):
            gates = [fitted_gate(link, learnt, scale, spread) for learnt, _ in pairs]
            total = sum(
                gate_loss(link, scale | gate, held) * len(held)
                for gate, (_, held) in zip(gates, pairs, strict=True)
            )
            losses[spread] = total / sum(len(held) for _, held in pairs)
        best = min(losses, key=lambda spread: (losses[spread], spread))
        return best, {"log_loss": losses[best]}


def _known(task: Task, clips: Block) -> Float:
    if clips.quality is None or not np.isfinite(clips.quality).any():
        raise TableError(
            f"no clip to fit the gate on has a value of {', '.join(task.quality) or 'quality'}: "
            "fuse.quality has to name a table with rows for these clips"
        )
    return clips.quality
