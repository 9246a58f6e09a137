"""Tensors from weight files of every format in use, without running anything they contain.

A file is known by its first bytes, whatever it is called, and may be compressed by gzip.

| format | names |
|---|---|
| safetensors | as they are |
| torch (`.pth`, `.pt`, `.pth.tar`, `.ckpt`) | of the state dict, joined by '.' |
| pickled arrays (`.npy` of a dictionary, `.pkl`) | joined by '.': `conv1.weights` |
| `.npz`, `.npy` of numbers | as they are; `array` |
| Keras (`.h5`, `.weights.h5`, `.keras`) | `<layer>/<weight>` (`keras_files`) |
| TensorFlow checkpoints, V1 and V2 | as they are: `vggish/conv1/weights` |

bfloat16 and eight-bit floats come as float32, everything else as it is stored.
"""

import gzip
import shutil
import tempfile
import tokenize
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from audioflow.weights.faults import WeightsError, refuse_too_large, some
from audioflow.weights.keras_files import keras_tensors
from audioflow.weights.nesting import tensors_in
from audioflow.weights.pickled import arrays_of_pickle
from audioflow.weights.tensorflow_files import (
    checkpoint_in,
    is_table,
    table_tensors,
    tensorflow_tensors,
)
from audioflow.weights.torch_files import torch_tensors

Tensors = dict[str, NDArray[np.generic]]

FORMATS = "safetensors, torch state dict, NumPy, Keras HDF5 or TensorFlow checkpoint"

_GZIP = b"\x1f\x8b"
_ZIP = b"PK\x03\x04"
_NPY = b"\x93NUMPY"
_HDF5 = b"\x89HDF\r\n\x1a\n"
_OLD_TORCH = b"\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."
_DAMAGE = (ValueError, EOFError, zipfile.BadZipFile, zlib.error, RuntimeError, KeyError)
_PICKLE = tuple(b"\x80" + bytes([protocol]) for protocol in range(2, 6))


def read_tensors(path: str) -> Tensors:
    """All tensors of a weight file by name, nested names joined by '.'.

    path: a file, the prefix of a TensorFlow checkpoint, or a folder that holds one. Raises
    `WeightsError` naming the file and what is wrong with it.
    """
    prefix = checkpoint_in(path)
    if prefix is not None:
        return tensorflow_tensors(prefix, path)
    try:
        if _start(path).startswith(_GZIP):
            with tempfile.NamedTemporaryFile(prefix="audioflow-weights-") as whole:
                _unpack(path, whole)
                return _reader(whole.name, path)(whole.name, path)
        return _reader(path, path)(path, path)
    except MemoryError as error:
        raise WeightsError(f"{path} does not fit into the memory of this machine") from error
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror or error}") from error


def _start(path: str) -> bytes:
    if Path(path).is_dir():
        names = some(sorted(each.name for each in Path(path).iterdir()))
        raise WeightsError(
            f"{path} is a folder without a TensorFlow checkpoint (a file NAME.index beside "
            f"NAME.data-00000-of-00001), found {names or 'nothing'}; name the weight file itself"
        )
    with Path(path).open("rb") as file:
        return file.read(512)


def _unpack(path: str, whole: IO[bytes]) -> None:
    try:
        with gzip.open(path, "rb") as packed:
            size = 0
            while block := packed.read(1 << 20):
                size += len(block)
                refuse_too_large(path, size)
                whole.write(block)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise WeightsError(
            f"{path} is damaged: {error}; expected a whole gzip file, fetch it again"
        ) from error
    whole.flush()


def _reader(path: str, told: str) -> Callable[[str, str], Tensors]:
    """Who reads a file, by its first bytes."""
    start = _start(path)
    if start.startswith(_ZIP):
        return _zip_reader(path, told)
    if start.startswith(_NPY):
        return _npy_tensors
    if start.startswith(_HDF5):
        return keras_tensors
    if start.startswith(_PICKLE):
        return torch_tensors if start[2:].startswith(_OLD_TORCH) else _pickle_tensors
    if is_table(path):
        return table_tensors
    if start[8:9] == b"{" and int.from_bytes(start[:8], "little") < Path(path).stat().st_size:
        return _safetensors
    raise WeightsError(f"{told} is {_guess(start)}; expected {FORMATS}")


_OTHERS = (
    (4, b"TFL3", "a TFLite model, which the backbone litert runs"),
    (0, b"\x04\0\0\0\x01\0\0\0", "a file of Torch 7 (Lua), which has to be converted"),
    (257, b"ustar", "a tar archive: unpack it"),
    (0, b"version https://git-lfs", "a pointer of Git LFS: run `git lfs pull` where it is from"),
    *(
        (0, mark, "a page or message of a server, not a weight file: fetch it again")
        for mark in (b"<!doctype", b"<!DOCTYPE", b"<html", b"<HTML", b"<?xml", b"{")
    ),
)


def _guess(start: bytes) -> str:
    if not start:
        return "empty"
    for offset, mark, what in _OTHERS:
        if start[offset:].startswith(mark):
            return what
    return f"no weight file of a known format (it begins with {start[:8]!r})"


def _zip_reader(path: str, told: str) -> Callable[[str, str], Tensors]:
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise WeightsError(
            f"{told} is damaged or cut short: {error}; expected a whole zip archive "
            "(torch or NumPy), fetch it again"
        ) from error
    refuse_too_large(told, sum(member.file_size for member in members))
    names = [member.filename for member in members]
    if any(name.endswith("data.pkl") for name in names):
        return torch_tensors
    if "model.weights.h5" in names:
        return _keras_archive
    if names and all(name.endswith(".npy") for name in names):
        return _npz_tensors
    raise WeightsError(f"{told} is a zip archive of {some(names) or 'nothing'}; expected {FORMATS}")


def _safetensors(path: str, told: str) -> Tensors:
    from safetensors import SafetensorError, safe_open

    def read(framework: str, names: list[str] | None = None) -> Tensors:
        with safe_open(path, framework=framework) as file:
            return {name: file.get_tensor(name) for name in names or file.keys()}

    try:
        with safe_open(path, framework="np") as file:
            types = {name: file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118
        narrow = [name for name, kind in types.items() if kind.startswith(("BF", "F8"))]
        plain = [name for name in types if name not in set(narrow)]
        tensors = read("np", plain) if plain else {}
        if narrow:
            wide: dict[str, Any] = read("pt", narrow)
            tensors |= {name: tensor.float().numpy() for name, tensor in wide.items()}
    except (SafetensorError, OSError, ValueError, TypeError, KeyError) as error:
        raise WeightsError(
            f"{told} is no safetensors file, or is damaged: {error}; fetch it again"
        ) from error
    if not tensors:
        raise WeightsError(f"{told} holds no tensors")
    return {name: tensors[name] for name in types}


def _pickle_tensors(path: str, told: str) -> Tensors:
    return tensors_in(arrays_of_pickle(Path(path).read_bytes(), told), told)


def _npy_tensors(path: str, told: str) -> Tensors:
    size = Path(path).stat().st_size
    with Path(path).open("rb") as file:
        shape, dtype = _npy_header(file, told)
        if dtype.hasobject:
            return tensors_in(arrays_of_pickle(file.read(), told), told)
        held = size - file.tell()
        if dtype.kind not in "biufc" or held < _nbytes(shape, dtype):
            raise WeightsError(
                f"{told} is damaged: it has {held} bytes of an array of {shape} {dtype}"
            )
        file.seek(0)
        return {"array": np.load(file, allow_pickle=False)}


def _npy_header(file: IO[bytes], told: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
    try:
        version = np.lib.format.read_magic(file)
        if version == (1, 0):
            shape, _, dtype = np.lib.format.read_array_header_1_0(file)
        else:
            shape, _, dtype = np.lib.format.read_array_header_2_0(file)
    except (*_DAMAGE, TypeError, SyntaxError, tokenize.TokenError, RecursionError) as error:
        raise WeightsError(f"{told} is a damaged NumPy file: {error}") from error
    refuse_too_large(told, _nbytes(shape, dtype))
    return shape, dtype


def _nbytes(shape: tuple[int, ...], dtype: np.dtype[Any]) -> int:
    size = dtype.itemsize
    for length in shape:
        size *= length
    return size


def _npz_tensors(path: str, told: str) -> Tensors:
    tensors: Tensors = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                name = member.filename.removesuffix(".npy")
                with archive.open(member) as file:
                    shape, dtype = _npy_header(file, told)
                if dtype.hasobject:
                    raise WeightsError(
                        f"{told} holds Python objects at {name!r}, expected numbers; save it "
                        "again with `numpy.savez(path, **arrays)`"
                    )
                if _nbytes(shape, dtype) > member.file_size:
                    raise WeightsError(f"{told} is damaged: {name!r} claims {shape} {dtype}")
                with archive.open(member) as file:
                    tensors[name] = np.lib.format.read_array(file, allow_pickle=False)
    except _DAMAGE as error:
        raise WeightsError(f"{told} is damaged: {error}; fetch it again") from error
    return tensors


def _keras_archive(path: str, told: str) -> Tensors:
    try:
        with (
            zipfile.ZipFile(path) as archive,
            archive.open("model.weights.h5") as packed,
            tempfile.TemporaryFile(prefix="audioflow-weights-") as whole,
        ):
            shutil.copyfileobj(packed, whole)
            whole.seek(0)
            return keras_tensors(whole, told)
    except _DAMAGE as error:
        raise WeightsError(f"{told} is damaged: {error}; fetch it again") from error
