"""A backbone in a worker of the job `embed`, and the actor that holds one on a GPU."""

import json
import socket
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import torch

from audioflow.backbones.base import Input
from audioflow.backbones.ready import Ready, made_ready
from audioflow.backbones.running import Heard, embed_pictures, embed_sound
from audioflow.backbones.tuning import limits_for
from audioflow.engine.embed_commit import Committer
from audioflow.engine.embed_pulse import BoardRef, TellingPulse
from audioflow.engine.embed_work import Embedded, ShardClips, Work, clips_in, times_of, works_of
from audioflow.engine.node_names import on_this_node
from audioflow.engine.pulse import Pulse
from audioflow.engine.score_target import Target
from audioflow.errors import AudioflowError, InputError
from audioflow.media.augment import augmented
from audioflow.media.memory import keep_freed_memory
from audioflow.media.packing import (
    ClipEnd,
    SoundWindow,
    input_column,
    unpack_pictures,
    unpack_sound,
)
from audioflow.media.patches import Patching, Stretch
from audioflow.places import input_url
from audioflow.recipe_augment import AugmentSection
from audioflow.storage import Folder
from audioflow.tables import Receipt, Table

if TYPE_CHECKING:
    from audioflow.engine.score_commit import ScoreCommitter


@dataclass(frozen=True)
class BackboneSpec:
    """One embeddings table and the backbone that fills it, small enough to send anywhere.

    weights: hashes of the files its settings name, as found where the job was started. targets: the
    score tables that are filled instead, by heads on its embeddings, which are not kept then.
    num_gpus: of an actor. reduced: whether the precision `auto` is bfloat16; as num_gpus says where
    it is None.
    """

    table: str
    backbone: str
    options: Mapping[str, Any]
    folder: Folder
    min_coverage: float
    num_gpus: float = 0.0
    augment: AugmentSection | None = None
    weights: Mapping[str, str] | None = None
    targets: tuple[Target, ...] = ()
    reduced: bool | None = None

    def on_gpu(self, num_gpus: float) -> "BackboneSpec":
        """The same with another share of a GPU, which gives the same vectors."""
        if num_gpus == self.num_gpus:
            return self
        reduced = self.num_gpus > 0 if self.reduced is None else self.reduced
        found = replace(self, num_gpus=num_gpus, reduced=reduced)
        found.__dict__["ready"] = self.ready  # hashes of weights may have taken long
        return found

    @property
    def tables(self) -> tuple[str, ...]:
        """The names of the tables that it fills."""
        return tuple(target.name for target in self.targets) or (self.table,)

    @cached_property
    def ready(self) -> Ready:
        """The backbone. Raises `InputError` where the weights on this machine are others."""
        storage = self.folder.options
        on_gpu = self.num_gpus > 0 if self.reduced is None else self.reduced
        found = made_ready(self.backbone, self.options, storage, input_url, on_gpu=on_gpu)
        if self.weights is not None and found.hashes != self.weights:
            raise InputError(
                f"{self.table}: the weights on {socket.gethostname()} are not those of the machine "
                f"that started the job: {found.hashes} instead of {dict(self.weights)}. Put the "
                "same file on every node, or name it as s3://..."
            )
        return found

    @property
    def input(self) -> Input:
        found: Input = self.ready.backbone.input
        return found

    @property
    def layers(self) -> dict[str, int]:
        return dict(self.ready.backbone.layers)

    @property
    def committer(self) -> "Committer | ScoreCommitter":
        if not self.targets:
            return Committer(self.table, Table(self.folder), self.layers, self.min_coverage)
        from audioflow.engine.score_commit import ScoreCommitter  # brings the heads

        return ScoreCommitter.of(self.targets, self.layers, self.min_coverage)

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key != "ready"}


class Embedder:
    """One backbone in this process, and the tables that it fills.

    Of the works that it is given, by table, it does those of its own tables.
    """

    def __init__(self, spec: BackboneSpec, pulse: Pulse) -> None:
        gpu = spec.num_gpus > 0 and torch.cuda.is_available()
        if not gpu:
            keep_freed_memory()
            torch.set_num_threads(1)
            torch.set_flush_denormal(True)  # values of no consequence that take forty times as long
        self.spec = spec
        self._device = torch.device("cuda" if gpu else "cpu")
        self._pulse = pulse
        self._fault: AudioflowError | None = None
        try:
            self._backbone = spec.ready.backbone
            self._backbone.to(self._device)
            self._limits = limits_for(spec.ready, self._device)
            self._committer = spec.committer
            self._committer.prepare()
        except AudioflowError as error:
            # Raised here, it would end an actor that Ray starts again and again.
            self._fault = error

    def works(self, works: Mapping[str, Work]) -> dict[str, Work]:
        """Those of the works that are of its own tables."""
        return {table: works[table] for table in self.spec.tables if table in works}

    def embed(self, row: pa.Table, works: Mapping[str, Work], clips: ShardClips) -> Embedded:
        """What the backbone gives of the media in a row. Raises what kept it from being loaded."""
        if self._fault:
            raise self._fault
        fill = self._limits.fill
        patches, slots = fill.patches, fill.slots
        with self._pulse.at("embed", clips.ids[0], self.spec.table):
            found = self._embed(row, list(self.works(works).values()), clips)
        self._pulse.count(f"patches {self.spec.table}", fill.patches - patches)
        self._pulse.count(f"slots {self.spec.table}", fill.slots - slots)
        return found

    def write_part(
        self, works: Mapping[str, Work], clips: ShardClips, number: int, found: Embedded
    ) -> None:
        """Keep what is found of a part of a shard, until all its parts are there."""
        with self._pulse.at("write", clips.ids[0]):
            table, name = self._committer.keeper(self.works(works))
            table.write_part(name, number, found.to_rows(clips, self.spec.layers))

    def read_part(self, works: Mapping[str, Work], clips: ShardClips) -> Embedded:
        """The first part of a shard, as it was kept."""
        with self._pulse.at("read", clips.ids[0]):
            table, name = self._committer.keeper(self.works(works))
            (rows,) = table.read_parts(name, 1)
            return Embedded.from_rows(rows, clips, self.spec.layers)

    def drop_part(self, works: Mapping[str, Work]) -> None:
        """Remove the first part of a shard."""
        table, name = self._committer.keeper(self.works(works))
        table.remove_parts(name, 1)

    def commit(
        self, works: Mapping[str, Work], clips: ShardClips, found: Sequence[Embedded]
    ) -> dict[str, Receipt]:
        """Write the shard, put together from its parts, in every table."""
        times = clips.times
        with self._pulse.at("write" if not self.spec.targets else "score", clips.ids[0]):
            clips = replace(clips, times=lambda: times().of_table(self.spec.table))
            return self._committer.commit(self.works(works), clips, found)

    def _embed(self, row: pa.Table, works: Sequence[Work], clips: ShardClips) -> Embedded:
        wanted = {place for place in range(len(clips.ids)) if any(w.wants(place) for w in works)}
        source = self.spec.input
        name = input_column(source)
        columns = {key: row[key].combine_chunks() for key in (name, f"{name}_meta", "augment")}
        if not isinstance(source, Patching):
            pictures = unpack_pictures(columns, source.sampling)
            shown = [window for window in pictures if window.clip in wanted]
            ends = {window.clip: window.end for window in shown if window.end}
            found = embed_pictures(self._backbone, shown, self._device, self._limits)
            return Embedded(found, ends)
        windows = [w for w in unpack_sound(columns, source.source) if w.clip in wanted]
        ends = {window.clip: window.end for window in windows if window.end}
        augment = columns["augment"][0].as_py()
        heard = [
            item
            for window in windows
            if window.end is None or window.end.error is None
            for item in self._heard(window, source, clips.ids[window.clip], augment[window.clip])
        ]
        embedded = Embedded([], ends)
        for part in embed_sound(self._backbone, heard, self._device, self._limits):
            if isinstance(part, tuple):
                embedded.ends[part[0]] = ClipEnd.failed("embed", part[1])
            else:
                embedded.parts.append(part)
        return embedded

    def _heard(
        self, window: SoundWindow, source: Patching, clip_id: str, augment: bool
    ) -> Iterator[Heard]:
        """What is heard of a window: as recorded, and in every variant."""
        yield Heard(window.clip, window.stretch, offset_s=window.begins_s)
        section = self.spec.augment
        if section is None or not augment:
            return
        rate, stretch = source.sample_rate_hz, window.stretch
        samples = stretch.samples[stretch.done_to - stretch.first :]
        if not samples.size:
            return
        for variant in range(1, section.variants + 1):
            changed = augmented(samples, rate, section, clip_id, variant)
            offset_s = window.begins_s + stretch.done_to / rate
            yield Heard(window.clip, Stretch(changed), variant, offset_s)


class EmbedShard:
    """An actor of Ray Data's: embeds the shards it is given with one backbone, and writes them."""

    def __init__(self, spec: BackboneSpec, spent: Sequence[str], board: BoardRef | None) -> None:
        """spent: columns that no later backbone reads, dropped from what is passed on. board: where
        is told what takes long, None for nowhere."""
        self._pulse = TellingPulse.of(board) if board else Pulse()
        self._embedder = Embedder(spec, self._pulse)
        self._spent = set(spent) | {f"{name}_meta" for name in spent}

    def __call__(self, row: pa.Table) -> pa.Table:
        works = self._embedder.works(works_of(row))
        receipts = json.loads(row["receipts"][0].as_py())
        if works:
            with on_this_node():
                receipts |= self._do(row, works)
        row = _with(row, "receipts", json.dumps(receipts))
        row = _with(row, "times", (times_of(row) + self._pulse.take_times()).to_text())
        return row.select([column for column in row.column_names if column not in self._spent])

    def _do(self, row: pa.Table, works: Mapping[str, Work]) -> dict[str, Any]:
        """Commit the shard and give its receipts, or, of a shard in parts, write down the part."""
        clips = clips_in(row)
        number, last = row["part"][0].as_py(), row["last"][0].as_py()
        found = self._embedder.embed(row, works, clips)
        if number or not last:
            self._embedder.write_part(works, clips, number, found)
            return {table: {} for table in works}
        clips = replace(clips, times=lambda: times_of(row) + self._pulse.times())
        receipts = self._embedder.commit(works, clips, [found])
        return {table: asdict(receipt) for table, receipt in receipts.items()}


def _with(row: pa.Table, name: str, text: str) -> pa.Table:
    return row.set_column(row.column_names.index(name), name, pa.array([text], pa.string()))
