"""Frames of a video track with PyAV, in order.

Shapes: F frames, H height, W width; a picture is uint8 RGB (H, W, 3), upright.
"""

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
_UNSUPPORTED = (av.error.PatchWelcomeError, av.error.DecoderNotFoundError)


@dataclass(frozen=True)
class Track:
    """A video track; `size` is (width, height) of its pictures, upright and resized."""

    stream: av.VideoStream
    size: tuple[int, int]


@dataclass(frozen=True)
class Clock:
    """When every frame begins and ends: ticks (F,) as in the file, seconds (F, 2), rate in Hz."""

    ticks: NDArray[np.int64] | None
    seconds: NDArray[np.float64]
    rate: float

    def even(self) -> "Clock":
        """As many frames at equal distances, for files whose time stamps are nonsense."""
        starts = np.arange(max(1, len(self.seconds))) / self.rate
        return replace(self, ticks=None, seconds=np.stack([starts, starts + 1 / self.rate], axis=1))


def video_track(container: InputContainer, short_side: int) -> Track:
    """The video track, known to have a picture that can be decoded.

    Raises `MediaError`: `no_video` (cover art is no video), `unsupported`, `truncated`, `refused`.
    """
    stream = _stream(container)
    _check(stream)
    for frame in _decoded(container, stream):
        width, height = frame.width, frame.height
        if frame.rotation % 180:
            width, height = height, width
        scale = short_side / min(width, height)
        return Track(stream, (max(1, round(width * scale)), max(1, round(height * scale))))
    raise MediaError("truncated", "a video track is there, but no picture of it could be decoded")


def _stream(container: InputContainer) -> av.VideoStream:
    streams = [container.streams.best("video"), *container.streams.video]
    for stream in streams:
        if isinstance(stream, av.VideoStream) and not (
            stream.disposition & av.stream.Disposition.attached_pic
        ):
            return stream
    raise MediaError("no_video", "the recording has no video track")


def _check(stream: av.VideoStream) -> None:
    if stream.codec_context is None:
        raise MediaError("unsupported", "FFmpeg has no decoder for the pictures")
    width, height = stream.codec_context.width, stream.codec_context.height
    if width * height > _LARGEST_PIXELS:
        raise MediaError("refused", f"pictures of {width}x{height} are larger than any real video")


def _decoded(container: InputContainer, stream: av.VideoStream) -> Iterator[av.VideoFrame]:
    """All frames that can be decoded, one at a time, damaged packets left out."""
    stream.codec_context.thread_count = 1
    try:
        for packet in packets(container, stream):
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
    count = 0
    with open_media(path) as container:
        longest = longest_s(container)
        try:
            for packet in packets(container, _same(container, track)):
                if packet.size and not packet.is_discard:
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
        return Clock(None, np.zeros((count, 2)), rate).even()
    unique = np.unique(np.asarray(ticks, np.int64))
    starts = unique * float(track.stream.time_base)
    ends = np.append(starts[1:], starts[-1:] + 1 / rate)
    return Clock(unique, np.stack([starts, ends], axis=1), rate)


def frames_at(
    path: str, track: Track, clock: Clock, wanted: Sequence[int]
) -> tuple[dict[int, NDArray[np.uint8]], float]:
    """Pictures of the frames `wanted` (rising), and the share of frames that could be decoded.

    In the place of a frame that could not be decoded stands the one before it, as on a screen.
    """
    found: dict[int, NDArray[np.uint8]] = {}
    todo = list(wanted)
    shown: av.VideoFrame | None = None
    count = index = 0
    with open_media(path) as container:
        for frame in _decoded(container, _same(container, track)):
            index = _index(frame, clock, index + 1 if count else 0)
            count += 1
            while todo and todo[0] < index:
                found[todo.pop(0)] = _picture(shown or frame, track.size)
            shown = frame
            if todo and todo[0] == index:
                found[todo.pop(0)] = _picture(frame, track.size)
            if not todo:
                break
    if shown is None:
        raise MediaError("truncated", "a video track is there, but none of it could be decoded")
    for missing in todo:
        found[missing] = _picture(shown, track.size)
    passed = len(clock.seconds) if todo else index + 1
    return found, min(1.0, count / passed)


def _same(container: InputContainer, track: Track) -> av.VideoStream:
    """The track in a container that was opened again."""
    stream = container.streams[track.stream.index]
    assert isinstance(stream, av.VideoStream)
    return stream


def _index(frame: av.VideoFrame, clock: Clock, following: int) -> int:
    if clock.ticks is None or frame.pts is None:
        return following
    return max(0, int(np.searchsorted(clock.ticks, frame.pts, side="right")) - 1)


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
