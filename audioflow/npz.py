"""Cached features of other programs: npz files with a row per patch, read without unpickling.

    X    (N, D) numbers   a vector per patch
    Y    (N,)   integers  the class of its clip
    IDS  (N,)   texts     the id of its clip, such as `blues/blues.00029.au`

X is mapped into memory where the file holds it as it is (`numpy.savez`), and read once where it is
compressed.

Shapes: N patches of all clips of a file, D width of a vector.
"""

import contextlib
import math
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from audioflow.downloads import local_copy
from audioflow.errors import InputError, MediaError
from audioflow.storage import Folder

VECTORS, TARGETS, IDS = "X", "Y", "IDS"

_BLOCK = 2**20
"""Values that are checked at a time."""

_DAMAGED = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    OSError,
    ValueError,
    SyntaxError,  # and the next: the head of an array is read as Python's literals
    tokenize.TokenError,
    NotImplementedError,  # a way to compress that zipfile does not know
    RuntimeError,  # a member with a password
)


@contextlib.contextmanager
def fetched(place: Folder) -> Iterator[str]:
    """A local path with the content of the file at `place`; raises `InputError` where it cannot."""
    with contextlib.ExitStack() as stack:
        try:
            path = stack.enter_context(local_copy(place.url, place.options))
        except MediaError as error:
            raise InputError(
                f"{error.reason}; a .npz file of cached features is expected"
            ) from None
        yield path


@dataclass(frozen=True)
class _Head:
    """What a member of the file says of its array; `offset` is where its values begin in it."""

    shape: tuple[int, ...]
    in_columns: bool
    dtype: np.dtype[Any]
    offset: int

    def __str__(self) -> str:
        return f"{self.shape} {self.dtype}"


@dataclass(frozen=True)
class ClipPatches:
    """Where the patches of a clip stand in X: runs of rows, in their order. `target` is its Y."""

    runs: list[slice] = field(default_factory=list)
    target: int | None = None


class PatchFile:
    """One file of cached features at a local `path`; `url` names it in messages.

    Raises `InputError`, here and in its methods, for a file that is none, for arrays that are
    missing, do not fit each other or hold what they may not, naming file, array and shape.
    """

    def __init__(self, path: str, url: str) -> None:
        self._path, self._url = path, url
        with self._guarded("it"), zipfile.ZipFile(path) as archive:
            self._members = {item.filename: item for item in archive.infolist()}
        self._vectors, ids = self._head(VECTORS), self._head(IDS)
        if len(self._vectors.shape) != 2 or self._vectors.dtype.kind not in "fiu":
            raise self._error(VECTORS, self._vectors, "expected numbers (patches, width)")
        if 0 in self._vectors.shape:
            raise self._error(VECTORS, self._vectors, "which has no value in it")
        if len(ids.shape) != 1 or ids.dtype.kind != "U":
            raise self._error(IDS, ids, "expected a text per patch")
        self._refuse_other_length(IDS, ids)

    @property
    def width(self) -> int:
        """D."""
        return self._vectors.shape[1]

    def clips(self, *, with_targets: bool) -> dict[str, ClipPatches]:
        """The clips by id, in the order of the file, with their Y where that is asked for.

        Raises `InputError` for a clip with two different Y.
        """
        ids_N = self._whole(IDS)
        targets_N = self._targets() if with_targets else np.zeros(len(ids_N), np.int64)
        new_N = (ids_N[1:] != ids_N[:-1]) | (targets_N[1:] != targets_N[:-1])
        starts = [0, *(np.flatnonzero(new_N) + 1).tolist()]
        found: dict[str, ClipPatches] = {}
        for start, end in zip(starts, [*starts[1:], len(ids_N)], strict=True):
            clip_id = self._id(ids_N, start)
            target = int(targets_N[start]) if with_targets else None
            clip = found.setdefault(clip_id, ClipPatches(target=target))
            if clip.target != target:
                raise InputError(
                    f"{self._url}: clip {clip_id!r} has {TARGETS} {clip.target} in row "
                    f"{clip.runs[0].start} and {target} in row {start}; a clip has one class"
                )
            clip.runs.append(slice(start, end))
        return found

    def check_vectors(self) -> None:
        """Raise `InputError` where X holds what is not finite; it is never in memory as a whole."""
        head = self._vectors
        with self._opened(VECTORS) as stream:
            stream.read(head.offset)
            size_bytes = head.dtype.itemsize

            def blocks() -> Iterator[NDArray[Any]]:
                while data := stream.read(_BLOCK * size_bytes):
                    yield np.frombuffer(data, head.dtype)

            place = _first_not_finite(blocks())
        self._refuse_not_finite(place)

    def vectors(self) -> NDArray[Any]:
        """X (N, D), checked, in the type of the file."""
        head, item = self._vectors, self._members[f"{VECTORS}.npy"]
        if item.compress_type != zipfile.ZIP_STORED:
            vectors_ND = self._whole(VECTORS)
            flat = vectors_ND.reshape(-1, order="F" if head.in_columns else "C")
            starts = range(0, flat.size, _BLOCK)
            self._refuse_not_finite(_first_not_finite(flat[at : at + _BLOCK] for at in starts))
            return vectors_ND
        self.check_vectors()
        with self._guarded(VECTORS):
            begin = _data_offset(self._path, item) + head.offset
            order: Literal["C", "F"] = "F" if head.in_columns else "C"
            return np.memmap(self._path, head.dtype, "r", begin, head.shape, order)

    def _targets(self) -> NDArray[np.int64]:
        head = self._head(TARGETS)
        if len(head.shape) != 1 or head.dtype.kind not in "iu":
            raise self._error(TARGETS, head, "expected a whole number per patch")
        self._refuse_other_length(TARGETS, head)
        return self._whole(TARGETS).astype(np.int64)

    def _id(self, ids_N: NDArray[Any], row: int) -> str:
        try:
            found = str(ids_N[row])
            found.encode()
        except ValueError as error:
            told = f"{self._url}: {IDS} {ids_N.shape} holds no text in row {row}: {error}"
            raise InputError(told) from error
        if not found:
            raise InputError(f"{self._url}: {IDS} {ids_N.shape} is empty in row {row}")
        return found

    def _head(self, key: str) -> _Head:
        """The head of an array, compared with the bytes that there are; nothing is allocated."""
        item = self._members.get(f"{key}.npy")
        if item is None:
            there = ", ".join(name.removesuffix(".npy") for name in self._members) or "(nothing)"
            raise InputError(
                f"{self._url} has no array {key!r}; there are {there}; expected are "
                f"{VECTORS} (patches, width), {TARGETS} (patches,) and {IDS} (patches,)"
            )
        with self._opened(key) as stream:
            version = npy.read_magic(stream)
            if version not in ((1, 0), (2, 0)):
                raise ValueError(f"its format {version} is not that of a plain array")
            read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
            head = _Head(*read(stream), offset=stream.tell())
        if head.dtype.hasobject:
            raise self._error(key, head, "Python objects, which are never unpickled; save it anew")
        expected = head.offset + math.prod(head.shape) * head.dtype.itemsize
        if item.file_size != expected:
            what = f"which takes {expected} bytes, but the file has {item.file_size}"
            raise self._error(key, head, what)
        return head

    def _whole(self, key: str) -> NDArray[Any]:
        with self._opened(key) as stream:
            found: NDArray[Any] = npy.read_array(stream, allow_pickle=False)
            stream.read(1)  # the checksum is compared at the end
            return found

    @contextlib.contextmanager
    def _opened(self, key: str) -> Iterator[IO[bytes]]:
        with (
            self._guarded(key),
            zipfile.ZipFile(self._path) as archive,
            archive.open(f"{key}.npy") as stream,
        ):
            yield stream

    @contextlib.contextmanager
    def _guarded(self, what: str) -> Iterator[None]:
        try:
            yield
        except _DAMAGED as error:
            raise InputError(
                f"{self._url}: {what} cannot be read as npz ({error}); save it again with "
                f"numpy.savez(file, {VECTORS}=..., {TARGETS}=..., {IDS}=...)"
            ) from error

    def _refuse_other_length(self, key: str, head: _Head) -> None:
        if head.shape[0] != self._vectors.shape[0]:
            what = f"but {VECTORS} is {self._vectors}; both need a row per patch"
            raise self._error(key, head, what)

    def _refuse_not_finite(self, place: int | None) -> None:
        if place is None:
            return
        head = self._vectors
        row = place % head.shape[0] if head.in_columns else place // head.shape[1]
        what = f"with NaN, infinity or more than float32 holds in row {row}"
        raise self._error(VECTORS, head, what)

    def _error(self, key: str, head: _Head, what: str) -> InputError:
        return InputError(f"{self._url}: {key} is {head}, {what}")


def _first_not_finite(blocks: Iterator[NDArray[Any]]) -> int | None:
    """The place of the first value that is not finite as float32, over all blocks."""
    seen = 0
    for block in blocks:
        with np.errstate(over="ignore"):
            bad = ~np.isfinite(block.astype(np.float32))
        if bad.any():
            return seen + int(bad.argmax())
        seen += block.size
    return None


def _data_offset(path: str, item: zipfile.ZipInfo) -> int:
    """Where the bytes of a member begin in the file."""
    with Path(path).open("rb") as stream:
        stream.seek(item.header_offset + 26)
        name_bytes, extra_bytes = struct.unpack("<HH", stream.read(4))
    return item.header_offset + 30 + int(name_bytes) + int(extra_bytes)
