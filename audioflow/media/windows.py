"""Collecting the sound of a span while a recording is decoded in order.

Shapes: N samples, mono float32.
"""

from dataclasses import dataclass

import numpy as np
import soxr
from numpy.typing import NDArray

from audioflow.errors import MediaError
from audioflow.media.spans import Span, claimed_coverage

_LOUDEST = 10.0
"""Samples beyond +20 dBFS are damage (flipped bits in lossy codecs reach +64 dBFS), like NaN."""


@dataclass(frozen=True)
class Piece:
    """Decoded samples (N,) in a row; `first` is the place of the first in the track, at `rate`."""

    first: int
    rate: int
    samples: NDArray[np.float32]

    @property
    def end_s(self) -> float:
        return (self.first + self.samples.size) / self.rate


@dataclass(frozen=True)
class Cut:
    """The samples (N,) of one span, damaged ones as zeros, and the share that was good."""

    samples: NDArray[np.float32]
    rate: int
    coverage: float

    @property
    def duration_s(self) -> float:
        return self.samples.size / self.rate


class Window:
    """The samples of one span so far.

    late_s: seconds from the start of the recording to that of the track. limit_s: the longest clip.
    """

    def __init__(self, span: Span, late_s: float, limit_s: float) -> None:
        self._span = span
        self._late_s = late_s
        self._limit_s = limit_s
        self._parts: list[Piece] = []
        self._failure: MediaError | None = None
        self._have_s = 0.0
        self._begin_s = 0.0 if span.start_s is None else span.start_s - late_s
        self.open = True
        if span.duration_s is not None and span.duration_s <= 0:
            self._fail(MediaError("too_short", f"the clip is {span.duration_s:g} s long"))
        self._check_length(span.duration_s or 0.0)

    @property
    def start_s(self) -> float:
        """Where the span begins in the track; 0 where it begins before it."""
        return max(0.0, self._begin_s)

    def add(self, piece: Piece) -> None:
        """Take what the span needs of the next samples of the track."""
        if not self.open:
            return
        begin, end = self._bounds(piece.rate)
        low = max(0, begin - piece.first)
        high = piece.samples.size if end is None else min(piece.samples.size, end - piece.first)
        if low < high:
            self._parts.append(Piece(piece.first + low, piece.rate, piece.samples[low:high].copy()))
            self._have_s += (high - low) / piece.rate
            self._check_length(self._have_s)
        if end is not None and piece.first + piece.samples.size >= end:
            self.open = False

    def cut(self, reached_s: float, claim_s: float | None) -> Cut:
        """All that was collected.

        reached_s: how far the track was decoded; claim_s: how long the file says that it is. Raises
        `MediaError`: `truncated` where the track has nothing of the span, `too_long`, `too_short`.
        """
        if self._failure:
            raise self._failure
        if not self._parts:
            raise MediaError("truncated", self._why_empty(reached_s))
        rate = self._parts[0].rate
        begin, end = self._bounds(rate)
        samples = np.concatenate([_at_rate(part, rate) for part in self._parts])
        good = np.abs(samples) <= _LOUDEST  # False for NaN
        num_good = int(np.count_nonzero(good))
        if num_good < samples.size:
            samples = np.where(good, samples, np.float32(0))
        if end is None:
            have_s = samples.size / rate
            claim_end_s = max(self.start_s + have_s, claim_s or 0.0)
            coverage = claimed_coverage(have_s, claim_end_s - self._begin_s)
            coverage *= num_good / samples.size
        else:
            coverage = min(1.0, num_good / (end - begin))
        silence = np.zeros(max(0, -begin), np.float32)
        return Cut(np.concatenate([silence, samples]), rate, coverage)

    def _bounds(self, rate: int) -> tuple[int, int | None]:
        """First sample and the one after the last, in samples of the track at this rate."""
        begin = round(self._begin_s * rate)
        duration_s = self._span.duration_s
        return begin, None if duration_s is None else begin + max(1, round(duration_s * rate))

    def _check_length(self, length_s: float) -> None:
        if length_s > self._limit_s:
            why = (
                f"more than {self._limit_s:g} s of sound (embed.max_duration_s); "
                "cut it into clips with start_s and duration_s, or raise the limit"
            )
            self._fail(MediaError("too_long", why))

    def _fail(self, error: MediaError) -> None:
        self._failure = error
        self._parts.clear()
        self.open = False

    def _why_empty(self, reached_s: float) -> str:
        end_s = self._span.end_s
        if end_s is not None and end_s <= self._late_s:
            return f"the clip ends at {end_s:g} s, the sound begins at {self._late_s:.3f} s"
        start_s = self._span.start_s or 0.0
        return (
            f"the clip starts at {start_s:g} s, the sound ends at {reached_s + self._late_s:.3f} s"
        )


def _at_rate(part: Piece, rate: int) -> NDArray[np.float32]:
    if part.rate == rate:
        return part.samples
    resampled: NDArray[np.float32] = soxr.resample(part.samples, part.rate, rate, "HQ")
    return resampled
