"""What the settings of a backbone name as weights becomes files on this machine, and hashes."""

import hashlib
import os
import shutil
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from audioflow.registry import Settings
from audioflow.stores import StorageOptions
from audioflow.weights import (
    KnownWeights,
    UnknownWeights,
    WeightsError,
    WeightsName,
    read_tensors,
    resolved,
)
from audioflow.weights.fetch import Source, fetch
from audioflow.weights.store import note_of, place
from tests.unit.weights_server import WeightsServer

FILES = Path(__file__).parent / "weight_files"
DATA = bytes(range(256)) * 800
SHA256 = hashlib.sha256(DATA).hexdigest()


class Chosen(Settings):
    """As a backbone has them: weights, more weights, and something else."""

    weights: WeightsName = "net"
    pca: WeightsName | None = None
    hop_s: float = 1.0


@pytest.fixture(autouse=True)
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AUDIOFLOW_WEIGHTS", str(tmp_path / "store"))
    return tmp_path / "store"


@pytest.fixture
def server() -> Iterator[WeightsServer]:
    with WeightsServer(DATA) as running:
        yield running


@pytest.fixture
def known(server: WeightsServer) -> tuple[KnownWeights, ...]:
    net = KnownWeights("net", server.url, "MIT", "", sha256=SHA256[:8], size_bytes=len(DATA))
    return net, KnownWeights("pca", server.url + ".pca", "CC BY 4.0", "")


def only(weights: str, known: tuple[KnownWeights, ...] = ()) -> tuple[str, str, str]:
    """The path, what is said to be given, and the hash."""
    settings, found = resolved(Chosen(weights=weights), known)
    return settings.weights, found["weights"].given, found["weights"].sha256


def test_settings_without_weights_come_back_as_they_are() -> None:
    class Plain(Settings):
        hop_s: float = 1.0

    settings = Plain()
    assert resolved(settings, ()) == (settings, {})


def test_random_weights_have_no_hash_and_count_as_untrained(
    known: tuple[KnownWeights, ...], store: Path
) -> None:
    settings, found = resolved(Chosen(weights="random"), known)
    assert settings == Chosen(weights="random")
    assert found["weights"].to_json() == {
        "given": "random", "sha256": "", "licence": "", "trained": False,
    }  # fmt: skip
    assert not store.exists()


def test_known_weights_are_those_in_the_store(known: tuple[KnownWeights, ...]) -> None:
    for each in known:
        fetch(each)
    settings, found = resolved(Chosen(pca="pca", hop_s=2.0), known)
    assert (settings.weights, settings.pca, settings.hop_s) == (
        str(place(known[0])), str(place(known[1])), 2.0,
    )  # fmt: skip
    assert found["weights"].to_json() == {
        "given": "net", "sha256": SHA256, "licence": "MIT", "trained": True,
    }  # fmt: skip
    assert found["pca"].licence == "CC BY 4.0"


def test_known_weights_that_are_not_here_say_how_to_get_them(
    known: tuple[KnownWeights, ...], server: WeightsServer, store: Path
) -> None:
    with pytest.raises(
        WeightsError,
        match=r"weights: net \(0\.2 MB, licence: MIT\) is not on this machine: expected at .*net"
        r"\.pth; get it with `audioflow weights fetch vggish/net`, or give .*s3://",
    ) as caught:
        resolved(Chosen(), known, backbone="vggish")
    assert caught.value.exit_code == 4
    assert server.requests == []
    assert not store.exists(), "nothing is fetched or made by looking"


def test_known_weights_are_checked_at_every_use(known: tuple[KnownWeights, ...]) -> None:
    for each in known:
        path = fetch(each).path
        path.write_bytes(DATA[::-1])
        os.utime(path, ns=(10**18, 10**18))
    wrong = hashlib.sha256(DATA[::-1]).hexdigest()
    for field, chosen in (("weights", Chosen()), ("pca", Chosen(weights="random", pca="pca"))):
        with pytest.raises(WeightsError, match=rf"{field}: .*found {wrong}.*weights fetch"):
            resolved(chosen, known)


def test_known_weights_put_into_the_store_by_hand_are_taken(
    known: tuple[KnownWeights, ...],
) -> None:
    for each in known:
        place(each).parent.mkdir(parents=True)
        place(each).write_bytes(DATA)
        assert not note_of(place(each)).exists()
    _, found = resolved(Chosen(pca="pca"), known)
    assert found["weights"].sha256 == found["pca"].sha256 == SHA256


# Paths


def test_local_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "my weights.pth"
    path.write_bytes(DATA)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for given in (str(path), "my weights.pth", "~/my weights.pth", f"file://{path}"):
        assert only(given) == (str(path), given, SHA256)


def test_a_name_that_is_no_file_is_a_mistake_in_the_recipe(
    known: tuple[KnownWeights, ...],
) -> None:
    with pytest.raises(
        UnknownWeights,
        match=r"weights: 'nett' is neither a file nor known weights \(net, pca, random\); "
        r"did you mean 'net'\?",
    ) as caught:
        only("nett", known)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("given", ["absent/net", "absent.pth", "/absent"])
def test_a_path_that_is_not_there_is_missing_input(given: str) -> None:
    with pytest.raises(WeightsError, match=rf"{given} does not exist; .*'random'") as caught:
        only(given)
    assert caught.value.exit_code == 4


def test_folders_have_a_hash_over_all_their_files(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    (folder / "sub").mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "sub" / "model.safetensors").write_bytes(DATA)
    shutil.copytree(folder, tmp_path / "copy")
    path, _, first = only(str(folder))
    assert path == str(folder)
    assert only(str(tmp_path / "copy"))[2] == first, "wherever it lies"
    (folder / "sub" / "model.safetensors").rename(folder / "model.safetensors")
    moved = only(str(folder))[2]
    (folder / "config.json").write_text("{ }")
    assert len({first, moved, only(str(folder))[2]}) == 3
    (tmp_path / "empty").mkdir()
    with pytest.raises(WeightsError, match="empty is an empty folder; expected weights"):
        only(str(tmp_path / "empty"))


def test_tensorflow_checkpoints_by_prefix_have_a_hash_over_their_files(tmp_path: Path) -> None:
    for name in ("v2.ckpt.index", "v2.ckpt.data-00000-of-00001"):
        shutil.copy(FILES / name, tmp_path)
    (tmp_path / "v2.ckpt-2.index").write_bytes(b"another one")
    path, _, first = only(str(tmp_path / "v2.ckpt"))
    assert len(read_tensors(path)) == 15
    (tmp_path / "v2.ckpt-2.index").write_bytes(b"changed")
    assert only(path)[2] == first
    data = tmp_path / "v2.ckpt.data-00000-of-00001"
    data.write_bytes(data.read_bytes() + b"x")
    assert only(path)[2] != first


# Urls


def test_a_url_is_downloaded_once_for_as_long_as_the_file_stays(server: WeightsServer) -> None:
    path, given, sha256 = only(server.url)
    assert (given, sha256) == (server.url, SHA256)
    assert Path(path).read_bytes() == DATA
    before = Path(path).stat()
    assert only(server.url) == (path, given, sha256)
    after = Path(path).stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    server.content = DATA[::-1]
    server.tag = '"two"'
    changed = only(server.url)
    assert changed[0] != path
    assert changed[2] == hashlib.sha256(DATA[::-1]).hexdigest()
    assert Path(path).read_bytes() == DATA, "whoever uses the old one keeps it"


def test_secrets_of_a_url_do_not_stand_in_its_identity(server: WeightsServer) -> None:
    url = server.url.replace("http://", "http://me:pass-word@")
    first = only(url + "?X-Amz-Signature=abcdef99&X-Amz-Expires=60")
    second = only(url + "?X-Amz-Signature=bcdefa88&X-Amz-Expires=60")
    assert first == second, "a new signature is the same file"
    assert first[1] == server.url.replace("http://", "http://***@")


def test_a_url_that_leads_nowhere_is_told(server: WeightsServer) -> None:
    server.status = 404
    with pytest.raises(WeightsError, match=rf"{server.url} does not exist; expected a weight file"):
        only(server.url)
    with pytest.raises(WeightsError, match=r"nosuch://x/y: .*known are local paths, s3://"):
        only("nosuch://x/y")


def test_many_actors_of_one_machine_download_a_url_once(server: WeightsServer) -> None:
    code = (
        "import sys; from tests.unit.test_weights_resolve import only\nprint(only(sys.argv[1])[2])"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    server.content = DATA * 20
    # The first request of each tells the version; the downloads that follow are slow.
    server.faults = ["slow"] * 12
    actors = [
        subprocess.Popen(
            [sys.executable, "-c", code, server.url],
            stdout=subprocess.PIPE, text=True, env=environment,
        )
        for _ in range(3)
    ]  # fmt: skip
    told = {actor.communicate(timeout=60)[0].strip() for actor in actors}
    assert told == {hashlib.sha256(DATA * 20).hexdigest()}
    assert len(server.requests) == 4, "three asked for the version, one for the content"


@pytest.fixture
def bucket(s3_server: str) -> str:
    import s3fs

    name = f"weights-{uuid.uuid4().hex[:8]}"
    files = s3fs.S3FileSystem(endpoint_url=s3_server)
    files.mkdir(name)
    files.pipe(f"{name}/net.pth", DATA)
    files.pipe(f"{name}/model/config.json", b"{}")
    files.pipe(f"{name}/model/sub/model.safetensors", DATA)
    for part in ("index", "data-00000-of-00001"):
        files.put(str(FILES / f"v2.ckpt.{part}"), f"{name}/tf/v2.ckpt.{part}")
    return name


def test_files_and_folders_of_a_bucket(bucket: str, s3_server: str, store: Path) -> None:
    options = StorageOptions.of({"endpoint_url": s3_server})

    def of(url: str) -> tuple[str, str]:
        settings, found = resolved(Chosen(weights=url), (), options)
        return settings.weights, found["weights"].sha256

    assert of(f"s3://{bucket}/net.pth")[1] == SHA256
    path, first = of(f"s3://{bucket}/model")
    assert (Path(path) / "sub" / "model.safetensors").read_bytes() == DATA
    assert of(f"s3://{bucket}/model/")[1] == first
    assert len(read_tensors(of(f"s3://{bucket}/tf")[0])) == 15
    growing = [path for path in store.rglob("*") if path.suffix in (".part", ".parts")]
    assert growing == []

    import s3fs

    s3fs.S3FileSystem(endpoint_url=s3_server).pipe(f"{bucket}/model/config.json", b"{ }")
    changed, second = of(f"s3://{bucket}/model")
    assert (changed != path, second != first) == (True, True)
    with pytest.raises(WeightsError, match=f"s3://{bucket}/absent.pth does not exist"):
        of(f"s3://{bucket}/absent.pth")


# Stores that cannot be written


def test_a_store_that_cannot_be_written_breaks_nothing(
    server: WeightsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_bytes(DATA)
    monkeypatch.setenv("AUDIOFLOW_WEIGHTS", str(tmp_path / "file" / "store"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert only(str(tmp_path / "file"))[2] == SHA256
    path, _, sha256 = only(server.url)
    assert sha256 == SHA256
    spare = tmp_path / f"audioflow-weights-{os.getuid()}"
    assert Path(path).is_relative_to(spare)
    assert spare.stat().st_mode & 0o777 == 0o700


def test_a_store_baked_into_an_image_is_read(known: tuple[KnownWeights, ...], store: Path) -> None:
    fetch(known[0])
    for folder in (store, place(known[0]).parent):
        folder.chmod(0o555)
    _, found = resolved(Chosen(), known)
    assert found["weights"].sha256 == SHA256


def test_weights_that_come_at_the_same_time_in_one_process(server: WeightsServer) -> None:
    found: list[str] = []
    threads = [threading.Thread(target=lambda: found.append(only(server.url)[0])) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 1
    assert Path(found[0]).read_bytes() == DATA


def test_what_is_resolved_can_be_read(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.arange(3))
    weights = KnownWeights("net", "https://example.org/a.npz", "MIT", "")
    fetch(weights, Source(str(tmp_path / "a.npz")))
    settings, _ = resolved(Chosen(), (weights, replace(weights, name="other")))
    assert read_tensors(settings.weights)["x"].tolist() == [0, 1, 2]
