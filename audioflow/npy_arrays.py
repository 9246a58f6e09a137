"""Arrays in `.npy` files, mapped into memory and never unpickled."""

import tokenize
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from audioflow.downloads import LocalFile
from audioflow.errors import InputError

_DAMAGED = (ValueError, OSError, EOFError, SyntaxError, tokenize.TokenError)
"""What a damaged head of an array may raise: it is read as Python's literals."""

_OBJECTS = "Python objects"


def mapped(file: LocalFile, expected: str) -> NDArray[Any]:
    """The array of a file, in the file's own type; what is not looked at is not read.

    expected: what the array should be, for messages. Raises `InputError` for what is no array, is
    damaged or empty, or holds Python objects, which are never unpickled.
    """
    try:
        return npy.open_memmap(file.path, mode="r")
    except _DAMAGED as error:
        if _OBJECTS in str(error):
            raise InputError(
                f"{file.url} holds Python objects, which are never unpickled; save it again as "
                f"{expected}, such as numpy.save(file, numpy.asarray(values, dtype=...))"
            ) from None
        raise InputError(
            f"{file.url} cannot be read as npy ({error}); expected {expected}, saved by numpy.save"
        ) from error


def numbers(file: LocalFile, expected: str) -> NDArray[Any]:
    """As `mapped`, of an array of whole or floating numbers."""
    found = mapped(file, expected)
    if found.dtype.kind not in "fiu":
        raise InputError(f"{file.url} holds {found.shape} {found.dtype}; expected {expected}")
    return found


def texts(file: LocalFile) -> list[str]:
    """The texts of an array of texts or of bytes in UTF-8, in order; one that is (N, 1) counts
    as (N,)."""
    expected = "an array of texts (dtype=str)"
    found = mapped(file, expected)
    if found.dtype.kind not in "US" or found.size != max(found.shape, default=0):
        raise InputError(f"{file.url} holds {found.shape} {found.dtype}; expected {expected}")
    flat = np.asarray(found).reshape(-1)
    try:
        return [item.decode() if isinstance(item, bytes) else str(item) for item in flat.tolist()]
    except UnicodeDecodeError as error:
        raise InputError(f"{file.url} holds bytes that are no UTF-8 text: {error}") from error
