"""A shard's decoded media as one Arrow row, the form in which it travels from decoder to backbone.

Arrays of all clips stand end to end in one binary column per kind, with their shapes beside them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from audioflow.errors import MediaError
from audioflow.media.decode import ClipMedia
from audioflow.media.patches import Patching
from audioflow.media.pictures import FrameSampling, Pictures
from audioflow.media.sound import Sound

_META = pa.struct(
    [
        ("duration_s", pa.float64()),
        ("coverage", pa.float32()),
        ("error", pa.string()),
        ("reason", pa.string()),
        ("shape", pa.list_(pa.int32())),
        ("time_s", pa.list_(pa.float64())),
    ]
)


@dataclass(frozen=True)
class Waveform:
    """One clip's mono waveform at one rate, int16 (N,), still a view into the row's buffer."""

    samples: NDArray[np.int16]
    duration_s: float
    coverage: float


def sound_column(sample_rate_hz: int) -> str:
    """Name of the column that holds the waveforms at this rate."""
    return f"sound_{sample_rate_hz}"


def pictures_column(sampling: FrameSampling) -> str:
    """Name of the column that holds the frames taken in this way."""
    return f"pictures_{sampling.num_frames}x{sampling.short_side}"


def input_column(source: Patching | FrameSampling) -> str:
    """Name of the column that a backbone with this input reads."""
    if isinstance(source, Patching):
        return sound_column(source.sample_rate_hz)
    return pictures_column(source)


def pack(
    clips: Sequence[ClipMedia], sample_rates_hz: Sequence[int], samplings: Sequence[FrameSampling]
) -> dict[str, pa.Array]:
    """Columns (of one row each) with everything decoded of a shard's clips, in their order."""
    columns: dict[str, pa.Array] = {}
    for rate in sample_rates_hz:
        parts = [_sound_part(clip.sound, rate) for clip in clips]
        columns |= _pack(sound_column(rate), parts)
    for sampling in samplings:
        parts = [_pictures_part(clip.pictures.get(sampling)) for clip in clips]
        columns |= _pack(pictures_column(sampling), parts)
    return columns


Part = tuple[NDArray[Any] | None, dict[str, Any]]


def _failed(error: MediaError | None) -> Part:
    if error is None:
        error = MediaError("internal", "the decoder returned nothing for this clip")
    return None, {"error": error.error, "reason": error.reason}


def _sound_part(sound: Sound | MediaError | None, rate: int) -> Part:
    if not isinstance(sound, Sound):
        return _failed(sound)
    samples = sound.waveforms[rate]
    meta: dict[str, Any] = {
        "duration_s": sound.duration_s,
        "coverage": sound.coverage,
        "shape": samples.shape,
    }
    return samples, meta


def _pictures_part(pictures: Pictures | MediaError | None) -> Part:
    if not isinstance(pictures, Pictures):
        return _failed(pictures)
    meta: dict[str, Any] = {"duration_s": pictures.duration_s, "coverage": pictures.coverage}
    meta |= {"shape": pictures.frames.shape, "time_s": pictures.time_s}
    return pictures.frames, meta


def _pack(name: str, parts: Sequence[Part]) -> dict[str, pa.Array]:
    data = b"".join(array.tobytes() for array, _ in parts if array is not None)
    meta = [{key: _plain(value) for key, value in meta.items()} for _, meta in parts]
    return {
        name: pa.array([data], pa.large_binary()),
        f"{name}_meta": pa.array([meta], pa.list_(_META)),
    }


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple | np.ndarray) else value


def unpack_sound(row: Mapping[str, pa.Array], sample_rate_hz: int) -> list[Waveform | MediaError]:
    """The waveforms at one rate from a packed row (its columns, one value each)."""
    found: list[Waveform | MediaError] = []
    for array, meta in _unpack(row, sound_column(sample_rate_hz), np.int16):
        if array is None:
            found.append(MediaError(meta["error"], meta["reason"]))
        else:
            found.append(Waveform(array, meta["duration_s"], meta["coverage"]))
    return found


def unpack_pictures(
    row: Mapping[str, pa.Array], sampling: FrameSampling
) -> list[Pictures | MediaError]:
    """The frames taken in one way from a packed row (its columns, one value each)."""
    found: list[Pictures | MediaError] = []
    for array, meta in _unpack(row, pictures_column(sampling), np.uint8):
        if array is None:
            found.append(MediaError(meta["error"], meta["reason"]))
        else:
            time_s = np.asarray(meta["time_s"], np.float64)
            found.append(Pictures(array, time_s, meta["duration_s"], meta["coverage"]))
    return found


def _unpack(row: Mapping[str, pa.Array], name: str, dtype: Any) -> list[tuple[Any, dict[str, Any]]]:
    buffer = memoryview(row[name][0].as_buffer())
    flat = np.frombuffer(buffer, dtype=dtype)
    found: list[tuple[Any, dict[str, Any]]] = []
    position = 0
    for meta in row[f"{name}_meta"][0].as_py():
        if meta["error"] is not None:
            found.append((None, meta))
            continue
        size = int(np.prod(meta["shape"]))
        found.append((flat[position : position + size].reshape(meta["shape"]), meta))
        position += size
    return found
