"""Clips of further data sets beside those of the manifest's own."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from audioflow.clip_columns import ClipColumns, Rows
from audioflow.division import Parts
from audioflow.errors import InputError
from audioflow.grouping import first_where, recordings
from audioflow.manifest_rows import Placing, manifest_rows, order_of_ids

_PLACES = ["uri", "clip_id", "split", "fold", "source"]


@dataclass(frozen=True)
class Addition:
    """Clips of a further data set, which all belong to one split."""

    name: str
    split: str
    clips: ClipColumns


def taught(additions: Sequence[Addition]) -> set[str]:
    """The classes that additions have train clips of."""
    trained = [one.clips.used_labels() for one in additions if one.split == "train"]
    return {label for labels in trained for label in labels}


def added(additions: Sequence[Addition], main: pa.Table) -> list[pa.Table]:
    """The rows of all additions, after making sure that they can stand beside those of `main`."""
    tables = [main]
    for addition in additions:
        order_of_ids(addition.clips)
        tables.append(_rows(addition, tables))
    return tables[1:]


def _rows(addition: Addition, before: Sequence[pa.Table]) -> pa.Table:
    clips, count = addition.clips, len(addition.clips)
    placing = Placing(
        ids=_prefixed(addition.name, clips.rows["clip_id"]),
        splits=Parts.all_in(addition.split, count),
        folds=Parts.all_in(None, count),
        groups=_prefixed(addition.name, recordings(clips)),
        source=addition.name,
    )
    clash = _clash(placing, before[0])
    straddling = _straddling(clips.rows["uri"], addition.split, before)
    if clash is not None and (straddling is None or clash[0] <= straddling[0]):
        row, what = clash
        raise InputError(
            f"manifest.extra.{addition.name}: the {what} ({clips.origin(row)}) is one of the main "
            f"data set, too; give {addition.name!r} another name"
        )
    if straddling is not None:
        row, other = straddling
        part = f"fold {other['fold']}" if other["fold"] is not None else other["split"]
        raise InputError(
            f"manifest.extra.{addition.name}: the recording {other['uri']!r} is in "
            f"{addition.split} here ({clips.origin(row)}), and in {part} as {other['clip_id']!r} "
            f"of {other['source']!r}; take it out of one of them, or what is tested was learnt"
        )
    return manifest_rows(clips, placing)


def _prefixed(name: str, texts: Rows) -> Rows:
    chunks = [pc.binary_join_element_wise(name, chunk, "/") for chunk in texts.chunks]
    return pa.chunked_array(chunks, pa.string())


def _clash(placing: Placing, main: pa.Table) -> tuple[int, str] | None:
    """The first clip whose id or group the main data set has, and which of the two it is."""
    same_id = _first_common(placing.ids, main["clip_id"])
    same_group = _first_common(placing.groups, main["group"])
    if same_id is not None and (same_group is None or same_id <= same_group):
        return same_id, f"clip id {placing.ids[same_id].as_py()!r}"
    if same_group is not None:
        return same_group, f"group {placing.groups[same_group].as_py()!r}"
    return None


def _first_common(few: Rows, many: Rows) -> int | None:
    common = many.filter(_is_in(many, few))
    return first_where(_is_in(few, common)) if len(common) else None


def _straddling(
    uris: Rows, split: str, before: Sequence[pa.Table]
) -> tuple[int, dict[str, str | None]] | None:
    """The first clip whose recording is in another split or fold already, and as what it is."""
    parts: dict[str, dict[str, str | None]] = {}
    for number, table in enumerate(before):
        there = table.select(_PLACES).filter(_is_in(table["uri"], uris)).to_pylist()
        # Of clips of one recording, the last of the main data set is told, the first of others.
        for row in reversed(there) if number == 0 else there:
            parts.setdefault(row["uri"], row)
    if not parts:
        return None
    rows = np.flatnonzero(_is_in(uris, pa.chunked_array([list(parts)], pa.string())).to_numpy())
    for row in rows.tolist():
        other = parts[uris[row].as_py()]
        if (other["split"], other["fold"]) != (split, None):
            return row, other
    return None


def _is_in(texts: Rows, values: Rows) -> Rows:
    return pc.is_in(texts, value_set=values)
