"""A run of the pipeline from media to tables, told and watched over."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from audioflow.engine.embed_give_up import GiveUp
from audioflow.engine.embed_pipeline import Item, Pipeline
from audioflow.engine.embed_tally import Tally
from audioflow.engine.embed_todo import Planned, Works, counts
from audioflow.engine.embed_work import Work
from audioflow.engine.nodes import watched_nodes
from audioflow.engine.run import Run, Watch
from audioflow.engine.telling import tell_shard, tell_verdict
from audioflow.errors import TooManyFailures
from audioflow.shards import Shard, base_name
from audioflow.tables import Header, Receipt, Table


@dataclass(frozen=True)
class Made:
    """What a run of the pipeline made: receipts by table and shard as planned, and where the time
    went (for `stats`)."""

    fresh: Mapping[str, Mapping[str, Receipt]]
    where: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Items(Sequence[Item]):
    """The shards in which any table lacks something, each made when it is asked for.

    numbers: ascending, of these shards. works: by table, what is to be done. augment: (N,) of which
    clips of the manifest there are variants. scored: whether the tables are of scores.
    """

    shards: Sequence[Shard]
    works: Mapping[str, Works]
    augment: NDArray[np.bool_]
    scored: bool = False
    numbers: NDArray[np.int64] = field(init=False)

    def __post_init__(self) -> None:
        numbers = [np.zeros(0, np.int64), *(works.numbers for works in self.works.values())]
        object.__setattr__(self, "numbers", np.unique(np.concatenate(numbers)))

    def __len__(self) -> int:
        return len(self.numbers)

    @overload
    def __getitem__(self, place: int) -> Item: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[Item]: ...
    def __getitem__(self, place: int | slice) -> Item | Sequence[Item]:
        if isinstance(place, slice):
            return [self[one] for one in range(*place.indices(len(self)))]
        number = int(self.numbers[place])
        shard = self.shards[number]
        works = _WorksOfShard(self.works, number)
        return Item(shard, works, self.augment[shard.indices].tolist(), self.scored)

    @property
    def clips(self) -> int:
        """How many clips they have."""
        return sum(len(self.shards[number]) for number in self.numbers)

    @property
    def total(self) -> int:
        """How many clips the manifest has."""
        return len(self.augment)


class _WorksOfShard(Mapping[str, Work]):
    """What is to be done for one shard, by table."""

    def __init__(self, works: Mapping[str, Works], number: int) -> None:
        self._works, self._number = works, number

    def __getitem__(self, table: str) -> Work:
        if self._number not in self._works[table]:
            raise KeyError(table)
        return self._works[table].of(self._number)

    def __iter__(self) -> Iterator[str]:
        return (table for table, works in self._works.items() if self._number in works)

    def __len__(self) -> int:
        return sum(1 for _ in self)


def stream(
    run: Run, job: str, pipeline: Pipeline, items: Items, tables: Mapping[str, Table]
) -> Made:
    """Run the pipeline over the items, telling of each that comes out.

    Raises `TooManyFailures` where the first clips of a table, or later ones in a row, all fail for
    a reason that is not theirs.
    """
    fresh: dict[str, dict[str, Receipt]] = {name: {} for name in tables}
    if not items:
        return Made(fresh)
    total = items.total
    clips = total - items.clips
    name, failures, media_s, left = ", ".join(tables), 0, 0.0, len(items)
    run.tell(job, "start", name, total=total, done=clips, shards=left)
    limit = GiveUp(
        tables,
        {table: works.plan.committed for table, works in items.works.items()},
        pipeline.section.give_up_after,
        pipeline.workers(len(items)),
    )
    tally = Tally(pipeline, len(items))

    def lost(item: Item, tries: int, why: str) -> None:
        run.tell(job, "retry", name, shard=item.shard.part or "all", tries=tries, reason=why)

    # closing: so that giving up ends the workers too
    with watched_nodes(run, job) as nodes, closing(pipeline.results(items, lost)) as finished:
        for item, done in finished:
            receipts = done.receipts
            tally.add(done.times)
            for table, receipt in receipts.items():
                fresh[table][base_name(receipt.name)] = receipt
                failures += receipt.failures
            limit.look(item.shard, receipts)
            media_s += max((receipt.media_s for receipt in receipts.values()), default=0.0)
            clips, left = clips + len(item.shard), left - 1
            tell_shard(run, job, name, item.shard.part, receipts, done.times)
            progress = {"done": clips, "total": total, "failures": failures, "media_s": media_s}
            progress |= {"shards_left": left}
            if done.waiting is not None:
                progress["shards_waiting"] = done.waiting
            run.tell(job, "progress", name, **progress, busy=tally.busy())
    found = tally.verdict(lost_nodes=any(what == "lost" for _, what, _ in nodes.marks))
    where = {"start_s": round(tally.start_s, 3)} | tell_verdict(run, job, name, found)
    return Made(fresh, where | ({"nodes": nodes.marks} if nodes.marks else {}))


def receipts_of(plan: Planned, fresh: Mapping[str, Receipt]) -> list[Receipt]:
    """The receipts of all shards of a table, in the order of the plan."""
    return [fresh.get(name) or plan.committed[name] for name in plan.names]


def stats_of(
    plan: Planned, fresh: Mapping[str, Receipt], watch: Watch, where: Mapping[str, Any]
) -> dict[str, Any]:
    """What was done in this run; where nothing was, what the table said of the run before."""
    resumed = len(plan.names) - len(fresh)
    if not fresh:
        return {**plan.old_stats, "resumed": resumed}
    done, _ = counts(fresh.values())
    if plan.taken_over:
        return watch.stats(
            done - plan.taken_over, resumed=resumed, taken_over=plan.taken_over, **where
        )
    media_s = sum(receipt.media_s for receipt in fresh.values())
    return watch.stats(done, media_s, resumed=resumed, **where)


def check_failures(headers: Sequence[Header], allowed: float) -> None:
    """Raises `TooManyFailures` where more clips of a complete table failed than are allowed."""
    over = []
    for header in headers:
        clips, failures = counts(header.shards)
        if failures > allowed * clips:
            errors: Counter[str] = Counter()
            for shard in header.shards:
                errors.update(shard.errors)
            told = ", ".join(f"{error} {count}" for error, count in sorted(errors.items()))
            over.append(f"{header.name}: {failures} of {clips} clips failed ({told})")
    if over:
        raise TooManyFailures(
            f"{'; '.join(over)}; embed.max_failed_share allows {allowed:.0%}. The tables are "
            "complete: `audioflow failures RUN_DIR` shows why; mend the files and run again with "
            "--retry-failed, or raise embed.max_failed_share"
        )
