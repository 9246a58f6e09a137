"""Who worked on a shard, on what and when: for measures, for verdicts, and for the report."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

_DIGITS = 3


@dataclass(frozen=True)
class Stint:
    """What one worker did of one stage for a shard: `busy_s` of the time from `begin` to `end`.

    stage: as `fetch`, `decode`, `embed acoustic`, `read`, `score`, `fuse`, `write`. worker: the
    number of its process on the node. begin, end: seconds of Unix time.
    """

    stage: str
    node: str
    worker: int
    begin: float
    end: float
    busy_s: float

    def to_json(self) -> list[Any]:
        """As it is kept: the fields in order."""
        numbers = (round(value, _DIGITS) for value in (self.begin, self.end, self.busy_s))
        return [self.stage, self.node, self.worker, *numbers]

    @classmethod
    def parse(cls, values: list[Any]) -> "Stint":
        """The reverse of `to_json`; raises TypeError or ValueError for what is none."""
        stage, node, worker, begin, end, busy_s = values
        return cls(str(stage), str(node), int(worker), float(begin), float(end), float(busy_s))


@dataclass(frozen=True)
class Times:
    """The stints of a shard, and what was counted meanwhile, as bytes or patches."""

    stints: tuple[Stint, ...] = ()
    counts: Mapping[str, int] = field(default_factory=dict)

    def __add__(self, other: "Times") -> "Times":
        counts = Counter(self.counts)
        counts.update(other.counts)
        return Times(joined((*self.stints, *other.stints)), dict(counts))

    @property
    def seconds(self) -> dict[str, float]:
        """Busy seconds by stage, of all workers together."""
        found: dict[str, float] = {}
        for stint in self.stints:
            found[stint.stage] = found.get(stint.stage, 0.0) + stint.busy_s
        return found

    @property
    def node(self) -> str:
        """Where the shard was finished; "" where nothing is known."""
        return max(self.stints, key=lambda stint: stint.end).node if self.stints else ""

    def of_table(self, table: str) -> "Times":
        """Without what was done for other tables."""
        own = f"embed {table}"
        mine = (
            one for one in self.stints if not one.stage.startswith("embed ") or one.stage == own
        )
        return Times(tuple(mine), self.counts)

    def to_text(self) -> str:
        """As it travels beside a shard."""
        stints = [stint.to_json() for stint in self.stints]
        return json.dumps({"stints": stints, "counts": dict(self.counts)})

    @classmethod
    def from_text(cls, text: str) -> "Times":
        """The reverse of `to_text`."""
        data = json.loads(text)
        return cls(tuple(map(Stint.parse, data["stints"])), data["counts"])


NO_TIMES = Times()


def joined(stints: Iterable[Stint]) -> tuple[Stint, ...]:
    """Stints in order of time, those of one worker in one stage as one."""
    found: dict[tuple[str, str, int], Stint] = {}
    for one in stints:
        key = (one.stage, one.node, one.worker)
        old = found.get(key)
        begin, end, busy_s = one.begin, one.end, one.busy_s
        if old is not None:
            begin, end, busy_s = min(old.begin, begin), max(old.end, end), old.busy_s + busy_s
        found[key] = Stint(*key, begin, end, busy_s)
    return tuple(sorted(found.values(), key=lambda one: (one.begin, one.end)))
