"""The backbone actor of the job `embed`."""

import json
import socket
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import pyarrow as pa
import torch

from audioflow.backbones import BACKBONES
from audioflow.backbones.base import Limits, embed_pictures, embed_sound
from audioflow.embeddings import ClipEmbedding, embedding_rows
from audioflow.errors import MediaError
from audioflow.media.packing import unpack_pictures, unpack_sound
from audioflow.media.patches import Patching
from audioflow.media.pictures import FrameSampling
from audioflow.storage import Folder
from audioflow.tables import Failure, Receipt, Table


@dataclass(frozen=True)
class BackboneSpec:
    """One embeddings table and the backbone that fills it, small enough to send anywhere."""

    table: str
    backbone: str
    options: Mapping[str, Any]
    url: str
    min_coverage: float
    num_gpus: float = 0.0

    @cached_property
    def plugin(self) -> Any:
        return BACKBONES.build(self.backbone, self.options)

    @property
    def input(self) -> Patching | FrameSampling:
        found: Patching | FrameSampling = self.plugin.input
        return found

    @property
    def layers(self) -> dict[str, int]:
        return dict(self.plugin.layers)

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key != "plugin"}


class EmbedShard:
    """An actor that holds one backbone, embeds the shards it is given and writes them."""

    def __init__(self, spec: BackboneSpec, spent: Sequence[str]) -> None:
        """spent: columns that no later backbone reads, dropped from what is passed on."""
        gpu = spec.num_gpus > 0 and torch.cuda.is_available()
        if not gpu:
            torch.set_num_threads(1)
        self._spec = spec
        self._spent = set(spent) | {f"{name}_meta" for name in spent}
        self._device = torch.device("cuda" if gpu else "cpu")
        self._backbone = spec.plugin
        self._backbone.to(self._device)
        self._limits = Limits(min_coverage=spec.min_coverage)
        self._table = Table(Folder(spec.url))
        self._node = socket.gethostname()

    def __call__(self, row: pa.Table) -> pa.Table:
        name = json.loads(row["todo"][0].as_py()).get(self._spec.table)
        receipts = json.loads(row["receipts"][0].as_py())
        if name is not None:
            receipts[self._spec.table] = asdict(self._commit(row, name))
        position = row.column_names.index("receipts")
        row = row.set_column(position, "receipts", pa.array([json.dumps(receipts)]))
        return row.select([column for column in row.column_names if column not in self._spent])

    def _commit(self, row: pa.Table, name: str) -> Receipt:
        found = self._embed(row)
        ids, uris = row["clip_id"][0].as_py(), row["uri"][0].as_py()
        good: list[tuple[str, ClipEmbedding]] = []
        failures: list[Failure] = []
        for clip_id, uri, clip in zip(ids, uris, found, strict=True):
            if isinstance(clip, MediaError):
                failures.append(
                    Failure(clip_id, uri, "decode", clip.error, clip.reason, node=self._node)
                )
            else:
                good.append((clip_id, clip))
        rows = embedding_rows([i for i, _ in good], [c for _, c in good], self._spec.layers)
        media_s = sum(clip.duration_s for _, clip in good)
        return self._table.commit(name, rows, failures, media_s)

    def _embed(self, row: pa.Table) -> list[ClipEmbedding | MediaError]:
        columns = {name: row[name].combine_chunks() for name in row.column_names}
        source = self._spec.input
        if isinstance(source, Patching):
            sounds = unpack_sound(columns, source.sample_rate_hz)
            return embed_sound(self._backbone, sounds, self._device, self._limits)
        pictures = unpack_pictures(columns, source)
        return embed_pictures(self._backbone, pictures, self._device, self._limits)
