"""Fusion: the score tables of several systems made into one.

Shapes: S systems, N clips, C classes, K points of a grid.

A rule is fitted on the clips of one split and applied to all clips.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import field_validator, model_validator

from audioflow.errors import Fault, RecipeError, TableError
from audioflow.join import Joined, join_scores
from audioflow.pools import Flags, Float, Mean, Pool, Scores, averaged, blocks, probabilities
from audioflow.registry import Registry, Settings, nearest
from audioflow.simplex import equal_weights, grid, minimise

__all__ = ["FUSION_RULES", "Joined", "Rule", "Weighted", "fuse", "join_scores"]

FUSION_RULES = Registry("fusion rule", {"weighted": "audioflow.fusion:Weighted"})

CURVE_STEPS = 50
MAX_POINTS = 2000
MAX_GRID_OPERATIONS = 2 * 10**10


class Rule(Protocol):
    """A fusion rule. It has an attribute `Settings` and is constructed from one instance of it."""

    @property
    def needs_fit(self) -> bool:
        """Whether `fit` needs clips; without, it takes none just as well."""

    def fit(
        self,
        scores_SNC: Scores,
        targets_N: NDArray[np.integer],
        available_SN: Flags,
        systems: Sequence[str] | None = None,
    ) -> dict[str, Any]:
        """Parameters (JSON-able) from scores with class indices; `systems` names the first axis."""

    def apply(
        self, params: Mapping[str, Any], scores_SNC: Scores, available_SN: Flags
    ) -> NDArray[np.float32]:
        """Fused scores (N, C) whose rows sum to 1, from the systems that each clip has."""


class WeightedSettings(Settings):
    """objective: what the weights are best in; on: what is averaged; weights: fixed, not fitted."""

    objective: Literal["log_loss", "accuracy"] = "log_loss"
    on: Mean = "probabilities"
    weights: dict[str, float] | None = None

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
        return self


class Weighted:
    """A weighted mean of the systems' probabilities, or of their logarithms."""

    Settings = WeightedSettings

    def __init__(self, settings: WeightedSettings) -> None:
        self.settings = settings

    @property
    def needs_fit(self) -> bool:
        """Whether the weights are fitted, not fixed."""
        return self.settings.weights is None

    def fit(
        self,
        scores_SNC: Scores,
        targets_N: NDArray[np.integer],
        available_SN: Flags,
        systems: Sequence[str] | None = None,
    ) -> dict[str, Any]:
        """Weights from the clips that all systems have scored; `targets_N` are class indices.

        `log_loss` is convex in the weights and solved to its minimum. `accuracy` is best on a grid
        of at most `MAX_POINTS` points (fewer where they would cost over `MAX_GRID_OPERATIONS`),
        together with equal weights and those of least log loss; of equally accurate points the one
        of least log loss is taken.

        Returns `systems`, `weights` (by system, sum 1), `on`, `objective` (None for fixed weights),
        `clips` (how many were used), their `accuracy` and `log_loss` (None without clips) and, for
        two systems, `curve`: both by the second system's weight. Without `systems` they are named
        by their index. Raises `TableError` where weights are to be fitted and no clip has all
        systems, `RecipeError` where fixed weights do not name exactly the systems.
        """
        names = [str(index) for index in range(len(scores_SNC))] if systems is None else [*systems]
        complete_N = available_SN.all(axis=0)
        if self.needs_fit and not complete_N.any():
            counts = [f"{name} {row.sum()}" for name, row in zip(names, available_SN, strict=True)]
            raise TableError(
                f"none of {available_SN.shape[1]} clips to fit fusion weights on has scores of all "
                f"systems ({', '.join(counts)}): score the same clips, or give the weights"
            )
        pool = Pool(self.settings.on, scores_SNC[:, complete_N], targets_N[complete_N])
        weights_S = self._fitted(pool) if self.needs_fit else self._fixed(names)
        params: dict[str, Any] = {
            "systems": names,
            "weights": dict(zip(names, weights_S.tolist(), strict=True)),
            "on": self.settings.on,
            "objective": self.settings.objective if self.needs_fit else None,
            "clips": int(complete_N.sum()),
            **_quality(pool, weights_S),
        }
        if len(names) == 2:
            params["curve"] = _curve(pool)
        return params

    def apply(
        self, params: Mapping[str, Any], scores_SNC: Scores, available_SN: Flags
    ) -> NDArray[np.float32]:
        """Fused scores (N, C), rows sum to 1. The first axis is `params["systems"]`, in that order.

        A clip that lacks systems is scored by those it has, with their weights made to sum to 1, or
        with equal weights where all of those are 0. Raises `ValueError` for a clip without any, or
        another number of systems.
        """
        weights_S = np.array([params["weights"][name] for name in params["systems"]])
        if len(weights_S) != len(scores_SNC):
            raise ValueError(
                f"scores have {len(scores_SNC)} systems, the weights are for "
                f"{', '.join(params['systems'])}"
            )
        for clip in np.flatnonzero(~available_SN.any(axis=0))[:1]:
            raise ValueError(f"clip {clip} has no scores of any system")
        own_SN = weights_S[:, None] * available_SN
        own_SN = np.where(own_SN.sum(axis=0) > 0, own_SN, available_SN)
        own_SN = own_SN / own_SN.sum(axis=0)
        fused_NC = np.empty(scores_SNC.shape[1:], np.float32)
        for rows in blocks(scores_SNC.shape[1], scores_SNC.shape[2]):
            # A missing row is NaN: any other row will do, as its weight is 0.
            there_SnC = np.where(available_SN[:, rows, None], scores_SNC[:, rows], 0)
            values_SnC = np.stack([averaged(params["on"], there_nC) for there_nC in there_SnC])
            mixed_nC = np.einsum("sn,snc->nc", own_SN[:, rows], values_SnC)
            fused_NC[rows] = probabilities(params["on"], mixed_nC)
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

    def _fixed(self, names: Sequence[str]) -> Float:
        weights = self.settings.weights or {}
        faults = [
            Fault("weights", "no such system", name, ", ".join(names), nearest(name, names))
            for name in weights
            if name not in names
        ]
        faults += [
            Fault("weights", f"system {name!r} has no weight; 0 leaves it out", name)
            for name in names
            if name not in weights
        ]
        if faults:
            raise RecipeError("fusion rule 'weighted'", faults)
        weights_S = np.array([weights[name] for name in names])
        return weights_S / weights_S.sum()


def _quality(pool: Pool, weights_S: Float) -> dict[str, float | None]:
    if not pool.num_clips:
        return {"accuracy": None, "log_loss": None}
    hits, loss = pool.quality(weights_S)
    return {"accuracy": hits / pool.num_clips, "log_loss": loss}


def _curve(pool: Pool) -> list[dict[str, float | None]]:
    """Accuracy and log loss by the weight of the second of two systems; empty without clips."""
    shares = [step / CURVE_STEPS for step in range(CURVE_STEPS + 1)] if pool.num_clips else []
    return [{"weight": share, **_quality(pool, np.array([1 - share, share]))} for share in shares]


def fuse(joined: Joined, rule: Rule, fit_split: str) -> tuple[NDArray[np.float32], dict[str, Any]]:
    """Fused scores (N, C) of all clips, and the parameters, fitted on clips of `fit_split` only.

    The parameters are the rule's, with `fit_split` beside them. Raises `TableError` where the rule
    needs a fit and no clip is in that split, or a clip there has not exactly one label that is a
    class.
    """
    fit_rows = [row for row, split in enumerate(joined.splits) if split == fit_split]
    if rule.needs_fit and not fit_rows:
        counts = [f"{split} ({count})" for split, count in sorted(Counter(joined.splits).items())]
        raise TableError(
            f"no clip is in split {fit_split!r}, on which the fusion is fitted; there are "
            f"{', '.join(counts) or 'no clip'}"
        )
    index: dict[tuple[str, ...], int] = {
        (name,): position for position, name in enumerate(joined.classes)
    }
    single = [row for row in fit_rows if tuple(joined.labels[row]) in index]
    if rule.needs_fit and len(single) < len(fit_rows):
        row = min(set(fit_rows) - set(single))
        raise TableError(
            f"clip {joined.clip_ids[row]!r} of split {fit_split!r} has labels "
            f"{joined.labels[row]}: fitting a fusion needs exactly one, which is a class"
        )
    targets_N = np.array([index[tuple(joined.labels[row])] for row in single], np.intp)
    params = rule.fit(
        joined.scores[:, single], targets_N, joined.available[:, single], joined.systems
    )
    params["fit_split"] = fit_split
    return rule.apply(params, joined.scores, joined.available), params
