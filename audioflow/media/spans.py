"""The part of a recording that a clip is, and what share of it was there to decode."""

from dataclasses import dataclass

_FORGIVEN_SHARE = 0.05
FORGIVEN_S = 0.1
"""How much less than a file claims is still all of it: encoder delay, rounding, padded frames."""


@dataclass(frozen=True)
class Span:
    """The part of a recording that a clip is; None means from the start, or to the end.

    A `start_s` counts from the start of the recording. Where a track begins later than that, None
    means from the track's own start.
    """

    start_s: float | None = None
    duration_s: float | None = None

    @property
    def end_s(self) -> float | None:
        """Where the span ends, in seconds of the recording; None where it has no end of its own."""
        return None if self.duration_s is None else (self.start_s or 0.0) + self.duration_s


def claimed_coverage(have_s: float, claim_s: float | None) -> float:
    """Share (0, 1] that `have_s` is of what a file claims; a gap too small to be damage is none."""
    expected_s = max(claim_s or 0.0, have_s)
    forgiven_s = max(_FORGIVEN_SHARE * expected_s, min(FORGIVEN_S, expected_s / 2))
    return 1.0 if expected_s - have_s <= forgiven_s else have_s / expected_s
