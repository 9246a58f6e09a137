"""The decode task of the job `embed`; without torch, so that its workers start fast, stay small."""

import json
from collections.abc import Mapping

import pyarrow as pa

from audioflow.errors import MediaError
from audioflow.media.child import DecoderChild
from audioflow.media.decode import ClipMedia, Wanted
from audioflow.media.packing import pack
from audioflow.media.patches import Patching
from audioflow.media.pictures import FrameSampling
from audioflow.media.sound import Span
from audioflow.storage import local_copy

_child: DecoderChild | None = None


def decode_shard(
    row: pa.Table,
    inputs: Mapping[str, Patching | FrameSampling],
    timeout_s: float,
    memory_gb: float,
    max_duration_s: float,
) -> pa.Table:
    """One work item with the decoded media of its clips added.

    inputs: what the backbone of every table takes; a work item names the tables that still need it,
    and nothing is decoded for the others.
    """
    everything = Wanted.of(inputs.values(), max_duration_s)
    todo = json.loads(row["todo"][0].as_py())
    needed = Wanted.of([inputs[table] for table in todo], max_duration_s)
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
