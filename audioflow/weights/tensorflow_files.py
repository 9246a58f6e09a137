"""TensorFlow checkpoints without TensorFlow.

V2: a table `PREFIX.index` of where each tensor lies in `PREFIX.data-00000-of-0000N`
(tensorflow/core/protobuf/tensor_bundle.proto). V1: one table that holds the tensors themselves
(tensorflow/core/util/saved_tensor_slice.proto). Variables that were saved in slices are put
together. Texts, and what is no array, are left out.
"""

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from audioflow.weights.crc32c import crc32c, unmasked
from audioflow.weights.faults import WeightsError, refuse_too_large, some
from audioflow.weights.protobuf import content, fields, integer
from audioflow.weights.sstable import entries, has_footer
from audioflow.weights.tensorflow_slices import Entry, Whole, shape_of, slice_key
from audioflow.weights.tensorflow_values import DTYPES, from_bytes, from_proto

Array = NDArray[np.generic]
_OBJECT_SUFFIX = "/.ATTRIBUTES/VARIABLE_VALUE"
_DAMAGE = (ValueError, LookupError, TypeError, UnicodeDecodeError, OverflowError, pa.ArrowException)


def checkpoint_in(path: str) -> str | None:
    """The prefix of the V2 checkpoint that a path names: a prefix, an `.index` file or a folder.

    None where it names none. Raises `WeightsError` for a folder that holds several and does not say
    which is the last.
    """
    if path.endswith(".index") and Path(path).is_file():
        return path.removesuffix(".index")
    if Path(path).is_file():
        return None
    if Path(path).is_dir():
        return _in_folder(Path(path))
    return path if Path(path + ".index").is_file() else None


def checkpoint_files(prefix: str) -> list[Path]:
    """The files of a V2 checkpoint."""
    index = Path(prefix + ".index")
    shards = sorted(
        each
        for each in index.parent.iterdir()
        if each.name.startswith(index.name.removesuffix(".index") + ".data-")
    )
    return [index, *shards]


def _in_folder(folder: Path) -> str | None:
    inner = folder / "variables" / "variables.index"
    if inner.is_file():
        return str(inner).removesuffix(".index")
    found = sorted(each for each in folder.iterdir() if each.name.endswith(".index"))
    if not found:
        return None
    if len(found) == 1:
        return str(found[0]).removesuffix(".index")
    last = _last_of(folder)
    if last is None or not Path(last + ".index").is_file():
        names = some(each.name.removesuffix(".index") for each in found)
        raise WeightsError(
            f"{folder} holds {len(found)} checkpoints: {names}; name one, as {found[0]}"
        )
    return last


def _last_of(folder: Path) -> str | None:
    """What the file `checkpoint`, a message as text, names as the last one."""
    try:
        text = (folder / "checkpoint").read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None
    for line in text.splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "model_checkpoint_path":
            return str(folder / Path(value.strip().strip('"')).name)
    return None


def is_table(path: str) -> bool:
    """Whether a file is a table, as V1 checkpoints and the indexes of V2 are."""
    with Path(path).open("rb") as file:
        return has_footer(file)


# V2


def tensorflow_tensors(prefix: str, told: str) -> dict[str, Array]:
    """The tensors of the V2 checkpoint of this prefix by name; told: the path in messages.

    Raises `WeightsError` where a file is missing or damaged.
    """
    try:
        with Path(prefix + ".index").open("rb") as file:
            table = dict(entries(file))
        return _Bundle(prefix, table).tensors()
    except FileNotFoundError as error:
        raise WeightsError(
            f"{told} is incomplete: {error.filename} does not exist; a TensorFlow checkpoint is "
            "NAME.index and all of NAME.data-00000-of-0000N"
        ) from error
    except _DAMAGE as error:
        raise WeightsError(
            f"{told} is no TensorFlow checkpoint, or is damaged: {error}; fetch it again"
        ) from error


class _Bundle:
    def __init__(self, prefix: str, table: dict[bytes, bytes]) -> None:
        self._prefix = prefix
        self._table = table
        header = dict(fields(table.get(b"", b"")))
        self._shards = integer(header.get(1, 1))
        if integer(header.get(2, 0)) != 0:
            raise ValueError("it was written by a big-endian machine")

    def tensors(self) -> dict[str, Array]:
        found = {
            key.decode().removesuffix(_OBJECT_SUFFIX): (key, _entry(value))
            for key, value in self._table.items()
            if key and not key.startswith(b"\0")  # a zero begins the keys of slices
        }
        numbers = {name: pair for name, pair in found.items() if pair[1].dtype in DTYPES}
        if not numbers:
            raise ValueError(f"it holds no numbers, only {some(found) or 'nothing'}")
        claimed = (math.prod(entry.shape) for _, entry in numbers.values())
        refuse_too_large(self._prefix, sum(claimed))
        return {name: self._tensor(key, entry) for name, (key, entry) in numbers.items()}

    def _tensor(self, key: bytes, entry: Entry) -> Array:
        if not entry.slices:
            return from_bytes(self._data(key, entry), entry.dtype, entry.shape)
        whole = Whole(key.decode(), entry)
        for each in entry.slices:
            part = _entry(self._table[slice_key(key, each, len(entry.shape))])
            whole.put(each, from_bytes(self._data(key, part), entry.dtype, part.shape))
        return whole.finished()

    def _data(self, key: bytes, entry: Entry) -> bytes:
        name = f"{self._prefix}.data-{entry.shard:05d}-of-{self._shards:05d}"
        with Path(name).open("rb") as file:
            file.seek(entry.offset)
            refuse_too_large(name, entry.size)
            left = Path(name).stat().st_size - entry.offset
            data = file.read(min(entry.size, max(left, 0)))
        if len(data) != entry.size:
            raise ValueError(f"{key.decode()} has {len(data)} of {entry.size} bytes in {name}")
        if entry.checksum is not None and crc32c(data) != unmasked(entry.checksum):
            raise ValueError(f"{key.decode()} does not have its checksum")
        return data


def _entry(message: bytes) -> Entry:
    """A BundleEntryProto."""
    entry = Entry()
    for number, value in fields(message):
        if number == 1:
            entry.dtype = integer(value)
        elif number == 2:
            entry.shape = shape_of(content(value))
        elif number == 3:
            entry.shard = integer(value)
        elif number == 4:
            entry.offset = integer(value)
        elif number == 5:
            entry.size = integer(value)
        elif number == 6:
            entry.checksum = integer(value)
        elif number == 7:
            entry.slices.append(content(value))
    return entry


# V1


def table_tensors(path: str, told: str) -> dict[str, Array]:
    """The tensors of a single-file (V1) checkpoint by name; raises `WeightsError` if damaged."""
    try:
        with Path(path).open("rb") as file:
            return _slices_joined(entries(file))
    except _DAMAGE as error:
        raise WeightsError(
            f"{told} is no TensorFlow checkpoint, or is damaged: {error}; fetch it again"
        ) from error


def _slices_joined(table: Iterator[tuple[bytes, bytes]]) -> dict[str, Array]:
    metas: dict[str, Entry] = {}
    wholes: dict[str, Whole] = {}
    for key, message in table:
        parts = dict(fields(message))
        if not key:
            metas = dict(_metas(content(parts.get(1, b""))))
            refuse_too_large("it", sum(math.prod(entry.shape) for entry in metas.values()))
        elif 2 in parts:
            saved = dict(fields(content(parts[2])))
            name = content(saved[1]).decode()
            entry = metas[name]
            if entry.dtype not in DTYPES:
                continue
            wholes.setdefault(name, Whole(name, entry))
            extents = content(saved.get(2, b""))
            wholes[name].put(extents, from_proto(content(saved[3]), entry.dtype))
    numbers = {name: entry for name, entry in metas.items() if entry.dtype in DTYPES}
    missing = sorted(numbers.keys() - wholes.keys())
    if missing or not numbers:
        raise ValueError(f"it lacks {some(missing) or 'tensors of numbers'}")
    return {name: wholes[name].finished() for name in numbers}


def _metas(message: bytes) -> Iterator[tuple[str, Entry]]:
    """A SavedTensorSliceMeta: name, shape and type of every tensor."""
    for number, value in fields(message):
        if number == 1:
            meta = dict(fields(content(value)))
            shape = shape_of(content(meta.get(2, b"")))
            yield content(meta[1]).decode(), Entry(integer(meta.get(3, 0)), shape)
