"""The clips that are scored, out of the manifest of a run."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from audioflow.engine.run import Run
from audioflow.errors import InputError
from audioflow.pieces import in_one_piece
from audioflow.scores import as_scored, is_scored, split_of_folds

_COLUMNS = "clip_id uri start_s duration_s labels split fold size_bytes version".split()
"""What shards are planned by, what is decoded, and what stands in score tables."""


@dataclass(frozen=True)
class ScoredRows:
    """Rows of the manifest, N of them.

    manifest: all, in one piece. mask: bool (N,), which are scored. folded: the split as which clips
    in folds are.
    """

    manifest: pa.Table
    mask: NDArray[np.bool_]
    folded: str

    def scored(self) -> pa.Table:
        """Those that are, with the split as which they are: a copy, made when it is asked for."""
        return as_scored(self.manifest.filter(pa.array(self.mask)), self.folded)


def scored_rows(run: Run) -> ScoredRows:
    """What of the manifest is scored; raises `InputError` where nothing is."""
    section = run.recipe.score
    assert section is not None
    rows = in_one_piece(run.manifest().read(_COLUMNS))
    mask = is_scored(rows, section.splits).to_numpy().astype(np.bool_)
    if not mask.any():
        there = ", ".join(sorted(rows["split"].unique().to_pylist()))
        raise InputError(
            f"score.splits: no clip of the manifest is in {', '.join(section.splits)}; its "
            f"{rows.num_rows} clips are in {there}"
        )
    return ScoredRows(rows, mask, split_of_folds(rows))
