"""Whether stores answer, as `audioflow doctor` tries it: a real server, and local folders."""

import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from audioflow.doctor.reach import Place, places_of, reach
from audioflow.plugins import plugins
from audioflow.recipe_file import load_recipe
from audioflow.storage import Folder
from audioflow.stores import StorageOptions
from tests.conftest import free_port
from tests.faulty_s3 import FaultyS3, Rule

SECRET = "hunter2-and-more"


@pytest.fixture(scope="module")
def bucket(s3_server: str) -> str:
    import s3fs

    name = f"doctor-{uuid.uuid4().hex[:8]}"
    s3fs.S3FileSystem(endpoint_url=s3_server).mkdir(name)
    return name


@pytest.fixture
def url(bucket: str) -> str:
    return f"s3://{bucket}/{uuid.uuid4().hex}"


@pytest.fixture
def proxy(s3_server: str) -> Iterator[FaultyS3]:
    with FaultyS3(s3_server) as proxy:
        yield proxy


def through(proxy: FaultyS3) -> StorageOptions:
    return StorageOptions.of({"endpoint_url": proxy.url, "key": "me", "secret": SECRET})


def test_an_output_is_written_read_and_left_as_it_was(url):
    found = reach(Place("run_dir", url, "write"))
    assert (found.problem, list(found.ms)) == ("", ["list", "write", "read", "delete"])
    assert all(ms > 0 for ms in found.ms.values())
    assert Folder(url.rpartition("/")[0]).names() == []


def test_an_input_is_only_read(url, proxy):
    Folder(url).write("deep/a.wav", b"RIFF")
    found = reach(Place("--url", url, "read"), through(proxy))
    assert (found.problem, list(found.ms)) == ("", ["list", "read"])
    assert {method for method, _ in proxy.requests} <= {"GET", "HEAD"}


@pytest.mark.parametrize("name", ["/list.csv", ""])
def test_a_file_and_a_whole_bucket_can_be_read(bucket, name):
    Folder(f"s3://{bucket}").write("list.csv", b"a,b")
    found = reach(Place("manifest.list", f"s3://{bucket}{name}", "read"))
    assert (found.problem, list(found.ms)) == ("", ["list", "read"])
    Folder(f"s3://{bucket}").remove("list.csv")


def test_a_sibling_whose_name_begins_alike_is_not_taken_for_the_input(url):
    Folder(f"{url}-other").write("a.wav", b"RIFF")
    found = reach(Place("--url", url, "read"))
    assert found.problem == f"{url} answers, but nothing is there"


def test_a_bucket_that_is_not_there_is_told():
    for use in ("read", "write"):
        found = reach(Place("--url", "s3://no-such-bucket-anywhere/x", use))
        assert "s3://no-such-bucket-anywhere/x" in found.problem
        assert "bucket does not exist" in found.problem


def test_a_store_that_lets_nobody_in_is_told_at_once_and_without_secrets(url, proxy):
    proxy.add(Rule(("forbidden",)))
    for use in ("read", "write"):
        found = reach(Place("run_dir", url, use), through(proxy))
        assert found.ms == {}
        assert f"{url} cannot be read: " in found.problem
        assert "Denied" in found.problem or "Forbidden" in found.problem
        assert SECRET not in repr(found)


def test_an_output_that_may_not_be_written_is_told(url, proxy):
    proxy.add(Rule(("forbidden",), method="PUT"))
    found = reach(Place("run_dir", url, "write"), through(proxy))
    assert list(found.ms) == ["list"]
    assert "cannot be written" in found.problem


def test_a_server_that_is_not_there_is_told_soon(url):
    nobody = StorageOptions.of({"endpoint_url": f"http://127.0.0.1:{free_port()}"})
    begun = time.monotonic()
    found = reach(Place("run_dir", url, "write"), nobody)
    assert time.monotonic() - begun < 20
    assert f"{url} cannot be read after 3 attempts: " in found.problem
    assert "connect" in found.problem.lower()


# Local places


def test_a_local_output_need_not_be_there_and_is_not_made(tmp_path):
    found = reach(Place("run_dir", str(tmp_path / "runs" / "one"), "write"))
    assert (found.problem, list(found.ms)) == ("", ["write", "read", "delete"])
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_the_place_of_a_local_output_is_told(tmp_path):
    (tmp_path / "runs").write_text("")
    found = reach(Place("run_dir", str(tmp_path / "runs" / "one"), "write"))
    assert found.problem.endswith(f"{tmp_path}/runs is a file, not a folder")


def test_a_local_input_has_to_be_there(tmp_path):
    assert reach(Place("manifest.root", str(tmp_path), "read")).problem == ""
    missing = str(tmp_path / "missing")
    assert reach(Place("manifest.root", missing, "read")).problem == f"{missing} does not exist"


# Which places a recipe has


def test_a_recipe_reads_its_inputs_and_writes_its_run_dir(tmp_path: Path):
    recipe = {
        "run_dir": "s3://out/run",
        "manifest": {
            "reader": "csv",
            "list": "s3://in/list.csv",
            "root": "/data/media",
            "file_column": "file",
            "label_column": "label",
            "extra": {"street": {"reader": "folder", "root": "/data/street"}},
        },
        "embed": {
            "backbones": {
                "acoustic": {},
                "net": {"name": "resnet18", "weights": "s3://in/resnet18.pth"},
            },
            "imports": {"npz": {"files": ["s3://in/a.npz", "/data/b.npz"]}},
        },
        "systems": {
            "sound": {"backbone": "acoustic", "head": "linear"},
            "tuned": {
                "backbone": "acoustic",
                "head": {"name": "vggish_finetune", "weights": "s3://in/vggish.pth"},
            },
        },
    }
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe))
    found = places_of(load_recipe(str(path), [], plugins(), "manifest"))
    assert {(place.key, place.url, place.use) for place in found} == {
        ("run_dir", "s3://out/run", "write"),
        ("manifest.list", "s3://in/list.csv", "read"),
        ("manifest.root", "/data/media", "read"),
        ("manifest.extra.street.root", "/data/street", "read"),
        ("embed.backbones.net.weights", "s3://in/resnet18.pth", "read"),
        ("embed.imports.npz.files.0", "s3://in/a.npz", "read"),
        ("embed.imports.npz.files.1", "/data/b.npz", "read"),
        ("systems.tuned.head.weights", "s3://in/vggish.pth", "read"),
    }
