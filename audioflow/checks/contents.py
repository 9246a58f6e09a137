"""Files of the same content under several names, on several sides of a division."""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from audioflow.checks.leaks import Leak, leak_of, straddling
from audioflow.checks.sides import Sides

MOST_FILES = 5_000
MOST_BYTES = 2 * 1024**3
"""What is read at most, of all files together."""

PROBE_BYTES = 65_536
_PIECE_BYTES = 8 * 1024**2
_READERS = 8

ReadBytes = Callable[[str, int, int], bytes | None]
"""From a uri, a first byte and one past the last to what is there; None where it cannot be read."""


@dataclass(frozen=True)
class Contents:
    """Leaks of files; how many were read, how many were too many to read, how many unreadable."""

    leaks: tuple[Leak, ...] = ()
    read: int = 0
    beyond: int = 0
    unreadable: int = 0


def content_leaks(manifest: pa.Table, sides: Sides, read: ReadBytes) -> Contents:
    """Files of the same content on several sides.

    Two files of an object store are the same where size and ETag are. On disk, files of one size
    are told apart by their middle, then by a hash of the whole; sizes that few files share come
    first, and no more than `MOST_FILES` files and about `MOST_BYTES` bytes are read.
    """
    uris, size = manifest["uri"], manifest["size_bytes"]
    sized = pc.fill_null(pc.greater(size, 0), False)
    local = pc.and_(sized, _local(uris))
    named = pc.if_else(sized, pc.cast(size, pa.string()), None)
    sizes: dict[str, int] = {}
    chosen, beyond = _within_bounds(
        _of_one_size(uris, pc.if_else(local, named, None), sides, sizes), sizes
    )
    found = _hashes(chosen, sizes, read)
    unreadable = sum(one is None for one in found.values())
    # Nothing where there is no size or no version, or an empty one.
    version = pc.if_else(pc.equal(manifest["version"], ""), None, manifest["version"])
    stored = pc.binary_join_element_wise(named, version, " bytes, ETag ")
    own = _with_hashes(pc.if_else(local, None, stored), uris, found)
    leaks = [
        leak_of("content", rows, sides, key)
        for key, rows in straddling(own, sides)
        if len(uris.take(pa.array(rows)).unique()) > 1
    ]
    return Contents(tuple(leaks), len(chosen), beyond, unreadable)


def _local(uris: pa.ChunkedArray) -> pa.ChunkedArray:
    """Which are paths, as `stores.is_local` says."""
    return pc.or_(pc.starts_with(uris, "file://"), pc.invert(pc.match_substring(uris, "://")))


def _with_hashes(
    keys: pa.ChunkedArray, uris: pa.ChunkedArray, found: Mapping[str, str | None]
) -> pa.ChunkedArray:
    """The keys, and for the files whose content was looked at what was found."""
    known = {uri: key for uri, key in found.items() if key}
    if not known:
        return keys
    places = pc.index_in(uris, pa.array([*known], uris.type))
    return pc.coalesce(pa.array([*known.values()], keys.type).take(places), keys)


def _of_one_size(
    uris: pa.ChunkedArray, named: pa.ChunkedArray, sides: Sides, sizes: dict[str, int]
) -> Iterator[list[str]]:
    """Files of one size that are on several sides, the fewest first; their sizes go to `sizes`.

    named: the size of every local file, as a text.
    """
    found = []
    for size, rows in straddling(named, sides):
        files = uris.take(pa.array(rows)).unique().to_pylist()
        if len(files) > 1:
            sizes |= dict.fromkeys(files, int(size))
            found.append(files)
    yield from sorted(found, key=len)


def _within_bounds(
    candidates: Iterator[list[str]], sizes: Mapping[str, int]
) -> tuple[list[str], int]:
    """The files to read, and how many are too many."""
    chosen: list[str] = []
    beyond, left = 0, MOST_BYTES
    for files in candidates:
        cost = len(files) * sizes[files[0]]
        if len(chosen) + len(files) > MOST_FILES or cost > left:
            beyond += len(files)
            continue
        chosen += files
        left -= cost
    return chosen, beyond


def _hashes(
    files: Sequence[str], sizes: Mapping[str, int], read: ReadBytes
) -> dict[str, str | None]:
    """A key of the content of every file that may be that of another; "" where it is not, None
    where it cannot be read."""

    def probe(uri: str) -> bytes | None:
        start = max(0, (sizes[uri] - PROBE_BYTES) // 2)
        return read(uri, start, start + PROBE_BYTES)

    def whole(uri: str) -> str | None:
        digest = hashlib.sha256()
        for start in range(0, sizes[uri], _PIECE_BYTES):
            piece = read(uri, start, min(start + _PIECE_BYTES, sizes[uri]))
            if piece is None:
                return None
            digest.update(piece)
        return f"{sizes[uri]} bytes, SHA-256 {digest.hexdigest()[:16]}"

    with ThreadPoolExecutor(_READERS) as pool:
        alike: dict[tuple[int, bytes], list[str]] = defaultdict(list)
        found: dict[str, str | None] = dict.fromkeys(files)
        for uri, middle in zip(files, pool.map(probe, files), strict=True):
            if middle is not None:
                found[uri] = ""
                alike[sizes[uri], hashlib.sha256(middle).digest()].append(uri)
        several = [uri for same in alike.values() if len(same) > 1 for uri in same]
        return found | dict(zip(several, pool.map(whole, several), strict=True))
