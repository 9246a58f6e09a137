"""Whether the media of a QuickTime or MP4 file lies elsewhere: its data references (ISO 14496-12).

Only the heads of boxes are read, and the few bytes of a reference.
"""

from collections.abc import Iterator
from io import BufferedReader
from pathlib import Path

_FIRST_BOXES = frozenset((b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot"))
_WAY = (b"moov", b"trak", b"mdia", b"minf", b"dinf", b"dref")
_MOST_BOXES = 10_000
_SELF_CONTAINED = 1
_EMPTY = 12
"""Bytes of an entry that has a head and flags, and names nothing."""


def external_reference(path: str, head: bytes) -> str:
    """The kind of the first data reference to another file or host; "" where there is none.

    head: the first bytes of the file.
    """
    if head[4:8] not in _FIRST_BOXES:
        return ""
    with Path(path).open("rb") as stream:
        stream.seek(0, 2)
        return next(_references(stream, 0, stream.tell(), 0), "")


def _references(stream: BufferedReader, begin: int, end: int, depth: int) -> Iterator[str]:
    for kind, inside, after in _boxes(stream, begin, end):
        if kind != _WAY[depth]:
            continue
        if depth + 1 < len(_WAY):
            yield from _references(stream, inside, after, depth + 1)
            continue
        for entry, flags_at, entry_end in _boxes(stream, inside + 8, after):  # version, count
            stream.seek(flags_at)
            flags = int.from_bytes(stream.read(4), "big") & 0xFFFFFF
            if not flags & _SELF_CONTAINED and entry_end - flags_at > _EMPTY - 8:
                yield entry.decode("latin-1").strip()


def _boxes(stream: BufferedReader, begin: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """The boxes in a stretch of the file: kind, where its content begins, where it ends."""
    for _ in range(_MOST_BOXES):
        if begin + 8 > end:
            return
        stream.seek(begin)
        head = stream.read(16)
        size, inside = int.from_bytes(head[:4], "big"), begin + 8
        if size == 1:
            size, inside = int.from_bytes(head[8:16], "big"), begin + 16
        after = end if size == 0 else begin + size
        if after < inside or after > end:
            return  # damaged: what FFmpeg makes of it is another matter
        yield head[4:8], inside, after
        begin = after
