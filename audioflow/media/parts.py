"""What a decoder gives of a recording, in pieces, so that its length bounds no one's memory.

Shapes: N samples, F frames, H height, W width.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from audioflow.errors import MediaError
from audioflow.media.spans import Span


@dataclass(frozen=True)
class FrameSampling:
    """How frames are taken, and the length (pixels) that their short side is resized to.

    Either `num_frames` at equal distances over the clip, or `fps` frames per second.
    """

    num_frames: int | None
    short_side: int
    fps: float | None = None


@dataclass(frozen=True)
class FramePatching:
    """How pictures become patches: sampled frames, `frames_per_patch` in a row.

    hop_frames: distance of patches. Frames after the last patch are dropped; a clip with fewer
    frames than a patch gives one, in which its last frame is repeated.
    """

    sampling: FrameSampling
    frames_per_patch: int = 1
    hop_frames: int = 1

    @property
    def run_up_frames(self) -> int:
        """How many frames of what came before have to be at hand to go on in mid-clip."""
        return self.frames_per_patch - 1


@dataclass(frozen=True)
class ExactSound:
    """Sound at a sample rate, in float32 as it was decoded, for who hears what int16 rounds off."""

    sample_rate_hz: int


SoundSource = int | ExactSound
"""Sound at a sample rate (Hz), in int16 where nothing else is said."""

Source = SoundSource | FrameSampling
"""What is wanted of a clip: its sound at a sample rate, or its pictures sampled in one way."""


def rate_of(source: SoundSource) -> int:
    """The sample rate in Hz."""
    return source if isinstance(source, int) else source.sample_rate_hz


@dataclass(frozen=True)
class SoundPart:
    """The next samples (N,) of a clip's waveform: mono int16, full scale 32767, or float32 in
    [-1, 1] of `ExactSound`.

    begins_s: where the first sample of the clip lies, in seconds from the start of the clip: after
    it where the clip is a whole recording whose sound begins late.
    """

    clip: int
    source: SoundSource
    samples: NDArray[Any]
    begins_s: float = 0.0

    @property
    def nbytes(self) -> int:
        return self.samples.nbytes


@dataclass(frozen=True)
class PicturesPart:
    """The next sampled frames of a clip: uint8 RGB (F, H, W, 3), upright.

    time_s: (F,) seconds from the start of the clip.
    """

    clip: int
    source: FrameSampling
    frames: NDArray[np.uint8]
    time_s: NDArray[np.float64]

    @property
    def nbytes(self) -> int:
        return self.frames.nbytes


@dataclass(frozen=True)
class End:
    """Nothing more comes of this source of a clip.

    Its length and the share of it that was decoded; or the error for which it gives no result,
    whatever parts came before.
    """

    clip: int
    source: Source
    duration_s: float = 0.0
    coverage: float = 0.0
    error: MediaError | None = None

    nbytes = 0


Part = SoundPart | PicturesPart | End


@dataclass(frozen=True)
class Wanted:
    """What is needed of every clip of a recording, and how it is decoded.

    sample_rates_hz, samplings: the sources. max_duration_s: a longer clip is an error (`too_long`).
    sound_track, video_track: which track of its kind (from 0); None for the one FFmpeg prefers.
    decoder: "module:Class" of the decoder.
    """

    sample_rates_hz: tuple[SoundSource, ...] = ()
    samplings: tuple[FrameSampling, ...] = ()
    max_duration_s: float = 14_400.0
    sound_track: int | None = None
    video_track: int | None = None
    decoder: str = "audioflow.media.pyav:PyAV"

    @property
    def sources(self) -> tuple[Source, ...]:
        return (*self.sample_rates_hz, *self.samplings)


class Decoder(Protocol):
    """A way to decode. It runs in the child process, on local files."""

    Settings: Any

    def __init__(self, settings: Any) -> None: ...

    def decode(self, path: str, spans: Sequence[Span], wanted: Wanted) -> Iterator[Part]:
        """For each clip (position in `spans`) and source: parts in order, then one `End`.

        Bad media is an `End` with an error, never an exception; only MemoryError may escape.
        """
        ...
