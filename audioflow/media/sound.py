"""Sound of a recording -> waveforms of its clips at the sample rates that are wanted."""

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import av
import av.error
from av.container import InputContainer

from audioflow.errors import MediaError
from audioflow.media.claims import claimed_duration_s, late_start_s
from audioflow.media.container import open_media, packets
from audioflow.media.parts import Part, Wanted
from audioflow.media.reader import Reading, SoundReader
from audioflow.media.spans import Span
from audioflow.media.windows import Piece, Window

_MISSED_S = 0.01
"""A header that promises less than this, and a file without it: nothing was there to be lost."""


class Reader(Protocol):
    """Something that decodes a sound track in order, and what came of it."""

    nothing: bool
    damaged: bool
    aborted: bool
    reached_s: float

    @property
    def expected_s(self) -> float: ...

    def pieces(self, needs_s: Callable[[], float]) -> Iterator[Piece]: ...


def sound_track(container: InputContainer, number: int | None) -> av.AudioStream:
    """The sound track `number` (from 0), or that which FFmpeg would choose.

    Raises `MediaError`: `no_audio`, `unsupported`.
    """
    if number is None:
        for stream in (container.streams.best("audio"), *container.streams.audio):
            if isinstance(stream, av.AudioStream):
                return stream
        raise MediaError("no_audio", "the recording has no sound track")
    tracks = container.streams.audio
    if not 0 <= number < len(tracks):
        have = {0: "no sound track", 1: "1 sound track"}.get(
            len(tracks), f"{len(tracks)} sound tracks"
        )
        why = f"sound track {number} was asked for (counted from 0), the recording has {have}"
        raise MediaError("no_audio", why)
    if not isinstance(tracks[number], av.AudioStream) or not tracks[number].codec_context:
        raise MediaError("unsupported", f"FFmpeg has no decoder for sound track {number}")
    return tracks[number]


def read_sound(
    path: str, container: InputContainer, spans: Sequence[Span], wanted: Wanted
) -> Iterator[Part]:
    """The sound of every span of one recording, decoded once by PyAV.

    Raises `MediaError` where the whole recording has no sound: `no_audio`, `unsupported`,
    `truncated`.
    """
    stream = sound_track(container, wanted.sound_track)
    yield from fill(SoundReader(path, container, stream), container, stream, spans, wanted)


def fill(
    reader: Reader,
    container: InputContainer,
    stream: av.AudioStream,
    spans: Sequence[Span],
    wanted: Wanted,
) -> Iterator[Part]:
    """What a reader gives, cut into the clips `spans`; raises as `read_sound`."""
    late_s = late_start_s(container, stream)
    windows = [Window(clip, span, late_s, wanted) for clip, span in enumerate(spans)]
    for window in windows:
        yield from window.refuse()
    waiting = sorted((window for window in windows if window.open), key=lambda one: one.needs_s)
    if not waiting:
        return
    pieces = reader.pieces(lambda: min(window.needs_s for window in waiting))
    for piece in pieces:
        ended = False
        for window in waiting:
            if window.needs_s > piece.end_s:
                break
            yield from window.add(piece)
            ended = ended or not window.open
        if ended:
            waiting[:] = [window for window in waiting if window.open]
        if not waiting:
            return
    claim_s = claimed_duration_s(container, stream)
    if reader.nothing:
        raise _no_sample(container, stream, claim_s, reader.damaged)
    if reader.aborted:
        claim_s = max(claim_s or 0.0, reader.expected_s)
    for window in waiting:
        yield from window.finish(reader.reached_s, claim_s)


def _no_sample(
    container: InputContainer, stream: av.AudioStream, claim_s: float | None, damaged: bool
) -> MediaError:
    if _holds_a_sample(container, stream) and (damaged or claim_s is not None):
        why = "none of its packets could be decoded: they are damaged or encrypted"
        return MediaError("truncated", f"a sound track is there, but {why}")
    if claim_s is not None and claim_s >= _MISSED_S:
        why = f"the file ends before its first sample; by its header it has {claim_s:.2g} s"
        return MediaError("truncated", f"a sound track is there, but {why}")
    return MediaError("no_audio", "a sound track is there, but it has no sample")


def _holds_a_sample(container: InputContainer, stream: av.AudioStream) -> bool:
    """Whether any packet has the bytes of a sample; of most codecs all that tells is that it is not
    empty."""
    codec = stream.codec_context
    pcm = codec is not None and codec.name.startswith("pcm_")
    least = codec.channels * codec.format.bytes if pcm and codec.format else 1
    with open_media(container.name.removeprefix("file:")) as again:
        track = again.streams[stream.index]
        try:
            return any(packet.size >= least for packet in packets(again, track))
        except av.error.FFmpegError:
            return False


__all__ = ["Reader", "Reading", "fill", "read_sound", "sound_track"]
