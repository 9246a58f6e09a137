"""What a fusion knows of clips beside their scores: folds and groups of the manifest, and quality.

Shapes: n clips, Q columns of quality.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from audioflow.cut import Cut, Sorted, by_part
from audioflow.engine.tasks import Each
from audioflow.fusion import Block, QualityColumn, quality_rows
from audioflow.join import Joined
from audioflow.storage import Folder
from audioflow.tables import Table

_SHARDS_PER_TASK = 64
"""Of embeddings: small files, of which a few columns are read."""


Known = Mapping[str, pa.Table]
"""`fold` or `quality` -> `clip_id` and a column of that name; only what the fusion needs."""


@dataclass(frozen=True, eq=False)
class Facts:
    """What is known of clips, sorted by part. It is on the driver: some bytes beside each id."""

    kept: Mapping[str, Sorted]

    @classmethod
    def by_part(cls, known: Known, cut: Cut) -> "Facts":
        """To be handed out part by part."""
        return cls({name: by_part(rows, cut) for name, rows in known.items()})

    def of(self, part: int) -> Known:
        """What is known of the clips of a part."""
        return {name: rows.copy_of(part) for name, rows in self.kept.items()}


def manifest_facts(manifest: Table, clip_ids: Sequence[str] | None = None) -> pa.Table:
    """`clip_id`, `fold` and `group` of the manifest's clips: of all in folds, or of those named."""
    wanted = pa.array(clip_ids or [], pa.string())
    found = []
    for _, rows in manifest.shards(["clip_id", "fold", "group"]):
        folded = clip_ids is None
        keep = pc.is_valid(rows["fold"]) if folded else pc.is_in(rows["clip_id"], wanted)
        found.append(rows.filter(keep))
    return pa.concat_tables(found)


@dataclass(frozen=True)
class QualityTable:
    """The embeddings that tell of the clips' quality, and which of their columns."""

    folder: Folder
    columns: Sequence[QualityColumn]


def quality_of(table: QualityTable, each: Each) -> pa.Table:
    """`clip_id` and `quality` (Q float64) of all clips of an embeddings table."""
    names = [shard.name for shard in Table(table.folder).complete_header().shards]
    groups = [
        names[start : start + _SHARDS_PER_TASK] for start in range(0, len(names), _SHARDS_PER_TASK)
    ]
    return pa.concat_tables(rows for _, rows in each(_quality, table, groups))


def _quality(table: QualityTable, shards: Sequence[str]) -> pa.Table:
    columns = dict.fromkeys(["clip_id", "variant", *(one.column for one in table.columns)])
    found = []
    for shard in shards:
        rows = Table(table.folder).read_shard(shard, list(columns))
        clip_ids, values_nQ = quality_rows(rows, table.columns)
        flat = pa.array(values_nQ.reshape(-1), pa.float64())
        quality = pa.FixedSizeListArray.from_arrays(flat, len(table.columns))
        found.append(pa.table({"clip_id": pa.array(clip_ids, pa.string()), "quality": quality}))
    return pa.concat_tables(found)


def block_of(joined: Joined, known: Known) -> Block:
    """The joined clips as a fusion takes them; what is not known of a clip is NaN, or no fold."""
    folds = quality = None
    if "fold" in known:
        folds = looked_up(joined, known["fold"], "fold").to_pylist()
    if "quality" in known:
        column = looked_up(joined, known["quality"], "quality")
        width = column.type.list_size
        quality = np.full((len(column), width), np.nan)
        there_n = np.asarray(column.is_valid())
        quality[there_n] = np.asarray(column.drop_null().flatten()).reshape(-1, width)
    return Block(joined.scores, joined.available, quality, folds)


def looked_up(joined: Joined, rows: pa.Table, name: str) -> pa.Array:
    """A column of rows with a `clip_id`, for the joined clips; null where a clip is not there."""
    ids, values = rows["clip_id"].combine_chunks(), rows[name].combine_chunks()
    return values.take(pc.index_in(pa.array(joined.clip_ids, pa.string()), ids))
