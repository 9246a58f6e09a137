"""The gate of the rule `gated`: from the qualities of clips to weights, and its fit.

Shapes: S systems, N clips, C classes, Q quality columns, n clips of a block.

A gate is plain values: `mean` and `scale` of each quality (Q,), whether clips with an `unknown` one
have a column of their own, `bias` (S,) and `slopes` (S, Q or Q + 1).
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from audioflow.fusion.base import Block, FitClips, Float, Params
from audioflow.fusion.descent import least
from audioflow.fusion.links import Link
from audioflow.fusion.pools import Pool
from audioflow.fusion.simplex import minimise

FARTHEST = 5.0
"""A quality counts as at most so many standard deviations from the mean."""
LEAST_WEIGHT = 1e-3
"""Of a system without slopes: one that had none could get none back."""
BIAS_PENALTY = 1e-3


def scale_of(quality_NQ: Float) -> Params:
    """Mean and standard deviation of each quality among the clips where it is known."""
    there_NQ = np.isfinite(quality_NQ)
    count_Q = np.maximum(there_NQ.sum(axis=0), 1)
    mean_Q = np.where(there_NQ, quality_NQ, 0).sum(axis=0) / count_Q
    spread_Q = np.sqrt((np.where(there_NQ, quality_NQ - mean_Q, 0) ** 2).sum(axis=0) / count_Q)
    still_Q = spread_Q <= 1e-9 * np.maximum(np.abs(mean_Q), 1)
    return {
        "mean": mean_Q.tolist(),
        "scale": np.where(still_Q, 1.0, spread_Q).tolist(),
        "unknown": bool(not there_NQ.all()),
    }


def _features(gate: Mapping[str, Any], quality_NQ: Float) -> Float:
    """Qualities in standard deviations and, where the fit knew such clips, if one is unknown."""
    away_NQ = (quality_NQ - np.array(gate["mean"])) / np.array(gate["scale"])
    known_NQ = np.isfinite(away_NQ)
    found_NQ = np.where(known_NQ, np.clip(np.where(known_NQ, away_NQ, 0), -FARTHEST, FARTHEST), 0)
    if not gate["unknown"]:
        return found_NQ
    return np.column_stack([found_NQ, ~known_NQ.all(axis=1)])


def weights_of(gate: Mapping[str, Any], clips: Block) -> Float:
    """The weight of every system for every clip, (S, N)."""
    assert clips.quality is not None
    features_NQ = _features(gate, clips.quality)
    return _softmax(np.array(gate["bias"]), np.array(gate["slopes"]), features_NQ)


def _softmax(bias_S: Float, slopes_SQ: Float, features_NQ: Float) -> Float:
    # Not a matrix product, whose result may depend on how many clips there are.
    logits_SN = bias_S[:, None] + np.einsum("sq,nq->sn", slopes_SQ, features_NQ)
    weights_SN = np.exp(logits_SN - logits_SN.max(axis=0))
    return np.asarray(weights_SN / weights_SN.sum(axis=0))


def fitted_gate(link: Link, clips: FitClips, scale: Params, spread: float) -> Params:
    """Bias and slopes of least penalised loss, from the best weights without slopes on."""
    pool = Pool(link, clips)
    start_S = np.log(np.maximum(minimise(pool.derivatives, pool.size), LEAST_WEIGHT))
    assert clips.clips.quality is not None
    features_NQ = _features(scale, clips.clips.quality)
    shape = (pool.size, 1 + features_NQ.shape[1])
    if spread == 0:
        return {"bias": start_S.tolist(), "slopes": np.zeros((shape[0], shape[1] - 1)).tolist()}
    strength = 1 / (spread**2 * len(clips))

    def loss(flat: Float) -> tuple[float, Float]:
        bias_S, slopes_SQ = flat.reshape(shape)[:, 0], flat.reshape(shape)[:, 1:]
        weights_SN = _softmax(bias_S, slopes_SQ, features_NQ)
        value, by_weight_SN = _slopes(pool, weights_SN)
        # Through the softmax: what a weight gains over the clip's mean.
        by_logit_SN = weights_SN * (by_weight_SN - (weights_SN * by_weight_SN).sum(axis=0))
        gradient = np.column_stack([by_logit_SN.sum(axis=1), by_logit_SN @ features_NQ])
        gradient /= len(clips)
        away_S = bias_S - start_S
        gradient[:, 0] += BIAS_PENALTY * away_S
        gradient[:, 1:] += strength * slopes_SQ
        penalty = BIAS_PENALTY * float(away_S @ away_S) + strength * float((slopes_SQ**2).sum())
        return value / len(clips) + penalty / 2, gradient.ravel()

    start = np.column_stack([start_S, np.zeros((shape[0], shape[1] - 1))])
    found = least(loss, start.ravel()).reshape(shape)
    return {"bias": found[:, 0].tolist(), "slopes": found[:, 1:].tolist()}


def _slopes(pool: Pool, weights_SN: Float) -> tuple[float, Float]:
    """Summed loss, and its derivative by the weights of each clip, (S, N)."""
    value, found, start = 0.0, np.empty_like(weights_SN), 0
    for values_SnC, targets_n in pool.blocks:
        rows = slice(start, start + len(targets_n))
        mixed_nC = np.einsum("sn,snc->nc", weights_SN[:, rows], values_SnC)
        value += float(pool.link.loss(mixed_nC, targets_n).sum())
        slope_nC = pool.link.slope(mixed_nC, targets_n)
        found[:, rows] = np.einsum("snc,nc->sn", values_SnC, slope_nC)
        start = rows.stop
    return value, found


def gate_loss(link: Link, gate: Mapping[str, Any], clips: FitClips) -> float:
    """Mean loss of the clips under a gate."""
    return _slopes(Pool(link, clips), weights_of(gate, clips.clips))[0] / len(clips)
