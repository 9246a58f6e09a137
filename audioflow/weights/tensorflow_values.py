"""Numbers as TensorFlow stores them: raw bytes, or a TensorProto.

The types are those of tensorflow/core/framework/types.proto, the fields those of tensor.proto.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audioflow.weights.faults import refuse_too_large
from audioflow.weights.nesting import widened
from audioflow.weights.protobuf import Value, fields

Array = NDArray[np.generic]
_BFLOAT16 = 14
_HALF = 19

DTYPES: dict[int, np.dtype[Any]] = {
    number: np.dtype(name)
    for number, name in (
        *((1, "<f4"), (2, "<f8"), (3, "<i4"), (4, "u1"), (5, "<i2"), (6, "i1"), (8, "<c8")),
        *((9, "<i8"), (10, "?"), (_BFLOAT16, "<f4"), (17, "<u2"), (18, "<c16"), (_HALF, "<f2")),
        *((22, "<u4"), (23, "<u8")),
    )
}
"""The type of each number there; texts and what is no array are missing."""

_FIXED = {5: "<f4", 6: "<f8", 9: "<c8", 12: "<c16"}
_VARINTS = {7: "<i4", 10: "<i8", 11: "?", 13: "<u2", 16: "<u4", 17: "<u8"}
_CONTENT = 4


def from_bytes(data: bytes, dtype: int, shape: tuple[int, ...]) -> Array:
    """An array from its bytes; raises `ValueError` where their number does not fit the shape."""
    stored = np.dtype("<u2") if dtype == _BFLOAT16 else DTYPES[dtype]
    if math.prod(shape) * stored.itemsize != len(data):
        raise ValueError(f"an array of {shape} {stored} has {len(data)} bytes")
    array = np.frombuffer(data, stored).reshape(shape)
    return widened(array) if dtype == _BFLOAT16 else array.copy()


def from_proto(message: bytes, dtype: int) -> Array:
    """The numbers of a TensorProto, without their shape."""
    parts: list[Array] = []
    for number, value in fields(message):
        if number == _CONTENT and isinstance(value, bytes):
            stored = np.dtype("<u2") if dtype == _BFLOAT16 else DTYPES[dtype]
            array = np.frombuffer(value, stored)
            return widened(array) if dtype == _BFLOAT16 else array
        if number in _FIXED and isinstance(value, bytes):
            parts.append(np.frombuffer(value, _FIXED[number]))
        elif number in _VARINTS:
            parts.append(_integers(value).astype(_VARINTS[number]))
    if not parts:
        return np.zeros(0, DTYPES[dtype])
    found = np.concatenate(parts)
    if dtype == _BFLOAT16:
        return widened(found.astype(np.uint16))
    if dtype == _HALF:
        return found.astype(np.uint16).view(np.float16)
    return found.astype(DTYPES[dtype])


def _integers(value: Value) -> NDArray[np.uint64]:
    """One integer, or many packed one after the other, as 64 bits each."""
    if isinstance(value, int):
        return np.array([value], np.uint64)
    data = np.frombuffer(value, np.uint8)
    ends = np.flatnonzero(data < 0x80)
    if not len(data) or ends[-1:].tolist() != [len(data) - 1]:
        raise ValueError("packed integers are cut short")
    starts = np.concatenate(([0], ends[:-1] + 1))
    refuse_too_large("packed integers", 8 * len(ends))
    place = np.arange(len(data)) - np.repeat(starts, ends - starts + 1)
    if place.max() > 9:
        raise ValueError("an integer has more than 64 bits")
    bits = (data & 0x7F).astype(np.uint64) << (7 * place).astype(np.uint64)
    return np.bitwise_or.reduceat(bits, starts)
