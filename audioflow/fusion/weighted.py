"""`weighted`: a weighted mean of the systems, with one weight each or one for each class.

Shapes: S systems, N clips, C classes, K points of a grid.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from pydantic import field_validator, model_validator

from audioflow.errors import Fault, RecipeError
from audioflow.fusion.base import Block, FitClips, Float, Params, Scores, Task
from audioflow.fusion.links import Link, On, blocks
from audioflow.fusion.per_class import class_weights
from audioflow.fusion.pools import Pool
from audioflow.fusion.simplex import equal_weights, grid, minimise
from audioflow.registry import Settings, nearest

CURVE_STEPS = 50
MAX_CURVE_CELLS = 2 * 10**9
MAX_POINTS = 2000
MAX_GRID_OPERATIONS = 2 * 10**10


class WeightedSettings(Settings):
    """on: what is averaged. objective: what the weights are best in. weights: fixed ones, by
    system. per_class: a weight for each class, as far as its clips say more than all together.
    """

    on: On = "probabilities"
    objective: Literal["log_loss", "accuracy"] = "log_loss"
    weights: dict[str, float] | None = None
    per_class: bool = False

    @field_validator("weights")
    @classmethod
    def _usable(cls, weights: dict[str, float] | None) -> dict[str, float] | None:
        for name, weight in (weights or {}).items():
            if weight < 0:
                raise ValueError(f"weight {weight} of system {name!r} is negative")
        if weights is not None and sum(weights.values()) <= 0:
            raise ValueError(f"weights {weights} give no system a weight above 0")
        return weights

    @model_validator(mode="after")
    def _one_source(self) -> "WeightedSettings":
        if self.weights is not None and self.objective != "log_loss":
            raise ValueError(
                f"objective {self.objective!r} fits weights, but weights {self.weights} are given: "
                "leave out one of the two"
            )
        if self.per_class and (self.weights is not None or self.objective != "log_loss"):
            given = "weights" if self.weights is not None else f"objective {self.objective!r}"
            raise ValueError(
                f"per_class cannot stand beside {given}: weights of classes are fitted by log loss"
            )
        return self


class Weighted:
    """A weighted mean of the systems' probabilities, of their logarithms, or of logits."""

    Settings = WeightedSettings
    needs_quality = False

    def __init__(self, settings: WeightedSettings) -> None:
        self.settings = settings

    @property
    def needs_fit(self) -> bool:
        """Whether the weights are fitted, not fixed."""
        return self.settings.weights is None

    def problems(self, systems: Sequence[str]) -> list[Fault]:
        """Fixed weights have to name exactly the systems."""
        weights = self.settings.weights
        if weights is None:
            return []
        faults = [
            Fault("weights", "no such system", name, ", ".join(systems), nearest(name, systems))
            for name in weights
            if name not in systems
        ]
        return faults + [
            Fault("weights", f"system {name!r} has no weight; 0 leaves it out", name)
            for name in systems
            if name not in weights
        ]

    def fit(self, task: Task, clips: FitClips | None) -> Params:
        """Weights that are best on the clips.

        `log_loss` is convex in the weights and solved to its minimum. `accuracy` is best on a grid
        of at most `MAX_POINTS` points (fewer where they would cost over `MAX_GRID_OPERATIONS`),
        together with equal weights and those of least log loss; of equally accurate points the one
        of least log loss is taken.

        Returns `weights` (by system, sum 1), for two systems `curve`: how good the clips are by the
        second system's weight, and with `per_class` the weights of each class (see
        `per_class.class_weights`). Raises `RecipeError` for `accuracy` with several labels.
        """
        if clips is None:
            return {"weights": self._fixed(task)}
        if self.settings.objective == "accuracy" and task.multi_label:
            fault = Fault(
                "objective", "accuracy is of clips with one label; these have several", "accuracy"
            )
            raise RecipeError("fusion rule 'weighted'", [fault])
        link = Link(self.settings.on, task.multi_label)
        pool = Pool(link, clips)
        weights_S = (
            self._fitted(pool) if self.needs_fit else np.array([*self._fixed(task).values()])
        )
        params: Params = {"weights": dict(zip(task.systems, weights_S.tolist(), strict=True))}
        if len(task.systems) == 2:
            params["curve"] = _curve(pool)
        if self.settings.per_class:
            found = class_weights(link, clips, weights_S)
            rows = zip(task.systems, found.weights_SC.tolist(), strict=True)
            params["per_class"] = {"weights": dict(rows), "shrinkage": found.shrinkage}
        return params

    def apply(self, task: Task, params: Mapping[str, Any], clips: Block) -> Scores:
        """A clip that lacks systems is scored by those it has, with their weights made to sum to 1,
        or with equal weights where all of those are 0.
        """
        weights = params.get("per_class", params)["weights"]
        weights_SC = np.array([weights[name] for name in task.systems], np.float64)
        weights_SC = weights_SC.reshape(len(task.systems), -1)
        link = Link(self.settings.on, task.multi_label)
        fused_NC = np.empty((len(clips), len(task.classes)), np.float32)
        for rows in blocks(*fused_NC.shape):
            fused_NC[rows] = weighted_scores(link, weights_SC, clips, rows)
        return fused_NC

    def _fitted(self, pool: Pool) -> Float:
        best_S = minimise(pool.derivatives, pool.size)
        if self.settings.objective == "log_loss":
            return best_S
        affordable = MAX_GRID_OPERATIONS // pool.num_cells
        points_KS = np.vstack(
            [grid(pool.size, min(MAX_POINTS, affordable)), equal_weights(pool.size), best_S]
        )
        hits_K = np.array([pool.hits(point_S) for point_S in points_KS])
        return min(points_KS[hits_K == hits_K.max()], key=pool.log_loss)

    def _fixed(self, task: Task) -> dict[str, float]:
        weights = self.settings.weights or {}
        total = sum(weights[name] for name in task.systems)
        return {name: weights[name] / total for name in task.systems}


def weighted_scores(link: Link, weights: Float, clips: Block, rows: slice) -> Float:
    """Scores (n, C) of some rows by weights (S, C), (S, 1) or, of each clip, (S, n, 1).

    Those of the systems that are there are made to sum to 1, and equal where all of them are 0.
    """
    there_Sn1 = clips.available[:, rows, None]
    own = np.where(there_Sn1, weights if weights.ndim == 3 else weights[:, None, :], 0.0)
    own = np.where(own.sum(axis=0) > 0, own, there_Sn1)
    own = own / own.sum(axis=0)
    # A missing row is NaN: any other row will do, as its weight is 0.
    scores_SnC = np.where(there_Sn1, clips.scores[:, rows], 0)
    mixed_nC = np.zeros(scores_SnC.shape[1:])
    for weight, scores_nC in zip(own, scores_SnC, strict=True):
        mixed_nC += weight * link.values(scores_nC)
    return link.scores(mixed_nC)


def _curve(pool: Pool) -> list[dict[str, float]]:
    """How good the clips are by the weight of the second of two systems."""
    steps = max(10, min(CURVE_STEPS, MAX_CURVE_CELLS // pool.num_cells))
    shares = [step / steps for step in range(steps + 1)]
    return [{"weight": share, **pool.quality(np.array([1 - share, share]))} for share in shares]
