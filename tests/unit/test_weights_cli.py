"""`audioflow weights`, as a person types it."""

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from audioflow import weights_cli
from audioflow.backbones import BACKBONES
from audioflow.registry import Registry, Settings
from audioflow.weights import KnownWeights, WeightsName, read_tensors
from audioflow.weights.store import place
from tests.unit.weights_server import WeightsServer

FILES = Path(__file__).parent / "weight_files"
DATA = bytes(range(256)) * 800
SHA256 = hashlib.sha256(DATA).hexdigest()


class Net:
    """A backbone with two files, one of which its settings begin with."""

    class Settings(Settings):
        weights: WeightsName = "small"

    known: tuple[KnownWeights, ...] = ()


class Bare:
    """A backbone without weights."""

    Settings = Settings
    known = ()


@pytest.fixture
def server() -> Iterator[WeightsServer]:
    with WeightsServer(DATA) as running:
        yield running


@pytest.fixture(autouse=True)
def backbones(
    server: WeightsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[KnownWeights, KnownWeights]:
    monkeypatch.setenv("AUDIOFLOW_WEIGHTS", str(tmp_path / "store"))
    small = KnownWeights(
        "small", server.url, "MIT", "A. Author 2020", sha256=SHA256, size_bytes=len(DATA),
        note="From the first release.",
    )  # fmt: skip
    large = KnownWeights("large", server.url + ".large", "CC BY-NC 4.0", "B. Author")
    monkeypatch.setattr(Net, "known", (small, large))
    registry = Registry(
        "backbone",
        {
            "net": f"{__name__}:Net",
            "bare": f"{__name__}:Bare",
            "absent": "audioflow_needs_this_package.that:Absent",
        },
    )
    monkeypatch.setattr(weights_cli, "BACKBONES", registry)
    return small, large


def run(*arguments: str) -> tuple[int, str, str]:
    done = CliRunner().invoke(weights_cli.app, list(arguments), env={"COLUMNS": "300"})
    return done.exit_code, done.stdout, done.stderr


def test_list_shows_what_there_is_and_what_is_here(
    backbones: tuple[KnownWeights, KnownWeights], tmp_path: Path
) -> None:
    run("fetch", "net/small")
    code, out, _ = run("list")
    assert code == 0
    lines = [line.split() for line in out.splitlines()]
    assert lines[0] == ["weights", "size", "here", "from", "licence"]
    assert lines[1] == ["net/small", "0.2", "MB", "yes", backbones[0].url, "MIT"]
    assert lines[2] == ["net/large", "?", "no", backbones[1].url, "CC", "BY-NC", "4.0"]
    assert (
        "'absent' needs the package 'audioflow_needs_this_package', which is not installed" in out
    )
    place(backbones[0]).write_bytes(b"x")
    found = json.loads(run("list", "net", "--json")[1])
    assert found["not_installed"] == {}
    assert [(each["backbone"], each["name"], each["here"]) for each in found["weights"]] == [
        ("net", "small", "damaged"),
        ("net", "large", "no"),
    ]
    assert found["weights"][0]["citation"] == "A. Author 2020"


def test_list_of_a_backbone_without_weights_says_so() -> None:
    assert run("list", "bare") == (0, "bare has no public weight files\n", "")
    code, _, error = run("list", "nett")
    assert code == 2
    assert (
        "backbone 'nett' does not exist; there are absent, bare, net; did you mean 'net'?" in error
    )


def test_path_prints_the_path_alone(backbones: tuple[KnownWeights, KnownWeights]) -> None:
    code, out, error = run("path", "net")
    assert (code, out) == (4, "")
    assert "net/small is not on this machine; get it with `audioflow weights fetch net/sm" in error
    run("fetch", "net")
    assert run("path", "net") == (0, f"{place(backbones[0])}\n", "")
    assert run("path", "net/large")[0] == 4
    place(backbones[0]).write_bytes(DATA + b"x")
    code, out, error = run("path", "net/small")
    assert (code, out) == (4, "")
    assert "expected sha256" in error


@pytest.mark.parametrize("command", ["path", "fetch"])
def test_names_that_do_not_exist_get_a_hint(command: str) -> None:
    code, _, error = run(command, "net/smal")
    assert code == 2
    assert "has no weights 'smal'; there are small, large; did you mean 'small'?" in error
    assert run(command, "bare")[0] == 2
    assert "needs the package" in run(command, "absent")[2]


def test_fetch_tells_hash_licence_and_whom_to_cite(server: WeightsServer) -> None:
    code, out, _ = run("fetch", "net", "net/large")
    assert code == 0
    assert f"sha256 {SHA256}: verified by the published sha256" in out
    assert f"sha256 {SHA256}: no hash of it is published; this one is kept beside the file" in out
    for text in ("licence: MIT", "cite: A. Author 2020", "From the first release.", "CC BY-NC 4.0"):
        assert text in out
    requests = len(server.requests)
    code, out, _ = run("fetch", "net")
    assert (code, len(server.requests)) == (0, requests)
    assert "is here already" in out


def test_fetch_from_elsewhere_is_verified_alike(tmp_path: Path, server: WeightsServer) -> None:
    (tmp_path / "copy").write_bytes(DATA)
    (tmp_path / "wrong").write_bytes(DATA[:-1])
    code, _, error = run("fetch", "net", "--from", str(tmp_path / "wrong"))
    assert code == 4
    assert f"expected sha256 {SHA256}, found {hashlib.sha256(DATA[:-1]).hexdigest()}" in error
    assert run("fetch", "net", "--from", str(tmp_path / "copy"))[0] == 0
    assert server.requests == []
    code, _, error = run("fetch", "net/small", "net/large", "--from", str(tmp_path / "copy"))
    assert code == 2
    assert "--from is one file, but net/small, net/large are asked for" in error


def test_fetch_of_what_has_no_url_asks_for_the_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    closed = KnownWeights("small", "", "on request", "C.", note="Ask the authors")
    monkeypatch.setattr(Net, "known", (closed,))
    code, _, error = run("fetch", "net")
    assert code == 4
    assert "net/small has no public url: Ask the authors; then give it with --from" in error
    (tmp_path / "copy").write_bytes(DATA)
    assert run("fetch", "net", "--from", str(tmp_path / "copy"))[0] == 0


def test_a_failure_of_the_server_is_exit_code_4(server: WeightsServer) -> None:
    server.status = 404
    code, _, error = run("fetch", "net")
    assert code == 4
    assert f"{server.url} does not exist" in error


# convert


@pytest.mark.parametrize("name", ["v1.ckpt", "v2.ckpt", "keras2.h5.gz", "tensorflow.npz"])
def test_convert_keeps_every_tensor(tmp_path: Path, name: str) -> None:
    out = tmp_path / "out.safetensors"
    code, told, error = run("convert", str(FILES / name), str(out))
    assert (code, error) == (0, "")
    before, after = read_tensors(str(FILES / name)), read_tensors(str(out))
    assert sorted(before) == sorted(after)
    for key, array in before.items():
        assert (after[key].dtype, after[key].shape) == (array.dtype, array.shape)
        np.testing.assert_array_equal(after[key], array)
    numbers = sum(array.size for array in before.values())
    assert told.startswith(f"{out}: {len(before)} tensors, {numbers:,} numbers, ")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.safetensors"]


def test_convert_overwrites_only_when_told(tmp_path: Path) -> None:
    out = tmp_path / "out.safetensors"
    out.write_bytes(b"mine")
    code, _, error = run("convert", str(FILES / "v1.ckpt"), str(out))
    assert (code, out.read_bytes()) == (2, b"mine")
    assert f"{out} exists; give --force to overwrite it" in error
    assert run("convert", str(FILES / "v1.ckpt"), str(out), "--force")[0] == 0
    assert len(read_tensors(str(out))) == 14


@pytest.mark.parametrize(
    ("file", "out", "code", "told"),
    [
        ("v1.ckpt", "out.pth", 2, "out.pth does not end in .safetensors"),
        ("absent.pth", "out.safetensors", 4, "absent.pth cannot be read"),
        ("make_tensorflow.py", "out.safetensors", 4, "no weight file of a known format"),
        ("v1.ckpt", "absent/out.safetensors", 4, "out.safetensors cannot be written: No such file"),
    ],
)
def test_convert_tells_what_is_wrong(
    tmp_path: Path, file: str, out: str, code: int, told: str
) -> None:
    found = run("convert", str(FILES / file), str(tmp_path / out))
    assert found[0] == code
    assert told in found[2]
    assert list(tmp_path.iterdir()) == []


def test_a_url_is_converted_too(tmp_path: Path, server: WeightsServer) -> None:
    server.content = (FILES / "v1.ckpt").read_bytes()
    assert run("convert", server.url, str(tmp_path / "out.safetensors"))[0] == 0
    assert len(read_tensors(str(tmp_path / "out.safetensors"))) == 14


# The real backbones


def test_the_real_backbones_list_their_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights_cli, "BACKBONES", BACKBONES)
    code, out, _ = run("list", "--json")
    assert code == 0
    found = json.loads(out)
    names = [(each["backbone"], each["name"]) for each in found["weights"]]
    assert len(set(names)) == len(names) > 0
    assert {each["here"] for each in found["weights"]} == {"no"}
    assert set(found["not_installed"]) <= set(BACKBONES.names())
    assert not (tmp_path / "store").exists(), "looking makes nothing"


def test_every_public_file_is_declared_with_care() -> None:
    rows = [weights_cli.Row(name, known) for name in BACKBONES.names() for known in public(name)]
    assert rows
    faults = [f"{row.name}: {fault}" for row in rows for fault in faults_of(row.known)]
    assert faults == []


def public(name: str) -> list[KnownWeights]:
    return list(BACKBONES.load(name).known)


def faults_of(known: KnownWeights) -> Iterator[str]:
    if known.name == "random" or known.name.startswith(("/", ".")):
        yield "a name that would be taken for something else"
    if not known.licence or not known.citation:
        yield "no licence, or nobody to cite"
    if not known.url.startswith(("https://", "s3://")) and (known.url or not known.note):
        yield f"the url {known.url!r}, expected https:// or s3://, or none and a note"
    if not re.fullmatch("([0-9a-f]{8,64})?", known.sha256):
        yield f"the sha256 {known.sha256!r}"
    if not re.fullmatch("([0-9a-f]{32})?", known.md5):
        yield f"the md5 {known.md5!r}"
    if known.size_bytes is not None and known.size_bytes < 1:
        yield f"the size {known.size_bytes}"
