"""CRC-32C (Castagnoli), vectorised: many stretches of the bytes at once, joined afterwards.

The polynomial is 0x1EDC6F41 (RFC 3720), bits reversed; TensorFlow stores it rotated and offset.
"""

import numpy as np
from numpy.typing import NDArray

_POLYNOMIAL = 0x82F63B78
_STRETCH = 4096
_MASK_DELTA = 0xA282EAD8

Table = NDArray[np.uint32]


def _byte_table() -> Table:
    values = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        low = values & np.uint32(1)
        values = (values >> np.uint32(1)) ^ (low * np.uint32(_POLYNOMIAL))
    return values


_BYTE = _byte_table()


def crc32c(data: bytes | memoryview) -> int:
    """The checksum of the bytes."""
    whole = np.frombuffer(data, np.uint8)
    lanes = len(whole) // _STRETCH
    crc = 0xFFFFFFFF
    if lanes > 1:
        bytes_LS = whole[: lanes * _STRETCH].reshape(lanes, _STRETCH)
        crcs = np.zeros(lanes, np.uint32)
        for column in np.ascontiguousarray(bytes_LS.T):
            crcs = _BYTE[(crcs ^ column) & np.uint32(0xFF)] ^ (crcs >> np.uint32(8))
        skip = [table.tolist() for table in _skipping(_STRETCH)]
        for each in crcs.tolist():
            crc = _skipped(crc, skip) ^ each
        whole = whole[lanes * _STRETCH :]
    table = _BYTE.tolist()
    for byte in whole.tolist():
        crc = table[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF


def unmasked(stored: int) -> int:
    """The checksum behind the form in which TensorFlow stores it."""
    turned = (stored - _MASK_DELTA) & 0xFFFFFFFF
    return ((turned >> 17) | (turned << 15)) & 0xFFFFFFFF


def _skipping(count: int) -> tuple[Table, Table, Table, Table]:
    """What `count` zero bytes make of a checksum, as a table for each of its four bytes."""
    bits = np.uint32(1) << np.arange(32, dtype=np.uint32)
    for _ in range(count):
        bits = _BYTE[bits & np.uint32(0xFF)] ^ (bits >> np.uint32(8))
    tables = np.zeros((4, 256), np.uint32)
    for value in range(256):
        for bit in range(8):
            if value >> bit & 1:
                tables[:, value] ^= bits[bit::8]
    return tables[0], tables[1], tables[2], tables[3]


def _skipped(crc: int, skip: list[list[int]]) -> int:
    low, high = skip[0][crc & 0xFF] ^ skip[1][crc >> 8 & 0xFF], skip[2][crc >> 16 & 0xFF]
    return low ^ high ^ skip[3][crc >> 24]
