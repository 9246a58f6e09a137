"""Which clips make which shard: a pure function of the manifest, so that every run agrees.

Recordings lie in the space of hashes, which is halved until no part holds more clips than a shard
may have: the parts are the shards. A new, changed or deleted recording touches only the part that
it lies in; all other shards stay what they are, and keep their files.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from audioflow.hashes import HASH_BITS, clip_hash, clip_hashes
from audioflow.pieces import as_before, in_one_piece
from audioflow.tables import fingerprint

BYTES_PER_SHARD = 64 * 2**20
"""Media in a shard, unless one recording is larger: else a shard of long recordings would keep one
worker busy for an hour, and the others would wait."""

_ROWS_AT_ONCE = 16_384
"""As Python's objects rows take ten times the memory."""
_KEYED = ("clip_id", "start_s", "duration_s", "size_bytes", "version")
_ONLY_PLANNED = ("size_bytes", "version")
"""What nobody asks shards for: it would stay in memory for as long as they do."""
_HEX = 16
_RETRIED = "-r"


@dataclass(frozen=True, eq=False, slots=True)
class Shard:
    """A fixed list of N clips.

    part: the bits that the hashes of its recordings begin with. keys: uint64 (N,), for every clip a
    hash of its id and its media. indices: (N,) its rows in the manifest. in_folds: whether a clip
    is another one in another fold.
    """

    part: str
    keys: NDArray[np.uint64]
    indices: NDArray[np.int64]
    manifest: pa.Table
    in_folds: bool = False

    def __len__(self) -> int:
        return len(self.indices)

    @property
    def clip_keys(self) -> tuple[str, ...]:
        """`keys` as text. Made when it is asked for: of all clips it would take 70 bytes each."""
        digits = self.keys.astype(">u8").tobytes().hex()
        found = (digits[start : start + _HEX] for start in range(0, len(digits), _HEX))
        if not self.in_folds:
            return tuple(found)
        folds = self.rows["fold"].to_pylist()
        pairs = zip(found, folds, strict=True)
        return tuple(key if fold is None else f"{key}:{fold}" for key, fold in pairs)

    @property
    def key_numbers(self) -> NDArray[np.uint64]:
        """(N,) `number_of` every clip key."""
        return numbers_of(self.clip_keys) if self.in_folds else self.keys

    @property
    def rows(self) -> pa.Table:
        """Its rows of the manifest."""
        return as_before(self.manifest.take(pa.array(self.indices)))

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


def numbers_of(clip_keys: Iterable[str]) -> NDArray[np.uint64]:
    """Clip keys as numbers, of which millions can be compared."""
    numbers = (int(key, _HEX) if len(key) == _HEX else clip_hash(key) for key in clip_keys)
    return np.fromiter(numbers, np.uint64)


def plan_shards(
    manifest: pa.Table, clips_per_shard: int, augmented: NDArray[np.bool_] | None = None
) -> list[Shard]:
    """The manifest in shards of at most `clips_per_shard` clips and `BYTES_PER_SHARD`, unless one
    recording has more.

    Every shard holds a mix of classes; the clips of one recording stay together, so that it is
    decoded once. augmented: (N,) of which clips there are variants. What stays in memory are 16
    bytes per clip, beside the manifest.
    """
    if not manifest.num_rows:
        return []
    manifest = in_one_piece(manifest)
    recordings = _recordings(manifest)
    keys = _clip_keys(manifest, augmented)[recordings.rows]
    known = pc.fill_null(manifest["size_bytes"], 0).to_numpy()
    size_bytes = known[recordings.rows[recordings.offsets[:-1]]]
    bounds = [(np.diff(recordings.offsets), clips_per_shard), (size_bytes, BYTES_PER_SHARD)]
    kept = manifest.drop_columns([name for name in _ONLY_PLANNED if name in manifest.column_names])
    shards = []
    for low, high, part in _parts(recordings.hashes, bounds):
        mine = slice(recordings.offsets[low], recordings.offsets[high])
        shards.append(Shard(part, keys[mine], recordings.rows[mine], kept))
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
        keys = np.concatenate([shard.keys for shard in group])
        indices = np.concatenate([shard.indices for shard in group])
        yield replace(group[0], part=group[0].part[:depth], keys=keys, indices=indices), group


def _clip_keys(manifest: pa.Table, augmented: NDArray[np.bool_] | None) -> NDArray[np.uint64]:
    """(N,) of every clip of the manifest."""
    found = np.empty(manifest.num_rows, np.uint64)
    flags = np.zeros(manifest.num_rows, np.bool_) if augmented is None else augmented
    done = 0
    for batch in manifest.select(_KEYED).to_batches(max_chunksize=_ROWS_AT_ONCE):
        mine = slice(done, done + batch.num_rows)
        columns = [column.to_pylist() for column in batch.columns]
        rows = zip(*columns, flags[mine].tolist(), strict=True)
        found[mine] = np.fromiter(map(clip_hash, map(repr, rows)), np.uint64, batch.num_rows)
        done += batch.num_rows
    return found


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
    rows, starts = _by_recording(manifest["uri"])
    first = rows[starts]
    hashes = np.empty(len(first), np.uint64)
    ids = manifest["clip_id"]
    for start in range(0, len(first), _ROWS_AT_ONCE):
        block = slice(start, start + _ROWS_AT_ONCE)
        hashes[block] = clip_hashes(ids.take(pa.array(first[block])).to_pylist())
    order = np.lexsort((first, hashes))
    counts = np.diff(starts, append=len(rows))
    places = np.empty_like(order)
    places[order] = np.arange(len(order))
    rows = rows[np.argsort(np.repeat(places, counts), kind="stable")]
    return _Recordings(hashes[order], rows, np.concatenate([[0], np.cumsum(counts[order])]))


def _by_recording(uris: pa.ChunkedArray) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The rows (N,), those of one uri together and in their order, and where in them each uri
    begins (R,)."""
    codes = _hashed(uris)
    rows = np.argsort(codes, kind="stable")
    same = np.flatnonzero(codes[rows[1:]] == codes[rows[:-1]])
    for start in range(0, len(same), _ROWS_AT_ONCE):
        pairs = same[start : start + _ROWS_AT_ONCE]
        one, other = (uris.take(pa.array(rows[pairs + step])) for step in (0, 1))
        if not pc.all(pc.equal(one, other)).as_py():
            break  # two uris with the same hash
    else:
        begins = np.ones(len(rows), np.bool_)
        begins[same + 1] = False
        return rows, np.flatnonzero(begins)
    encoded = uris.combine_chunks().dictionary_encode()
    codes = encoded.indices.to_numpy()
    rows = np.argsort(codes, kind="stable")
    return rows, np.searchsorted(codes[rows], np.arange(len(encoded.dictionary)))


def _hashed(texts: pa.ChunkedArray) -> NDArray[np.uint64]:
    """(N,) a hash of each text: to tell them apart takes a tenth of the memory of a dictionary."""
    import polars as pl

    found = np.empty(len(texts), np.uint64)
    for start in range(0, len(texts), _ROWS_AT_ONCE):
        block = pl.Series(texts.slice(start, _ROWS_AT_ONCE))
        found[start : start + len(block)] = block.hash().to_numpy()
    return found


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
