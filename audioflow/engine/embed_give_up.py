"""When a job gives up: where clips in a row all fail for a reason that is not theirs."""

from collections import deque
from collections.abc import Container, Mapping
from dataclasses import dataclass, field

from audioflow.engine.embed_todo import ACCESS, counts, is_systemic
from audioflow.errors import TooManyFailures
from audioflow.shards import Shard, base_name
from audioflow.tables import Receipt, Table

_ADVICE = (
    "That is not the clips' fault: see to the credentials, the root of the media or the network, "
    "and run the same command again; these clips are then tried again (embed.give_up_after says "
    "after how many {what} to give up)"
)


@dataclass
class _Row:
    """The shards of a table that have failed in a row, and how many recordings they have.

    sound: whether some clip before was not to blame on the surroundings. before: the last shards
    that did not fail as a whole, of those that are made from nothing.
    """

    before: deque[Receipt]
    sound: bool = False
    shards: list[Receipt] = field(default_factory=list)
    recordings: int = 0

    def end(self) -> None:
        self.sound, self.recordings = True, 0
        self.shards.clear()


class GiveUp:
    """Gives up where the first clips of a table all fail for a reason that is not theirs; and later
    where so many recordings in a row may not be read, as with credentials that have expired.

    The next run tries such shards again (`embed_todo.is_systemic`), and so it does those around
    that moment of which a part could not be read: they are uncommitted.
    """

    def __init__(
        self,
        tables: Mapping[str, Table],
        committed: Mapping[str, Container[str]],
        least: int,
        workers: int,
    ) -> None:
        """committed: by table, shards as planned that were committed before, and are only retried.
        least: so many clips, or recordings. workers: that are at it at once."""
        self._tables = tables
        self._committed = committed
        self._least = least
        self._rows = {table: _Row(deque(maxlen=4 * workers)) for table in tables}

    def look(self, shard: Shard, receipts: Mapping[str, Receipt]) -> None:
        """Raises `TooManyFailures` once the clips of a table have failed."""
        for table, receipt in receipts.items():
            row = self._rows[table]
            denied = not ACCESS.isdisjoint(receipt.errors)
            if not is_systemic(receipt) or (row.sound and not denied):
                row.end()
                if base_name(receipt.name) not in self._committed[table]:
                    row.before.append(receipt)
            elif row.sound:
                self._later(table, row, shard, receipt)
            else:
                self._first(table, row, receipt)

    def _first(self, table: str, row: _Row, receipt: Receipt) -> None:
        row.shards.append(receipt)
        _, failures = counts(row.shards)
        if len({error for each in row.shards for error in each.errors}) > 1:
            row.end()
        elif failures >= self._least:
            told = (
                f"gave up: the first {failures} clips all failed as {next(iter(receipt.errors))!r}"
            )
            self._give_up(table, row, told, "clips")

    def _later(self, table: str, row: _Row, shard: Shard, receipt: Receipt) -> None:
        # Of recordings: that one of many clips cannot be read says nothing of the others.
        row.shards.append(receipt)
        row.recordings += len(shard.rows["uri"].unique())
        if row.recordings >= self._least:
            count, errors = row.recordings, sorted({e for each in row.shards for e in each.errors})
            told = f"gave up: the last {count} recordings all failed as {' or '.join(errors)!r}"
            self._give_up(table, row, told, "recordings in a row")

    def _give_up(self, name: str, row: _Row, told: str, what: str) -> None:
        failed = self._tables[name].shard_failures(row.shards[-1].name)
        example = failed.to_pylist()[0]
        for table, other in self._rows.items():
            self._tables[table].take_back(
                receipt.name for receipt in other.before if not ACCESS.isdisjoint(receipt.errors)
            )
        raise TooManyFailures(
            f"{told}, {example['clip_id']!r} for one: {example['reason']}. "
            + _ADVICE.format(what=what)
        )
