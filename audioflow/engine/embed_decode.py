"""The decode task of the job `embed`; without torch, so that its workers start fast, stay small."""

import json
import socket
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa

from audioflow.engine.embed_pulse import BoardRef, Pulse
from audioflow.errors import MediaError
from audioflow.media.child import DecoderChild
from audioflow.media.packing import Packer, Sources
from audioflow.media.parts import End, FramePatching, Source, Wanted
from audioflow.media.patches import Patching
from audioflow.media.spans import Span
from audioflow.storage import StorageOptions, local_copy

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
    board: BoardRef


def decode_shard(row: pa.Table, task: DecodeTask) -> Iterator[pa.Table]:
    """A work item with the decoded media of its clips, as one row; as several if that is much.

    A work item names the tables that need its clips; nothing is decoded for the others.
    """
    packer = Packer(Sources.of(list(task.inputs.values())))
    number = 0
    for _ in _decode(row, task, packer):
        if packer.full:
            yield _with(row, packer, number, last=False)
            number += 1
    yield _with(row, packer, number, last=True)


def _with(row: pa.Table, packer: Packer, number: int, *, last: bool) -> pa.Table:
    columns = {
        "part": pa.array([number], pa.int32()),
        "last": pa.array([last], pa.bool_()),
        "node": pa.array([socket.gethostname()], pa.string()),
    }
    for name, column in (columns | packer.columns()).items():
        row = row.append_column(name, column)
    return row


def _decode(row: pa.Table, task: DecodeTask, packer: Packer) -> Iterator[None]:
    """Fill the packer with the media of all clips, recording by recording."""
    child = _decoder(task)
    pulse = Pulse.of(task.board)
    starts, durations = row["start_s"][0].as_py(), row["duration_s"][0].as_py()
    ids = row["clip_id"][0].as_py()
    todo: dict[str, dict[str, Any]] = json.loads(row["todo"][0].as_py())
    places = {table: work["todo"] for table, work in todo.items()}
    for uri, positions in _recordings(row, places).items():
        wanted = _wanted(places, positions, task)
        spans = [Span(starts[position], durations[position]) for position in positions]
        with pulse.at("fetch", ids[positions[0]]) as at:
            stage = "fetch"
            try:
                with local_copy(uri, task.storage) as path:
                    stage = "decode"
                    at("decode")
                    for parts in child.decode(path, spans, wanted):
                        for part in parts:
                            packer.add(replace(part, clip=positions[part.clip]))
                        at("decode")
                        yield
            except MediaError as error:
                for position in positions:
                    _fail(packer, position, wanted.sources, stage, error)
                yield
        pulse.finished(len(positions))


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


def _decoder(task: DecodeTask) -> DecoderChild:
    """This worker's child: started by its first task, kept for all that follow."""
    global _child  # noqa: PLW0603 - a worker process keeps one child over many tasks
    if _child is None or (_child.timeout_s, _child.memory_gb) != (task.timeout_s, task.memory_gb):
        if _child is not None:
            _child.close()
        _child = DecoderChild(task.timeout_s, task.memory_gb)
    return _child
