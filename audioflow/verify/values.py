"""Values of rows that cannot be: embeddings that are not finite, scores outside of [0, 1].

Shapes: R rows of a shard, D width of a layer, C classes. Columns are read one by one, so that a
shard with many layers is never in memory as a whole.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from audioflow.scores import score_matrix


def embedding_problems(file: pq.ParquetFile, layers: Sequence[str]) -> Iterator[tuple[int, str]]:
    """(row, what is wrong) for every layer without a finite vector per patch."""
    for layer in layers:
        column = _column(file, layer)
        lengths_R = np.asarray(pc.fill_null(pc.list_value_length(column), 0), np.int64)
        for row in np.flatnonzero(lengths_R == 0).tolist():
            yield row, f"has no vector of layer {layer!r}"
        for row in np.flatnonzero(_not_finite(column, lengths_R)).tolist():
            yield row, f"has NaN, infinity or nothing in layer {layer!r}"


def _not_finite(column: pa.Array, lengths_R: NDArray[np.int64]) -> NDArray[np.bool_]:
    vectors = column.flatten()
    good = np.array(vectors.is_valid())
    flat = vectors.flatten().to_numpy(zero_copy_only=False)  # without the vectors that are null
    good[good] = np.isfinite(flat.reshape(-1, vectors.type.list_size)).all(axis=1)
    owners = np.repeat(np.arange(len(lengths_R)), lengths_R)
    found = np.zeros(len(lengths_R), np.bool_)
    found[owners[~good]] = True
    return found


def score_problems(
    file: pq.ParquetFile, classes: Sequence[str], systems: Sequence[str] | None
) -> Iterator[tuple[int, str]]:
    """(row, what is wrong); `systems` are those that a fused table may have used."""
    rows = file.read(columns=["scores", "predicted", "score"])
    if not rows.num_rows:
        return
    scores_RC = score_matrix(rows)
    yield from _outside(scores_RC, "score")
    places = pc.index_in(rows["predicted"], pa.array(classes, pa.string()))
    places_R = pc.fill_null(places, -1).to_numpy()
    told_R = rows["score"].to_numpy()
    differs_R = told_R != scores_RC[np.arange(len(told_R)), places_R]
    for row in np.flatnonzero((places_R < 0) | differs_R & np.isfinite(told_R)).tolist():
        name = rows["predicted"][row].as_py()
        if places_R[row] < 0:
            yield row, f"is predicted to be {name!r}, which is not among the classes"
        else:
            yield row, f"has the score {told_R[row]:g} for {name!r}, but not in its scores"
    if systems is not None:
        yield from _unknown_systems(file, systems)
    if "raw_scores" in file.schema_arrow.names:
        raw_RC = score_matrix(file.read(columns=["raw_scores"]), "raw_scores")
        yield from _outside(raw_RC, "score before calibration")
    if "above_threshold" in file.schema_arrow.names:
        yield from _unknown_classes(file, classes)


def _outside(scores_RC: NDArray[np.float32], what: str) -> Iterator[tuple[int, str]]:
    for row in np.flatnonzero(~((scores_RC >= 0) & (scores_RC <= 1)).all(axis=1)).tolist():
        worst = next(value for value in scores_RC[row].tolist() if not 0 <= value <= 1)
        yield row, f"has the {what} {worst:g}, expected 0 to 1"


def _unknown_classes(file: pq.ParquetFile, classes: Sequence[str]) -> Iterator[tuple[int, str]]:
    """Classes above their threshold that there are not."""
    column, known = _column(file, "above_threshold"), pa.array(classes, pa.string())
    rows, names = pc.list_parent_indices(column), column.flatten()
    for place in np.flatnonzero(~np.asarray(pc.is_in(names, known))).tolist():
        name = names[place].as_py()
        yield rows[place].as_py(), f"is above the threshold of {name!r}, which is not a class"


def _unknown_systems(file: pq.ParquetFile, systems: Sequence[str]) -> Iterator[tuple[int, str]]:
    known, column = set(systems), _column(file, "available")
    strange = ~np.asarray(pc.is_in(column.flatten(), pa.array(systems, pa.string())))
    odd_R = np.asarray(pc.list_value_length(column)) == 0
    odd_R[np.asarray(pc.list_parent_indices(column))[strange]] = True
    for row in np.flatnonzero(odd_R).tolist():
        names = column[row].as_py()
        unknown = sorted(set(names) - known)
        if unknown:
            yield row, f"names the system {unknown[0]!r}, fused are {', '.join(systems)}"
        elif not names:
            yield row, "names no system that it was fused from"


def _column(file: pq.ParquetFile, name: str) -> pa.Array:
    column = file.read(columns=[name])[name].combine_chunks()
    if isinstance(column, pa.ChunkedArray):  # no chunk at all
        return pa.array([], column.type)
    return column
