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
    """The manifest in shards of at most `clips_per_shard` clips, unless one recording has more.

    Every shard holds a mix of classes; the clips of one recording stay together, so that it is
    decoded once. `augmented` says of which clips there are variants.
    """
    if not manifest.num_rows:
        return []
    keys = _clip_keys(manifest, augmented)
    recordings, hashes = _recordings(manifest)
    sizes = np.array([len(rows) for rows in recordings])
    shards = []
    for low, high, part in _parts(hashes, sizes, clips_per_shard):
        indices = np.concatenate([recordings[place] for place in range(low, high)])
        chosen = tuple(keys[index] for index in indices)
        shards.append(Shard(part, chosen, indices.astype(np.int64), manifest))
    return shards


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
    hashes: NDArray[np.uint64], sizes: NDArray[np.int64], most: int
) -> Iterator[tuple[int, int, str]]:
    """Ranges of recordings, in order, that make a shard each, and the bits that they share."""
    clips = np.concatenate([[0], np.cumsum(sizes)])
    todo = [(0, len(hashes), "")]
    while todo:
        low, high, part = todo.pop()
        if low == high:
            continue
        if clips[high] - clips[low] <= most or high - low == 1 or len(part) == _HASH_BITS:
            yield low, high, part
            continue
        middle = int(part + "1", 2) << (_HASH_BITS - len(part) - 1)
        split = low + int(np.searchsorted(hashes[low:high], np.uint64(middle), side="left"))
        todo += [(split, high, part + "1"), (low, split, part + "0")]
