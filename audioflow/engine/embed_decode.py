"""The decode task of the job `embed`; without torch, so that its workers start fast, stay small."""

import json
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from audioflow.engine.pulse import Pulse
from audioflow.errors import MediaError
from audioflow.media.child import DecoderChild
from audioflow.media.packing import Packer, Sources
from audioflow.media.parts import End, FramePatching, Source, Wanted
from audioflow.media.patches import Patching
from audioflow.media.spans import Span
from audioflow.storage import StorageOptions, copies_ahead
from audioflow.timing import Times

BYTES = "bytes"
"""What is counted of the recordings that are opened: their size."""

_child: DecoderChild | None = None


@dataclass(frozen=True)
class DecodeTask:
    """What every decode task is told.

    inputs: what the backbone of every table takes. wanted: how to decode; its sources are set for
    each recording.
    """

    inputs: Mapping[str, Patching | FramePatching]
    wanted: Wanted
    timeout_s: float
    memory_gb: float
    storage: StorageOptions


def decode_shard(row: pa.Table, task: DecodeTask, pulse: Pulse) -> Iterator[pa.Table]:
    """A work item with the decoded media of its clips, as one row; as several if that is much.

    A work item names the tables that need its clips; nothing is decoded for the others.
    """
    packer = Packer(Sources.of(list(task.inputs.values())))
    number = 0
    for _ in _decode(row, task, packer, pulse):
        if packer.full:
            yield with_media(row, packer, number, pulse.take_times(), last=False)
            number += 1
    yield with_media(row, packer, number, pulse.take_times(), last=True)


def with_media(row: pa.Table, packer: Packer, number: int, times: Times, *, last: bool) -> pa.Table:
    """A work item with what the packer holds, as its part `number`; times: what that took."""
    columns = {
        "times": pa.array([times.to_text()], pa.string()),
        "part": pa.array([number], pa.int32()),
        "last": pa.array([last], pa.bool_()),
        "node": pa.array([socket.gethostname()], pa.string()),
    }
    for name, column in (columns | packer.columns()).items():
        row = row.append_column(name, column)
    return row


def _decode(row: pa.Table, task: DecodeTask, packer: Packer, pulse: Pulse) -> Iterator[None]:
    """Fill the packer with the media of all clips, recording by recording."""
    child = decoder(task)
    starts, durations = row["start_s"][0].as_py(), row["duration_s"][0].as_py()
    ids = row["clip_id"][0].as_py()
    todo: dict[str, dict[str, Any]] = json.loads(row["todo"][0].as_py())
    places = {table: work["todo"] for table, work in todo.items()}
    recordings = _recordings(row, places)
    with copies_ahead(list(recordings), task.storage) as following:
        for positions in recordings.values():
            wanted = _wanted(places, positions, task)
            spans = [Span(starts[position], durations[position]) for position in positions]
            with pulse.at("fetch", ids[positions[0]]) as at:
                stage = "fetch"
                try:
                    with following() as path:
                        stage = "decode"
                        pulse.count(BYTES, _size(path))
                        at("decode")
                        for parts in child.decode(path, spans, wanted):
                            for part in parts:
                                packer.add(replace(part, clip=positions[part.clip]))
                            yield
                            at("decode")
                except MediaError as error:
                    for position in positions:
                        _fail(packer, position, wanted.sources, stage, error)
                    yield
            pulse.finished += len(positions)


def _size(path: str) -> int:
    """The bytes of a recording on this machine; 0 where it cannot be read, which is told later."""
    with suppress(OSError):
        return Path(path).stat().st_size
    return 0


def _fail(
    packer: Packer, position: int, sources: tuple[Source, ...], stage: str, error: MediaError
) -> None:
    for source in sources:
        packer.add(End(position, source, error=error), stage)


def _recordings(row: pa.Table, places: Mapping[str, Sequence[int] | None]) -> dict[str, list[int]]:
    """Positions of the clips that any table needs, by uri."""
    found: dict[str, list[int]] = {}
    for position, uri in enumerate(row["uri"][0].as_py()):
        if any(mine is None or position in mine for mine in places.values()):
            found.setdefault(uri, []).append(position)
    return found


def _wanted(
    places: Mapping[str, Sequence[int] | None], positions: list[int], task: DecodeTask
) -> Wanted:
    """The sources that any table needs of any of these clips."""
    tables = [
        table
        for table, mine in places.items()
        if mine is None or not set(mine).isdisjoint(positions)
    ]
    needed = Sources.of([task.inputs[table] for table in tables])
    return replace(task.wanted, sample_rates_hz=tuple(needed.run_up), samplings=needed.samplings)


def decoder(task: DecodeTask) -> DecoderChild:
    """This worker's child: started by its first task, kept for all that follow."""
    global _child  # noqa: PLW0603 - a worker process keeps one child over many tasks
    if _child is None or (_child.timeout_s, _child.memory_gb) != (task.timeout_s, task.memory_gb):
        if _child is not None:
            _child.close()
        _child = DecoderChild(task.timeout_s, task.memory_gb)
    return _child
