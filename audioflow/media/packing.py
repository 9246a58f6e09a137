"""A shard's decoded media as Arrow rows, the form in which it travels from decoder to backbone.

Most shards are one row. A shard with hours of media is several, of bounded size: long clips are cut
into windows of `WINDOW_S`, each with what came right before it, so that no patch is lost. In a row,
the arrays of all windows stand end to end in one binary column per source, with what is known of
each beside them.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from audioflow.errors import MediaError
from audioflow.media.parts import (
    FramePatching,
    FrameSampling,
    Part,
    PicturesPart,
    SoundPart,
    SoundSource,
    Source,
    rate_of,
)
from audioflow.media.patches import FrameStretch, Patching, Stretch

WINDOW_S = 600
"""Where clips are cut depends on nothing else, so that it is the same in every run."""
ROW_BYTES = 64 * 2**20

_END = pa.struct(
    [
        ("duration_s", pa.float64()),
        ("coverage", pa.float64()),
        ("error", pa.string()),
        ("reason", pa.string()),
        ("attempts", pa.int32()),
        ("stage", pa.string()),
    ]
)
_META = pa.struct(
    [
        ("clip", pa.int32()),
        ("first", pa.int64()),
        ("done_to", pa.int64()),
        ("begins_s", pa.float64()),
        ("shape", pa.list_(pa.int32())),
        ("time_s", pa.list_(pa.float64())),
        ("end", _END),
    ]
)


@dataclass(frozen=True)
class ClipEnd:
    """How a clip ended: its length and the share that was decoded, or why it gives no result."""

    duration_s: float = 0.0
    coverage: float = 0.0
    error: str | None = None
    reason: str | None = None
    attempts: int = 1
    stage: str = "decode"

    @classmethod
    def failed(cls, stage: str, error: MediaError) -> "ClipEnd":
        """The end of a clip that gives no result."""
        return cls(error=error.error, reason=error.reason, attempts=error.attempts, stage=stage)


@dataclass(frozen=True)
class SoundWindow:
    """A stretch of a clip's waveform at one rate, a view into the row; `end` with its last one.

    begins_s: where the waveform begins, in seconds from the start of the clip.
    """

    clip: int
    stretch: Stretch
    end: ClipEnd | None
    begins_s: float = 0.0


@dataclass(frozen=True)
class PicturesWindow:
    """Some frames of a clip, a view into the row; `end` with its last ones."""

    clip: int
    stretch: FrameStretch
    end: ClipEnd | None


@dataclass(frozen=True)
class Sources:
    """What is decoded of a shard's clips, and how much of it runs up to where a window begins:
    samples of a waveform (by its source), frames of a sampling."""

    run_up: Mapping[SoundSource, int]
    frames_run_up: Mapping[FrameSampling, int]

    @classmethod
    def of(cls, inputs: Sequence[Patching | FramePatching]) -> "Sources":
        """What backbones with these inputs need."""
        run_up: dict[SoundSource, int] = {}
        frames: dict[FrameSampling, int] = {}
        for item in inputs:
            if isinstance(item, Patching):
                run_up[item.source] = max(run_up.get(item.source, 0), item.run_up_samples)
            else:
                frames[item.sampling] = max(frames.get(item.sampling, 0), item.run_up_frames)
        by_column = sorted(frames.items(), key=lambda pair: pictures_column(pair[0]))
        by_rate = sorted(run_up.items(), key=lambda pair: sound_column(pair[0]))
        return cls(dict(by_rate), dict(by_column))

    @property
    def samplings(self) -> tuple[FrameSampling, ...]:
        return tuple(self.frames_run_up)

    @property
    def all(self) -> tuple[Source, ...]:
        return (*self.run_up, *self.samplings)


def sound_column(source: SoundSource) -> str:
    """Name of the column that holds the waveforms at a rate."""
    return f"sound_{source}" if isinstance(source, int) else f"sound_{source.sample_rate_hz}_exact"


def pictures_column(sampling: FrameSampling) -> str:
    """Name of the column that holds the frames taken in this way."""
    count = f"{sampling.fps:g}fps" if sampling.fps else str(sampling.num_frames)
    return f"pictures_{count}_{sampling.short_side}"


def source_column(source: Source) -> str:
    """Name of the column that holds what is decoded of this source."""
    if isinstance(source, FrameSampling):
        return pictures_column(source)
    return sound_column(source)


def input_column(source: Patching | FramePatching) -> str:
    """Name of the column that a backbone with this input reads."""
    return source_column(source.source if isinstance(source, Patching) else source.sampling)


@dataclass
class _Open:
    """A clip of which more may come: arrays not yet in a row, and the places of a stretch."""

    arrays: list[NDArray[Any]] = field(default_factory=list)
    times: list[NDArray[np.float64]] = field(default_factory=list)
    size: int = 0
    first: int = 0
    done_to: int = 0
    begins_s: float = 0.0


@dataclass(frozen=True)
class _Closed:
    """A window that is ready for a row."""

    array: NDArray[Any] | None
    meta: dict[str, Any]


class Packer:
    """Takes the parts of a shard's clips as they are decoded, gives rows of bounded size."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources
        self._open: dict[tuple[int, Source], _Open] = {}
        self._ready: dict[Source, list[_Closed]] = {source: [] for source in sources.all}
        self._bytes = 0

    def add(self, part: Part, stage: str = "decode") -> None:
        """Take the next part of a clip; where it is an error, it happened at this stage."""
        key = (part.clip, part.source)
        state = self._open.setdefault(key, _Open())
        if isinstance(part, SoundPart):
            self._add_sound(part, state)
        elif isinstance(part, PicturesPart):
            self._add_pictures(part, state)
        else:
            end = ClipEnd(part.duration_s, part.coverage)
            if part.error is not None:
                end = ClipEnd.failed(stage, part.error)
            self._close(part.clip, part.source, state, end)
            del self._open[key]

    def _add_sound(self, part: SoundPart, state: _Open) -> None:
        window, run_up = WINDOW_S * rate_of(part.source), self._sources.run_up[part.source]
        samples = part.samples
        state.begins_s = part.begins_s
        while samples.size:
            taken = samples[: state.done_to + window - state.first - state.size]
            state.arrays.append(taken)
            state.size += taken.size
            samples = samples[taken.size :]
            if state.first + state.size == state.done_to + window:
                joined = _one(state.arrays)
                self._close(part.clip, part.source, _joined(state, joined), None)
                end, kept = state.first + joined.size, joined[-run_up:]
                state = _Open([kept.copy()], [], kept.size, end - kept.size, end, part.begins_s)
                self._open[part.clip, part.source] = state

    def _add_pictures(self, part: PicturesPart, state: _Open) -> None:
        state.arrays.append(part.frames)
        state.times.append(part.time_s)
        state.size += part.nbytes
        if state.size < ROW_BYTES:
            return
        frames, time_s = _one(state.arrays), _one(state.times)
        self._close(part.clip, part.source, state, None)
        run_up = min(self._sources.frames_run_up[part.source], len(frames))
        kept, end = frames[len(frames) - run_up :].copy(), state.first + len(frames)
        self._open[part.clip, part.source] = _Open(
            [kept] if run_up else [],
            [time_s[len(frames) - run_up :]] if run_up else [],
            0,  # what was in a window before does not fill the next one
            end - run_up,
            end,
        )

    def _close(self, clip: int, source: Source, state: _Open, end: ClipEnd | None) -> None:
        array = _one(state.arrays) if state.arrays else None
        time_s = _one(state.times) if state.times else None
        meta = {
            "clip": clip,
            "first": state.first,
            "done_to": state.done_to,
            "begins_s": state.begins_s,
            "shape": list(array.shape) if array is not None else None,
            "time_s": time_s.tolist() if time_s is not None else None,
            "end": asdict(end) if end else None,
        }
        self._ready[source].append(_Closed(array, meta))
        self._bytes += array.nbytes if array is not None else 0

    @property
    def full(self) -> bool:
        """Whether there is enough for a row."""
        return self._bytes >= ROW_BYTES

    def columns(self) -> dict[str, pa.Array]:
        """One row with everything that is ready; it is forgotten here."""
        columns: dict[str, pa.Array] = {}
        for source, ready in self._ready.items():
            name = source_column(source)
            ready.sort(key=lambda window: (window.meta["clip"], window.meta["first"]))
            data = b"".join(w.array.data for w in ready if w.array is not None and w.array.size)
            columns[name] = _binary(data)
            columns[f"{name}_meta"] = pa.array([[w.meta for w in ready]], pa.list_(_META))
            self._ready[source] = []
        self._bytes = 0
        return columns


def _one(arrays: Sequence[NDArray[Any]]) -> NDArray[Any]:
    return np.concatenate(arrays) if len(arrays) > 1 else np.ascontiguousarray(arrays[0])


def _binary(data: bytes) -> pa.Array:
    """A column of one value, which is not copied."""
    offsets = pa.py_buffer(np.array([0, len(data)], np.int64))
    return pa.Array.from_buffers(pa.large_binary(), 1, [None, offsets, pa.py_buffer(data)])


def _joined(state: _Open, samples: NDArray[Any]) -> _Open:
    return replace(state, arrays=[samples], size=samples.size)


def unpack_sound(row: Mapping[str, pa.Array], source: SoundSource) -> list[SoundWindow]:
    """The waveforms of one source from a packed row (its columns, one value each)."""
    found = []
    dtype = np.int16 if isinstance(source, int) else np.float32
    for array, meta, end in _unpack(row, sound_column(source), dtype):
        samples = array if array is not None else np.zeros(0, dtype)
        stretch = Stretch(samples, meta["first"], meta["done_to"], whole=end is not None)
        found.append(SoundWindow(meta["clip"], stretch, end, meta["begins_s"]))
    return found


def unpack_pictures(row: Mapping[str, pa.Array], sampling: FrameSampling) -> list[PicturesWindow]:
    """The frames taken in one way from a packed row (its columns, one value each)."""
    found = []
    for array, meta, end in _unpack(row, pictures_column(sampling), np.uint8):
        frames = array if array is not None else np.zeros((0, 1, 1, 3), np.uint8)
        time_s = np.asarray(meta["time_s"] or [], np.float64)
        places = (meta["first"], meta["done_to"])
        stretch = FrameStretch(frames, time_s, *places, whole=end is not None)
        found.append(PicturesWindow(meta["clip"], stretch, end))
    return found


def _unpack(
    row: Mapping[str, pa.Array], name: str, dtype: Any
) -> Iterator[tuple[NDArray[Any] | None, dict[str, Any], ClipEnd | None]]:
    flat = np.frombuffer(memoryview(row[name][0].as_buffer()), dtype=dtype)
    position = 0
    for meta in row[f"{name}_meta"][0].as_py():
        end = ClipEnd(**meta["end"]) if meta["end"] else None
        if meta["shape"] is None:
            yield None, meta, end
            continue
        size = int(np.prod(meta["shape"]))
        yield flat[position : position + size].reshape(meta["shape"]), meta, end
        position += size
