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
from numpy.typing import NDArray

from audioflow.tables import fingerprint

BYTES_PER_SHARD = 64 * 2**20
"""Media in a shard, unless one recording is larger: else a shard of long recordings would keep one
worker busy for an hour, and the others would wait."""

_HASH_BITS = 64
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
    recordings, hashes = _recordings(manifest)
    clips = np.array([len(rows) for rows in recordings])
    known = manifest["size_bytes"].to_pylist()
    size_bytes = np.array([known[rows[0]] or 0 for rows in recordings])
    bounds = [(clips, clips_per_shard), (size_bytes, BYTES_PER_SHARD)]
    shards = []
    for low, high, part in _parts(hashes, bounds):
        indices = np.concatenate([recordings[place] for place in range(low, high)])
        chosen = tuple(keys[index] for index in indices)
        shards.append(Shard(part, chosen, indices.astype(np.int64), manifest))
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
    columns = [manifest[name].to_pylist() for name in _KEYED]
    flags = augmented if augmented is not None else [False] * manifest.num_rows
    return [
        hashlib.blake2b(repr(values).encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
        for values in zip(*columns, flags, strict=True)
    ]


def _recordings(manifest: pa.Table) -> tuple[list[list[int]], NDArray[np.uint64]]:
    """Rows of the manifest by recording, and a hash of each; in the order of the hashes.

    The hash is that of its first clip's id: a uri changes when a data set moves.
    """
    found: dict[str, list[int]] = {}
    for row, uri in enumerate(manifest["uri"].to_pylist()):
        found.setdefault(uri, []).append(row)
    ids = manifest["clip_id"].to_pylist()
    hashes = np.array([_hash(ids[rows[0]]) for rows in found.values()], np.uint64)
    order = np.argsort(hashes, kind="stable")
    recordings = list(found.values())
    return [recordings[place] for place in order], hashes[order]


def _hash(clip_id: str) -> int:
    digest = hashlib.blake2b(clip_id.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big")


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
        if fits or high - low == 1 or len(part) == _HASH_BITS:
            yield low, high, part
            continue
        middle = int(part + "1", 2) << (_HASH_BITS - len(part) - 1)
        split = low + int(np.searchsorted(hashes[low:high], np.uint64(middle), side="left"))
        todo += [(split, high, part + "1"), (low, split, part + "0")]
