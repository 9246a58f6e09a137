"""Decoded frames -> mono samples.

Shapes: C channels, N samples. Channels are mixed by their mean.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from av.audio.frame import AudioFrame
from numpy.typing import NDArray

_DTYPES = {"u8": "u1", "s16": "i2", "s32": "i4", "s64": "i8", "flt": "f4", "dbl": "f8"}


def layout(frame: AudioFrame) -> tuple[int, str, int]:
    """What frames must have in common to be joined: rate, sample format, number of channels."""
    return frame.sample_rate, frame.format.name, frame.layout.nb_channels


def mono(frames: Sequence[AudioFrame]) -> NDArray[np.float32]:
    """Frames of one layout -> mono float32 (N,). Integer formats are scaled to [-1, 1]."""
    joined = _channels(frames)
    kind = joined.dtype
    with np.errstate(over="ignore", invalid="ignore"):  # float files may hold NaN, Inf or 1e300
        floats = joined.astype(np.float32)
        mixed = floats.mean(axis=0) if len(floats) > 1 else floats[0]
    if kind == np.uint8:
        mixed = (mixed - 128.0) / 128.0
    elif np.issubdtype(kind, np.integer):
        mixed = mixed / float(2 ** (8 * kind.itemsize - 1))
    return mixed


def _channels(frames: Sequence[AudioFrame]) -> NDArray[Any]:
    """The samples (C, N) of frames. PyAV's own `to_ndarray` crashes on 8 and more planes: it takes
    what follows the list of planes for more of them (seen in PyAV 18.1)."""
    count = frames[0].layout.nb_channels
    dtype = _DTYPES[frames[0].format.packed.name]
    if frames[0].format.is_packed:
        parts = [np.frombuffer(memoryview(f.planes[0]), dtype)[: f.samples * count] for f in frames]
        return np.concatenate(parts).reshape(-1, count).T
    planes = [(frame.planes, frame.samples) for frame in frames]
    channels = [
        np.concatenate([np.frombuffer(memoryview(p[place]), dtype)[:n] for p, n in planes])
        for place in range(count)
    ]
    return np.stack(channels) if count > 1 else channels[0][None]
