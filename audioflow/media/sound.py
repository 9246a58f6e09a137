"""Sound of a recording -> mono waveforms at the sample rates that are wanted.

Shapes: C channels, N samples. Channels are mixed by their mean, resampling is soxr HQ, and
waveforms leave as int16 (full scale 32767), the form in which they travel between processes.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import av
import av.error
import numpy as np
import soxr
from av.audio.frame import AudioFrame
from av.container import InputContainer
from numpy.typing import NDArray

from audioflow.errors import MediaError
from audioflow.media.claims import claimed_duration_s, late_start_s
from audioflow.media.container import message, packets
from audioflow.media.spans import Span
from audioflow.media.windows import Cut, Piece, Window

FULL_SCALE = 32767.0
_BATCH_FRAMES = 64
_UNSUPPORTED = (av.error.PatchWelcomeError, av.error.DecoderNotFoundError)
_SEEKABLE = frozenset(("wav", "w64", "aiff", "flac", "mov", "matroska"))
"""Formats whose time stamps say exactly which sample a packet begins with."""
_WORTH_SEEKING_S = 20.0
_DTYPES = {"u8": "u1", "s16": "i2", "s32": "i4", "s64": "i8", "flt": "f4", "dbl": "f8"}
_RUN_UP_S = 1.0
"""After a jump, lossy decoders need some packets before they give what they would have given."""


@dataclass(frozen=True)
class Sound:
    """Decoded sound of one clip: waveforms by sample rate (Hz), length, share that was decoded."""

    waveforms: dict[int, NDArray[np.int16]]
    duration_s: float
    coverage: float


def read_sound(
    container: InputContainer,
    spans: Sequence[Span],
    sample_rates_hz: Sequence[int],
    max_duration_s: float,
) -> list[Sound | MediaError]:
    """The sound of every span of one recording, decoded once.

    A span that gave nothing, or that is longer than `max_duration_s`, is a `MediaError` in its
    place. Raises `MediaError` where the whole recording has no sound: `no_audio`, `unsupported`,
    `truncated`.
    """
    stream = _stream(container)
    late_s = late_start_s(container, stream)
    windows = [Window(span, late_s, max_duration_s) for span in spans]
    reading = _Reading(container, stream)
    reading.fill(windows)
    claim_s = claimed_duration_s(container, stream)
    if reading.nothing:
        raise _no_sample(reading.damaged or claim_s is not None)
    if reading.aborted:
        claim_s = max(claim_s or 0.0, reading.expected_s)
    return [_sound(window, reading.reached_s, claim_s, sample_rates_hz) for window in windows]


def _stream(container: InputContainer) -> av.AudioStream:
    """The track that FFmpeg would choose; it passes over tracks that it cannot decode."""
    for stream in (container.streams.best("audio"), *container.streams.audio):
        if isinstance(stream, av.AudioStream):
            return stream
    raise MediaError("no_audio", "the recording has no sound track")


def _no_sample(damaged: bool) -> MediaError:
    if damaged:
        why = "none of its packets could be decoded: they are damaged or encrypted"
        return MediaError("truncated", f"a sound track is there, but {why}")
    return MediaError("no_audio", "a sound track is there, but it has no sample")


def _sound(
    window: Window, reached_s: float, claim_s: float | None, sample_rates_hz: Sequence[int]
) -> Sound | MediaError:
    try:
        cut = window.cut(reached_s, claim_s)
    except MediaError as error:
        return error
    waveforms = {rate: _int16(cut, rate) for rate in sample_rates_hz}
    return Sound(waveforms, cut.duration_s, cut.coverage)


def _int16(cut: Cut, rate: int) -> NDArray[np.int16]:
    samples = cut.samples
    if rate != cut.rate:
        samples = soxr.resample(samples, cut.rate, rate, "HQ")
    return np.rint(np.clip(samples, -1.0, 1.0) * FULL_SCALE).astype(np.int16)


class _Reading:
    """One pass over a sound track, and what came of it.

    damaged: packets were left out. aborted: the rest of the file could not be read. reached_s: how
    far it got, in seconds of the track.
    """

    def __init__(self, container: InputContainer, stream: av.AudioStream) -> None:
        self._container = container
        self._stream = stream
        self._bytes_read = 0
        self.nothing = True
        self.damaged = False
        self.aborted = False
        self.reached_s = 0.0

    @property
    def expected_s(self) -> float:
        """How long the track would be if what was not read were like what was."""
        return self.reached_s * max(1.0, self._container.size / max(1, self._bytes_read))

    def fill(self, windows: Sequence[Window]) -> None:
        """Decode in order, from the first sample that a window wants to the last."""
        if not any(window.open for window in windows):
            self.nothing = False
            return
        first_s = min(window.start_s for window in windows if window.open)
        for piece in _pieces(*self._from(first_s)):
            self.nothing = False
            self.reached_s = piece.end_s
            for window in windows:
                window.add(piece)
            if not any(window.open for window in windows):
                return

    def _from(self, start_s: float) -> tuple[float, Iterator[AudioFrame]]:
        """The frames from well before `start_s` on, and where the first of them is (seconds)."""
        formats = set(self._container.format.name.split(","))
        stream, tick_s = self._stream, self._stream.time_base
        if start_s < _WORTH_SEEKING_S or tick_s is None or not formats & _SEEKABLE:
            return 0.0, self._frames()
        origin = stream.start_time or 0
        for try_s in (start_s - _RUN_UP_S, 0.0):  # where a jump lands too late, all is read
            self._container.seek(origin + int(try_s / tick_s), stream=stream)
            frames = self._frames()
            first = next(frames, None)
            if first is not None and first.pts is not None:
                at_s = float((first.pts - origin) * tick_s)
                if at_s <= try_s + _RUN_UP_S / 2:
                    return at_s, chain([first], frames)
        self._container.seek(origin, stream=stream)
        return 0.0, self._frames()

    def _frames(self) -> Iterator[AudioFrame]:
        """Every frame that can be decoded from here on; damaged packets are left out."""
        decoded = False
        try:
            for packet in packets(self._container, self._stream):
                self._bytes_read = packet.pos or self._bytes_read
                try:
                    for frame in packet.decode():
                        decoded = True
                        yield frame
                except (MemoryError, *_UNSUPPORTED):
                    raise
                except av.error.FFmpegError:
                    self.damaged = True
        except MemoryError:
            raise
        except av.error.FFmpegError as error:
            if isinstance(error, _UNSUPPORTED) and not decoded:
                why = f"FFmpeg cannot decode the sound: {message(error)}"
                raise MediaError("unsupported", why) from error
            self.damaged = self.aborted = True


def _pieces(start_s: float, frames: Iterator[AudioFrame]) -> Iterator[Piece]:
    """Frames of one layout in a row, joined and mixed; `start_s` is where the first one lies."""
    batch: list[AudioFrame] = []
    last: Piece | None = None
    for frame in frames:
        full = len(batch) == _BATCH_FRAMES
        if batch and (full or _layout(frame) != _layout(batch[-1])):
            last = _piece(batch, start_s, last)
            yield last
            batch = []
        if frame.samples:
            batch.append(frame)
    if batch:
        yield _piece(batch, start_s, last)


def _layout(frame: AudioFrame) -> tuple[int, str, int]:
    return frame.sample_rate, frame.format.name, frame.layout.nb_channels


def _piece(frames: Sequence[AudioFrame], start_s: float, before: Piece | None) -> Piece:
    rate = frames[0].sample_rate
    if before and before.rate == rate:
        return Piece(before.first + before.samples.size, rate, _mono(frames))
    return Piece(round((before.end_s if before else start_s) * rate), rate, _mono(frames))


def _mono(frames: Sequence[AudioFrame]) -> NDArray[np.float32]:
    """Frames of one layout -> mono float32. Integer formats are scaled to [-1, 1]."""
    joined = np.concatenate([_channels(frame) for frame in frames], axis=1)
    kind = joined.dtype
    with np.errstate(over="ignore", invalid="ignore"):  # float files may hold NaN, Inf or 1e300
        floats = joined.astype(np.float32)
        mono = floats.mean(axis=0) if len(floats) > 1 else floats[0]
    if kind == np.uint8:
        mono = (mono - 128.0) / 128.0
    elif np.issubdtype(kind, np.integer):
        mono = mono / float(2 ** (8 * kind.itemsize - 1))
    return mono


def _channels(frame: AudioFrame) -> NDArray[Any]:
    """The samples (C, N) of a frame. PyAV's own `to_ndarray` crashes on 8 and more planes: it takes
    what follows the list of planes for more of them (seen in PyAV 18.1)."""
    count = frame.layout.nb_channels
    dtype = _DTYPES[frame.format.packed.name]
    if frame.format.is_packed:
        packed = np.frombuffer(memoryview(frame.planes[0]), dtype)
        return packed[: frame.samples * count].reshape(-1, count).T
    planes = [np.frombuffer(memoryview(plane), dtype) for plane in frame.planes[:count]]
    return np.stack([plane[: frame.samples] for plane in planes])
