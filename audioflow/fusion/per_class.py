"""Weights of systems for each class, drawn towards those of all classes together.

Shapes: S systems, N clips, C classes, K points of a grid, P parts of a cross-validation,
n clips of a block.

The loss of a class's weights, while all other classes keep the common ones, is taken at the points
of a grid: once for each part of the clips, so that every choice after it costs next to nothing. A
class then gets the point that is best for it after a penalty on the distance to the common weights.
How strong the penalty is, is what is best for clips that had no part in the choice.
"""

import math
from dataclasses import dataclass

import numpy as np

from audioflow.fusion.base import FitClips, Flags, Float, Scores, Targets
from audioflow.fusion.folds import parts
from audioflow.fusion.links import EPS, Link, blocks
from audioflow.fusion.simplex import grid

STEPS = 20
MAX_POINTS = 36
SHRINKAGES = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0, math.inf)
"""Nats that it costs a class to move the weight of a system by 1; of infinity all stay."""


@dataclass(frozen=True)
class ClassWeights:
    """Weights (S, C), columns sum to 1, and how strongly they were drawn to the common ones.

    `shrinkage` is None where all classes keep those.
    """

    weights_SC: Float
    shrinkage: float | None


def class_weights(link: Link, clips: FitClips, common_S: Float) -> ClassWeights:
    """The weights of each class, and the shrinkage chosen by cross-validation over groups.

    With a single group all classes keep the common weights.
    """
    points_KS = np.vstack([_points(len(common_S)), common_S])
    part_PN = np.stack(parts(clips.groups))
    if len(part_PN) < 2:
        return ClassWeights(np.repeat(common_S[:, None], clips.clips.scores.shape[2], 1), None)
    loss_PKC = _losses(link, clips, common_S, points_KS, part_PN)
    away_K1 = ((points_KS - common_S) ** 2).sum(axis=1)[:, None]
    held_out = [
        sum(
            _joint_loss(link, clips, part_N, _best(points_KS, loss_KC, away_K1, shrinkage))
            for part_N, loss_KC in zip(part_PN, loss_PKC.sum(axis=0) - loss_PKC, strict=True)
        )
        for shrinkage in SHRINKAGES
    ]
    # Of equals the strongest.
    shrinkage = min(zip(held_out, [-s for s in SHRINKAGES], strict=True))[1] * -1
    weights_SC = _best(points_KS, loss_PKC.sum(axis=0), away_K1, shrinkage)
    return ClassWeights(weights_SC, None if math.isinf(shrinkage) else shrinkage)


def _points(size: int) -> Float:
    if size > 2:
        return grid(size, MAX_POINTS)
    shares = np.arange(STEPS + 1) / STEPS
    return np.stack([1 - shares, shares], axis=1)


def _best(points_KS: Float, loss_KC: Float, away_K1: Float, shrinkage: float) -> Float:
    """The weights (S, C) of least penalised loss; of equals those nearest to the common ones."""
    # Not 0 times infinity: the common weights cost nothing.
    penalty_K1 = np.where(away_K1 > 0, np.maximum(away_K1, 1e-12) * shrinkage, 0.0)
    total_KC = loss_KC + penalty_K1
    nearest_first_K = np.argsort(away_K1[:, 0], kind="stable")
    return points_KS[nearest_first_K[total_KC[nearest_first_K].argmin(axis=0)]].T


def _losses(
    link: Link, clips: FitClips, common_S: Float, points_KS: Float, part_PN: Flags
) -> Float:
    """Loss (P, K, C), summed over the clips of each part, of each class's weights at each point."""
    count, num_classes = clips.clips.scores.shape[1:]
    found_PKC = np.zeros((len(part_PN), len(points_KS), num_classes))
    for rows in blocks(count, num_classes):
        scores_SnC, targets_n = clips.clips.scores[:, rows], clips.targets[rows]
        values_SnC = np.stack([link.values(scores_nC) for scores_nC in scores_SnC]).astype(
            np.float32
        )
        member_Pn = part_PN[:, rows].astype(np.float32)
        others_nC = None if link.multi_label else _others(link, common_S, values_SnC)
        for point, point_S in enumerate(points_KS.astype(np.float32)):
            mixed_nC = np.einsum("s,snc->nc", point_S, values_SnC)
            cells_nC = (
                link.cell_loss(mixed_nC, targets_n)
                if others_nC is None
                else _coupled_loss(link, mixed_nC, others_nC, targets_n)
            )
            found_PKC[:, point] += np.einsum("pn,nc->pc", member_Pn, cells_nC)
    return found_PKC


def _mass(link: Link, mixed_nC: Scores) -> Scores:
    """What a row's shares are made of."""
    return mixed_nC if link.on == "probabilities" else np.asarray(np.exp(mixed_nC))


def _others(link: Link, common_S: Float, values_SnC: Scores) -> Scores:
    """The mass of all other classes of the clip, under the common weights."""
    mass_nC = _mass(link, np.einsum("s,snc->nc", common_S.astype(values_SnC.dtype), values_SnC))
    return np.maximum(mass_nC.sum(axis=1, keepdims=True) - mass_nC, EPS)


def _coupled_loss(link: Link, mixed_nC: Scores, others_nC: Scores, targets_n: Targets) -> Scores:
    """What the loss of a clip is as a function of one class alone, for each of its classes."""
    cells_nC = np.log(others_nC + _mass(link, mixed_nC))
    rows = np.arange(len(targets_n))
    own_n = mixed_nC[rows, targets_n]
    cells_nC[rows, targets_n] -= (
        np.log(np.maximum(own_n, EPS)) if link.on == "probabilities" else own_n
    )
    return cells_nC


def _joint_loss(link: Link, clips: FitClips, part_N: Flags, weights_SC: Float) -> float:
    """Summed loss of the clips of a part under weights of classes."""
    held = np.flatnonzero(part_N)
    total = 0.0
    for rows in blocks(len(held), weights_SC.shape[1]):
        places = held[rows]
        values_SnC = np.stack([link.values(part) for part in clips.clips.scores[:, places]])
        mixed_nC = np.einsum("sc,snc->nc", weights_SC, values_SnC)
        total += float(link.loss(mixed_nC, clips.targets[places]).sum())
    return total
