"""Pictures of a recording -> a few frames per clip, with decord, and with PyAV where decord fails.

Shapes: F frames, H height, W width; pictures are uint8 RGB (F, H, W, 3), upright.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from av.container import InputContainer
from numpy.typing import NDArray

from audioflow.errors import MediaError
from audioflow.media.claims import claimed_duration_s, late_start_s, longest_s
from audioflow.media.frames import Track, frames_at, packet_clock, video_track
from audioflow.media.spans import Span, claimed_coverage

_DECORD_FORMATS = frozenset(("mov", "matroska", "avi", "flv"))
"""Formats left to decord. Its FFmpeg (4.1) opens whatever it takes a file for, also a playlist, so
it gets only files that begin with a signature; and in MPEG streams it seeks to wrong pictures."""

_TIE_S = 0.001
"""Clocks are rounded: a frame that begins this much after a moment is on show at it."""


@dataclass(frozen=True)
class FrameSampling:
    """How frames are taken: `num_frames` at equal distances over the clip, short side in pixels."""

    num_frames: int
    short_side: int


@dataclass(frozen=True)
class Pictures:
    """Sampled frames of one clip; fewer than asked for where the clip has fewer.

    frames: uint8 (F, H, W, 3). time_s: (F,) seconds from the start of the clip.
    """

    frames: NDArray[np.uint8]
    time_s: NDArray[np.float64]
    duration_s: float
    coverage: float


@dataclass(frozen=True)
class _Times:
    """When a video track begins, ends, and may end; seconds of the recording."""

    late_s: float
    claim_s: float | None
    longest_s: float


def read_pictures(
    path: str, container: InputContainer, spans: Sequence[Span], sampling: FrameSampling
) -> list[Pictures | MediaError]:
    """Frames of every span of one recording.

    A span that gave nothing is a `MediaError` in its place. Raises `MediaError` where the whole
    recording has no pictures: `no_video`, `unsupported`, `truncated`, `refused`.
    """
    track = video_track(container, sampling.short_side)
    times = _Times(
        late_start_s(container, track.stream),
        claimed_duration_s(container, track.stream),
        longest_s(container),
    )
    if _DECORD_FORMATS & set(container.format.name.split(",")):
        try:
            return _with_decord(path, spans, sampling, track, times)
        except _DecordFailedError:
            pass
    return _with_pyav(path, spans, sampling, track, times)


class _DecordFailedError(Exception):
    """decord could not read this file; PyAV is asked next."""


@contextmanager
def _decord_path(path: str) -> Iterator[str]:
    """`path` as decord can take it: in UTF-8, and not to be read as a protocol (`concat:a`)."""
    try:
        os.fspath(path).encode()
    except UnicodeEncodeError:
        handle = os.open(path, os.O_RDONLY)
        try:
            yield f"/proc/self/fd/{handle}"
        finally:
            os.close(handle)
    else:
        yield os.path.abspath(path)


def _with_decord(
    path: str, spans: Sequence[Span], sampling: FrameSampling, track: Track, times: _Times
) -> list[Pictures | MediaError]:
    import decord  # heavy, and only in the child that decodes

    failures = (decord.DECORDError, RuntimeError, IndexError, AssertionError)
    width, height = track.size
    found: list[Pictures | MediaError] = []
    with _decord_path(path) as name:
        try:
            reader = decord.VideoReader(name, width=width, height=height, num_threads=1)
            clock = np.asarray(reader.get_frame_timestamp(range(len(reader))), np.float64)
        except failures as error:
            raise _DecordFailedError from error
        if not _is_clock(clock, times.longest_s):
            raise _DecordFailedError
        for span in spans:
            chosen = _choose(clock, span, sampling.num_frames, times)
            if isinstance(chosen, MediaError):
                found.append(chosen)
                continue
            try:
                frames = reader.get_batch(chosen.indices).asnumpy()
            except failures as error:
                raise _DecordFailedError from error
            found.append(chosen.pictures(frames))
    return found


def _is_clock(clock: NDArray[np.float64], longest_s: float) -> bool:
    """Whether starts of frames (column 0) rise, by no more than a file of this size can hold."""
    if clock.ndim != 2 or not clock.size or not np.all(np.isfinite(clock)):
        return False
    return bool(np.all(np.diff(clock[:, 0]) > 0) and clock[-1, 1] - clock[0, 0] <= longest_s)


@dataclass(frozen=True)
class _Chosen:
    indices: list[int]
    time_s: NDArray[np.float64]
    duration_s: float
    coverage: float

    def pictures(self, frames: NDArray[np.uint8], share: float = 1.0) -> Pictures:
        """share: of the recording's frames, those that could be decoded."""
        return Pictures(frames, self.time_s, self.duration_s, self.coverage * share)


def _choose(
    clock: NDArray[np.float64], span: Span, num_frames: int, times: _Times
) -> _Chosen | MediaError:
    """The frames on show in the middles of `num_frames` equal parts of what there is of the span.

    clock: (frames, 2) start and end of every frame in seconds.
    """
    clock = clock - clock[0, 0] + times.late_s
    first_s, last_s = float(clock[0, 0]), float(clock[-1, 1])
    start_s = first_s if span.start_s is None else span.start_s
    end_s = last_s if span.duration_s is None else start_s + span.duration_s
    if span.duration_s is not None and span.duration_s <= 0:
        return MediaError("too_short", f"the clip is {span.duration_s:g} s long")
    begin_s, until_s = max(start_s, first_s), min(end_s, last_s)
    if begin_s >= until_s:
        have = f"the pictures are from {first_s:.3f} s to {last_s:.3f} s"
        return MediaError("truncated", f"the clip is from {start_s:g} s to {end_s:g} s, {have}")
    middles = begin_s + (np.arange(num_frames) + 0.5) * (until_s - begin_s) / num_frames + _TIE_S
    indices = np.unique(np.searchsorted(clock[:, 0], middles, side="right") - 1)
    if span.duration_s is None:
        claim_end_s = max(last_s, first_s + (times.claim_s or 0.0))
        coverage = claimed_coverage(until_s - begin_s, claim_end_s - start_s)
    else:
        coverage = (until_s - begin_s) / span.duration_s
    time_s = np.maximum(clock[indices, 0] - start_s, 0.0)
    return _Chosen(indices.tolist(), time_s, until_s - start_s, min(1.0, coverage))


def _with_pyav(
    path: str, spans: Sequence[Span], sampling: FrameSampling, track: Track, times: _Times
) -> list[Pictures | MediaError]:
    """The same choice with PyAV: time stamps from the packets, then one pass over the frames."""
    clock = packet_clock(path, track)
    if not _is_clock(clock.seconds, times.longest_s):
        clock = clock.even()
    choices = [_choose(clock.seconds, span, sampling.num_frames, times) for span in spans]
    wanted = {
        index for choice in choices if isinstance(choice, _Chosen) for index in choice.indices
    }
    if not wanted:
        return list(choices)  # type: ignore[arg-type]  # all of them are errors
    frames, share = frames_at(path, track, clock, sorted(wanted))
    return [
        choice.pictures(np.stack([frames[index] for index in choice.indices]), share)
        if isinstance(choice, _Chosen)
        else choice
        for choice in choices
    ]
