"""What tests do with decoders: collect what they give, and decoders that do harm.

Shapes: N samples, F frames.
"""

import os
import signal
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from audioflow.errors import MediaError
from audioflow.media.parts import End, FrameSampling, Part, PicturesPart, SoundPart, Source, Wanted
from audioflow.media.pictures import Pictures
from audioflow.media.pyav import PyAV
from audioflow.media.spans import Span


@dataclass(frozen=True)
class Sound:
    """The sound of one clip: waveforms (N,) by sample rate, length, share that was decoded."""

    waveforms: dict[int, NDArray[np.int16]]
    duration_s: float
    coverage: float


@dataclass(frozen=True)
class ClipMedia:
    """What came of one clip; an error stands where a source gave nothing."""

    sound: Sound | MediaError | None
    pictures: dict[FrameSampling, Pictures | MediaError]


def collect(parts: Iterable[Part], count: int, wanted: Wanted) -> list[ClipMedia]:
    """Parts put together, clip by clip. Checks that every source of every clip ends, and once."""
    given: dict[tuple[int, Source], list[Part]] = {}
    ends: dict[tuple[int, Source], End] = {}
    for part in parts:
        key = (part.clip, part.source)
        assert key not in ends, f"{key} had ended"
        if isinstance(part, End):
            ends[key] = part
        else:
            given.setdefault(key, []).append(part)
    assert set(ends) == {(clip, source) for clip in range(count) for source in wanted.sources}
    return [
        ClipMedia(
            _sound(clip, wanted, given, ends),
            {
                one: _pictures(given.get((clip, one), []), ends[clip, one])
                for one in wanted.samplings
            },
        )
        for clip in range(count)
    ]


def _sound(clip, wanted, given, ends) -> Sound | MediaError | None:
    waveforms = {}
    end = None
    for rate in wanted.sample_rates_hz:
        end = ends[clip, rate]
        if end.error:
            return end.error
        blocks = given[clip, rate]
        assert all(isinstance(block, SoundPart) for block in blocks)
        waveforms[rate] = np.concatenate([block.samples for block in blocks])
    return Sound(waveforms, end.duration_s, end.coverage) if end else None


def _pictures(parts, end: End) -> Pictures | MediaError:
    if end.error:
        return end.error
    assert all(isinstance(part, PicturesPart) for part in parts)
    frames = np.concatenate([part.frames for part in parts])
    time_s = np.concatenate([part.time_s for part in parts])
    assert len(frames) == len(time_s)
    return Pictures(frames, time_s, end.duration_s, end.coverage)


def decode_recording(path, spans: Sequence[Span], wanted: Wanted, decoder=PyAV) -> list[ClipMedia]:
    """Everything that a decoder gives of a recording, in this process."""
    parts = decoder(decoder.Settings()).decode(str(path), spans, wanted)
    return collect(parts, len(spans), wanted)


class Segfaulting:
    """PyAV, but for files whose name says what is to happen: "segfault", "hang", "bomb".

    "late" in the name beside it: after the first part was given.
    """

    Settings = PyAV.Settings

    def __init__(self, settings) -> None:
        self._usual = PyAV(settings)

    def decode(self, path: str, spans: Sequence[Span], wanted: Wanted) -> Iterator[Part]:
        name = Path(path).name
        if "late" not in name:
            _harm(name)
        for part in self._usual.decode(path, spans, wanted):
            yield part
            if "late" in name and isinstance(part, End):
                yield from many(part.clip)
                _harm(name)


def many(clip: int) -> Iterator[Part]:
    """As much as fills a message: what was given before is out of the child."""
    yield SoundPart(clip, -1, np.zeros(8 * 2**20, np.int16))


def _harm(name: str) -> None:
    if "segfault" in name:
        os.kill(os.getpid(), signal.SIGSEGV)
    if "hang" in name:
        time.sleep(3600)
    if "bomb" in name:
        hoard = []
        while True:
            hoard.append(bytearray(2**26))


class Counting(PyAV):
    """Leaves a mark beside every file that it decodes."""

    def decode(self, path: str, spans: Sequence[Span], wanted: Wanted) -> Iterator[Part]:
        with Path(f"{path}.decoded").open("a") as mark:
            mark.write("x")
        yield from super().decode(path, spans, wanted)
