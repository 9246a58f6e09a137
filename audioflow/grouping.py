"""What must not straddle splits: the groups of clips, and the columns that decide where they go."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from audioflow.clip_columns import ClipColumns, Rows
from audioflow.errors import InputError
from audioflow.recipe import ManifestSection
from audioflow.registry import nearest

_SHOWN = 5

Item = TypeVar("Item")


@dataclass(frozen=True)
class GroupedClips:
    """Clips in the order of their ids, and their groups: by name, and by number (N,)."""

    columns: ClipColumns
    groups: Rows
    numbers: NDArray[np.int32]
    section: ManifestSection
    source: str

    def __len__(self) -> int:
        return len(self.columns)

    def first_of_groups(self, places: NDArray[np.int64]) -> NDArray[np.int64]:
        """By group, the first of the clips at these rising places; -1 where it has none."""
        first = np.full(int(self.numbers.max(initial=-1)) + 1, -1)
        first[self.numbers[places[::-1]]] = places[::-1]
        return first


def columns_used(section: ManifestSection) -> list[str]:
    """The readers' columns that decide groups, splits or folds."""
    named = [section.splits.column, section.splits.folds]
    if section.group_by != "recording" and not section.group_by.startswith("regex:"):
        named.append(section.group_by)
    return list(dict.fromkeys(name for name in named if isinstance(name, str)))


def with_groups(columns: ClipColumns, section: ManifestSection, source: str) -> GroupedClips:
    """The clips with what must not straddle splits; raises `InputError` where nothing says it."""
    groups = _groups(columns, section.group_by)
    ranks = pc.rank(groups, tiebreaker="dense").to_numpy()  # from 1; alike where groups are
    return GroupedClips(columns, groups, ranks.astype(np.int32) - 1, section, source)


def _groups(columns: ClipColumns, group_by: str) -> Rows:
    if group_by == "recording":
        return recordings(columns)
    if group_by.startswith("regex:"):
        return _matched(columns, group_by)
    groups = columns.columns[group_by]
    empty = first_where(pc.fill_null(pc.equal(groups, ""), False))
    absent = first_where(pc.is_null(groups))
    if absent is not None and (empty is None or absent < empty):
        raise _no_column(columns, absent, group_by, "manifest.group_by")
    if empty is not None:
        raise _no_group(columns, empty, group_by)
    return groups


def recordings(columns: ClipColumns) -> Rows:
    """What every clip was cut from: as its reader says, or its file."""
    told, uris = columns.rows["group"], columns.rows["uri"]
    return uris if told.null_count == len(told) else pc.coalesce(told, uris)


def _matched(columns: ClipColumns, group_by: str) -> Rows:
    """Groups by a pattern in the clip ids."""
    pattern = re.compile(group_by.removeprefix("regex:"))
    place = 1 if pattern.groups else 0
    chunks: list[pa.Array] = []
    row = 0
    for ids in columns.rows["clip_id"].chunks:
        names = []
        for clip_id in ids.to_pylist():
            found = pattern.search(clip_id)
            if not found:
                raise InputError(
                    f"manifest.group_by: {group_by!r} matches nothing in the clip id {clip_id!r} "
                    f"({columns.origin(row)})"
                )
            if not found.group(place):
                raise _no_group(columns, row, group_by)
            names.append(found.group(place))
            row += 1
        chunks.append(pa.array(names, pa.string()))
    return pa.chunked_array(chunks, pa.string())


def _no_group(columns: ClipColumns, row: int, group_by: str) -> InputError:
    return InputError(
        f"manifest.group_by: {group_by!r} gives clip {columns.text('clip_id', row)!r} an empty "
        f"group ({columns.origin(row)}); every clip needs one"
    )


def column_of(columns: ClipColumns, name: str, key: str) -> Rows:
    """A column of the reader; raises `InputError` where a clip has none of that name."""
    column = columns.columns[name]
    absent = first_where(pc.is_null(column))
    if absent is not None:
        raise _no_column(columns, absent, name, key)
    return column


def _no_column(columns: ClipColumns, row: int, name: str, key: str) -> InputError:
    names = columns.shape(row)
    there = ", ".join(names) or "none (this reader has no columns)"
    hint = nearest(name, names)
    return InputError(
        f"{key}: there is no column {name!r} at {columns.origin(row)}; columns: {there}"
        + (f"; did you mean {hint!r}?" if hint else "")
    )


def first_where(mask: Rows) -> int | None:
    """The first row that is true."""
    row = pc.index(mask, pa.scalar(True)).as_py()
    return None if row < 0 else int(row)


def encoded(column: Rows) -> tuple[NDArray[np.int32], list[str]]:
    """Texts (N,) as places in a list of all that there are."""
    words = column.unique()
    codes = pc.index_in(column, value_set=words).to_numpy()
    return codes.astype(np.int32), words.to_pylist()


def some_of(items: Sequence[Item], told: Callable[[Item], str] = str) -> str:
    """The first few, and how many more there are, for messages."""
    more = f" and {len(items) - _SHOWN} more" if len(items) > _SHOWN else ""
    return ", ".join(map(told, items[:_SHOWN])) + more
