"""Pictures of a recording -> a few frames per clip, with decord, and with PyAV where decord fails.

Shapes: F frames, H height, W width; pictures are uint8 RGB (F, H, W, 3).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import av
import av.error
import numpy as np
from av.container import InputContainer
from numpy.typing import NDArray

from audioflow.errors import MediaError
from audioflow.media.container import claimed_duration_s, open_media
from audioflow.media.sound import Span

_LARGEST_PIXELS = 64_000_000
_UNKNOWN_GAP = 0.05


@dataclass(frozen=True)
class FrameSampling:
    """How frames are taken: `num_frames` at equal distances over the clip, short side in pixels."""

    num_frames: int
    short_side: int


@dataclass(frozen=True)
class Pictures:
    """Sampled frames of one clip.

    frames: uint8 (F, H, W, 3). time_s: (F,) seconds from the start of the clip.
    """

    frames: NDArray[np.uint8]
    time_s: NDArray[np.float64]
    duration_s: float
    coverage: float


def read_pictures(
    path: str, container: InputContainer, spans: Sequence[Span], sampling: FrameSampling
) -> list[Pictures | MediaError]:
    """Frames of every span of one recording.

    A span that gave nothing is a `MediaError` in its place. Raises `MediaError` where the whole
    recording has no pictures: `no_video`, `unsupported`, `truncated`, `refused`.
    """
    stream = _video_stream(container)
    width, height = _size(stream, sampling.short_side)
    claim = claimed_duration_s(container, stream)
    try:
        return _with_decord(path, spans, sampling, (width, height), claim)
    except _DecordFailedError:
        return _with_pyav(path, spans, sampling, (width, height), claim)


def _video_stream(container: InputContainer) -> av.VideoStream:
    for stream in container.streams.video:
        if not stream.disposition & av.stream.Disposition.attached_pic:
            return stream
    raise MediaError("no_video", "the recording has no video track")


def _size(stream: av.VideoStream, short_side: int) -> tuple[int, int]:
    width, height = stream.codec_context.width, stream.codec_context.height
    if not width or not height:
        raise MediaError("truncated", "the video track does not say its picture size")
    if width * height > _LARGEST_PIXELS:
        raise MediaError("refused", f"pictures of {width}x{height} are larger than any real video")
    scale = short_side / min(width, height)
    return max(1, round(width * scale)), max(1, round(height * scale))


class _DecordFailedError(Exception):
    """decord could not read this file; PyAV is asked next."""


def _with_decord(
    path: str,
    spans: Sequence[Span],
    sampling: FrameSampling,
    size: tuple[int, int],
    claim: float | None,
) -> list[Pictures | MediaError]:
    import decord  # heavy, and only in the child that decodes

    try:
        reader = decord.VideoReader(path, width=size[0], height=size[1], num_threads=1)
        clock = np.asarray(reader.get_frame_timestamp(range(len(reader))), np.float64).reshape(
            -1, 2
        )
    except (decord.DECORDError, RuntimeError, IndexError, UnicodeError) as error:
        raise _DecordFailedError from error
    if clock.size == 0:
        raise _DecordFailedError
    found: list[Pictures | MediaError] = []
    for span in spans:
        chosen = _choose(clock, span, sampling.num_frames, claim)
        if isinstance(chosen, MediaError):
            found.append(chosen)
            continue
        try:
            frames = reader.get_batch(chosen.indices).asnumpy()
        except (decord.DECORDError, RuntimeError, IndexError) as error:
            raise _DecordFailedError from error
        found.append(chosen.pictures(frames))
    return found


@dataclass(frozen=True)
class _Chosen:
    indices: list[int]
    time_s: NDArray[np.float64]
    duration_s: float
    coverage: float

    def pictures(self, frames: NDArray[np.uint8]) -> Pictures:
        return Pictures(frames, self.time_s, self.duration_s, self.coverage)


def _choose(
    clock: NDArray[np.float64], span: Span, num_frames: int, claim: float | None
) -> _Chosen | MediaError:
    """Frames nearest to the middles of `num_frames` equal parts of the span.

    clock: (frames, 2) start and end of every frame in seconds from the first one.
    """
    clock = clock - clock[0, 0]
    start_s = span.start_s or 0.0
    have_s = float(clock[-1, 1])
    end_s = have_s if span.duration_s is None else min(have_s, start_s + span.duration_s)
    if start_s >= have_s:
        return MediaError(
            "truncated", f"the clip starts at {start_s:g} s, the pictures end at {have_s:.3f} s"
        )
    middles = start_s + (np.arange(num_frames) + 0.5) * (end_s - start_s) / num_frames
    indices = np.clip(np.searchsorted(clock[:, 0], middles, side="right") - 1, 0, len(clock) - 1)
    indices = np.unique(indices)
    expected = span.duration_s or max((claim or 0.0) - start_s, end_s - start_s)
    coverage = min(1.0, (end_s - start_s) / expected)
    if coverage > 1 - _UNKNOWN_GAP:
        coverage = 1.0
    return _Chosen(indices.tolist(), clock[indices, 0] - start_s, end_s - start_s, coverage)


def _with_pyav(
    path: str,
    spans: Sequence[Span],
    sampling: FrameSampling,
    size: tuple[int, int],
    claim: float | None,
) -> list[Pictures | MediaError]:
    """The same choice by two passes with PyAV: one for the clock, one for the chosen frames."""
    clock, damaged = _pyav_clock(path)
    if clock.size == 0:
        error = "truncated" if damaged else "no_video"
        raise MediaError(error, "a video track is there, but no picture of it could be decoded")
    choices = [_choose(clock, span, sampling.num_frames, claim) for span in spans]
    wanted = {
        index for choice in choices if isinstance(choice, _Chosen) for index in choice.indices
    }
    frames: dict[int, NDArray[np.uint8]] = {}
    for index, frame in enumerate(_pyav_frames(path)):
        if index in wanted:
            frames[index] = frame.to_ndarray(format="rgb24", width=size[0], height=size[1])
    return [
        choice.pictures(np.stack([frames[index] for index in choice.indices]))
        if isinstance(choice, _Chosen)
        else choice
        for choice in choices
    ]


def _pyav_clock(path: str) -> tuple[NDArray[np.float64], bool]:
    starts = [float(frame.time or 0.0) for frame in _pyav_frames(path)]
    with open_media(path) as container:
        rate = float(_video_stream(container).average_rate or 25)
    if not starts:
        return np.zeros((0, 2)), True
    ends = [*starts[1:], starts[-1] + 1 / rate]
    return np.stack([starts, ends], axis=1), False


def _pyav_frames(path: str) -> Iterator[av.VideoFrame]:
    """All frames that can be decoded, one at a time, damaged packets left out."""
    with open_media(path) as container:
        try:
            for packet in container.demux(_video_stream(container)):
                try:
                    yield from packet.decode()
                except av.error.InvalidDataError:
                    continue
        except av.error.FFmpegError:
            return
