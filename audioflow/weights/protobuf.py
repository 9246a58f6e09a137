"""The wire format of protocol buffers, as far as checkpoints need it.

https://protobuf.dev/programming-guides/encoding: a message is a sequence of fields, each a number
and a value, which is an integer, four or eight bytes, or a run of bytes.
"""

from collections.abc import Iterator

Value = int | bytes


def varint(data: bytes, at: int) -> tuple[int, int]:
    """The integer that begins at a byte, and the byte after it; raises `ValueError`."""
    value = shift = 0
    while shift < 70:
        if at >= len(data):
            raise ValueError("an integer is cut short")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFFFFFFFFFFFFFF, at
        shift += 7
    raise ValueError("an integer has more than 64 bits")


def fields(message: bytes) -> Iterator[tuple[int, Value]]:
    """Every field of a message: its number and its value; raises `ValueError` where damaged."""
    at = 0
    while at < len(message):
        key, at = varint(message, at)
        number, kind = key >> 3, key & 7
        if kind == 0:
            value: Value
            value, at = varint(message, at)
        elif kind in (1, 2, 5):
            size = {1: 8, 5: 4}.get(kind, 0)
            if kind == 2:
                size, at = varint(message, at)
            value = message[at : at + size]
            at += size
            if len(value) != size:
                raise ValueError("a field is cut short")
        else:
            raise ValueError(f"a field of the unknown kind {kind}")
        yield number, value


def signed(value: Value) -> int:
    """An integer field of type int32 or int64."""
    number = integer(value)
    return number - (1 << 64) if number >> 63 else number


def integer(value: Value) -> int:
    """An integer field; four or eight bytes are little-endian."""
    return value if isinstance(value, int) else int.from_bytes(value, "little")


def content(value: Value) -> bytes:
    """A field of bytes; raises `ValueError` for any other."""
    if isinstance(value, int):
        raise ValueError("a number where bytes are expected")
    return value
