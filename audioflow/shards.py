"""Which clips make which shard: a pure function of the manifest, so that every run agrees.

Recordings lie in the space of hashes, which is halved until no part holds more clips than a shard
may have: the parts are the shards. A new, changed or deleted recording touches only the part that
it lies in; all other shards stay what they are, and keep their files.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from audioflow.hashes import HASH_BITS, clip_hash
from audioflow.tables import fingerprint

BYTES_PER_SHARD = 64 * 2**20
"""Media in a shard, unless one recording is larger: else a shard of long recordings would keep one
worker busy for an hour, and the others would wait."""

_ROWS_AT_ONCE = 65_536
"""As Python's objects rows take ten times the memory."""
_KEYED = ("clip_id", "start_s", "duration_s", "size_bytes", "version")
_RETRIED = "-r"


@dataclass(frozen=True, eq=False)
class Shard:
    """A fixed list of clips.

    part: the bits that the hashes of its recordings begin with. clip_keys: for every clip a hash of
    its id and its media. indices: its rows in the manifest.
    """

    part: str
    clip_keys: tuple[str, ...]
    indices: NDArray[np.int64]
    manifest: pa.Table

    def __len__(self) -> int:
        return len(self.indices)

    @property
    def rows(self) -> pa.Table:
        """Its rows of the manifest."""
        return self.manifest.take(pa.array(self.indices))

    def name(self, settings_key: str) -> str:
        """The file name (without suffix) of this shard in a table made with these settings."""
        media = fingerprint(self.clip_keys)
        return f"{self.part or 'all'}-{short_key(settings_key)}-{media[:12]}"


def short_key(settings_key: str) -> str:
    """What of the fingerprint of a table's settings stands in the names of its shards."""
    return settings_key[:8]


def made_with(name: str, settings_key: str) -> bool:
    """Whether a shard of this name was made with these settings."""
    return name.split("-")[1:2] == [short_key(settings_key)]


def base_name(name: str) -> str:
    """The name of a shard as planned, of one that may be the outcome of a retry of failed clips."""
    return name.partition(_RETRIED)[0]


def retry_name(name: str) -> str:
    """The name of the shard that takes the place of `name` when its failed clips are retried."""
    base, _, number = name.partition(_RETRIED)
    return f"{base}{_RETRIED}{int(number or 0) + 1}"


def retry_number(name: str) -> int:
    """How often failed clips of this shard were retried."""
    return int(name.partition(_RETRIED)[2] or 0)


def may_hold(name: str, clip_id: str) -> bool:
    """Whether a recording whose first clip has this id lies in the part of the shard `name`."""
    part = name.partition("-")[0]
    return part == "all" or f"{clip_hash(clip_id):0{HASH_BITS}b}".startswith(part)


def plan_shards(
    manifest: pa.Table, clips_per_shard: int, augmented: Sequence[bool] | None = None
) -> list[Shard]:
    """The manifest in shards of at most `clips_per_shard` clips and `BYTES_PER_SHARD`, unless one
    recording has more.

    Every shard holds a mix of classes; the clips of one recording stay together, so that it is
    decoded once. `augmented` says of which clips there are variants.
    """
    if not manifest.num_rows:
        return []
    keys = _clip_keys(manifest, augmented)
    recordings = _recordings(manifest)
    known = pc.fill_null(manifest["size_bytes"], 0).to_numpy()
    size_bytes = known[recordings.rows[recordings.offsets[:-1]]]
    bounds = [(np.diff(recordings.offsets), clips_per_shard), (size_bytes, BYTES_PER_SHARD)]
    shards = []
    for low, high, part in _parts(recordings.hashes, bounds):
        indices = recordings.rows[recordings.offsets[low] : recordings.offsets[high]]
        chosen = tuple(keys[index] for index in indices)
        shards.append(Shard(part, chosen, indices, manifest))
    return shards


def gathered(shards: Sequence[Shard], most: int) -> Iterator[tuple[Shard, list[Shard]]]:
    """Shards in a row that lie in one part of the space as one of `most` clips or fewer, and beside
    it those that it is made of; for what takes little time per clip. As stable as they are.
    """
    todo = [(list(shards), 0)]
    while todo:
        group, depth = todo.pop()
        if len(group) == 1:
            yield group[0], group
            continue
        if sum(map(len, group)) > most:
            halves = [[s for s in group if s.part[depth] == bit] for bit in "10"]
            todo += [(half, depth + 1) for half in halves if half]
            continue
        keys = tuple(key for shard in group for key in shard.clip_keys)
        indices = np.concatenate([shard.indices for shard in group])
        yield Shard(group[0].part[:depth], keys, indices, group[0].manifest), group


def _clip_keys(manifest: pa.Table, augmented: Sequence[bool] | None) -> list[str]:
    flags = augmented if augmented is not None else [False] * manifest.num_rows
    found: list[str] = []
    for batch in manifest.select(_KEYED).to_batches(max_chunksize=_ROWS_AT_ONCE):
        columns = [column.to_pylist() for column in batch.columns]
        mine = flags[len(found) : len(found) + batch.num_rows]
        found += [_key(values) for values in zip(*columns, mine, strict=True)]
    return found


def _key(values: tuple[object, ...]) -> str:
    text = repr(values).encode("utf-8", "surrogatepass")
    return hashlib.blake2b(text, digest_size=8).hexdigest()


@dataclass(frozen=True)
class _Recordings:
    """R recordings in the order of their hashes.

    hashes: uint64 (R,), of the id of each one's first clip: a uri changes when a data set moves.
    rows: rows of the manifest, recording by recording. offsets: (R + 1,), where in them one begins.
    """

    hashes: NDArray[np.uint64]
    rows: NDArray[np.int64]
    offsets: NDArray[np.int64]


def _recordings(manifest: pa.Table) -> _Recordings:
    chunks = manifest["uri"].dictionary_encode().chunks  # numbered as they come
    numbers = np.concatenate([chunk.indices.to_numpy() for chunk in chunks]).astype(np.int64)
    _, first = np.unique(numbers, return_index=True)
    ids = manifest["clip_id"].take(pa.array(first))
    hashes = np.array([clip_hash(clip_id.as_py()) for clip_id in ids], np.uint64)
    order = np.argsort(hashes, kind="stable")
    places = np.empty_like(order)
    places[order] = np.arange(len(order))
    counts = np.bincount(numbers)[order]
    rows = np.argsort(places[numbers], kind="stable")
    return _Recordings(hashes[order], rows, np.concatenate([[0], np.cumsum(counts)]))


def _parts(
    hashes: NDArray[np.uint64], bounds: Sequence[tuple[NDArray[np.int64], int]]
) -> Iterator[tuple[int, int, str]]:
    """Ranges of recordings, in order, that make a shard each, and the bits that they share.

    bounds: of something that recordings have, how much a shard may hold.
    """
    sums = [(np.concatenate([[0], np.cumsum(sizes)]), most) for sizes, most in bounds]
    todo = [(0, len(hashes), "")]
    while todo:
        low, high, part = todo.pop()
        if low == high:
            continue
        fits = all(summed[high] - summed[low] <= most for summed, most in sums)
        if fits or high - low == 1 or len(part) == HASH_BITS:
            yield low, high, part
            continue
        middle = int(part + "1", 2) << (HASH_BITS - len(part) - 1)
        split = low + int(np.searchsorted(hashes[low:high], np.uint64(middle), side="left"))
        todo += [(split, high, part + "1"), (low, split, part + "0")]
