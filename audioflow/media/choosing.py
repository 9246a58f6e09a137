"""Which frames of a video are those of a clip.

Shapes: F frames of the clip.
"""

from dataclasses import dataclass
from math import ceil

import numpy as np
from numpy.typing import NDArray

from audioflow.errors import MediaError
from audioflow.media.parts import FrameSampling
from audioflow.media.spans import FORGIVEN_S, Span, claimed_coverage

_TIE_S = 0.001
"""Clocks are rounded: a frame that begins this much after a moment is on show at it."""


@dataclass(frozen=True)
class Times:
    """When a video track begins, ends, and may end; seconds of the recording.

    limit_s: the longest clip.
    """

    late_s: float
    claim_s: float | None
    longest_s: float
    limit_s: float


@dataclass(frozen=True)
class Chosen:
    """The frames of a clip: their numbers, and when they are on show (F,), from its start."""

    indices: list[int]
    time_s: NDArray[np.float64]
    duration_s: float
    coverage: float


def is_clock(clock: NDArray[np.float64], longest_s: float) -> bool:
    """Whether starts of frames (column 0) rise, by no more than a file of this size can hold."""
    if clock.ndim != 2 or not clock.size or not np.all(np.isfinite(clock)):
        return False
    return bool(np.all(np.diff(clock[:, 0]) > 0) and clock[-1, 1] - clock[0, 0] <= longest_s)


def choose(
    clock: NDArray[np.float64], span: Span, sampling: FrameSampling, times: Times
) -> Chosen | MediaError:
    """The frames on show at the moments that `sampling` asks for, each once.

    clock: (frames, 2) start and end of every frame in seconds.
    """
    clock = clock - clock[0, 0] + times.late_s
    first_s, last_s = float(clock[0, 0]), float(clock[-1, 1])
    start_s = first_s if span.start_s is None else span.start_s
    end_s = last_s if span.duration_s is None else start_s + span.duration_s
    if span.duration_s is not None and span.duration_s <= 0:
        return MediaError("too_short", f"the clip is {span.duration_s:g} s long")
    begin_s, until_s = max(start_s, first_s), min(end_s, last_s)
    if begin_s >= until_s:
        have = f"the pictures are from {first_s:.3f} s to {last_s:.3f} s"
        return MediaError("truncated", f"the clip is from {start_s:g} s to {end_s:g} s, {have}")
    if until_s - start_s > times.limit_s or (span.duration_s or 0.0) > times.limit_s:
        return _too_long(times.limit_s)
    moments_s = _moments(sampling, start_s, begin_s, until_s) + _TIE_S
    indices = np.unique(np.searchsorted(clock[:, 0], moments_s, side="right") - 1)
    if span.duration_s is None:
        claim_end_s = max(last_s, first_s + (times.claim_s or 0.0))
        coverage = claimed_coverage(until_s - begin_s, claim_end_s - start_s)
    else:
        forgiven_s = begin_s - start_s if begin_s - start_s <= FORGIVEN_S else 0.0
        coverage = (until_s - begin_s) / (span.duration_s - forgiven_s)
    time_s = np.maximum(clock[indices, 0] - (span.start_s or 0.0), 0.0)
    return Chosen(indices.tolist(), time_s, until_s - start_s, min(1.0, coverage))


def _moments(
    sampling: FrameSampling, start_s: float, begin_s: float, until_s: float
) -> NDArray[np.float64]:
    """Middles of `num_frames` equal parts of what there is of the clip; or (k + 0.5) / fps seconds
    after its start, as many as there are, at least the middle of what there is."""
    if sampling.fps is None:
        count = sampling.num_frames or 1
        return begin_s + (np.arange(count, dtype=np.float64) + 0.5) * (until_s - begin_s) / count
    first = max(0, ceil((begin_s - start_s) * sampling.fps - 0.5 - 1e-9))
    last = ceil((until_s - start_s) * sampling.fps - 0.5 - 1e-9)
    if last <= first:
        return np.array([(begin_s + until_s) / 2])
    return start_s + (np.arange(first, last, dtype=np.float64) + 0.5) / sampling.fps


def _too_long(limit_s: float) -> MediaError:
    why = (
        f"more than {limit_s:g} s of pictures (embed.max_duration_s); "
        "cut it into clips with start_s and duration_s, or raise the limit"
    )
    return MediaError("too_long", why)
