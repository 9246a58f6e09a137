"""Sorted string tables, the files in which TensorFlow keeps checkpoints: keys and values of bytes.

As in LevelDB (doc/table_format.md): blocks of entries whose keys leave out what they share with the
key before, each block followed by its compression and its masked CRC-32C; an index block of where
the blocks lie; a footer of 48 bytes that leads to the index.
"""

import os
import struct
from collections.abc import Iterator
from typing import IO, cast

from audioflow.weights.crc32c import crc32c, unmasked
from audioflow.weights.faults import refuse_too_large
from audioflow.weights.protobuf import varint

FOOTER_BYTES = 48
_MAGIC = struct.pack("<Q", 0xDB4775248B80FB57)
_SNAPPY = 1


def has_footer(file: IO[bytes]) -> bool:
    """Whether an open file ends as such a table does."""
    size = file.seek(0, os.SEEK_END)
    if size < FOOTER_BYTES:
        return False
    file.seek(size - len(_MAGIC))
    return file.read() == _MAGIC


def entries(file: IO[bytes]) -> Iterator[tuple[bytes, bytes]]:
    """Every key and value of an open table, in order; raises `ValueError` where it is damaged."""
    if not has_footer(file):
        raise ValueError("it does not end with the footer of a table")
    size = file.seek(0, os.SEEK_END)
    file.seek(size - FOOTER_BYTES)
    footer = file.read()
    _block(file, footer, size)  # of metadata, which no checkpoint has: read for its checksum
    _, at = varint(footer, 0)
    _, at = varint(footer, at)
    for _, handle in _in_block(_block(file, footer[at:], size)):
        yield from _in_block(_block(file, handle, size))


def _block(file: IO[bytes], handle: bytes, file_bytes: int) -> bytes:
    """The block that a handle (offset and length) leads to."""
    offset, at = varint(handle, 0)
    length, _ = varint(handle, at)
    if offset + length + 5 > file_bytes:
        raise ValueError(f"a block of {length} bytes at {offset} lies behind its end")
    file.seek(offset)
    stored = file.read(length + 5)  # the compression and the checksum behind the block
    data, kind = stored[:length], stored[length]
    if crc32c(memoryview(stored)[:-4]) != unmasked(int.from_bytes(stored[-4:], "little")):
        raise ValueError(f"the block at {offset} does not have its checksum")
    if kind == _SNAPPY:
        return _unsnapped(data)
    if kind:
        raise ValueError(f"the block at {offset} has the unknown compression {kind}")
    return data


def _unsnapped(data: bytes) -> bytes:
    import pyarrow as pa

    size, _ = varint(data, 0)
    refuse_too_large("a block of the table", size)
    return cast("bytes", pa.decompress(data, size, codec="snappy", asbytes=True))


def _in_block(block: bytes) -> Iterator[tuple[bytes, bytes]]:
    restarts = int.from_bytes(block[-4:], "little")
    end = len(block) - 4 * (restarts + 1)
    if end < 0:
        raise ValueError("a block is shorter than it says")
    at, key = 0, b""
    while at < end:
        shared, at = varint(block, at)
        own, at = varint(block, at)
        length, at = varint(block, at)
        if shared > len(key) or at + own + length > end:
            raise ValueError("an entry is longer than its block")
        key = key[:shared] + block[at : at + own]
        at += own
        yield key, block[at : at + length]
        at += length
