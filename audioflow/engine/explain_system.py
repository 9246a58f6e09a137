"""One trained system of a run, with what is needed to explain it. Without Ray.

Shapes: N vectors of a clip, D width of a layer.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from audioflow.embeddings import layer_rows
from audioflow.engine.listening import Listening
from audioflow.errors import InputError, TableError
from audioflow.explain.logits import all_logits
from audioflow.neighbours.streaming import shard_with
from audioflow.registry import nearest
from audioflow.shards import may_hold
from audioflow.storage import Folder
from audioflow.systems.bundle import HeadBundle, HeadSpec
from audioflow.systems.ensemble import Heads
from audioflow.tables import Header, Table
from audioflow.verify.places import subfolders


@dataclass(frozen=True)
class ClipRow:
    """A clip of the manifest."""

    clip_id: str
    uri: str
    start_s: float | None
    duration_s: float | None
    labels: list[str]
    split: str
    fold: str | None


@dataclass(frozen=True)
class SystemOfRun:
    """A system whose head is trained: its tables, its heads, and the backbone they are on."""

    folder: Folder
    name: str
    heads: Heads
    embeddings: Table
    embeddings_header: Header
    head_header: Header

    @classmethod
    def load(cls, folder: Folder, name: str) -> "SystemOfRun":
        """Raises `InputError` where there is no such system, `TableError` where its tables are not
        there or do not belong together."""
        there = subfolders(folder / "heads")
        if name not in there:
            raise InputError(_unknown(folder, name, there))
        heads = Heads.load(folder / "heads" / name)
        spec = heads.first.spec
        table = Table(folder / "embeddings" / spec.backbone)
        header = table.complete_header()
        if spec.embeddings != header.settings["vectors"]:
            raise TableError(
                f"head {name!r} was trained on vectors of fingerprint {spec.embeddings}, "
                f"embeddings/{spec.backbone} has {header.settings['vectors']}; train it again"
            )
        head_header = Table(folder / "heads" / name).complete_header()
        return cls(folder, name, heads, table, header, head_header)

    @property
    def spec(self) -> HeadSpec:
        """Of any of its heads."""
        return self.heads.first.spec

    @property
    def manifest(self) -> Table:
        return Table(self.folder / "manifest")

    @cached_property
    def listening(self) -> Listening:
        """Its backbone."""
        return Listening(self.embeddings_header, self.folder.options)

    def heads_for(self, clip: ClipRow) -> list[HeadBundle]:
        """Those that score the clip: of its fold, or all."""
        if clip.fold is not None and clip.fold in self.heads.members:
            return [self.heads.members[clip.fold]]
        return list(self.heads.members.values())

    def clips(self, ids: Sequence[str]) -> list[ClipRow]:
        """Clips of the manifest, in this order; raises `InputError` for one that is not there."""
        wanted = pa.array(list(ids), pa.string())
        names = list(ClipRow.__dataclass_fields__)
        found: dict[str, ClipRow] = {}
        for _, rows in self.manifest.shards(names):
            for row in rows.filter(pc.is_in(rows["clip_id"], wanted)).to_pylist():
                found[row["clip_id"]] = ClipRow(**row)
        for clip_id in ids:
            if clip_id not in found:
                raise InputError(f"the manifest has no clip {clip_id!r}")
        return [found[clip_id] for clip_id in ids]

    def layers(self, clip: ClipRow) -> dict[str, Tensor]:
        """What the table has of a clip: layer name -> (N, D)."""
        name = shard_with(self.embeddings, clip.clip_id, lambda one: may_hold(one, clip.clip_id))
        if name is None:
            raise InputError(
                f"clip {clip.clip_id!r} has no embedding in {self.spec.backbone}: `audioflow "
                "failures` tells why"
            )
        return self.layers_in(self.rows_in(name, [clip.clip_id]))

    def layers_in(self, rows: pa.Table) -> dict[str, Tensor]:
        """The layers of the clip that is the only row."""
        return {
            layer: torch.from_numpy(layer_rows(rows, layer).vectors.copy())
            for layer in self.spec.layers
        }

    def rows_in(self, shard: str, ids: Iterable[str]) -> pa.Table:
        """Rows of clips as recorded, with the columns that the heads read."""
        columns = list(dict.fromkeys([*self.heads.columns, *self.spec.layers]))
        rows = self.embeddings.read_shard(shard, columns)
        wanted = pc.is_in(rows["clip_id"], pa.array(list(ids), pa.string()))
        return rows.filter(pc.and_(wanted, pc.equal(rows["variant"], 0))).combine_chunks()

    def rows_of(self, ids: Sequence[str]) -> pa.Table:
        """Rows of several clips, in the order of the table; fewer where some have none."""
        names = [one.name for one in self.embeddings_header.shards if one.rows]
        return pa.concat_tables([self.rows_in(name, ids) for name in names])

    def scores(self, clip: ClipRow, layers: Mapping[str, Tensor]) -> dict[str, float]:
        """The logit of every class of a clip."""
        with torch.no_grad():
            found: list[float] = all_logits(self.heads_for(clip), layers)[0].tolist()
        return dict(zip(self.spec.classes, found, strict=True))

    def parents(self) -> dict[str, str]:
        """Fingerprints of the tables that an explanation is of."""
        return {
            f"heads/{self.name}": self.head_header.fingerprint,
            f"embeddings/{self.spec.backbone}": self.embeddings_header.fingerprint,
        }


def _unknown(folder: Folder, name: str, there: Sequence[str]) -> str:
    scored: Any = Table(folder / "scores" / name).header()
    if scored is not None and "systems" in scored.settings:
        parts = ", ".join(scored.settings["systems"])
        return f"{name!r} is fused from {parts}: explain one of these"
    hint = nearest(name, there)
    return (
        f"{folder.url} has no trained system {name!r}; there are: {', '.join(there) or 'none'}"
        + (f"; did you mean {hint!r}?" if hint else "")
    )
