"""What of a table is to be done, and what of older shards can be taken over.

Work is made shard by shard when it is asked for: of ten million clips at once, their ids and keys
would be gigabytes.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from audioflow.engine.embed_work import Work
from audioflow.shards import Shard, base_name, made_with, numbers_of, retry_name, retry_number
from audioflow.tables import Receipt, Table

SYSTEMIC = frozenset(("permission", "not_found", "network", "out_of_memory", "killed"))
"""Errors that say nothing about a clip when every clip has them."""

ACCESS = frozenset(("permission", "network"))
"""Those of them that may be a matter of the node, or of the moment, whatever the clip."""

_READERS = 16


class Planned(Protocol):
    """The shards of a table that is made from media.

    settings_key: the fingerprint of all that determines its rows but the clips. names: its shards
    as planned. committed: the receipts of those that are committed. taken_over: how many clips of
    the others are taken from older shards. old_stats: what its header said before.
    """

    settings_key: str
    names: tuple[str, ...]
    committed: dict[str, Receipt]
    taken_over: int
    old_stats: Mapping[str, Any]


@dataclass(frozen=True)
class Sources:
    """Which undamaged older shard has the outcome of a clip.

    names: of K shards. keys: the numbers of their clip keys, sorted. places: for each of them, in
    which shard it lies.
    """

    names: Sequence[str] = ()
    keys: NDArray[np.uint64] = field(default_factory=lambda: np.zeros(0, np.uint64))
    places: NDArray[np.int32] = field(default_factory=lambda: np.zeros(0, np.int32))

    def of(self, shard: Shard) -> NDArray[np.int32]:
        """(N,) the shard (by its place in `names`) that has each clip, -1 for none."""
        found = np.full(len(shard), -1, np.int32)
        if len(self.keys):
            at, there = _looked_up(shard.key_numbers, self.keys)
            found[there] = self.places[at[there]]
        return found


@dataclass(frozen=True)
class Works:
    """What is to be done for a table.

    numbers: ascending, of the shards for which there is something.
    """

    table: Table
    plan: Planned
    shards: Sequence[Shard]
    sources: Sources
    numbers: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.numbers)

    def __contains__(self, number: int) -> bool:
        at = int(np.searchsorted(self.numbers, number))
        return at < len(self.numbers) and int(self.numbers[at]) == number

    def of(self, number: int) -> Work:
        """The work on one shard. Where it is a retry, what failed is read from the table."""
        base = self.plan.names[number]
        receipt = self.plan.committed.get(base)
        if receipt is not None:
            return _retry(self.table, self.shards[number], receipt.name)
        return _work(self.shards[number], base, self.sources)


def works_for(table: Table, plan: Planned, shards: Sequence[Shard], *, retry_failed: bool) -> Works:
    """What is to be done for a table; `plan.committed` and `plan.taken_over` are set here.

    Shards that were made otherwise are removed; those made in the same way of other clips stay as
    long as something of them can be taken over.
    """
    listing = table.listing()
    names = listing.committed
    plan.committed = _committed(table, plan, names)
    kept = {receipt.name for receipt in plan.committed.values()}
    lacking = [number for number, name in enumerate(plan.names) if name not in plan.committed]
    older = sorted(name for name in names - kept if made_with(name, plan.settings_key))
    sources = _sources(table, older, [shards[n] for n in lacking], retry_failed=retry_failed)
    table.keep_only(kept | set(sources.names), listing)
    plan.taken_over = 0
    if sources.names:
        plan.taken_over = sum(int((sources.of(shards[n]) >= 0).sum()) for n in lacking)
    again = []
    if retry_failed:
        again = [n for n, name in enumerate(plan.names) if _failed(plan.committed.get(name))]
        failed = sum(plan.committed[plan.names[n]].failures for n in again)
        plan.taken_over += sum(len(shards[n]) for n in again) - failed
    numbers = np.sort(np.array([*lacking, *again], np.int64))
    return Works(table, plan, shards, sources, numbers)


def is_systemic(receipt: Receipt) -> bool:
    """Whether all clips of a shard failed for one reason that says nothing about them."""
    return bool(receipt.errors) and receipt.rows == 0 and set(receipt.errors) <= SYSTEMIC


def counts(receipts: Iterable[Receipt]) -> tuple[int, int]:
    """Clips and failures that these shards account for."""
    clips = failures = 0
    for receipt in receipts:
        clips += receipt.clips
        failures += receipt.failures
    return clips, failures


def _failed(receipt: Receipt | None) -> bool:
    return receipt is not None and receipt.failures > 0


def _committed(table: Table, plan: Planned, names: Iterable[str]) -> dict[str, Receipt]:
    """The newest receipt of every planned shard that is done, by its name as planned.

    One all of whose clips failed for a reason that is not theirs is not: the reason may be gone.
    """
    newest: dict[str, str] = {}
    for name in sorted(names, key=retry_number):
        newest[base_name(name)] = name
    found = {name: newest[name] for name in plan.names if name in newest}
    receipts = table.receipts(list(found.values()))
    return {base: receipts[name] for base, name in found.items() if not is_systemic(receipts[name])}


def _sources(
    table: Table, names: Sequence[str], lacking: Sequence[Shard], *, retry_failed: bool
) -> Sources:
    """The undamaged shards that have clips which others lack; the last one that has a clip."""
    if not lacking or not names:
        return Sources()
    needed = np.sort(np.concatenate([shard.key_numbers for shard in lacking]))
    keys = [np.zeros(0, np.uint64)]
    places = [np.zeros(0, np.int32)]
    receipts: dict[int, Receipt] = {}
    for place, (receipt, clips) in enumerate(table.keyed_receipts(names)):
        if is_systemic(receipt):
            continue
        ids = set(clips)
        if retry_failed and receipt.failures:
            ids -= set(table.shard_failures(receipt.name)["clip_id"].to_pylist())
        mine = numbers_of(key for clip_id, key in clips.items() if clip_id in ids)
        mine = mine[_looked_up(mine, needed)[1]]
        if len(mine):
            receipts[place] = receipt
            keys.append(mine)
            places.append(np.full(len(mine), place, np.int32))
    return _sound(table, names, receipts, (np.concatenate(keys), np.concatenate(places)))


def _sound(
    table: Table,
    names: Sequence[str],
    receipts: Mapping[int, Receipt],
    found: tuple[NDArray[np.uint64], NDArray[np.int32]],
) -> Sources:
    """Each key once, with the last of its shards; without the shards that are damaged."""
    keys, places = found
    order = np.lexsort((places, keys))
    keys, places = keys[order], places[order]
    last = np.append(keys[1:] != keys[:-1], True)[: len(keys)]
    keys, places = keys[last], places[last]
    used = np.unique(places)
    sound = _undamaged(table, [receipts[int(place)] for place in used])
    good = used[sound]
    kept = np.isin(places, good)
    renumbered = np.searchsorted(good, places[kept]).astype(np.int32)
    return Sources([names[place] for place in good], keys[kept], renumbered)


def _looked_up(
    keys: NDArray[np.uint64], among: NDArray[np.uint64]
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Where each key stands among sorted ones that are not empty, and whether it does."""
    at = np.minimum(np.searchsorted(among, keys), len(among) - 1)
    return at, among[at] == keys


def _undamaged(table: Table, receipts: Sequence[Receipt]) -> NDArray[np.bool_]:
    """The shards whose files are as they were written."""

    def good(receipt: Receipt) -> bool:
        files = [(table.folder, receipt.sha256)]
        if receipt.failures:
            files.append((table.failures_folder, receipt.failures_sha256))
        try:
            return all(
                hashlib.sha256(folder.read(f"{receipt.name}.parquet")).hexdigest() == sha256
                for folder, sha256 in files
            )
        except FileNotFoundError:
            return False

    with ThreadPoolExecutor(_READERS) as threads:
        return np.fromiter(threads.map(good, receipts), np.bool_, len(receipts))


def _work(shard: Shard, name: str, sources: Sources) -> Work:
    ids = shard.rows["clip_id"].to_pylist()
    keys = dict(zip(ids, shard.clip_keys, strict=True))
    places = sources.of(shard)
    if (places < 0).all():
        return Work(name, keys)
    reuse: dict[str, list[str]] = {}
    for clip_id, place in zip(ids, places.tolist(), strict=True):
        if place >= 0:
            reuse.setdefault(sources.names[place], []).append(clip_id)
    return Work(name, keys, np.flatnonzero(places < 0).tolist(), reuse)


def _retry(table: Table, shard: Shard, name: str) -> Work:
    """Work on the failed clips of a committed shard; its other clips are taken over."""
    ids = shard.rows["clip_id"].to_pylist()
    failed = {row["clip_id"]: row for row in table.shard_failures(name).to_pylist()}
    return Work(
        retry_name(name),
        dict(zip(ids, shard.clip_keys, strict=True)),
        [position for position, clip_id in enumerate(ids) if clip_id in failed],
        {name: [clip_id for clip_id in ids if clip_id not in failed]},
        retry_of=name,
        attempts={clip_id: row["attempts"] for clip_id, row in failed.items()},
    )
