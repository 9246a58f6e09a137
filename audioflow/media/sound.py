"""Sound of a recording -> mono waveforms at the sample rates that are wanted.

Shapes: C channels, N samples. Channels are mixed by their mean, resampling is soxr HQ, and waveforms leave as int16 (full scale
32767), the form in which they travel between processes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import av
import av.error
import numpy as np
import soxr
from av.audio.frame import AudioFrame
from av.container import InputContainer
from numpy.typing import NDArray

from audioflow.errors import MediaError
from audioflow.media.container import claimed_duration_s, message

FULL_SCALE = 32767.0
_UNKNOWN_GAP = 0.05
"""Share of a claim that may be missing without being called damage (encoder delay, rounding)."""


@dataclass(frozen=True)
class Span:
    """The part of a recording that a clip is; None means from the start, or to the end."""

    start_s: float | None = None
    duration_s: float | None = None


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

    A span that gave nothing is a `MediaError` in its place. Raises `MediaError` where the whole
    recording has no sound: `no_audio`, `unsupported`, `truncated`, `too_long`.
    """
    if not container.streams.audio:
        raise MediaError("no_audio", "the recording has no sound track")
    stream = container.streams.audio[0]
    ends = [
        span.start_s + span.duration_s
        for span in spans
        if span.start_s is not None and span.duration_s
    ]
    stop_s = max(ends) if len(ends) == len(spans) else None
    rate, waveform, damaged = _decode(container, stream, stop_s, max_duration_s)
    claim = claimed_duration_s(container, stream)
    if waveform.size == 0:
        why = "its packets could not be decoded" if damaged else "it has no sample"
        raise MediaError(
            "truncated" if damaged or claim else "no_audio", f"a sound track is there, but {why}"
        )
    return [_cut(waveform, rate, span, claim, sample_rates_hz) for span in spans]


def _decode(
    container: InputContainer, stream: av.AudioStream, stop_s: float | None, max_duration_s: float
) -> tuple[int, NDArray[np.float32], bool]:
    """All samples up to `stop_s`: (rate in Hz, mono float32, whether packets were damaged)."""
    parts: list[tuple[int, NDArray[np.float32]]] = []
    batch: list[AudioFrame] = []
    seconds, damaged = 0.0, False
    try:
        for packet in container.demux(stream):
            try:
                frames = packet.decode()
            except av.error.InvalidDataError:
                damaged = True
                continue
            for frame in frames:
                if batch and _layout(frame) != _layout(batch[-1]):
                    parts.append(_mono(batch))
                    batch = []
                batch.append(frame)
                seconds += frame.samples / frame.sample_rate
            if stop_s is not None and seconds >= stop_s:
                break
            if seconds > max_duration_s:
                raise MediaError(
                    "too_long",
                    f"more than {max_duration_s:g} s of sound (embed.max_duration_s); "
                    "cut it into clips with start_s and duration_s, or raise the limit",
                )
    except (av.error.PatchWelcomeError, av.error.DecoderNotFoundError) as error:
        if not batch and not parts:
            raise MediaError(
                "unsupported", f"FFmpeg cannot decode the sound: {message(error)}"
            ) from error
        damaged = True
    except av.error.FFmpegError:
        damaged = True
    if batch:
        parts.append(_mono(batch))
    return (*_join(parts, stream.sample_rate or 0), damaged)


def _layout(frame: AudioFrame) -> tuple[int, str, int]:
    return frame.sample_rate, frame.format.name, frame.layout.nb_channels


def _mono(frames: Sequence[AudioFrame]) -> tuple[int, NDArray[np.float32]]:
    """Frames of one layout -> (rate, mono float32). Integer formats are scaled to [-1, 1]."""
    channels = frames[0].layout.nb_channels
    arrays = [frame.to_ndarray() for frame in frames]
    joined = np.concatenate(arrays, axis=1)
    if frames[0].format.is_packed:
        joined = joined.reshape(-1, channels).T
    kind = joined.dtype
    mono = joined[0].astype(np.float32) if channels == 1 else joined.mean(axis=0, dtype=np.float32)
    if kind == np.uint8:
        mono = (mono - 128.0) / 128.0
    elif np.issubdtype(kind, np.integer):
        mono = mono / float(2 ** (8 * kind.itemsize - 1))
    return frames[0].sample_rate, mono.astype(np.float32, copy=False)


def _join(
    parts: Sequence[tuple[int, NDArray[np.float32]]], rate: int
) -> tuple[int, NDArray[np.float32]]:
    if not parts:
        return rate or 1, np.zeros(0, np.float32)
    first = parts[0][0]
    arrays = [array if r == first else soxr.resample(array, r, first, "HQ") for r, array in parts]
    return first, np.concatenate(arrays)


def _cut(
    waveform: NDArray[np.float32],
    rate: int,
    span: Span,
    claim: float | None,
    sample_rates_hz: Sequence[int],
) -> Sound | MediaError:
    start_s = span.start_s or 0.0
    start = round(start_s * rate)
    end = waveform.size if span.duration_s is None else start + round(span.duration_s * rate)
    part = waveform[start:end]
    if part.size == 0:
        have_s = waveform.size / rate
        return MediaError(
            "truncated", f"the clip starts at {start_s:g} s, the sound ends at {have_s:.3f} s"
        )
    finite = np.isfinite(part)
    good = int(np.count_nonzero(finite))
    if good < part.size:
        part = np.where(finite, part, np.float32(0))
    expected = span.duration_s
    if expected is None:
        expected = max((claim or 0.0) - start_s, part.size / rate)
    coverage = min(1.0, good / rate / expected)
    if coverage > 1 - _UNKNOWN_GAP and span.duration_s is None and good == part.size:
        coverage = 1.0
    waveforms = {wanted: _int16(part, rate, wanted) for wanted in sample_rates_hz}
    return Sound(waveforms, part.size / rate, coverage)


def _int16(waveform: NDArray[np.float32], rate: int, wanted: int) -> NDArray[np.int16]:
    if wanted != rate:
        waveform = soxr.resample(waveform, rate, wanted, "HQ")
    return np.rint(np.clip(waveform, -1.0, 1.0) * FULL_SCALE).astype(np.int16)
