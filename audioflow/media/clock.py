"""Where decoded sound lies in its track: by its time stamps, not by counting what was decoded."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

_CONTIGUOUS_S = 0.02
_CONTIGUOUS_FRAMES = 2
"""Time stamps are rounded and jitter: up to this much off, samples follow on each other."""

_FIRST_S = 0.1
"""A first frame this much after the start that the file states is the start: encoder delay."""

_PRIMED_TICKS = 2
"""Sound that begins this much before the start that the file states was put there by an encoder."""

_SETTLED_FRAMES = 8
_DRIFTS = 64
_VORBIS_GRID = 64
"""Its frames are long or short; all of them begin at multiples of this from the first."""


class NotExactError(Exception):
    """After a jump, where the decoded sound lies in the track is not certain to the sample."""


@dataclass(frozen=True)
class Stamp:
    """What is known of a decoded frame: its time (seconds of the track), rate (Hz), samples."""

    at_s: float | None
    rate: int
    count: int


class TrackClock:
    """Places frames, in samples from the start of the track.

    tick_s: the unit of the time stamps. longest_hole_s, end_s: a longer hole, or one that ends
    later, is not believed.
    """

    def __init__(self, tick_s: float, longest_hole_s: float, end_s: float, codec: str = "") -> None:
        self._tick_s = tick_s
        self._longest_hole_s = longest_hole_s
        self._end_s = end_s
        self._codec = codec
        self._shift_s = 0.0
        self._next = 0
        self._rate = 0
        self._longest = 0
        self._count = 0
        self._last = 0
        self._sizes: set[int] = set()
        self._drifts_s: deque[float] = deque(maxlen=_DRIFTS)

    @property
    def reached_s(self) -> float:
        """Where the last frame ended."""
        return self._next / self._rate if self._rate else 0.0

    @property
    def settled(self) -> bool:
        """Whether enough frames were seen to find one's place again after a jump."""
        return self._count >= _SETTLED_FRAMES and (self._exact or self._grid is not None)

    @property
    def _exact(self) -> bool:
        """Whether every sample has a time stamp of its own."""
        if not self._tick_s or not self._rate:
            return False
        ticks = 1 / (self._tick_s * self._rate)
        return ticks > 0.5 and abs(ticks - round(ticks)) < 1e-6

    @property
    def _grid(self) -> int | None:
        """The distance (samples) at multiples of which all frames begin."""
        if self._codec == "vorbis":
            return _VORBIS_GRID
        return next(iter(self._sizes)) if len(self._sizes) == 1 else None

    def lose(self, lost_s: float) -> None:
        """Count time that the time stamps do not know of: they were made by counting packets."""
        self._shift_s += lost_s

    def place(self, stamp: Stamp) -> int:
        """Where this frame begins: after the one before, except where there is a hole."""
        self._longest = max(self._longest, stamp.count)
        if stamp.rate != self._rate:
            self._next = round(self.reached_s * stamp.rate)
            self._rate = stamp.rate
            self._sizes.clear()
            self._drifts_s.clear()
        elif self._count > 1:
            self._sizes.add(self._last)
        if stamp.at_s is not None:
            self._correct(stamp.at_s)
        self._count += 1
        self._last = stamp.count
        first, self._next = self._next, self._next + stamp.count
        return first

    def _correct(self, at_s: float) -> None:
        allowed_s = max(_CONTIGUOUS_S, _CONTIGUOUS_FRAMES * self._longest / self._rate)
        if not self._count:
            allowed_s = max(allowed_s, _FIRST_S)
        drift_s = at_s + self._shift_s - self.reached_s
        if abs(drift_s) > allowed_s or not self._count:
            hole = allowed_s < drift_s <= self._longest_hole_s
            if not self._count and -_FIRST_S < at_s < -_PRIMED_TICKS * self._tick_s:
                self._next = round(at_s * self._rate)
            elif hole and at_s + self._shift_s <= self._end_s:
                self._next = self._after_hole(at_s + self._shift_s)
            else:
                self._shift_s -= drift_s  # the track begins here, or its clock was set anew
            drift_s = at_s + self._shift_s - self.reached_s
            self._drifts_s.clear()
        self._drifts_s.append(drift_s)

    @property
    def _usual_drift_s(self) -> float:
        """How far time stamps are ahead of the samples: the middle, without a few odd ones."""
        drifts_s = sorted(self._drifts_s)
        odd = len(drifts_s) // 10
        return (drifts_s[odd] + drifts_s[-1 - odd]) / 2 if drifts_s else 0.0

    def _after_hole(self, at_s: float) -> int:
        try:
            return self._snapped((at_s - self._usual_drift_s) * self._rate)
        except NotExactError:
            return round(at_s * self._rate)

    def land(self, stamps: Sequence[Stamp], by_s: float) -> None:
        """Go on from the first of these frames, the first ones after a jump.

        by_s: where the first of them has to begin, at the latest. Raises `NotExactError` where
        their places are not certain to the sample.
        """
        times_s = [stamp.at_s for stamp in stamps if stamp.at_s is not None]
        one_rate = {stamp.rate for stamp in stamps} == {self._rate}
        if len(times_s) < len(stamps) or not one_rate or not self._drifts_s:
            raise NotExactError
        usual_s = self._usual_drift_s - self._shift_s
        passed_s, offsets_s = 0.0, []
        for stamp, at_s in zip(stamps, times_s, strict=True):
            offsets_s.append(at_s - usual_s - passed_s)
            passed_s += stamp.count / self._rate
        place = self._snapped((min(offsets_s) + max(offsets_s)) / 2 * self._rate)
        rounding_s = self._tick_s + 1 / self._rate
        if any(abs(offset_s - place / self._rate) > rounding_s for offset_s in offsets_s):
            raise NotExactError
        if not self._next <= place <= by_s * self._rate:
            raise NotExactError
        self._next = place

    def _snapped(self, place: float) -> int:
        grid = None if self._exact else self._grid
        if grid is None:
            return round(place)
        snapped = self._next + round((place - self._next) / grid) * grid
        if abs(place - snapped) > min(grid / 4, self._tick_s * self._rate + 1):
            raise NotExactError
        return snapped
