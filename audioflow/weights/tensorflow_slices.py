"""Tensors that a checkpoint holds in slices: what is known of them, and how they are put together.

The messages are TensorShapeProto and TensorSliceProto of TensorFlow (core/framework).
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from audioflow.weights.faults import refuse_too_large
from audioflow.weights.protobuf import content, fields, signed
from audioflow.weights.tensorflow_values import DTYPES

Array = NDArray[np.generic]


@dataclass
class Entry:
    """What is known of one tensor, or of one slice of it."""

    dtype: int = 0
    shape: tuple[int, ...] = ()
    shard: int = 0
    offset: int = 0
    size: int = 0
    checksum: int | None = None
    slices: list[bytes] = field(default_factory=list)


def shape_of(message: bytes) -> tuple[int, ...]:
    """A TensorShapeProto: one message per dimension, with its size."""
    sizes = []
    for number, value in fields(message):
        if number == 2:
            sizes.append(signed(dict(fields(content(value))).get(1, 0)))
    if any(size < 0 for size in sizes):
        raise ValueError(f"the shape {sizes} has a negative size")
    return tuple(sizes)


def extents_of(message: bytes) -> Iterator[tuple[int, int | None]]:
    """A TensorSliceProto: start and length per dimension, no length where it is all of it."""
    for number, value in fields(message):
        if number == 1:
            extent = dict(fields(content(value)))
            yield signed(extent.get(1, 0)), signed(extent[2]) if 2 in extent else None


class Whole:
    """A tensor that is put together from slices."""

    def __init__(self, name: str, entry: Entry) -> None:
        refuse_too_large(name, math.prod(entry.shape) * DTYPES[entry.dtype].itemsize)
        self._name = name
        self._array = np.zeros(entry.shape, DTYPES[entry.dtype])
        self._filled = 0

    def put(self, extents: bytes, part: Array) -> None:
        """Fill a slice; raises `ValueError` where the part has another size."""
        places = tuple(
            slice(start, None if length is None else start + length)
            for start, length in extents_of(extents)
        )
        target = self._array[(*places, ...)]
        part = part.reshape(target.shape)
        target[...] = part
        self._filled += part.size

    def finished(self) -> Array:
        """The whole; raises `ValueError` where slices are missing."""
        if self._filled != self._array.size:
            raise ValueError(
                f"{self._name}: {self._filled} of {self._array.size} numbers are there"
            )
        return self._array


def slice_key(name: bytes, extents: bytes, dimensions: int) -> bytes:
    """The key of a slice in a V2 table (EncodeTensorNameSlice of TensorFlow, in ordered code)."""
    escaped = name.replace(b"\xff", b"\xff\0").replace(b"\0", b"\0\xff")
    key = _ordered(0) + escaped + b"\0\1" + _ordered(dimensions)
    for start, length in extents_of(extents):
        key += _ordered_signed(start) + _ordered_signed(-1 if length is None else length)
    return key


def _ordered(number: int) -> bytes:
    size = (number.bit_length() + 7) // 8
    return bytes([size]) + number.to_bytes(size, "big")


def _ordered_signed(number: int) -> bytes:
    """The sign and the length in leading bits, as in UTF-8, then the number."""
    bits = (~number if number < 0 else number).bit_length()
    length = bits // 7 + 1
    header = ((1 << length) - 1) << (16 - length)  # `length` ones, in the first two bytes
    data = bytearray(number.to_bytes(max(length, 2), "big", signed=True)[-max(length, 2) :])
    if length == 1:
        return bytes([data[-1] ^ 0x80])
    data[0] ^= header >> 8
    data[1] ^= header & 0xFF
    return bytes(data)
