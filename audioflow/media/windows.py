"""The sound of one clip, taken from a recording that is decoded in order, block by block.

Shapes: N samples, mono float32.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from audioflow.errors import MediaError
from audioflow.media.parts import End, Part, SoundPart, SoundSource, Wanted, rate_of
from audioflow.media.resampling import Resampler, int16
from audioflow.media.spans import FORGIVEN_S, Span, claimed_coverage

_LOUDEST = 10.0
"""Samples beyond +20 dBFS are damage (flipped bits in lossy codecs reach +64 dBFS), like NaN."""

_BLOCK = 2**19
"""Samples that are held back to be resampled at once: 2 MB."""


@dataclass(frozen=True)
class Piece:
    """Decoded samples (N,) in a row; `first` is the place of the first in the track, at `rate`."""

    first: int
    rate: int
    samples: NDArray[np.float32]

    @property
    def end_s(self) -> float:
        return (self.first + self.samples.size) / self.rate


class Window:
    """One clip: takes pieces of the track, gives parts, and in the end one `End` per rate.

    late_s: seconds from the start of the recording to that of the track.
    """

    def __init__(self, clip: int, span: Span, late_s: float, wanted: Wanted) -> None:
        self._clip = clip
        self._span = span
        self._late_s = late_s
        self._rates = wanted.sample_rates_hz
        self._limit_s = wanted.max_duration_s
        self._begin_s = 0.0 if span.start_s is None else span.start_s - late_s
        self._begins_s = late_s if span.start_s is None else 0.0
        self._rate = 0
        self._begin = self._next = 0
        self._end: int | None = None
        self._decoded = self._good = self._given = 0
        self._blocks: list[NDArray[np.float32]] = []
        self._held = 0
        self._resamplers: dict[SoundSource, Resampler] = {}
        self._converter: _Converter | None = None
        self.open = True

    def refuse(self) -> Iterator[Part]:
        """The ends of a clip that cannot be, whatever the track holds."""
        duration_s = self._span.duration_s
        if duration_s is not None and duration_s <= 0:
            yield from self.fail(MediaError("too_short", f"the clip is {duration_s:g} s long"))
        elif (duration_s or 0.0) > self._limit_s:
            yield from self.fail(self._too_long())

    @property
    def needs_s(self) -> float:
        """Where the next sample lies that it has use for, in seconds of the track."""
        if self._rate:
            return max(0, self._next) / self._rate
        return max(0.0, self._begin_s)

    def add(self, piece: Piece) -> Iterator[Part]:
        """Take what the clip needs of the next samples of the track."""
        if not self._rate:
            self._set_rate(piece.rate)
        if piece.rate != self._rate:
            if not self._converter or not self._converter.continues(piece):
                yield from self._end_conversion()
                self._converter = _Converter(piece, self._rate)
            piece = self._converter.convert(piece)
        else:
            yield from self._end_conversion()
        yield from self._take(piece)

    def _set_rate(self, rate: int) -> None:
        self._rate = rate
        self._begin = self._next = round(self._begin_s * rate)
        if self._span.duration_s is not None:
            self._end = self._begin + max(1, round(self._span.duration_s * rate))

    def _end_conversion(self) -> Iterator[Part]:
        if self._converter:
            rest = self._converter.rest()
            self._converter = None
            yield from self._take(rest)

    def _take(self, piece: Piece) -> Iterator[Part]:
        low = max(self._next, piece.first)
        high = piece.first + piece.samples.size
        if self._end is not None:
            low, high = min(low, self._end), min(high, self._end)
        if high <= self._next or not self.open:
            return
        yield from self._silence(low - self._next)
        if self.open and low < high:
            samples = piece.samples[low - piece.first : high - piece.first].copy()
            good = np.abs(samples) <= _LOUDEST  # False for NaN
            num_good = int(np.count_nonzero(good))
            if num_good < samples.size:
                samples = np.where(good, samples, np.float32(0))
            self._decoded += samples.size
            self._good += num_good
            yield from self._append(samples)
        if self.open and self._end is not None and self._next >= self._end:
            yield from self.finish(piece.end_s, None)

    def _silence(self, count: int) -> Iterator[Part]:
        """In the place of what was not decoded, so that everything later keeps its time."""
        while count > 0 and self.open:
            yield from self._append(np.zeros(min(count, _BLOCK), np.float32))
            count -= _BLOCK

    def _append(self, samples: NDArray[np.float32]) -> Iterator[Part]:
        self._blocks.append(samples)
        self._held += samples.size
        self._next += samples.size
        if (self._next - self._begin) / self._rate > self._limit_s:
            yield from self.fail(self._too_long())
        elif self._held >= _BLOCK:
            yield from self._give(last=False)

    def _give(self, *, last: bool) -> Iterator[Part]:
        held = np.concatenate(self._blocks) if self._blocks else np.zeros(0, np.float32)
        self._blocks, self._held = [], 0
        for source in self._rates:
            rate = rate_of(source)
            resampler = self._resamplers.setdefault(source, Resampler(self._rate, rate))
            exact = resampler.push(held, last=last)
            if exact.size:
                self._given += 1
                samples = int16(exact) if isinstance(source, int) else exact
                yield SoundPart(self._clip, source, samples, self._begins_s)

    def finish(self, reached_s: float, claim_s: float | None) -> Iterator[Part]:
        """The rest of it, and its ends.

        reached_s: how far the track was decoded; claim_s: how long the file says that it is.
        """
        yield from self._end_conversion()
        if not self.open:
            return
        if not self._decoded:
            yield from self.fail(MediaError("truncated", self._why_empty(reached_s)))
            return
        yield from self._give(last=True)
        length_s = (self._next - self._begin) / self._rate
        if not self._given:
            rates = " and ".join(f"{rate_of(rate)} Hz" for rate in self._rates)
            why = f"the clip is {length_s:g} s long: less than one sample at {rates}"
            yield from self.fail(MediaError("too_short", why))
            return
        self.open = False
        for rate in self._rates:
            yield End(self._clip, rate, length_s, self._coverage(length_s, claim_s))

    def _coverage(self, length_s: float, claim_s: float | None) -> float:
        late = max(0, -self._begin)
        if self._end is not None:
            forgiven = late if late <= FORGIVEN_S * self._rate else 0
            return min(1.0, self._good / (self._end - self._begin - forgiven))
        have = self._next - self._begin - late
        claim_end_s = max(self._begin_s + length_s, claim_s or 0.0)
        share = claimed_coverage(have / self._rate, claim_end_s - self._begin_s)
        return share * self._good / have

    def fail(self, error: MediaError) -> Iterator[Part]:
        """Its ends, if it has not ended."""
        if self.open:
            self.open = False
            self._blocks.clear()
            self._resamplers.clear()
            for rate in self._rates:
                yield End(self._clip, rate, error=error)

    def _too_long(self) -> MediaError:
        why = (
            f"more than {self._limit_s:g} s of sound (embed.max_duration_s); "
            "cut it into clips with start_s and duration_s, or raise the limit"
        )
        return MediaError("too_long", why)

    def _why_empty(self, reached_s: float) -> str:
        start_s, end_s = self._span.start_s or 0.0, self._span.end_s
        if end_s is not None and end_s <= self._late_s:
            return f"the clip ends at {end_s:g} s, the sound begins at {self._late_s:.3f} s"
        if reached_s > self.needs_s:
            return f"nothing of the clip from {start_s:g} s on could be decoded: it is damaged"
        return (
            f"the clip starts at {start_s:g} s, the sound ends at {reached_s + self._late_s:.3f} s"
        )


class _Converter:
    """Pieces in a row at another rate -> pieces at the rate of the clip."""

    def __init__(self, piece: Piece, rate: int) -> None:
        self._resampler = Resampler(piece.rate, rate)
        self._from = piece.rate
        self._expected = piece.first
        self._rate = rate
        self._next = round(piece.first * rate / piece.rate)

    def continues(self, piece: Piece) -> bool:
        return (piece.rate, piece.first) == (self._from, self._expected)

    def convert(self, piece: Piece) -> Piece:
        self._expected += piece.samples.size
        return self._piece(self._resampler.push(piece.samples, last=False))

    def rest(self) -> Piece:
        return self._piece(self._resampler.push(np.zeros(0, np.float32), last=True))

    def _piece(self, samples: NDArray[np.float32]) -> Piece:
        first, self._next = self._next, self._next + samples.size
        return Piece(first, self._rate, samples)
