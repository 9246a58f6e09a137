"""A short sound and a small picture of single clips, as a page can carry them.

Shapes: N samples, H height, W width.
"""

import io
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from fractions import Fraction

import av
import numpy as np
from numpy.typing import NDArray

from audioflow.errors import MediaError
from audioflow.media.child import DecoderChild
from audioflow.media.parts import End, FrameSampling, Part, PicturesPart, SoundPart, Wanted
from audioflow.media.spans import Span
from audioflow.storage import StorageOptions, is_local, local_copy

EXCERPT_S = 10.0
SAMPLE_RATE_HZ = 24_000
BIT_RATE = 32_000
PICTURE = FrameSampling(num_frames=1, short_side=96)
MOST_FETCHED_BYTES = 256_000_000
"""A recording in a bucket is not fetched for its excerpt where it is larger."""

_ENCODERS = (("libmp3lame", "mp3", "audio/mpeg"), ("libopus", "webm", "audio/webm"))
"""MP3 plays in every browser; Opus stands in where FFmpeg was built without its encoder."""


@dataclass(frozen=True)
class Excerpt:
    """What a page shows of a clip: `sound` of the type `sound_type`, its first `seconds`; a JPEG.

    `note` says why there is no sound, or no sound and no picture.
    """

    sound: bytes = b""
    sound_type: str = ""
    seconds: float = 0.0
    picture: bytes = b""
    note: str = ""


@dataclass(frozen=True)
class ClipPlace:
    """Where a clip lies: the span of a recording. `size_bytes` is the recording's, where known."""

    clip_id: str
    uri: str
    start_s: float | None
    duration_s: float | None
    size_bytes: int | None = None


def read_excerpts(
    clips: Sequence[ClipPlace], child: DecoderChild, wanted: Wanted, storage: StorageOptions
) -> dict[str, Excerpt]:
    """The excerpt of every clip by its id; media that cannot be read leave a note.

    `wanted` says how to decode; its sources are set here. The child is left running.
    """
    return {clip.clip_id: _read(clip, child, wanted, storage) for clip in clips}


def _read(clip: ClipPlace, child: DecoderChild, wanted: Wanted, storage: StorageOptions) -> Excerpt:
    if not is_local(clip.uri) and (clip.size_bytes or 0) > MOST_FETCHED_BYTES:
        return Excerpt(note=f"not fetched: the recording has {clip.size_bytes:,} bytes")
    seconds = min(clip.duration_s or EXCERPT_S, EXCERPT_S)
    sources = Wanted(
        (SAMPLE_RATE_HZ,),
        (PICTURE,),
        wanted.max_duration_s,
        wanted.sound_track,
        wanted.video_track,
        wanted.decoder,
    )
    try:
        with local_copy(clip.uri, storage) as path:
            parts = [
                part
                for some in child.decode(path, [Span(clip.start_s, seconds)], sources)
                for part in some
            ]
    except MediaError as error:
        return Excerpt(note=f"{error.error}: {error.reason}")
    return _excerpt(parts)


def _excerpt(parts: Sequence[Part]) -> Excerpt:
    sounds = [part.samples for part in parts if isinstance(part, SoundPart)]
    pictures = [part.frames for part in parts if isinstance(part, PicturesPart)]
    ends = {part.source: part for part in parts if isinstance(part, End)}
    failed = ends[SAMPLE_RATE_HZ].error
    samples = np.concatenate(sounds) if sounds and not failed else np.zeros(0, np.int16)
    has_picture = bool(pictures) and not ends[PICTURE].error
    sound, kind = encoded_sound(samples) if len(samples) else (b"", "")
    return Excerpt(
        sound=sound,
        sound_type=kind,
        seconds=len(samples) / SAMPLE_RATE_HZ,
        picture=encoded_picture(pictures[0][0]) if has_picture else b"",
        note=_note(failed, len(samples)),
    )


def _note(failed: MediaError | None, num_samples: int) -> str:
    if failed is not None:
        return (
            "no sound track" if failed.error == "no_audio" else f"{failed.error}: {failed.reason}"
        )
    return "" if num_samples else "no sound in its first seconds"


def encoded_sound(samples_N: NDArray[np.int16]) -> tuple[bytes, str]:
    """Mono int16 at `SAMPLE_RATE_HZ` -> a small file and its MIME type; (b"", "") where this
    FFmpeg has no encoder that browsers play.
    """
    for codec, container, kind in _ENCODERS:
        if codec in av.codecs_available:
            return _encode(samples_N, codec, container), kind
    return b"", ""


def _encode(samples_N: NDArray[np.int16], codec: str, container: str) -> bytes:
    sink = io.BytesIO()
    with closing(av.open(sink, "w", format=container)) as output:
        stream = output.add_stream(codec, rate=SAMPLE_RATE_HZ, layout="mono")
        stream.bit_rate = BIT_RATE
        frame = av.AudioFrame.from_ndarray(samples_N[None], format="s16", layout="mono")
        frame.sample_rate = SAMPLE_RATE_HZ
        frame.time_base = Fraction(1, SAMPLE_RATE_HZ)
        frame.pts = 0
        for packet in (*stream.encode(frame), *stream.encode(None)):
            output.mux(packet)
    return sink.getvalue()


def encoded_picture(picture_HW3: NDArray[np.uint8]) -> bytes:
    """An RGB picture as a small JPEG."""
    from PIL import Image

    sink = io.BytesIO()
    Image.fromarray(picture_HW3).save(sink, "JPEG", quality=70, optimize=True)
    return sink.getvalue()


Excerpts = Mapping[str, Excerpt]
