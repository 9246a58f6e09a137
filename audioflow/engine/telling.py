"""What every job tells alike: a shard that was committed, and where the time went."""

import time
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from audioflow.engine.run import Run
from audioflow.planning.verdict import Verdict
from audioflow.planning.verdict_jobs import JobFacts
from audioflow.tables import Receipt
from audioflow.timing import Times


class Spent:
    """Seconds per stage of all workers together; begun with the work."""

    def __init__(self) -> None:
        self._began = time.time()
        self._first: float | None = None
        self._seconds: defaultdict[str, float] = defaultdict(float)
        self._items = 0

    def add(self, times: Times) -> None:
        """Add what a shard took."""
        for stint in times.stints:
            self._first = min(self._first or stint.begin, stint.begin)
            self._seconds[stint.stage] += stint.busy_s
        self._items += 1

    def facts(self, workers: int) -> JobFacts:
        """What came of so many workers."""
        now = time.time()
        first = now if self._first is None else max(self._first, self._began)
        return JobFacts(first - self._began, now - first, dict(self._seconds), workers, self._items)


def tell_shard(
    run: Run, job: str, name: str, shard: str, receipts: Mapping[str, Receipt], times: Times
) -> None:
    """Tell that a shard was committed, with its receipt in every table and who worked on it."""
    stints, errors = times.stints, {table: one.errors for table, one in receipts.items()}
    run.tell(
        job,
        "shard",
        name,
        shard=shard or "all",
        clips=max((one.clips for one in receipts.values()), default=0),
        rows={table: one.rows for table, one in receipts.items()},
        errors={table: dict(found) for table, found in errors.items() if found},
        media_s=round(max((one.media_s for one in receipts.values()), default=0.0), 3),
        size_bytes=sum(one.size_bytes for one in receipts.values()),
        node=times.node,
        wall_s=round(max(s.end for s in stints) - stints[0].begin, 3) if stints else 0.0,
        seconds={stage: round(spent, 3) for stage, spent in times.seconds.items()},
        counts=dict(times.counts),
    )


def tell_verdict(run: Run, job: str, name: str, found: Verdict) -> dict[str, Any]:
    """Tell where the time went; gives what the header keeps of it."""
    shares = {stage: round(share, 4) for stage, share in found.shares.items()}
    told = {"bound": found.kind, "shares": shares, "advice": found.advice}
    run.tell(job, "verdict", name, text=found.text, **told)
    bare = {} if found.bare is None else {"bare": round(found.bare, 4)}
    return {"verdict": found.text} | told | bare
