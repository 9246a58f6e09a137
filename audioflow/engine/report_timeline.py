"""When a run did what, from its headers and the receipts of its shards."""

from collections.abc import Iterator, Mapping, Sequence

from audioflow.engine.report_tables import Tables, job_of
from audioflow.report.timeline import NodeMark, ShardTimes, TableTime, Timeline
from audioflow.tables import Header, Receipt, Table
from audioflow.timing import Stint, joined

MOST_SHARDS = 20_000
"""Receipts that are read, a file each; of more shards a part is shown."""


def timeline_of(tables: Tables) -> Timeline:
    """The timeline of a run; of tables made before times were kept, nothing is known."""
    with_shards = {
        path: found
        for path, found in tables.items()
        if found[1].shards and path.partition("/")[0] in ("embeddings", "scores")
    }
    count = sum(len(header.shards) for _, header in with_shards.values())
    every = -(-count // MOST_SHARDS) if count else 1
    shards = [
        shard
        for path, (table, header) in with_shards.items()
        for shard in _shards(path, table, header, every)
    ]
    return Timeline(
        tables=tuple(_table_times(tables)),
        shards=tuple(sorted(_of_one_pass(shards), key=lambda shard: shard.begin)),
        marks=tuple(_marks(tables)),
        every=every,
    )


def _table_times(tables: Tables) -> Iterator[TableTime]:
    for path, (_, header) in tables.items():
        ended, seconds = header.stats.get("ended"), header.stats.get("seconds")
        if ended is not None and seconds is not None:
            name = path.partition("/")[2] or path
            yield TableTime(job_of(path, header), name, float(ended) - float(seconds), float(ended))


def _shards(path: str, table: Table, header: Header, every: int) -> Iterator[ShardTimes]:
    """Those of a table that say when they were made."""
    receipts: Mapping[str, Receipt] = {one.name: one for one in header.shards[::every]}
    own = path.startswith("embeddings/") or header.settings.get("source") == "media"
    for name, stints in table.stints(list(receipts)).items():
        if stints:
            receipt, title = receipts[name], path.partition("/")[2]
            yield ShardTimes(
                job_of(path, header),
                title,
                name.partition("-")[0],
                receipt.clips,
                receipt.failures if own else 0,  # else clips that lacked an embedding
                tuple(stints),
            )


def _of_one_pass(shards: Sequence[ShardTimes]) -> list[ShardTimes]:
    """Shards of several tables that one pass over the media made, each as one."""
    found: dict[tuple[str, str, Stint], ShardTimes] = {}
    for shard in shards:
        key = (shard.job, shard.name, shard.stints[0])
        old = found.get(key)
        if old is None:
            found[key] = shard
            continue
        found[key] = ShardTimes(
            shard.job,
            f"{old.table}, {shard.table}",
            shard.name,
            max(old.clips, shard.clips),
            old.failures + shard.failures,
            joined(_longest(old.stints, shard.stints)),
        )
    return list(found.values())


def _longest(first: Sequence[Stint], second: Sequence[Stint]) -> Iterator[Stint]:
    """Stints of two receipts of one pass, each stage of a worker as the later of them has it."""
    kept: dict[tuple[str, str, int], Stint] = {}
    for stint in (*first, *second):
        key = (stint.stage, stint.node, stint.worker)
        if key not in kept or stint.busy_s >= kept[key].busy_s:
            kept[key] = stint
    yield from kept.values()


def _marks(tables: Tables) -> Iterator[NodeMark]:
    """Nodes that came and went, each once: tables of one pass say the same."""
    marks = {
        (float(at), str(what), str(node))
        for _, header in tables.values()
        for at, what, node in header.stats.get("nodes", [])
    }
    for at, what, node in sorted(marks):
        yield NodeMark(at, what, node)
