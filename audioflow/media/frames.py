"""Frames of a video track with PyAV, in order.

Shapes: F frames, H height, W width; a picture is uint8 RGB (H, W, 3), upright.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import av
import av.error
import numpy as np
from av.container import InputContainer
from numpy.typing import NDArray

from audioflow.errors import MediaError
from audioflow.media.claims import longest_s
from audioflow.media.container import message, open_media, packets

_LARGEST_PIXELS = 64_000_000
_DEFAULT_RATE_HZ = 25.0
_WORTH_PASSING_S = 5.0
_UNSUPPORTED = (av.error.PatchWelcomeError, av.error.DecoderNotFoundError)


@dataclass(frozen=True)
class Track:
    """A video track; `size` is (width, height) of its pictures, upright and resized."""

    stream: av.VideoStream
    size: tuple[int, int]
    alone: bool = True


@dataclass(frozen=True)
class Clock:
    """When every frame begins and ends: ticks (F,) as in the file, seconds (F, 2), rate in Hz.

    entries: (F,) the packet, counted in file order, from which on a frame can be decoded.
    """

    ticks: NDArray[np.int64] | None
    seconds: NDArray[np.float64]
    rate: float
    entries: NDArray[np.int64]

    def even(self) -> "Clock":
        """As many frames at equal distances, for files whose time stamps are nonsense."""
        starts = np.arange(max(1, len(self.seconds))) / self.rate
        seconds = np.stack([starts, starts + 1 / self.rate], axis=1)
        return replace(self, ticks=None, seconds=seconds, entries=np.zeros(len(starts), np.int64))


def video_track(container: InputContainer, short_side: int, number: int | None = None) -> Track:
    """The video track `number` (from 0), or FFmpeg's choice, known to have a picture.

    Raises `MediaError`: `no_video` (cover art is no video), `unsupported`, `truncated`, `refused`.
    """
    streams = _streams(container)
    stream = _choose(container, streams, number)
    _check(stream)
    for frame in _decoded(container, stream):
        width, height = frame.width, frame.height
        if frame.rotation % 180:
            width, height = height, width
        scale = short_side / min(width, height)
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        return Track(stream, size, number is None or len(streams) == 1)
    raise MediaError("truncated", "a video track is there, but no picture of it could be decoded")


def _streams(container: InputContainer) -> list[av.VideoStream]:
    return [
        stream
        for stream in container.streams.video
        if isinstance(stream, av.VideoStream)
        and not (stream.disposition & av.stream.Disposition.attached_pic)
    ]


def _choose(
    container: InputContainer, streams: Sequence[av.VideoStream], number: int | None
) -> av.VideoStream:
    if number is None and streams:
        best = container.streams.best("video")
        return next(
            (stream for stream in streams if best and stream.index == best.index), streams[0]
        )
    if number is None:
        raise MediaError("no_video", "the recording has no video track")
    if not 0 <= number < len(streams):
        have = {0: "no video track", 1: "1 video track"}.get(
            len(streams), f"{len(streams)} video tracks"
        )
        why = f"video track {number} was asked for (counted from 0), the recording has {have}"
        raise MediaError("no_video", why)
    return streams[number]


def _check(stream: av.VideoStream) -> None:
    if stream.codec_context is None:
        raise MediaError("unsupported", "FFmpeg has no decoder for the pictures")
    width, height = stream.codec_context.width, stream.codec_context.height
    if width * height > _LARGEST_PIXELS:
        raise MediaError("refused", f"pictures of {width}x{height} are larger than any real video")


def _decoded(
    container: InputContainer, stream: av.VideoStream, passing: "_Passing | None" = None
) -> Iterator[av.VideoFrame]:
    """All frames that can be decoded, one at a time, damaged packets left out."""
    stream.codec_context.thread_count = 1
    try:
        for packet in packets(container, stream):
            if passing and passing.leaves_out(packet):
                continue
            try:
                yield from packet.decode()
            except (MemoryError, *_UNSUPPORTED):
                raise
            except av.error.FFmpegError:
                # FFmpeg calls its data invalid too when it gets no memory for a picture.
                np.empty(4 * stream.codec_context.width * stream.codec_context.height, np.uint8)
    except MemoryError:
        raise
    except _UNSUPPORTED as error:
        why = f"FFmpeg cannot decode the pictures: {message(error)}"
        raise MediaError("unsupported", why) from error
    except av.error.FFmpegError:
        return


def packet_clock(path: str, track: Track) -> Clock:
    """The clock of all packets, read without decoding them."""
    ticks: list[int] = []
    keys: list[tuple[int, int]] = []
    count = 0
    with open_media(path) as container:
        longest = longest_s(container)
        try:
            for packet in packets(container, _same(container, track)):
                if packet.size and not packet.is_discard:
                    if packet.is_keyframe and packet.pts is not None:
                        keys.append((packet.pts, count))
                    count += 1
                    if packet.pts is not None:
                        ticks.append(packet.pts)
        except av.error.FFmpegError as error:
            if isinstance(error, MemoryError):
                raise
    rate = float(track.stream.average_rate or _DEFAULT_RATE_HZ)
    if count / rate > longest:
        rate = _DEFAULT_RATE_HZ
    if len(ticks) < count or not track.stream.time_base:
        none = np.zeros(count, np.int64)
        return Clock(None, np.zeros((count, 2)), rate, none).even()
    unique = np.unique(np.asarray(ticks, np.int64))
    starts = unique * float(track.stream.time_base)
    ends = np.append(starts[1:], starts[-1:] + 1 / rate)
    return Clock(unique, np.stack([starts, ends], axis=1), rate, _entries(unique, sorted(keys)))


def _entries(ticks: NDArray[np.int64], keys: Sequence[tuple[int, int]]) -> NDArray[np.int64]:
    """Decoding begins one key frame earlier than it must: some streams only say that they are."""
    if not keys:
        return np.zeros(len(ticks), np.int64)
    key_ticks, packet_numbers = np.array(keys, np.int64).T
    earlier = np.searchsorted(key_ticks, ticks, side="right") - 2
    return np.where(earlier >= 0, packet_numbers[np.maximum(earlier, 0)], 0)


class _Passing:
    """Leaves out packets from which nothing is decoded that is wanted."""

    def __init__(self, stream: av.VideoStream, rate: float) -> None:
        self._stream = stream
        self._worth = _WORTH_PASSING_S * rate
        self._number = -1
        self._entry = 0
        self._left_out = False
        self.jumped = False

    def go_to(self, entry: int) -> None:
        """Decode again from packet `entry` on, where that spares much."""
        if entry > self._number + self._worth:
            self._entry = entry

    def leaves_out(self, packet: av.Packet) -> bool:
        if packet.size and not packet.is_discard:
            self._number += 1
        if packet.size and self._number < self._entry:
            self._left_out = True
            return True
        if self._left_out:
            self._stream.codec_context.flush_buffers()
            self._left_out, self.jumped = False, True
        return False


class FrameReader:
    """Pictures of chosen frames. share: of the frames that were to be decoded, those that were."""

    def __init__(self, path: str, track: Track, clock: Clock) -> None:
        self._path = path
        self._track = track
        self._clock = clock
        self._decoded = self._expected = 0

    @property
    def share(self) -> float:
        return min(1.0, self._decoded / max(1, self._expected))

    def frames_at(self, wanted: Sequence[int]) -> Iterator[tuple[int, NDArray[np.uint8]]]:
        """Pictures of the frames `wanted` (rising).

        In the place of a frame that could not be decoded stands the one before it, as on a screen.
        Raises `MediaError` (`truncated`) where there is none.
        """
        todo = deque(wanted)
        size = self._track.size
        shown: av.VideoFrame | None = None
        index = latest = -1
        with open_media(self._path) as container:
            stream = _same(container, self._track)
            passing = _Passing(stream, self._clock.rate)
            passing.go_to(int(self._clock.entries[todo[0]]))
            for frame in _decoded(container, stream, passing):
                index = self._index(frame, index + 1)
                if passing.jumped:
                    latest, shown, passing.jumped = index - 1, None, False
                self._decoded += 1
                self._expected += max(0, index - latest)
                latest = max(latest, index)
                while todo and todo[0] < index:
                    yield todo.popleft(), _picture(shown or frame, size)
                shown = frame
                if todo and todo[0] == index:
                    yield todo.popleft(), _picture(frame, size)
                if not todo:
                    return
                passing.go_to(int(self._clock.entries[todo[0]]))
        if shown is None:
            raise MediaError("truncated", "a video track is there, but none of it could be decoded")
        self._expected += len(self._clock.seconds) - 1 - latest
        for missing in todo:
            yield missing, _picture(shown, size)

    def _index(self, frame: av.VideoFrame, following: int) -> int:
        if self._clock.ticks is None or frame.pts is None:
            return following
        return max(0, int(np.searchsorted(self._clock.ticks, frame.pts, side="right")) - 1)


def _same(container: InputContainer, track: Track) -> av.VideoStream:
    """The track in a container that was opened again."""
    stream = container.streams[track.stream.index]
    assert isinstance(stream, av.VideoStream)
    return stream


def _picture(frame: av.VideoFrame, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Upright RGB; bilinear, as decord does it."""
    turns = round(frame.rotation / 90) % 4  # counter-clockwise
    width, height = size[::-1] if turns % 2 else size
    form: dict[str, Any] = {"format": "rgb24", "width": width, "height": height}
    try:
        picture = frame.to_ndarray(**form, interpolation="BILINEAR")
    except (av.error.OSError, av.error.ArgumentError, ValueError) as error:
        why = f"FFmpeg cannot convert the pictures to RGB: {message(error)}"
        raise MediaError("unsupported", why) from error
    return np.rot90(picture, turns)
