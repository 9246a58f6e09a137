"""Score tables of several systems brought together by `clip_id`, never by order.

Shapes: S systems, N clips, C classes.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from audioflow.errors import TableError

COLUMNS = ("clip_id", "labels", "split", "scores")
"""What of a score table is joined; its other columns need not be there."""

_FACTS = ("labels", "split")


@dataclass(frozen=True)
class Joined:
    """Every clip that any of the systems scored, sorted by `clip_ids`.

    `scores` is float32 (S, N, C) with NaN rows where a system lacks the clip; `available` is bool
    (S, N). `systems` and `classes` name their axes.
    """

    clip_ids: list[str]
    labels: list[list[str]]
    splits: list[str]
    scores: NDArray[np.float32]
    available: NDArray[np.bool_]
    systems: tuple[str, ...]
    classes: tuple[str, ...]

    def take(self, rows: NDArray[np.intp]) -> "Joined":
        """The clips at these places."""
        return replace(
            self,
            clip_ids=[self.clip_ids[row] for row in rows],
            labels=[self.labels[row] for row in rows],
            splits=[self.splits[row] for row in rows],
            scores=self.scores[:, rows],
            available=self.available[:, rows],
        )


def join_scores(tables: Mapping[str, pa.Table], classes: Mapping[str, Sequence[str]]) -> Joined:
    """Full outer join of score tables (`tables.scores_schema`) on `clip_id`.

    `classes` has each table's class order; the result has that of the first table. Raises
    `TableError` where class sets differ, a table lacks a column, value or class order, has a score
    that is not finite, has a clip twice, or where tables disagree on a clip's labels or split.
    """
    systems = tuple(tables)
    if not systems:
        raise TableError("there is no score table to join")
    order = class_order(systems, classes)
    values_SC = [
        _ordered(_scores(name, tables[name], len(order)), classes[name], order) for name in systems
    ]
    frame = pl.DataFrame({"clip_id": []}, schema={"clip_id": pl.String})
    for index, name in enumerate(systems):
        frame = frame.join(
            _keys(name, tables[name], index), on="clip_id", how="full", coalesce=True
        )
    frame = frame.sort("clip_id")
    for fact in _FACTS:
        frame = _agreed(frame, fact, systems)
    scores_SNC = np.full((len(systems), len(frame), len(order)), np.nan, np.float32)
    available_SN = np.zeros(scores_SNC.shape[:2], np.bool_)
    for index, values in enumerate(values_SC):
        found = frame[f"row_{index}"]
        available_SN[index] = found.is_not_null().to_numpy()
        scores_SNC[index, available_SN[index]] = values[found.drop_nulls().to_numpy()]
    return Joined(
        clip_ids=frame["clip_id"].to_list(),
        labels=frame["labels"].to_list(),
        splits=frame["split"].to_list(),
        scores=scores_SNC,
        available=available_SN,
        systems=systems,
        classes=order,
    )


def class_order(systems: Sequence[str], classes: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """The first system's classes; raises `TableError` where not all systems have the same ones."""
    for name in systems:
        if name not in classes:
            raise TableError(f"the class order of score table {name!r} is not given")
        for label, times in Counter(classes[name]).most_common(1):
            if times > 1:
                raise TableError(f"score table {name!r} has class {label!r} {times} times")
    first = systems[0]
    for name in systems[1:]:
        missing = sorted(set(classes[first]) - set(classes[name]))
        added = sorted(set(classes[name]) - set(classes[first]))
        if missing or added:
            only = [(first, missing), (name, added)]
            parts = [f"only {owner!r} has {', '.join(found)}" for owner, found in only if found]
            raise TableError(
                f"score tables {first!r} and {name!r} have different classes: {'; '.join(parts)}; "
                "train both systems on the same labels"
            )
    return tuple(classes[first])


def _scores(name: str, table: pa.Table, num_classes: int) -> NDArray[np.float32]:
    """The scores of one table (rows, C) in its own class order."""
    for column in COLUMNS:
        if column not in table.column_names:
            raise TableError(f"score table {name!r} has no column {column!r}")
        if table[column].null_count:
            raise TableError(f"score table {name!r}: column {column!r} has a row without a value")
    kind = table.schema.field("scores").type
    if not pa.types.is_fixed_size_list(kind) or kind.list_size != num_classes:
        raise TableError(
            f"score table {name!r}: column 'scores' is {kind}, expected a list of {num_classes} "
            "float (one for each class)"
        )
    flat = table["scores"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
    values = np.asarray(flat, np.float32).reshape(-1, num_classes)
    finite = np.isfinite(values)
    for row, column in np.argwhere(~finite)[:1] if not finite.all() else ():
        clip = table["clip_id"][int(row)].as_py()
        raise TableError(f"score table {name!r}: clip {clip!r} has score {values[row, column]}")
    return values


def _ordered(
    values: NDArray[np.float32], own: Sequence[str], order: Sequence[str]
) -> NDArray[np.float32]:
    """The scores (rows, C) of classes in their `own` order, in another."""
    if list(own) == list(order):
        return values
    places = {label: place for place, label in enumerate(own)}
    return values[:, [places[label] for label in order]]


def _keys(name: str, table: pa.Table, index: int) -> pl.DataFrame:
    """The columns of one table that are joined; `row_<index>` is where the clip's scores are."""
    frame = pl.DataFrame(pl.from_arrow(table.select(["clip_id", *_FACTS])))
    twice = frame.filter(pl.col("clip_id").is_duplicated())
    if len(twice):
        clip = twice["clip_id"].min()
        times = len(twice.filter(pl.col("clip_id") == clip))
        raise TableError(f"score table {name!r} has clip {clip!r} {times} times")
    return frame.select(
        pl.col("clip_id").cast(pl.String),
        pl.col("labels").cast(pl.List(pl.String)).alias(f"labels_{index}"),
        pl.col("split").cast(pl.String).alias(f"split_{index}"),
        pl.int_range(pl.len()).alias(f"row_{index}"),
    )


def _agreed(frame: pl.DataFrame, fact: str, systems: Sequence[str]) -> pl.DataFrame:
    """`frame` with the column `fact` on which all tables that have the clip agree."""
    columns = [f"{fact}_{index}" for index in range(len(systems))]
    frame = frame.with_columns(pl.coalesce(columns).alias(fact))
    for column, name in zip(columns, systems, strict=True):
        other, own = pl.col(fact), pl.col(column)
        if fact == "labels":
            other, own = other.list.sort(), own.list.sort()
        # A null is a clip that this table lacks: the comparison is null, and the row is not kept.
        for row in frame.filter(own != other).head(1).iter_rows(named=True):
            owner = next(
                system
                for system, candidate in zip(systems, columns, strict=True)
                if row[candidate] is not None
            )
            raise TableError(
                f"clip {row['clip_id']!r} has {fact} {row[fact]!r} in score table {owner!r} "
                f"and {row[column]!r} in {name!r}: score both on the same manifest"
            )
    return frame
