"""What runs on the workers of the job `embed`: the decode task and the backbone actor."""

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
from audioflow.media.child import DecoderChild
from audioflow.media.decode import ClipMedia, Wanted
from audioflow.media.packing import (
    pack,
    pictures_column,
    sound_column,
    unpack_pictures,
    unpack_sound,
)
from audioflow.media.patches import Patching
from audioflow.media.pictures import FrameSampling
from audioflow.media.sound import Span
from audioflow.storage import Folder, local_copy
from audioflow.tables import Failure, Receipt, Table

_child: DecoderChild | None = None


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

    @property
    def column(self) -> str:
        """The column of a decoded row that this backbone reads."""
        if isinstance(self.input, Patching):
            return sound_column(self.input.sample_rate_hz)
        return pictures_column(self.input)

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key != "plugin"}


def wanted(inputs: Sequence[Patching | FrameSampling], max_duration_s: float) -> Wanted:
    """What has to be decoded for these inputs."""
    rates = {item.sample_rate_hz for item in inputs if isinstance(item, Patching)}
    samplings = {item for item in inputs if isinstance(item, FrameSampling)}
    ordered = sorted(samplings, key=lambda item: (item.num_frames, item.short_side))
    return Wanted(tuple(sorted(rates)), tuple(ordered), max_duration_s)


def decode_shard(
    row: pa.Table,
    backbones: Mapping[str, BackboneSpec],
    timeout_s: float,
    memory_gb: float,
    max_duration_s: float,
) -> pa.Table:
    """One work item with the decoded media of its clips added, for the tables that need it."""
    everything = wanted([spec.input for spec in backbones.values()], max_duration_s)
    todo = json.loads(row["todo"][0].as_py())
    needed = wanted([backbones[table].input for table in todo], max_duration_s)
    clips = _decode(row, needed, _decoder(timeout_s, memory_gb))
    for name, column in pack(clips, everything.sample_rates_hz, everything.samplings).items():
        row = row.append_column(name, column)
    return row


def _decoder(timeout_s: float, memory_gb: float) -> DecoderChild:
    """This worker's child: started by its first task, kept for all that follow."""
    global _child  # noqa: PLW0603 - a worker process keeps one child over many tasks
    if _child is None or (_child.timeout_s, _child.memory_gb) != (timeout_s, memory_gb):
        if _child is not None:
            _child.close()
        _child = DecoderChild(timeout_s, memory_gb)
    return _child


def _decode(row: pa.Table, needed: Wanted, child: DecoderChild) -> list[ClipMedia]:
    uris = row["uri"][0].as_py()
    starts, durations = row["start_s"][0].as_py(), row["duration_s"][0].as_py()
    recordings: dict[str, list[int]] = {}
    for position, uri in enumerate(uris):
        recordings.setdefault(uri, []).append(position)
    found: dict[int, ClipMedia] = {}
    for uri, positions in recordings.items():
        spans = [Span(starts[position], durations[position]) for position in positions]
        try:
            with local_copy(uri) as path:
                decoded = child.decode(path, spans, needed)
        except MediaError as error:
            sound = error if needed.sample_rates_hz else None
            decoded = [ClipMedia(sound, dict.fromkeys(needed.samplings, error))] * len(spans)
        found.update(zip(positions, decoded, strict=True))
    return [found[position] for position in range(len(uris))]


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
