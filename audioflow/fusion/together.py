"""A fusion of tables that are joined in memory: fitted on one split, applied to all clips."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audioflow.fusion.base import Block, FitClips, Float
from audioflow.fusion.fusing import Fusion
from audioflow.fusion.labels import labelled
from audioflow.fusion.missing import no_fit_clips
from audioflow.join import Joined


def fuse(
    joined: Joined,
    fusion: Fusion,
    fit_split: str,
    groups: Sequence[str] | None = None,
    quality_NQ: Float | None = None,
) -> tuple[NDArray[np.float32], dict[str, Any]]:
    """Fused scores (N, C) of all clips, and the parameters, fitted on clips of `fit_split` only.

    groups: by default each clip is its own. Raises `TableError` where the fusion is to be fitted
    and no clip is in that split, or none there can be fitted on.
    """
    clips = Block(joined.scores, joined.available, quality_NQ)
    rows = np.flatnonzero(np.array([split == fit_split for split in joined.splits], bool))
    if fusion.needs_clips and not len(rows):
        raise no_fit_clips(fit_split, Counter(joined.splits))
    fit_clips = None
    if len(rows):
        own = [joined.labels[row] for row in rows]
        keep, targets = labelled(own, joined.classes, fusion.task.multi_label)
        rows = rows[keep]
        ids = [joined.clip_ids[row] for row in rows]
        names = ids if groups is None else [groups[row] for row in rows.tolist()]
        fit_clips = FitClips(clips.at(rows), targets, names, ids)
    params = fusion.fit(fit_clips)
    params["fit"] |= {"split": fit_split, "sampled_from": None}
    return fusion.apply(params, clips), params
