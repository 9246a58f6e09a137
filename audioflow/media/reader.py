"""Reading a sound track with PyAV: in order, but not what nobody needs.

Three ways to pass over what is not needed, from the fastest to the safest: a jump by the file's
index; to read packets without decoding them; to decode everything. Where a place in the track
cannot be told to the sample after one of them, the next is taken, from the start.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import chain

import av
import av.error
from av.audio.frame import AudioFrame
from av.container import InputContainer

from audioflow.errors import MediaError
from audioflow.media.claims import counts_packets, latest_s, longest_hole_s, start_s
from audioflow.media.clock import NotExactError, Stamp, TrackClock
from audioflow.media.container import message, open_media, packets
from audioflow.media.samples import layout, mono
from audioflow.media.windows import Piece

_BATCH_FRAMES = 64
_UNSUPPORTED = (av.error.PatchWelcomeError, av.error.DecoderNotFoundError)
_SEEKABLE = frozenset(("wav", "w64", "aiff", "flac", "mov", "matroska"))
"""Formats whose index and time stamps can be trusted after a jump."""
_WORTH_PASSING_S = 20.0
_RUN_UP_S = 1.0
"""After a jump, lossy decoders need some packets before they give what they would have given."""
_LANDING_FRAMES = 48

Way = str
JUMP, SKIP, DECODE = "jump", "skip", "decode"


class Reading:
    """What came of reading a sound track.

    damaged: packets were left out. aborted: the rest of the file could not be read. reached_s: how
    far it got, in seconds of the track.
    """

    def __init__(self) -> None:
        self.nothing = True
        self.damaged = False
        self.aborted = False
        self.reached_s = 0.0
        self.read_share = 1.0

    @property
    def expected_s(self) -> float:
        """How long the track would be if what was not read were like what was."""
        return self.reached_s / max(self.read_share, 1e-6)


class SoundReader(Reading):
    """The pieces of a sound track, decoded by PyAV."""

    def __init__(self, path: str, container: InputContainer, stream: av.AudioStream) -> None:
        super().__init__()
        self._path = path
        self._container = container
        self._index = stream.index
        self.ways: list[Way] = []

    def pieces(self, needs_s: Callable[[], float]) -> Iterator[Piece]:
        """Decoded samples in order. needs_s: the time (seconds of the track) before which nothing
        is needed; what lies there may be left out, and some of it may come again."""
        ways = [JUMP, SKIP, DECODE]
        if not _SEEKABLE & set(self._container.format.name.split(",")):
            ways.remove(JUMP)
        for way in ways:
            with ExitStack() as stack:
                container = self._container
                if self.ways:
                    container = stack.enter_context(open_media(self._path))
                self.ways.append(way)
                try:
                    yield from self._pass(container, way, needs_s)
                except NotExactError:
                    continue
                return

    def _pass(
        self, container: InputContainer, way: Way, needs_s: Callable[[], float]
    ) -> Iterator[Piece]:
        stream = container.streams[self._index]
        assert isinstance(stream, av.AudioStream)
        one = _Pass(self, container, stream)
        batch = Batch()
        frames = one.frames()
        while True:
            for frame in frames:
                self.nothing = False
                yield from batch.add(one.clock.place(one.stamp(frame)), frame)
                self.reached_s = one.clock.reached_s
                if batch.empty and way != DECODE and one.is_far_from(needs_s()):
                    break
            else:
                yield from batch.flush()
                return
            frames = one.go(way, needs_s())


class Batch:
    """Frames of one layout in a row, to be joined and mixed at once."""

    def __init__(self) -> None:
        self._frames: list[AudioFrame] = []
        self._first = self._next = 0

    @property
    def empty(self) -> bool:
        return not self._frames

    def add(self, first: int, frame: AudioFrame) -> Iterator[Piece]:
        """Take the next frame, which begins at sample `first` of the track."""
        if self._frames and (first != self._next or layout(frame) != layout(self._frames[-1])):
            yield from self.flush()
        if not self._frames:
            self._first = first
        self._next = first + frame.samples
        if frame.samples:
            self._frames.append(frame)
        if len(self._frames) == _BATCH_FRAMES:
            yield from self.flush()

    def flush(self) -> Iterator[Piece]:
        frames, self._frames = self._frames, []
        if frames:
            yield Piece(self._first, frames[0].sample_rate, mono(frames))


class _Pass:
    """One time through a track."""

    def __init__(self, reading: Reading, container: InputContainer, stream: av.AudioStream) -> None:
        self._reading = reading
        self._container = container
        self._stream = stream
        self._tick_s = float(stream.time_base or 0)
        self._origin_s = start_s(container, stream)
        self._losses = _Losses() if counts_packets(container) else None
        codec = stream.codec_context.name if stream.codec_context else ""
        self.clock = TrackClock(
            self._tick_s, longest_hole_s(container), latest_s(container, stream), codec
        )
        self._packets = packets(container, stream)

    def stamp(self, frame: AudioFrame) -> Stamp:
        return Stamp(self._at_s(frame.pts), frame.sample_rate, frame.samples)

    def _at_s(self, pts: int | None) -> float | None:
        return None if pts is None else pts * self._tick_s - self._origin_s

    def is_far_from(self, needed_s: float) -> bool:
        return needed_s > self.clock.reached_s + _WORTH_PASSING_S and self.clock.settled

    def go(self, way: Way, needed_s: float) -> Iterator[AudioFrame]:
        """The frames from well before `needed_s` on. Raises `NotExactError`."""
        target_s = needed_s - _RUN_UP_S
        frames = self._jump(target_s) if way == JUMP else self._skip(target_s)
        landing: list[AudioFrame] = []
        for frame in frames:
            at_s = self._at_s(frame.pts)
            if frame.samples:
                landing.append(frame)
            if len(landing) == _LANDING_FRAMES or at_s is None or at_s > needed_s:
                break
        if landing:
            by_s = target_s + _RUN_UP_S / 2
            self.clock.land([self.stamp(frame) for frame in landing], by_s)
        elif way == JUMP:
            raise NotExactError  # beyond the end, or a wrong index
        return chain(landing, frames)

    def _jump(self, target_s: float) -> Iterator[AudioFrame]:
        ticks = int((target_s + self._origin_s) / self._tick_s)
        try:
            self._container.seek(ticks, stream=self._stream)
        except av.error.FFmpegError as error:
            raise NotExactError from error
        self._packets = packets(self._container, self._stream)
        return self.frames()

    def _skip(self, target_s: float) -> Iterator[AudioFrame]:
        """Read on without decoding, as long as the time stamps of packets have no hole."""
        ends_s: float | None = None
        for packet in self._packets:
            if not packet.size:
                break
            at_s = self._at_s(packet.pts)
            if at_s is None or (self._losses and self._losses.lost_before(packet)):
                raise NotExactError
            if ends_s is not None and abs(at_s - ends_s) > 0.02:
                raise NotExactError
            ends_s = at_s + float((packet.duration or 0) * self._tick_s)
            self._note(packet)
            if ends_s > target_s:
                self._stream.codec_context.flush_buffers()
                return self.frames(packet)
            self._reading.reached_s = max(self._reading.reached_s, ends_s)
        return iter(())

    def _note(self, packet: av.Packet) -> None:
        if packet.pos and self._container.size > 0:
            self._reading.read_share = min(1.0, packet.pos / self._container.size)

    def frames(self, *first: av.Packet) -> Iterator[AudioFrame]:
        """Every frame that can be decoded from here on; damaged packets are left out."""
        decoded = False
        try:
            for packet in chain(first, self._packets):
                self._note(packet)
                try:
                    found = packet.decode()
                except (MemoryError, *_UNSUPPORTED):
                    raise
                except av.error.FFmpegError:
                    self._reading.damaged = True
                    continue
                if found and self._losses and packet.size:
                    self.clock.lose(self._losses.heard(packet) * self._tick_s)
                decoded = decoded or bool(found)
                yield from found
        except MemoryError:
            raise
        except av.error.FFmpegError as error:
            if isinstance(error, _UNSUPPORTED) and not decoded:
                why = f"FFmpeg cannot decode the sound: {message(error)}"
                raise MediaError("unsupported", why) from error
            self._reading.damaged = self._reading.aborted = True


class _Losses:
    """How much is missing where time stamps do not tell, from the bytes between good packets."""

    def __init__(self) -> None:
        self._bytes = self._packets = 0
        self._end: int | None = None
        self._end_ticks = 0
        self._mark = -1

    def lost_before(self, packet: av.Packet) -> bool:
        """Whether this packet is damaged, or something is missing before it.

        It is not decoded: a good one begins with the same byte, of its sync word, as all of them.
        """
        return memoryview(packet)[0] != self._mark or self.heard(packet) != 0

    def heard(self, packet: av.Packet) -> float:
        """Take a packet that was decoded; the ticks that its time stamp lags behind."""
        lag = 0.0
        if self._end is not None and packet.pos is not None and packet.pos > self._end:
            missing = round((packet.pos - self._end) * self._packets / self._bytes)
            counted = (packet.pts or 0) - self._end_ticks
            lag = missing * (packet.duration or 0) - counted
        self._mark = memoryview(packet)[0]
        self._bytes += packet.size
        self._packets += 1
        self._end = None if packet.pos is None else packet.pos + packet.size
        self._end_ticks = (packet.pts or 0) + (packet.duration or 0)
        return max(0.0, lag)
