"""What is known of a clip's sound, off the rows of an embeddings table.

Shapes: n clips, Q quality columns, D width of the layer.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from audioflow.fusion.base import Float
from audioflow.recipe_fuse import PLAIN_QUALITIES, QualityChoice

LAYER = "embedding"


@dataclass(frozen=True)
class QualityColumn:
    """One quality: the table's `column`, and in one of vectors the place `index`."""

    name: str
    column: str
    index: int = 0


def quality_names(backbone: Any) -> tuple[list[str], list[str]]:
    """All that may be asked of tables that a backbone (or its class) has made, and the default:
    the coverage, and what the backbone itself names under `QUALITY`."""
    named = list(getattr(backbone, "COLUMN_NAMES", {}).get(LAYER, ()))
    return [*PLAIN_QUALITIES, *named], ["coverage", *getattr(backbone, "QUALITY", ())]


def quality_columns(choice: QualityChoice, backbone: Any) -> list[QualityColumn]:
    """The columns that a recipe asks for, of a table that `backbone` (or its class) has made.

    Raises `ValueError` for one that the table does not have.
    """
    known, default = quality_names(backbone)
    found = []
    for name in choice.columns or default:
        if name not in known:
            raise ValueError(f"{name!r} is not one of {', '.join(known)}")
        index = known.index(name) - len(PLAIN_QUALITIES)
        found.append(QualityColumn(name, name if index < 0 else LAYER, max(index, 0)))
    return found


def quality_rows(rows: pa.Table, columns: Sequence[QualityColumn]) -> tuple[list[str], Float]:
    """Clip ids and qualities (n, Q) of the clips as recorded (variant 0).

    A place of a vector is the mean over the patches of the clip, NaN for a clip without any.
    """
    rows = rows.filter(pc.equal(rows["variant"], 0)).combine_chunks()
    found_nQ = np.full((rows.num_rows, len(columns)), np.nan)
    if any(one.column == LAYER for one in columns):
        patch_clip_P, vectors_PD = _vectors(rows[LAYER])
        count_n = np.bincount(patch_clip_P, minlength=rows.num_rows)
    for place, one in enumerate(columns):
        if one.column != LAYER:
            found_nQ[:, place] = rows[one.column].to_numpy()
            continue
        total_n = np.bincount(patch_clip_P, vectors_PD[:, one.index], rows.num_rows)
        np.divide(total_n, count_n, out=found_nQ[:, place], where=count_n > 0)
    return rows["clip_id"].to_pylist(), found_nQ


def _vectors(column: pa.ChunkedArray) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Which clip each patch is of, (P,), and its vector, (P, D)."""
    lists = column.combine_chunks()
    lists = lists.chunk(0) if isinstance(lists, pa.ChunkedArray) else lists
    width = lists.type.value_type.list_size
    flat = lists.flatten().flatten().to_numpy(zero_copy_only=False)
    lengths_n = pc.fill_null(pc.list_value_length(lists), 0).to_numpy(zero_copy_only=False)
    return np.repeat(np.arange(len(lists)), lengths_n), flat.reshape(-1, width)
