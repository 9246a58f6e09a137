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
from audioflow.media.choosing import Chosen, Times, choose, is_clock
from audioflow.media.claims import claimed_duration_s, late_start_s, longest_s
from audioflow.media.frames import FrameReader, Track, packet_clock, video_track
from audioflow.media.parts import End, FrameSampling, Part, PicturesPart, Wanted
from audioflow.media.spans import Span

_DECORD_FORMATS = frozenset(("mov", "matroska", "avi", "flv"))
"""Formats left to decord. Its FFmpeg (4.1) opens whatever it takes a file for, also a playlist, so
it gets only files that begin with a signature; and in MPEG streams it seeks to wrong pictures."""

_PART_BYTES = 2**22


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
class _Job:
    """What is to be read; `given` holds how many frames of each clip are given, None where all."""

    path: str
    spans: Sequence[Span]
    sampling: FrameSampling
    track: Track
    times: Times
    given: dict[int, int | None]

    @property
    def at_once(self) -> int:
        """Frames per part."""
        width, height = self.track.size
        return max(1, _PART_BYTES // (3 * width * height))

    def part(self, clip: int, chosen: Chosen, frames: NDArray[np.uint8]) -> PicturesPart:
        """The next frames of a clip."""
        first = self.given[clip] or 0
        self.given[clip] = first + len(frames)
        return PicturesPart(clip, self.sampling, frames, chosen.time_s[first : first + len(frames)])

    def end(self, clip: int, chosen: Chosen | MediaError, share: float = 1.0) -> End:
        """share: of the frames of the recording, those that could be decoded."""
        self.given[clip] = None
        if isinstance(chosen, MediaError):
            return End(clip, self.sampling, error=chosen)
        return End(clip, self.sampling, chosen.duration_s, chosen.coverage * share)


def read_pictures(
    path: str,
    container: InputContainer,
    spans: Sequence[Span],
    sampling: FrameSampling,
    wanted: Wanted,
) -> Iterator[Part]:
    """Frames of every span of one recording.

    Raises `MediaError` where the whole recording has no pictures: `no_video`, `unsupported`,
    `truncated`, `refused`.
    """
    track = video_track(container, sampling.short_side, wanted.video_track)
    times = Times(
        late_start_s(container, track.stream),
        claimed_duration_s(container, track.stream),
        longest_s(container),
        wanted.max_duration_s,
    )
    job = _Job(path, spans, sampling, track, times, dict.fromkeys(range(len(spans)), 0))
    if track.alone and _DECORD_FORMATS & set(container.format.name.split(",")):
        try:
            yield from _with_decord(job)
        except _DecordFailedError:
            pass
        else:
            return
    yield from _with_pyav(job)


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


def _with_decord(job: _Job) -> Iterator[Part]:
    import decord  # heavy, and only in the child that decodes

    failures = (decord.DECORDError, RuntimeError, IndexError, AssertionError)
    width, height = job.track.size
    with _decord_path(job.path) as name:
        try:
            reader = decord.VideoReader(name, width=width, height=height, num_threads=1)
            clock = np.asarray(reader.get_frame_timestamp(range(len(reader))), np.float64)
        except failures as error:
            raise _DecordFailedError from error
        if not is_clock(clock, job.times.longest_s):
            raise _DecordFailedError
        for clip, span in enumerate(job.spans):
            chosen = choose(clock, span, job.sampling, job.times)
            indices = chosen.indices if isinstance(chosen, Chosen) else []
            for first in range(0, len(indices), job.at_once):
                try:
                    batch = reader.get_batch(indices[first : first + job.at_once]).asnumpy()
                except failures as error:
                    raise _DecordFailedError from error
                assert isinstance(chosen, Chosen)
                yield job.part(clip, chosen, batch)
            yield job.end(clip, chosen)


def _with_pyav(job: _Job) -> Iterator[Part]:
    """The same choice with PyAV: time stamps from the packets, then one pass over the frames."""
    clock = packet_clock(job.path, job.track)
    if not is_clock(clock.seconds, job.times.longest_s):
        clock = clock.even()
    clips: dict[int, Chosen] = {}
    users: dict[int, list[int]] = {}
    for clip, given in list(job.given.items()):
        if given is None:
            continue
        chosen = choose(clock.seconds, job.spans[clip], job.sampling, job.times)
        if isinstance(chosen, MediaError) or given >= len(chosen.indices):
            yield job.end(clip, chosen)
            continue
        clips[clip] = chosen
        for index in chosen.indices[given:]:
            users.setdefault(index, []).append(clip)
    if not users:
        return
    reader = FrameReader(job.path, job.track, clock)
    held: dict[int, list[NDArray[np.uint8]]] = {clip: [] for clip in clips}
    for index, picture in reader.frames_at(sorted(users)):
        for clip in users[index]:
            chosen = clips[clip]
            held[clip].append(picture)
            whole = (job.given[clip] or 0) + len(held[clip]) == len(chosen.indices)
            if whole or len(held[clip]) == job.at_once:
                yield job.part(clip, chosen, np.stack(held[clip]))
                held[clip] = []
            if whole:
                yield job.end(clip, chosen, reader.share)


__all__ = ["FrameSampling", "Pictures", "read_pictures"]
