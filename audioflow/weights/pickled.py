"""Arrays out of pickles without running anything: what a pickle names is replaced by stand-ins.

A pickle is a small program that may name any function of this machine. Here the names by which
NumPy stores arrays lead to the classes below, which only keep what they are given; every other name
is refused before it is looked up. NumPy itself is not called with anything from the file but a kind
of number, a shape that fits the bytes, and the bytes.
"""

import io
import pickle
import re
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from audioflow.weights.faults import WeightsError, too_large

_NUMBER = re.compile(r"\?|[biufc]\d{1,2}")
_MOST_DIMENSIONS = 32


class PickledDtype:
    """Stands for `numpy.dtype`: the kind and size of a number, and its byte order."""

    code: str = ""
    order: str = "="

    def __init__(self, code: Any = "", *_: Any) -> None:
        self.code = code.decode("latin1") if isinstance(code, bytes) else str(code)

    def __setstate__(self, state: Any) -> None:
        if not isinstance(state, tuple) or len(state) < 5 or any(state[2:5]):
            raise pickle.UnpicklingError(f"the type {self.code!r} is no plain number")
        order = state[1].decode("latin1") if isinstance(state[1], bytes) else state[1]
        if order not in ("<", ">", "|", "="):
            raise pickle.UnpicklingError(f"the byte order {order!r} does not exist")
        self.order = order

    @property
    def is_object(self) -> bool:
        """Whether elements are Python objects, not numbers."""
        return self.code[:1] == "O"

    def numpy(self) -> np.dtype[Any]:
        """The type; raises `UnpicklingError` where it is no plain number."""
        if _NUMBER.fullmatch(self.code) is None:
            raise pickle.UnpicklingError(f"the type {self.code!r} is no plain number")
        return np.dtype(self.code).newbyteorder(">" if self.order == ">" else "<")


class PickledArray:
    """Stands for `numpy.ndarray`: shape, type and bytes (or the list of objects) as stored."""

    shape: tuple[int, ...] = ()
    dtype: PickledDtype | None = None
    fortran: bool = False
    content: Any = b""

    def __setstate__(self, state: Any) -> None:
        if not isinstance(state, tuple) or len(state) not in (4, 5):
            raise pickle.UnpicklingError("an array has a state that NumPy does not write")
        self.shape, self.dtype, self.fortran, self.content = state[-4:]

    def numpy(self) -> NDArray[np.generic]:
        """The array; raises `UnpicklingError` where it holds objects or its parts do not fit."""
        if not isinstance(self.dtype, PickledDtype):
            raise pickle.UnpicklingError("an array has no type")
        if self.dtype.is_object:
            raise pickle.UnpicklingError("an array holds Python objects, not numbers")
        data = self.content
        data = data.encode("latin1") if isinstance(data, str) else data
        dtype, shape = self.dtype.numpy(), self.shape
        if not isinstance(data, bytes | bytearray) or not _is_shape(shape):
            raise pickle.UnpicklingError("an array has no shape or no bytes")
        wanted = dtype.itemsize
        for size in shape:
            wanted *= size
        if too_large(wanted):
            raise pickle.UnpicklingError(f"an array {too_large(wanted)}")
        if wanted != len(data):
            raise pickle.UnpicklingError(f"an array of {shape} {dtype} has {len(data)} bytes")
        flat = np.frombuffer(data, dtype).astype(dtype.newbyteorder("="))
        return flat.reshape(shape, order="F" if self.fortran else "C")


def _is_shape(shape: Any) -> bool:
    return (
        isinstance(shape, tuple)
        and len(shape) <= _MOST_DIMENSIONS
        and all(type(size) is int and size >= 0 for size in shape)
    )


class Reconstructed(PickledArray):
    """Stands for `_reconstruct`, which makes an empty array of a class, filled afterwards."""

    def __init__(self, subtype: Any, *_: Any) -> None:
        if subtype is not PickledArray:
            raise pickle.UnpicklingError(f"an array of the class {subtype!r}, not of NumPy's own")


class FromBuffer(PickledArray):
    """Stands for `_frombuffer`, by which protocol 5 stores arrays."""

    def __init__(self, data: Any, dtype: Any, shape: Any, order: Any = "C") -> None:
        self.__setstate__((shape, dtype, order == "F", data))


class PickledScalar(PickledArray):
    """Stands for `scalar`: a single number of NumPy's."""

    def __init__(self, dtype: Any, data: Any = b"") -> None:
        self.__setstate__(((), dtype, False, data))


class Encoded:
    """Stands for `_codecs.encode`, by which old protocols store bytes."""

    def __new__(cls, text: Any, encoding: Any = "latin1") -> Any:
        if encoding not in ("latin1", "latin-1", b"latin1") or not isinstance(text, str):
            raise pickle.UnpicklingError(f"bytes in the encoding {encoding!r}")
        return text.encode("latin1")

    def __setstate__(self, state: Any) -> None:
        raise pickle.UnpicklingError("bytes have no state")


class Ordered:
    """Stands for `OrderedDict` and `dict`: an empty dictionary, filled afterwards."""

    def __new__(cls, *items: Any) -> Any:
        pairs = items[0] if items else []
        if not isinstance(pairs, list) or not all(_is_item(pair) for pair in pairs):
            raise pickle.UnpicklingError("a dictionary made of something else than names")
        return dict(pairs)

    def __setstate__(self, state: Any) -> None:
        raise pickle.UnpicklingError("a dictionary has no state")


def _is_item(pair: Any) -> bool:
    return isinstance(pair, list | tuple) and len(pair) == 2 and _is_key(pair[0])


def _is_key(key: Any) -> bool:
    return isinstance(key, str | bytes | int)


ARRAY_GLOBALS: dict[str, type] = {
    "numpy.ndarray": PickledArray,
    "numpy.dtype": PickledDtype,
    "_codecs.encode": Encoded,
} | {
    f"{core}.{name}": stand_in
    for core in ("numpy.core", "numpy._core")
    for name, stand_in in (
        ("multiarray._reconstruct", Reconstructed),
        ("multiarray.scalar", PickledScalar),
        ("numeric._frombuffer", FromBuffer),
    )
}
"""The names by which NumPy pickles arrays, and what stands for them here."""

_DICTIONARIES: dict[str, type] = {
    "collections.OrderedDict": Ordered,
    "builtins.dict": Ordered,
    "__builtin__.dict": Ordered,
}


_BASE: dict[int, Callable[..., Any]] = pickle._Unpickler.dispatch  # type: ignore[attr-defined,unused-ignore]
_SETITEM = _BASE[pickle.SETITEM[0]]
_SETITEMS = _BASE[pickle.SETITEMS[0]]


class _ArrayUnpickler(pickle._Unpickler):
    """The unpickler written in Python: that in C takes the memory a file asks for its memo."""

    stack: list[Any]
    dispatch: ClassVar[dict[int, Callable[..., Any]]] = dict(_BASE)
    for _code in (
        *(pickle.EXT1, pickle.EXT2, pickle.EXT4, pickle.PERSID, pickle.BINPERSID, pickle.INST),
        *(pickle.OBJ, pickle.EMPTY_SET, pickle.ADDITEMS, pickle.FROZENSET, pickle.NEWOBJ_EX),
        *(pickle.NEXT_BUFFER, pickle.READONLY_BUFFER),
    ):
        dispatch.pop(_code[0])

    def find_class(self, module_name: str, global_name: str) -> Any:
        name = f"{module_name}.{global_name}"
        known = (ARRAY_GLOBALS | _DICTIONARIES).get(name)
        if known is None:
            raise pickle.UnpicklingError(
                f"it names {name!r}, which is no array; nothing of it was run"
            )
        return known

    def load_setitem(self) -> None:
        if not _is_key(self.stack[-2]):
            raise pickle.UnpicklingError("a dictionary has a key that is no name")
        _SETITEM(self)

    def load_setitems(self) -> None:
        if not all(map(_is_key, self.stack[::2])):
            raise pickle.UnpicklingError("a dictionary has a key that is no name")
        _SETITEMS(self)

    dispatch[pickle.SETITEM[0]] = load_setitem
    dispatch[pickle.SETITEMS[0]] = load_setitems


def arrays_of_pickle(content: bytes, path: str) -> Any:
    """What a pickle holds, with arrays in place of the stand-ins.

    Raises `WeightsError` where it names anything that is not part of an array, or is damaged.
    """
    try:
        found = _ArrayUnpickler(io.BytesIO(content), encoding="latin1").load()
        return with_arrays(found)
    except KeyError as error:
        code = error.args[0]
        told = f"the instruction {code}, which no array needs" if isinstance(code, int) else code
        raise WeightsError(f"{path} is refused: its pickle has {told}") from error
    except _DAMAGE as error:
        raise WeightsError(f"{path} is refused: {error or 'its pickle is cut short'}") from error


_DAMAGE = (
    *(pickle.UnpicklingError, EOFError, AttributeError, ValueError, TypeError, IndexError),
    *(UnicodeError, OverflowError, MemoryError, AssertionError, RecursionError),
)


def with_arrays(found: Any) -> Any:
    """The same dictionaries and lists, with arrays in place of stand-ins."""
    if isinstance(found, PickledArray) and found.dtype is not None and found.dtype.is_object:
        found = _sole(found)
    return _with_arrays(found, 0, {})


def _with_arrays(found: Any, depth: int, done: dict[int, Any]) -> Any:
    """done: by identity, since a few bytes can make a web of references without end."""
    if depth > _MOST_DIMENSIONS:
        raise pickle.UnpicklingError(f"it is nested deeper than {_MOST_DIMENSIONS}")
    if id(found) not in done:
        if isinstance(found, PickledArray):
            done[id(found)] = found.numpy()
        elif isinstance(found, dict):
            inner = {key: _with_arrays(value, depth + 1, done) for key, value in found.items()}
            done[id(found)] = inner
        elif isinstance(found, list | tuple):
            done[id(found)] = [_with_arrays(value, depth + 1, done) for value in found]
        else:
            return found
    return done[id(found)]


def _sole(array: PickledArray) -> Any:
    """What `np.save` of a dictionary wraps in an array of one object."""
    if not isinstance(array.content, list) or len(array.content) != 1:
        raise pickle.UnpicklingError("an array holds Python objects, not numbers")
    if not isinstance(array.content[0], dict):
        raise pickle.UnpicklingError("an array holds a Python object that is no dictionary")
    return array.content[0]
