"""The clips that are scored, out of the manifest of a run."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from audioflow.engine.run import Run
from audioflow.errors import InputError
from audioflow.scores import clips_to_score, is_scored

_COLUMNS = "clip_id uri start_s duration_s labels split fold size_bytes version".split()
"""What shards are planned by, what is decoded, and what stands in score tables."""


@dataclass(frozen=True)
class ScoredRows:
    """Rows of the manifest, N of them.

    manifest: all. scored: those that are, with the split as which they are. mask: bool (N,), which.
    """

    manifest: pa.Table
    scored: pa.Table
    mask: NDArray[np.bool_]


def scored_rows(run: Run) -> ScoredRows:
    """What of the manifest is scored; raises `InputError` where nothing is."""
    section = run.recipe.score
    assert section is not None
    rows = run.manifest().read(_COLUMNS)
    scored = clips_to_score(rows, section.splits)
    if not scored.num_rows:
        there = ", ".join(sorted(set(rows["split"].to_pylist())))
        raise InputError(
            f"score.splits: no clip of the manifest is in {', '.join(section.splits)}; its "
            f"{rows.num_rows} clips are in {there}"
        )
    mask = is_scored(rows, section.splits).to_numpy()
    return ScoredRows(rows, scored, mask.astype(np.bool_))
