"""What a server has done lately: requests, errors by class, and how long answers took."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

_MOST = 100_000
"""Of latencies between two looks; beyond, they are as many as any percentile needs."""


@dataclass(frozen=True)
class Lately:
    """What came in between two looks: answers with scores, errors by class, seconds that those with
    scores took, and how many requests are in hand now."""

    answered: int = 0
    errors: dict[str, int] = field(default_factory=dict)
    seconds: tuple[float, ...] = ()
    waiting: int = 0

    def line(self, span_s: float) -> str:
        """In words, for a log; "" where nothing happened in these seconds."""
        total = self.answered + sum(self.errors.values())
        if not total:
            return ""
        parts = [f"{total} requests ({total / span_s:.1f}/s)"]
        if self.seconds:
            middle, high = (1000 * percentile(self.seconds, share) for share in (0.5, 0.95))
            parts.append(f"p50 {middle:.0f} ms, p95 {high:.0f} ms")
        if self.errors:
            named = sorted(self.errors.items(), key=lambda pair: (-pair[1], pair[0]))
            told = ", ".join(f"{error} {count}" for error, count in named)
            parts.append(f"{sum(self.errors.values())} refused: {told}")
        if self.waiting:
            parts.append(f"{self.waiting} in hand")
        return "; ".join(parts)


def percentile(values: Sequence[float], share: float) -> float:
    """The value that this share of them does not exceed (nearest rank); there is at least one."""
    ordered = sorted(values)
    rank = -(-round(share * 1000) * len(ordered) // 1000)
    return ordered[max(1, rank) - 1]


class Tally:
    """Counts, from one look to the next."""

    def __init__(self) -> None:
        self.waiting = 0
        self._errors: Counter[str] = Counter()
        self._seconds: list[float] = []
        self._answered = 0

    def answered(self, seconds: float) -> None:
        """A request got its scores, after so long."""
        self._answered += 1
        if len(self._seconds) < _MOST:
            self._seconds.append(seconds)

    def refused(self, error: str) -> None:
        """A request got none."""
        self._errors[error] += 1

    def look(self) -> Lately:
        """What was since the last look."""
        found = Lately(self._answered, dict(self._errors), tuple(self._seconds), self.waiting)
        self._answered, self._errors, self._seconds = 0, Counter(), []
        return found
