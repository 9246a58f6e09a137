"""TensorFlow checkpoints read without TensorFlow; `weight_files/make_tensorflow.py` made them."""

import itertools
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from audioflow.weights import WeightsError, read_tensors
from audioflow.weights.crc32c import crc32c, unmasked
from audioflow.weights.sstable import entries
from audioflow.weights.tensorflow_slices import slice_key

FILES = Path(__file__).parent / "weight_files"
INDEX, DATA = "v2.ckpt.index", "v2.ckpt.data-00000-of-00001"


@pytest.fixture(scope="module")
def expected() -> dict[str, NDArray[Any]]:
    with np.load(FILES / "tensorflow.npz") as arrays:
        return {name.replace("|", "/"): array for name, array in arrays.items()}


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A copy of the V2 checkpoint; its prefix."""
    for name in (INDEX, DATA):
        shutil.copy(FILES / name, tmp_path)
    return tmp_path / "v2.ckpt"


def assert_same(found: dict[str, Any], expected: dict[str, NDArray[Any]]) -> None:
    assert sorted(found) == sorted(expected)
    for name, array in expected.items():
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape), name
        np.testing.assert_array_equal(found[name], array, err_msg=name)


def test_v2_by_prefix_by_index_and_by_folder(
    checkpoint: Path, expected: dict[str, NDArray[Any]]
) -> None:
    for path in (checkpoint, f"{checkpoint}.index", checkpoint.parent, f"{checkpoint.parent}/"):
        assert_same(read_tensors(str(path)), expected)


def test_v1_in_a_single_file(expected: dict[str, NDArray[Any]]) -> None:
    old = {name: array for name, array in expected.items() if name != "brain"}
    assert_same(read_tensors(str(FILES / "v1.ckpt")), old)


def test_a_file_name_that_is_only_a_suffix_as_musicnn_has_it(
    checkpoint: Path, tmp_path: Path, expected: dict[str, NDArray[Any]]
) -> None:
    folder = tmp_path / "MSD_musicnn"
    folder.mkdir()
    for name in (INDEX, DATA):
        shutil.copy(FILES / name, folder / name.removeprefix("v2.ckpt"))
    assert_same(read_tensors(str(folder)), expected)
    assert_same(read_tensors(str(folder / ".index")), expected)


def test_checkpoints_of_objects_lose_the_suffix_of_their_names() -> None:
    found = read_tensors(str(FILES / "objects"))
    with np.load(FILES / "keras2.npz") as values:
        np.testing.assert_array_equal(
            found["layer_with_weights-0/kernel"], values["conv|conv~kernel:0"]
        )
    assert "_CHECKPOINTABLE_OBJECT_GRAPH" not in found, "a text is no tensor"


def test_a_folder_of_several_checkpoints_gives_the_last_one_or_asks(
    checkpoint: Path, expected: dict[str, NDArray[Any]]
) -> None:
    folder = checkpoint.parent
    for suffix in ("index", "data-00000-of-00001"):
        shutil.copy(FILES / f"objects.{suffix}", folder)
    with pytest.raises(WeightsError, match=r"holds 2 checkpoints: objects, v2\.ckpt; name one"):
        read_tensors(str(folder))
    (folder / "checkpoint").write_text('model_checkpoint_path: "/home/other/v2.ckpt"\n')
    assert_same(read_tensors(str(folder)), expected)


def test_a_saved_model_gives_its_variables(
    tmp_path: Path, expected: dict[str, NDArray[Any]]
) -> None:
    (tmp_path / "variables").mkdir()
    for name in (INDEX, DATA):
        shutil.copy(FILES / name, tmp_path / "variables" / name.replace("v2.ckpt", "variables"))
    assert_same(read_tensors(str(tmp_path)), expected)


# Damage


def test_a_missing_part_is_named(checkpoint: Path) -> None:
    (checkpoint.parent / DATA).unlink()
    with pytest.raises(WeightsError, match=rf"v2\.ckpt is incomplete: .*{DATA} does not exist"):
        read_tensors(str(checkpoint))


def test_a_changed_number_is_found_by_its_checksum(checkpoint: Path) -> None:
    data = bytearray((checkpoint.parent / DATA).read_bytes())
    data[len(data) // 2] ^= 1
    (checkpoint.parent / DATA).write_bytes(data)
    with pytest.raises(WeightsError, match=r"v2\.ckpt .*damaged: \S+ does not have its checksum"):
        read_tensors(str(checkpoint))
    (checkpoint.parent / DATA).write_bytes(data[:100])
    with pytest.raises(WeightsError, match=r"has \d+ of \d+ bytes in .*data-00000-of-00001"):
        read_tensors(str(checkpoint))


@pytest.mark.parametrize("name", [INDEX, "v1.ckpt"])
def test_every_changed_byte_of_a_table_is_found(tmp_path: Path, name: str) -> None:
    content = (FILES / name).read_bytes()
    shutil.copy(FILES / DATA, tmp_path)
    unused = range(len(content) - 48, len(content) - 8)  # the footer has room for longer handles
    for at in range(0, len(content), 7):
        damaged = bytearray(content)
        damaged[at] ^= 0x55
        (tmp_path / name).write_bytes(damaged)
        if at not in unused:
            with pytest.raises(WeightsError, match=name.removesuffix(".index")):
                read_tensors(str(tmp_path / name))


# Parts


def test_crc32c_of_published_values() -> None:
    """RFC 3720, B.4, and the check value of the catalogue of CRC algorithms."""
    assert crc32c(b"123456789") == 0xE3069283
    assert crc32c(bytes(32)) == 0x8A9136AA
    assert crc32c(b"\xff" * 32) == 0x62A8AB43
    assert crc32c(bytes(range(32))) == 0x46DD794E
    assert crc32c(b"") == 0


@pytest.mark.parametrize("size", [4095, 4096, 8191, 8192, 8193, 50_000])
def test_crc32c_of_long_content_is_that_of_one_byte_after_the_other(size: int) -> None:
    data = np.random.default_rng(size).bytes(size)
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    assert crc32c(data) == crc ^ 0xFFFFFFFF


def table(blocks: list[bytes], kind: int) -> bytes:
    """A table of these blocks in a compression, each of one entry with the key `a`, `b`, ..."""

    def masked(data: bytes) -> bytes:
        crc = crc32c(data)
        return ((((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF).to_bytes(4, "little")

    def block(key: bytes, value: bytes) -> bytes:
        head = bytes([0, len(key), len(value)])
        return head + key + value + bytes(4) + (1).to_bytes(4, "little")

    def handle(offset: int, size: int) -> bytes:
        assert offset < 2**14
        assert size < 128
        return bytes([offset & 0x7F | 0x80, offset >> 7, size])

    out = b""
    index = b""
    for key, value in zip((b"a", b"b", b"c"), blocks, strict=False):
        data = block(key, value)
        if kind == 1:
            data = pa.compress(data, codec="snappy", asbytes=True)
        where = handle(len(out), len(data))
        index += bytes([0, 1, len(where)]) + key + where
        data += bytes([kind])
        out += data + masked(data)
    empty = bytes(4) + (1).to_bytes(4, "little") + b"\0"
    metadata = handle(len(out), len(empty) - 1)
    out += empty + masked(empty)
    index += empty
    where = handle(len(out), len(index) - 1)
    out += index + masked(index)
    return out + (metadata + where).ljust(40, b"\0") + 0xDB4775248B80FB57.to_bytes(8, "little")


@pytest.mark.parametrize("kind", [0, 1])
def test_tables_with_and_without_compression(tmp_path: Path, kind: int) -> None:
    (tmp_path / "table").write_bytes(table([b"first" * 10, b"second"], kind))
    with (tmp_path / "table").open("rb") as file:
        assert list(entries(file)) == [(b"a", b"first" * 10), (b"b", b"second")]


def test_an_unknown_compression_is_told(tmp_path: Path) -> None:
    (tmp_path / "table").write_bytes(table([b"x"], 7))
    with pytest.raises(WeightsError, match=r"table .*the unknown compression 7"):
        read_tensors(str(tmp_path / "table"))


def test_masks_are_taken_off() -> None:
    for crc in (0, 1, 0xFFFFFFFF, 0xE3069283):
        masked = (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF
        assert unmasked(masked) == crc


def test_keys_of_slices_sort_as_the_numbers_in_them() -> None:
    """Ordered code: the order of the bytes is that of (name, start, length)."""

    def varint(number: int) -> bytes:
        out = b""
        while number > 0x7F:
            out += bytes([number & 0x7F | 0x80])
            number >>= 7
        return out + bytes([number])

    def key(start: int, length: int) -> bytes:
        extent = b"\x08" + varint(start) + b"\x10" + varint(length)
        return slice_key(b"w", b"\x0a" + bytes([len(extent)]) + extent, 1)

    numbers = [0, 1, 63, 64, 65, 8191, 8192, 2**20, 2**27 - 1, 2**27, 2**34, 2**40]
    pairs = list(itertools.product(numbers, numbers))
    assert [key(*pair) for pair in pairs] == sorted(key(*pair) for pair in pairs)
    assert key(0, 24) == b"\x00w\x00\x01\x01\x01\x80\x98"
    assert len({key(*pair) for pair in pairs}) == len(pairs)
