"""A weight file that was made to do harm: nothing of it runs, and it takes no memory beyond reason.

Every file below would make the file `ran` if anything of it was run.
"""

import gzip
import io
import json
import os
import pickle
import pickletools
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from audioflow.weights import WeightsError, read_tensors
from audioflow.weights.faults import MOST_BYTES


class Reduced:
    """Pickles as a call of `function` with `arguments`."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


def npy(pickled: bytes) -> bytes:
    """A `.npy` whose object array is this pickle."""
    content = io.BytesIO()
    header = {"descr": "|O", "fortran_order": False, "shape": ()}
    np.lib.format.write_array_header_1_0(content, header)
    return content.getvalue() + pickled


def torch_zip(pickled: bytes) -> bytes:
    """A torch file whose state dict is this pickle."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("archive/data.pkl", pickled)
        archive.writestr("archive/version", "3\n")
        archive.writestr("archive/byteorder", "little")
    return content.getvalue()


def torch_old(pickled: bytes) -> bytes:
    """The older format: magic number, version, system, the object, no storages."""
    head = (0x1950A86A20F9469CFC6C, 1001, {"protocol_version": 1001, "little_endian": True})
    return b"".join(pickle.dumps(each, 2) for each in head) + pickled + pickle.dumps([], 2)


HOLDERS: dict[str, Callable[[bytes], bytes]] = {
    "sound8.npy": npy,
    "model.pth": torch_zip,
    "old.pth": torch_old,
    "weights.pkl": lambda pickled: pickled,
    "sound8.npy.gz": lambda pickled: gzip.compress(npy(pickled)),
}


@pytest.fixture
def ran(tmp_path: Path) -> Path:
    return tmp_path / "ran"


def refused(folder: Path, name: str, content: bytes, ran: Path) -> str:
    """What is told of a file that must be refused, having run nothing."""
    path = folder / name
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=name) as caught:
        read_tensors(str(path))
    assert not ran.exists()
    return str(caught.value)


def test_these_pickles_do_run_where_nothing_stops_them(ran: Path) -> None:
    pickle.loads(pickle.dumps(Reduced(os.system, f"touch {ran}")))
    assert ran.exists()


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("holder", HOLDERS)
@pytest.mark.parametrize("nested", [False, True])
def test_a_call_is_refused_in_every_protocol(
    tmp_path: Path, ran: Path, protocol: int, holder: str, nested: bool
) -> None:
    evil: Any = Reduced(os.system, f"touch {ran}")
    if nested:
        evil = {"state_dict": {"conv": {"weight": np.ones(3), "bias": evil}}}
    told = refused(tmp_path, holder, HOLDERS[holder](pickle.dumps(evil, protocol)), ran)
    if protocol in (2, 3) and holder != "weights.pkl":
        assert "system" in told or nested


CALLS: dict[str, Callable[[Path], Any]] = {
    "os.system": lambda ran: Reduced(os.system, f"touch {ran}"),
    "subprocess.Popen": lambda ran: Reduced(subprocess.Popen, ["touch", str(ran)]),
    "builtins.eval": lambda ran: Reduced(eval, f"open({str(ran)!r}, 'w')"),
    "builtins.open": lambda ran: Reduced(open, str(ran), "w"),
    "builtins.getattr": lambda ran: Reduced(getattr, ran, "touch"),
    "numpy.load": lambda ran: Reduced(np.load, str(ran)),
    "numpy.savetxt": lambda ran: Reduced(np.savetxt, str(ran), [1.0]),
    "pathlib.PosixPath": Path,
}


@pytest.mark.parametrize("holder", HOLDERS)
@pytest.mark.parametrize("call", CALLS)
def test_no_other_function_is_called(tmp_path: Path, ran: Path, call: str, holder: str) -> None:
    content = HOLDERS[holder](pickle.dumps({"a": CALLS[call](ran)}, 2))
    refused(tmp_path, holder, content, ran)


def line(module: str, name: str) -> bytes:
    return f"c{module}\n{name}\n".encode()


def short(text: str) -> bytes:
    return b"\x8c" + bytes([len(text)]) + text.encode()


HOSTILE_ARRAY_CLASS = (
    line("numpy.core.multiarray", "_reconstruct") + line("os", "system") + b"K\x00\x85U\x01b\x87R"
)


@pytest.mark.parametrize("holder", ["sound8.npy", "weights.pkl", "model.pth"])
@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("GLOBAL", line("os", "system") + b"U\x08touch %s\x85R"),
        ("GLOBAL posix", line("posix", "system") + b"(U\x08touch %stR"),
        ("STACK_GLOBAL", short("os") + short("system") + b"\x93U\x08touch %s\x85R"),
        ("INST", b"(U\x08touch %sios\nsystem\n"),
        ("OBJ", b"(" + line("os", "system") + b"U\x08touch %so"),
        ("NEWOBJ", line("subprocess", "Popen") + b"U\x08touch %s\x85\x81"),
        ("NEWOBJ_EX", line("subprocess", "Popen") + b"U\x08touch %s\x85}\x92"),
        ("BUILD", line("numpy", "ndarray") + line("os", "system") + b"}b"),
        ("EXT1", b"\x82\x01"),
        ("PERSID", b"Pos.system\n"),
        ("BINPERSID", b"U\x02osQ"),
        ("dotted", b"\x80\x04" + short("numpy") + short("f2py.os.system") + b"\x93)R"),
        ("numpy.f2py", line("numpy.f2py.crackfortran", "myeval") + b"U\x081+1     \x85R"),
        ("numpy.testing", line("numpy.testing._private.utils", "runstring") + b"U\x01a}\x86R"),
        ("numpy.distutils", line("numpy.distutils.exec_command", "exec_command") + b"U\x01a\x85R"),
        ("hostile class", HOSTILE_ARRAY_CLASS),
        ("lookalike", line("numpy.core.multiarray.os", "system") + b"U\x08touch %s\x85R"),
        ("lookalike name", line("numpy.core.multiarray", "_reconstruct.__globals__") + b")R"),
        ("getattr", line("builtins", "getattr") + line("os", "system") + b"U\x01a\x86R"),
        ("__builtin__", line("__builtin__", "eval") + b"U\x031+1\x85R"),
        ("codecs", line("_codecs", "decode") + b"U\x03abcU\x05rot13\x86R"),
        ("torch hub", line("torch.hub", "load") + b"U\x01aU\x01b\x86R"),
        ("torch load", line("torch.serialization", "load") + b"U\x01a\x85R"),
        ("stand-in state", line("numpy", "dtype") + b"}b"),
        ("dict state", line("collections", "OrderedDict") + b"}U\x04evilK\x01sb"),
    ],
)
def test_every_instruction_that_could_reach_code(
    tmp_path: Path, ran: Path, holder: str, name: str, body: bytes
) -> None:
    command = f"touch {ran}".encode()
    body = body.replace(b"U\x08touch %s", b"U" + bytes([len(command)]) + command)
    pickled = b"\x80\x02}U\x01a" + body + b"s."
    refused(tmp_path, holder, HOLDERS[holder](pickled), ran)


def test_reading_a_hostile_pickle_changes_none_of_our_classes(tmp_path: Path, ran: Path) -> None:
    from audioflow.weights import pickled

    before = {name: dict(vars(each)) for name, each in pickled.ARRAY_GLOBALS.items()}
    for module, name in (each.rsplit(".", 1) for each in pickled.ARRAY_GLOBALS):
        for state in (b"}U\x07contentK\x01s", b"}}U\x0d__setstate__K\x01s\x86"):
            body = b"\x80\x02" + line(module, name) + state + b"b."
            refused(tmp_path, "weights.pkl", body, ran)
    assert {name: dict(vars(each)) for name, each in pickled.ARRAY_GLOBALS.items()} == before


@pytest.mark.parametrize("holder", ["sound8.npy", "weights.pkl", "model.pth"])
@pytest.mark.parametrize(
    "array",
    [
        np.array([{}, 1], object),
        np.array(["a", "bc"]),
        np.zeros(2, [("x", "f4"), ("y", "i4")]),
        np.array(["2020-01-01"], "M8[D]"),
        np.zeros(2, "V8"),
    ],
)
def test_arrays_of_anything_but_numbers_are_refused(
    tmp_path: Path, ran: Path, holder: str, array: Any
) -> None:
    content = HOLDERS[holder](pickle.dumps({"a": array}, 2))
    told = refused(tmp_path, holder, content, ran)
    assert "Python objects" in told or "no plain number" in told or "no array" in told


def test_another_class_of_array_is_refused_by_name(tmp_path: Path, ran: Path) -> None:
    made = line("numpy.core.multiarray", "_reconstruct") + line("numpy", "matrix")
    content = npy(b"\x80\x02}U\x01a" + made + b"K\x00\x85U\x01b\x87Rs.")
    told = refused(tmp_path, "sound8.npy", content, ran)
    assert "it names 'numpy.matrix', which is no array; nothing of it was run" in told


def test_a_model_saved_as_a_whole_is_refused_with_the_way_out(tmp_path: Path) -> None:
    torch.save(torch.nn.Linear(2, 2), tmp_path / "whole.pt")
    with pytest.raises(WeightsError, match=r"whole\.pt.*torch\.nn.*Linear.*model\.state_dict\(\)"):
        read_tensors(str(tmp_path / "whole.pt"))


def test_a_torchscript_program_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.pt", "w") as archive:
        for name in ("data.pkl", "constants.pkl", "code/__torch__.py"):
            archive.writestr(f"a/{name}", b"")
    with pytest.raises(WeightsError, match=r"a\.pt is a TorchScript program"):
        read_tensors(str(tmp_path / "a.pt"))


# Bombs: read in a process of its own


def array_pickle(shape: bytes, data: bytes) -> bytes:
    dtype = line("numpy", "dtype") + b"U\x02f4K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xff"
    dtype += b"J\xff\xff\xff\xffK\x00tb"
    made = line("numpy.core.multiarray", "_reconstruct") + line("numpy", "ndarray")
    return made + b"K\x00\x85U\x01b\x87R(K\x01" + shape + dtype + b"\x89" + data + b"tb"


def web(depth: int) -> bytes:
    """Lists that hold the list before twice: 2^depth leaves in a few bytes."""
    body = b"]K\x01a"
    for number in range(depth):
        memo = bytes([number])
        body += b"q" + memo + b"0]h" + memo + b"ah" + memo + b"a"
    return b"\x80\x02}U\x01a" + body + b"s."


def huge_npy() -> bytes:
    content = io.BytesIO()
    header = {"descr": "<f4", "fortran_order": False, "shape": (2**40,)}
    np.lib.format.write_array_header_1_0(content, header)
    return content.getvalue()


def torch_view() -> bytes:
    """One number, seen as 2^40 by strides of zero."""
    content = io.BytesIO()
    torch.save({"a": torch.zeros(1).expand(2**20, 2**20)}, content)
    return content.getvalue()


def safetensors_claim() -> bytes:
    size = 2**40
    head = b'{"a":{"dtype":"F32","shape":[%d],"data_offsets":[0,%d]}}' % (size // 4, size)
    return struct.pack("<Q", len(head)) + head


def zip_of_zeros() -> bytes:
    """An archive whose directory claims 4 GB for what is a thousand bytes."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.npy", bytes(1000))
    data = bytearray(content.getvalue())
    at = data.rindex(b"PK\x01\x02")
    data[at + 24 : at + 28] = struct.pack("<I", 0xFFFFFFFE)
    return bytes(data)


def shaped(shape: bytes) -> bytes:
    """An array of this shape with four bytes."""
    return npy(b"\x80\x02}U\x01a" + array_pickle(shape, b"U\x04abcd") + b"s.")


BOMBS: dict[str, tuple[Callable[[], bytes], str]] = {
    "shape.npy": (lambda: shaped(b"\x8a\x06" + bytes(5) + b"\x01\x85"), "claims to hold"),
    "negative.npy": (lambda: shaped(b"J\xff\xff\xff\xff\x85"), "no shape"),
    "memo.pkl": (lambda: b"\x80\x02}r\xff\xff\xff\x7f.", "no tensors"),
    "string.pkl": (lambda: b"\x80\x04}\x8e" + struct.pack("<Q", 2**40) + b"a", "refused"),
    "frame.pkl": (lambda: b"\x80\x04\x95" + struct.pack("<Q", 2**60) + b"}.", "no tensors"),
    "web.npy": (lambda: npy(web(25)), "more than 1000000 items"),
    "deep.pkl": (lambda: b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b".", "nested deeper"),
    "key.pkl": (lambda: b"\x80\x02})" + b"\x85" * 200_000 + b"K\x01s.", "no name"),
    "huge.npy": (huge_npy, "claims to hold"),
    "view.pth": (torch_view, "claims to hold"),
    "claim.safetensors": (safetensors_claim, "no safetensors file, or is damaged"),
    "zeros.npz": (zip_of_zeros, "damaged"),
}


@pytest.fixture(scope="module")
def told_of_bombs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a process says that reads all of them, and the most memory it took, in megabytes.

    It may take 4 GB of address space beside what the libraries have.
    """
    folder = tmp_path_factory.mktemp("bombs")
    for name, (make, _) in BOMBS.items():
        (folder / name).write_bytes(make())
    code = (
        "import json, pathlib, resource, sys, torch, h5py, numpy\n"
        "from audioflow.weights import read_tensors, WeightsError\n"
        "used = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (used + 4 * 2**30,) * 2)\n"
        "told = {}\n"
        "for path in sorted(pathlib.Path(sys.argv[1]).iterdir()):\n"
        "    try: told[path.name] = str(len(read_tensors(str(path))))\n"
        "    except WeightsError as error: told[path.name] = str(error)\n"
        "status = open('/proc/self/status').read()\n"
        "told['megabytes'] = int(status.split('VmHWM:')[1].split()[0]) // 1000\n"
        "print(json.dumps(told))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused(told_of_bombs: dict[str, Any], name: str) -> None:
    assert name in told_of_bombs[name]
    assert BOMBS[name][1] in told_of_bombs[name]


def test_bombs_take_no_memory(told_of_bombs: dict[str, Any]) -> None:
    assert told_of_bombs["megabytes"] < 1500


def test_a_zip_that_claims_too_much_is_refused_unopened(tmp_path: Path) -> None:
    path = tmp_path / "claims.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(5):
            archive.writestr(f"{number}.npy", bytes(100))
    changed = bytearray(path.read_bytes())
    at = -1
    while (at := changed.find(b"PK\x01\x02", at + 1)) >= 0:
        changed[at + 24 : at + 28] = struct.pack("<I", 0xFFFFFFF0)
    path.write_bytes(changed)
    with pytest.raises(WeightsError, match=rf"to hold 214748\d+ bytes.*at most {MOST_BYTES}"):
        read_tensors(str(path))


def test_a_gzip_of_zeros_stops_at_the_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("audioflow.weights.faults.MOST_BYTES", 10 * 2**20)
    path = tmp_path / "zeros.h5.gz"
    path.write_bytes(gzip.compress(bytes(64 * 2**20)))
    with pytest.raises(WeightsError, match=r"zeros\.h5\.gz claims to hold 11534336 bytes"):
        read_tensors(str(path))


# HDF5


def test_hdf5_that_leads_to_other_files_is_refused(tmp_path: Path) -> None:
    import h5py

    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["layer/kernel"] = np.arange(3.0)
    (tmp_path / "secret.bin").write_bytes(bytes(24))

    def lead(name: str, make: Callable[[Any], Any]) -> Path:
        with h5py.File(tmp_path / name, "w") as file:
            file.attrs["layer_names"] = [b"layer"]
            group = file.create_group("layer")
            group.attrs["weight_names"] = [b"kernel"]
            make(group)
        return tmp_path / name

    def link(group: Any) -> None:
        group["kernel"] = h5py.ExternalLink(str(tmp_path / "secret.h5"), "/layer/kernel")

    def raw(group: Any) -> None:
        where = [(str(tmp_path / "secret.bin"), 0, 24)]
        group.create_dataset("kernel", (3,), "f8", external=where)

    def virtual(group: Any) -> None:
        layout = h5py.VirtualLayout((3,), "f8")
        layout[:] = h5py.VirtualSource(str(tmp_path / "secret.h5"), "layer/kernel", (3,))
        group.create_virtual_dataset("kernel", layout)

    for name, make in (("link.h5", link), ("raw.h5", raw), ("virtual.h5", virtual)):
        with pytest.raises(WeightsError, match=rf"{name} leads to other files at .*kernel"):
            read_tensors(str(lead(name, make)))


def test_hdf5_that_claims_too_much_or_no_numbers(tmp_path: Path) -> None:
    import h5py

    with h5py.File(tmp_path / "large.h5", "w") as file:
        file.create_dataset("a", (2**32, 2**8), "f4", chunks=True, compression="gzip")
    with pytest.raises(WeightsError, match=r"large\.h5 claims to hold 4398046511104 bytes"):
        read_tensors(str(tmp_path / "large.h5"))
    with h5py.File(tmp_path / "text.h5", "w") as file:
        file["a"] = "text"
    with pytest.raises(WeightsError, match=r"text\.h5 is HDF5 without any numbers"):
        read_tensors(str(tmp_path / "text.h5"))


def test_the_hostile_pickles_above_are_whole() -> None:
    """A pickle that is refused because it is damaged would prove nothing."""
    for make in (lambda: web(5), lambda: pickle.dumps(Reduced(os.system, "a"), 0)):
        assert list(pickletools.genops(make()))
