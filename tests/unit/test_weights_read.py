"""Weight files of every format, read without the framework that wrote them."""

import collections
import gzip
import io
import pickle
import shutil
import struct
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from audioflow.weights import WeightsError, read_tensors

FILES = Path(__file__).parent / "weight_files"
Arrays = dict[str, NDArray[Any]]

KERAS_NAMES = [
    *("conv/kernel", "conv/bias", "bn/gamma", "bn/beta", "bn/moving_mean", "bn/moving_variance"),
    *("dense/kernel", "dense/bias", "inner/inner_dense/kernel", "inner/inner_dense/bias"),
]


@pytest.fixture
def arrays() -> Arrays:
    rng = np.random.default_rng(0)
    return {
        "conv.weight": rng.standard_normal((3, 2, 5)).astype(np.float32),
        "conv.bias": rng.standard_normal(3).astype(np.float16),
        "wide": rng.standard_normal((4, 4)),
        "steps": np.array(7, np.int64),
        "bytes": np.array([0, 255], np.uint8),
        "empty": np.zeros((0, 3), np.float32),
    }


def assert_same(found: Arrays, expected: Arrays) -> None:
    assert sorted(found) == sorted(expected)
    for name, array in expected.items():
        assert found[name].dtype == array.dtype, name
        np.testing.assert_array_equal(found[name], array, err_msg=name)


def as_tensors(arrays: Arrays) -> dict[str, Any]:
    return {name: torch.from_numpy(array.copy()) for name, array in arrays.items()}


# torch, safetensors, NumPy


@pytest.mark.parametrize("new_format", [True, False])
@pytest.mark.parametrize("name", ["a.pth", "a.pt", "a.pth.tar", "a.ckpt", "weights"])
def test_torch_files_are_known_by_content(
    arrays: Arrays, tmp_path: Path, name: str, new_format: bool
) -> None:
    path = tmp_path / name
    torch.save(as_tensors(arrays), path, _use_new_zipfile_serialization=new_format)
    assert_same(read_tensors(str(path)), arrays)


@pytest.mark.parametrize("suffix", [".safetensors", ".bin", ""])
def test_safetensors_are_known_by_content(arrays: Arrays, tmp_path: Path, suffix: str) -> None:
    from safetensors.numpy import save_file

    path = tmp_path / f"model{suffix}"
    save_file(arrays, path)
    assert_same(read_tensors(str(path)), arrays)


def test_npz_and_npy_of_numbers(arrays: Arrays, tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", **arrays)
    np.savez_compressed(tmp_path / "b.npz", **arrays)
    np.save(tmp_path / "c.npy", arrays["wide"].T)
    assert_same(read_tensors(str(tmp_path / "a.npz")), arrays)
    assert_same(read_tensors(str(tmp_path / "b.npz")), arrays)
    assert_same(read_tensors(str(tmp_path / "c.npy")), {"array": arrays["wide"].T})


@pytest.mark.parametrize("kind", ["pth", "safetensors", "npz", "npy", "pkl"])
def test_any_of_them_may_be_compressed(arrays: Arrays, tmp_path: Path, kind: str) -> None:
    from safetensors.numpy import save

    content = io.BytesIO()
    if kind == "pth":
        torch.save(as_tensors(arrays), content)
    elif kind == "npz":
        np.savez(content, **arrays)
    elif kind == "npy":
        np.save(content, arrays, allow_pickle=True)  # type: ignore[arg-type]
    else:
        content.write(save(arrays) if kind == "safetensors" else pickle.dumps(arrays))
    path = tmp_path / f"weights.{kind}.gz"
    path.write_bytes(gzip.compress(content.getvalue()))
    assert_same(read_tensors(str(path)), arrays)


def test_brain_floats_come_as_float32(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    values = torch.tensor([1.0, -2.5, 3.140625, 65280.0])
    torch.save({"x": values.bfloat16()}, tmp_path / "a.pth")
    save_file({"x": values.bfloat16(), "y": values}, tmp_path / "a.safetensors")
    for name in ("a.pth", "a.safetensors"):
        found = read_tensors(str(tmp_path / name))["x"]
        assert found.dtype == np.float32
        assert found.tolist() == [1.0, -2.5, 3.140625, 65280.0]


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: {"state_dict": state, "epoch": 3, "best": torch.tensor(0.5)},
        lambda state: {"model": state, "optimizer": {"state": {0: {"exp_avg": torch.ones(9)}}}},
        lambda state: {"net": {"state_dict": state}},
        lambda state: {"model_state_dict": state, "model": "resnet"},
        lambda state: {"weight": collections.OrderedDict(state), "config": [1, 2]},
        lambda state: {f"module.{name}": tensor for name, tensor in state.items()},
        lambda state: {
            "state_dict": {f"module._orig_mod.{name}": tensor for name, tensor in state.items()}
        },
    ],
)
def test_the_network_is_found_inside_a_checkpoint(
    arrays: Arrays, tmp_path: Path, wrap: Any
) -> None:
    torch.save(wrap(as_tensors(arrays)), tmp_path / "a.ckpt")
    assert_same(read_tensors(str(tmp_path / "a.ckpt")), arrays)


def test_a_prefix_that_only_some_names_have_stays(tmp_path: Path) -> None:
    torch.save({"module.a": torch.ones(1), "b": torch.ones(1)}, tmp_path / "a.pth")
    assert sorted(read_tensors(str(tmp_path / "a.pth"))) == ["b", "module.a"]


@pytest.mark.parametrize("new_format", [True, False])
def test_numpy_arrays_inside_a_torch_file_as_vggish_pca_has_them(
    tmp_path: Path, new_format: bool
) -> None:
    vectors = np.random.default_rng(1).standard_normal((8, 8))
    saved = {"pca_eigen_vectors": vectors.T, "pca_means": vectors[0].astype(np.float32)}
    torch.save(saved, tmp_path / "pca.pth", _use_new_zipfile_serialization=new_format)
    assert_same(read_tensors(str(tmp_path / "pca.pth")), saved)


def test_parameters_and_views_of_a_shared_storage(tmp_path: Path) -> None:
    whole = torch.arange(12.0)
    saved = {"a": torch.nn.Parameter(whole[:6].reshape(2, 3).T), "b": whole[6:]}
    torch.save(saved, tmp_path / "a.pth")
    expected = {"a": np.array([[0, 3], [1, 4], [2, 5]], np.float32)}
    assert_same(
        read_tensors(str(tmp_path / "a.pth")), expected | {"b": np.arange(6, 12).astype("f4")}
    )


# SoundNet: np.save of a dictionary, by Python 2


def text(value: str) -> bytes:
    """A string of Python 2 in a pickle."""
    data = value.encode("latin1")
    if len(data) < 256:
        return b"U" + bytes([len(data)]) + data
    return b"T" + struct.pack("<I", len(data)) + data


def python2_array(array: NDArray[Any]) -> bytes:
    """As Python 2 pickles an array: bytes as a string, `long`, counts as booleans."""
    kind = array.dtype.str
    shape = b"(" + b"".join(b"J" + struct.pack("<i", size) for size in array.shape) + b"t"
    dtype = b"cnumpy\ndtype\n" + text(kind[1:]) + b"K\x00K\x01\x87R"
    order = b"|" if kind[0] == "|" else kind[0].encode()
    dtype += b"(K\x03U\x01" + order + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    fortran = array.flags.f_contiguous and not array.flags.c_contiguous
    data = array.tobytes("F" if fortran else "C").decode("latin1")
    made = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
    flag = b"\x88" if fortran else b"\x89"
    return made + b"(K\x01" + shape + dtype + flag + text(data) + b"tb"


def python2_npy(nested: dict[str, dict[str, NDArray[Any]]]) -> bytes:
    """`np.save` of a dictionary of dictionaries, as NumPy 1.x of Python 2 wrote it."""
    inner = b"".join(
        text(layer) + b"}(" + b"".join(text(n) + python2_array(a) for n, a in each.items()) + b"u"
        for layer, each in nested.items()
    )
    dtype = b"cnumpy\ndtype\nU\x02O8K\x00K\x01\x87R"
    dtype += b"(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK?tb"
    made = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
    body = b"\x80\x02" + made + b"(K\x01)" + dtype + b"\x89]}(" + inner + b"uatb."
    header = "{'descr': '|O', 'fortran_order': False, 'shape': (), }"
    header = header.ljust(128 - 11) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() + body


@pytest.fixture
def soundnet() -> dict[str, dict[str, NDArray[Any]]]:
    rng = np.random.default_rng(2)
    return {
        "conv1": {
            "weights": rng.standard_normal((64, 1, 1, 16)).astype(np.float32),
            "biases": rng.standard_normal(16).astype(np.float32),
            "mean": rng.standard_normal(16).astype(">f4"),
        },
        "conv8_2": {"weights": np.asfortranarray(rng.standard_normal((8, 1, 4, 5)))},
    }


def test_soundnets_pickle_of_python_2(soundnet: Any, tmp_path: Path) -> None:
    path = tmp_path / "sound8.npy"
    path.write_bytes(python2_npy(soundnet))
    theirs = np.load(path, allow_pickle=True, encoding="latin1").item()
    assert theirs["conv1"]["weights"].shape == (64, 1, 1, 16), "the file is as NumPy reads it"
    found = read_tensors(str(path))
    assert sorted(found) == ["conv1.biases", "conv1.mean", "conv1.weights", "conv8_2.weights"]
    for name, array in found.items():
        layer, weight = name.split(".")
        np.testing.assert_array_equal(array, soundnet[layer][weight])
        assert array.dtype.isnative


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_pickles_of_arrays_in_every_protocol(soundnet: Any, tmp_path: Path, protocol: int) -> None:
    saved = collections.OrderedDict(soundnet | {"scale": {"x": np.float64(2.5), "flag": True}})
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(saved, protocol))
    found = read_tensors(str(tmp_path / "a.pkl"))
    assert found["scale.x"].tolist() == 2.5
    for name, array in found.items():
        layer, weight = name.split(".")
        np.testing.assert_array_equal(array, saved[layer][weight])
    assert len(found) == 5


def test_what_numpy_saves_today(soundnet: Any, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", soundnet, allow_pickle=True)
    found = read_tensors(str(tmp_path / "a.npy"))
    np.testing.assert_array_equal(found["conv8_2.weights"], soundnet["conv8_2"]["weights"])


# Keras


@pytest.mark.parametrize(
    ("file", "values"), [("keras2.h5.gz", "keras2.npz"), ("keras3_model.h5.gz", "keras3.npz")]
)
def test_keras_files_give_layer_and_weight(file: str, values: str) -> None:
    found = read_tensors(str(FILES / file))
    with np.load(FILES / values) as expected:
        assert_same(found, dict(zip(KERAS_NAMES, expected.values(), strict=True)))


@pytest.mark.parametrize("file", ["keras3.weights.h5.gz", "keras3.keras.gz"])
def test_keras_files_without_names_give_numbers(file: str) -> None:
    found = read_tensors(str(FILES / file))
    with np.load(FILES / "keras3.npz") as expected:
        np.testing.assert_array_equal(found["conv2d/0"], expected["conv|net~conv~kernel"])
        np.testing.assert_array_equal(
            found["batch_normalization/3"], expected["bn|net~bn~moving_variance"]
        )
    assert len(found) == 10


@pytest.mark.parametrize(
    ("layer", "weight", "expected"),
    [
        ("conv2d_1", "conv2d_1/kernel:0", "conv2d_1/kernel"),
        ("conv2d_1", "conv2d_1_2/kernel:0", "conv2d_1/kernel"),
        ("conv2d_1", "conv2d_1/conv2d_1/bias:0", "conv2d_1/bias"),
        ("conv2d_1", "model/conv2d_1/bias", "conv2d_1/bias"),
        ("model_1", "conv2d/kernel:0", "model_1/conv2d/kernel"),
        ("conv2d", "kernel:0", "conv2d/kernel"),
        ("conv2d", "conv2d_1/kernel:0", "conv2d/kernel"),
        ("melspectrogram_1", "melspectrogram_1/Variable:0", "melspectrogram_1/Variable"),
    ],
)
def test_names_of_keras_weights(layer: str, weight: str, expected: str) -> None:
    from audioflow.weights.keras_files import layer_and_weight

    assert layer_and_weight(layer, weight) == expected


def test_keras_names_that_would_fall_together_stay_apart(tmp_path: Path) -> None:
    import h5py

    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.attrs["layer_names"] = [b"rnn"]
        group = file.create_group("rnn")
        group.attrs["weight_names"] = [b"rnn/kernel:0", b"rnn_1/kernel:0"]
        group["rnn/kernel:0"], group["rnn_1/kernel:0"] = np.ones(2), np.zeros(2)
    found = read_tensors(str(tmp_path / "a.h5"))
    assert {name: array.tolist() for name, array in found.items()} == {
        "rnn/rnn/kernel": [1, 1],
        "rnn/rnn_1/kernel": [0, 0],
    }


# Real files


@pytest.mark.parametrize(
    ("file", "count", "name", "shape"),
    [
        ("edgel3_sea_ust_audio_emb_64.h5.gz", 55, "conv2d_7/kernel", (3, 3, 128, 64)),
        ("micro_acdnet_pruned_trained_fold4_86.00.pt", 74, "sfeb.0.weight", (7, 1, 1, 9)),
        ("mtat_musicnn.pth", 72, "spec_bn.weight", (1,)),
        ("mtat_fcn.pth", 44, "spec.mel_scale.fb", (257, 96)),
        ("vggish_pca_params.npz", 2, "pca_eigen_vectors", (128, 128)),
    ],
)
def test_real_weight_files(
    shared_data: Path, file: str, count: int, name: str, shape: tuple[int, ...]
) -> None:
    found = read_tensors(str(shared_data / "weights" / file))
    assert len(found) == count
    assert found[name].shape == shape
    assert all(np.isfinite(array).all() for array in found.values())


@pytest.mark.parametrize(
    ("file", "hint"),
    [
        ("yamnet_spectra_in.tflite", "TFLite model, which the backbone litert runs"),
        ("yamnet_class_map.csv", r"no weight file of a known format \(it begins with b'index"),
        ("silero_vad.onnx", "no weight file of a known format"),
    ],
)
def test_real_files_of_another_kind_are_named(shared_data: Path, file: str, hint: str) -> None:
    with pytest.raises(WeightsError, match=f"{file} is .*{hint}.*; expected safetensors, torch"):
        read_tensors(str(shared_data / "weights" / file))


# Damage


def whole_files(folder: Path) -> dict[str, Path]:
    from safetensors.numpy import save_file

    values = {"a": np.arange(4000, dtype=np.float32), "b": np.ones((3, 3))}
    torch.save(as_tensors(values), folder / "new.pth")
    torch.save(as_tensors(values), folder / "old.pth", _use_new_zipfile_serialization=False)
    save_file(values, folder / "a.safetensors")
    np.savez(folder / "a.npz", **values)
    np.save(folder / "plain.npy", values["a"])
    np.save(folder / "pickled.npy", values, allow_pickle=True)  # type: ignore[arg-type]
    (folder / "keras.h5").write_bytes(gzip.decompress((FILES / "keras2.h5.gz").read_bytes()))
    shutil.copy(FILES / "keras2.h5.gz", folder)
    shutil.copy(FILES / "v1.ckpt", folder)
    return {path.name: path for path in folder.iterdir()}


KINDS = (
    "new.pth old.pth a.safetensors a.npz plain.npy pickled.npy keras.h5 keras2.h5.gz v1.ckpt"
).split()


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_that_is_cut_short_is_refused_by_name(tmp_path: Path, kind: str) -> None:
    path = whole_files(tmp_path)[kind]
    content = path.read_bytes()
    for share in (0.02, 0.3, 0.6, 0.99):
        path.write_bytes(content[: int(len(content) * share)])
        with pytest.raises(WeightsError, match=f"{kind} "):
            read_tensors(str(path))


@pytest.mark.parametrize("kind", KINDS)
def test_changed_bytes_give_an_error_or_the_same_tensors(tmp_path: Path, kind: str) -> None:
    path = whole_files(tmp_path)[kind]
    names = set(read_tensors(str(path)))
    content = bytearray(path.read_bytes())
    rng = np.random.default_rng(3)
    refused = []
    for _ in range(60):
        damaged = bytearray(content)
        start = int(rng.integers(0, len(content)))
        damaged[start : start + 8] = rng.bytes(len(damaged[start : start + 8]))
        path.write_bytes(damaged)
        try:
            assert names & set(read_tensors(str(path))) or kind == "old.pth"
        except WeightsError as error:
            refused.append(str(error))
    assert all(kind in text for text in refused)
    assert refused or kind in UNCHECKED


UNCHECKED = ("new.pth", "a.safetensors", "plain.npy")
"""Formats that have nothing to find damage by within the numbers."""


def test_missing_and_foreign_files_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"absent\.pth cannot be read: No such file"):
        read_tensors(str(tmp_path / "absent.pth"))
    for content, what in (
        (b"", "is empty"),
        (b"<!DOCTYPE html><html>", "a page or message of a server"),
        (b'{"message": "Not Found"}', "a page or message of a server"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b"\x04\x00\x00\x00\x01\x00\x00\x00\x03", "Torch 7"),
    ):
        (tmp_path / "file.pth").write_bytes(content)
        with pytest.raises(WeightsError, match=rf"file\.pth is .*{what}|{what}"):
            read_tensors(str(tmp_path / "file.pth"))


def test_files_without_tensors_say_what_they_hold(tmp_path: Path) -> None:
    torch.save({"epoch": 3, "args": ["a"]}, tmp_path / "a.pth")
    with pytest.raises(WeightsError, match=r"a\.pth holds no tensors.*found the keys epoch, args"):
        read_tensors(str(tmp_path / "a.pth"))
    with pytest.raises(WeightsError, match=r"is a folder without a TensorFlow.*found a\.pth"):
        read_tensors(str(tmp_path))
    np.savez(tmp_path / "o.npz", x=np.array([{}], object))
    with pytest.raises(WeightsError, match=r"o\.npz holds Python objects at 'x', expected numbers"):
        read_tensors(str(tmp_path / "o.npz"))
    with zipfile.ZipFile(tmp_path / "z.zip", "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(WeightsError, match=r"z\.zip is a zip archive of readme\.txt"):
        read_tensors(str(tmp_path / "z.zip"))


def test_importing_the_readers_needs_no_torch_and_no_h5py() -> None:
    code = (
        "import sys, audioflow.weights, audioflow.weights.read, audioflow.weights.fetch\n"
        "print([name for name in ('torch', 'h5py', 'safetensors', 's3fs') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
