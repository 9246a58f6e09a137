"""Whatever is killed while `embed` runs: in the end the table is that of an undisturbed run.

The driver is killed and run again; workers and actors are killed under a driver that goes on. What
was committed before is not made again. For nodes see `test_node_loss.py`.
"""

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
import yaml

from audioflow.datasets.demo_corpus import make_corpus
from audioflow.storage import Folder
from audioflow.tables import Table
from tests.conftest import ROOT
from tests.e2e.conftest import BIN, Cluster, Place, end_group

CLIPS = 60
RECIPE = {
    "run_dir": "runs/kills",
    "manifest": {"reader": "folder"},
    "embed": {
        "backbones": {"acoustic": {}, "color": {"num_frames": 2}},
        "clips_per_shard": 3,
        "decode_cpus": 0.5,
        "max_failed_share": 0.5,
    },
}


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_corpus(tmp_path_factory.mktemp("kills") / "media", clips=CLIPS, seed=3)


@pytest.fixture
def place(tmp_path: Path, media: Path) -> Place:
    """A home with a recipe and a manifest."""
    recipe = RECIPE | {"manifest": {"reader": "folder", "root": str(media)}}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    here = Place(tmp_path)
    here.audioflow("manifest", str(tmp_path / "recipe.yaml"))
    return here


@pytest.fixture(scope="module")
def undisturbed(cluster: Cluster, media: Path, tmp_path_factory: pytest.TempPathFactory) -> dict:
    """The tables of a run that nobody disturbed."""
    folder = tmp_path_factory.mktemp("undisturbed")
    recipe = RECIPE | {"manifest": {"reader": "folder", "root": str(media)}}
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    here = Place(folder)
    here.audioflow("manifest", str(folder / "recipe.yaml"))
    here.audioflow("embed", str(folder / "recipe.yaml"), f"ray.address={cluster.address}")
    return tables(folder)


def embeddings(folder: Path, backbone: str) -> Table:
    return Table(Folder(str(folder / "runs" / "kills" / "embeddings" / backbone)))


def tables(folder: Path) -> dict[str, tuple[pa.Table, list[dict]]]:
    """Rows in order, and failures without the node, of both tables."""
    found = {}
    for backbone in ("acoustic", "color"):
        table = embeddings(folder, backbone)
        rows = table.read().sort_by("clip_id")
        failures = table.read_failures().sort_by("clip_id").drop_columns(["node"]).to_pylist()
        found[backbone] = (rows, failures)
    return found


def assert_same(folder: Path, undisturbed: dict) -> None:
    for backbone, (rows, failures) in tables(folder).items():
        expected, lost = undisturbed[backbone]
        assert rows.equals(expected), backbone
        assert failures == lost, backbone
        assert rows.num_rows + len(failures) == CLIPS
        assert len(set(rows["clip_id"].to_pylist())) == rows.num_rows


def commits(folder: Path) -> dict[str, int]:
    """When each receipt was written."""
    root = folder / "runs" / "kills" / "embeddings"
    return {
        f"{path.parent.parent.name}/{path.name}": path.stat().st_mtime_ns
        for path in root.glob("*/_shards/*.json")
    }


def start(place: Place, address: str, *overrides: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [
            BIN / "audioflow",
            "embed",
            place.folder / "recipe.yaml",
            f"ray.address={address}",
            *overrides,
        ],
        cwd=ROOT,
        env=place.environment(),
        stdout=(place.folder / "out.txt").open("wb"),
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def wait_for(condition: Callable[[], bool], driver: subprocess.Popen[bytes], seconds=90) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert driver.poll() is None, "the job ended too early"
        assert time.monotonic() < deadline
        time.sleep(0.01)


def text(place: Place) -> str:
    return (place.folder / "out.txt").read_text()


@pytest.mark.parametrize("after", [0, 20])
def test_a_killed_driver_is_run_again(
    place: Place, cluster: Cluster, undisturbed: dict, after: int
) -> None:
    driver = start(place, cluster.address)
    wait_for(lambda: len(commits(place.folder)) >= after, driver)
    if not after:
        time.sleep(3)
    os.kill(driver.pid, signal.SIGKILL)
    driver.wait()
    end_group(driver)
    time.sleep(2)  # what its workers were at ends with it
    before = commits(place.folder)
    assert embeddings(place.folder, "acoustic").header() is None
    place.audioflow("embed", str(place.folder / "recipe.yaml"), f"ray.address={cluster.address}")
    assert_same(place.folder, undisturbed)
    now = commits(place.folder)
    assert {name: now[name] for name in before} == before, "a committed shard was made again"


def workers(cluster: Cluster, name: str) -> set[int]:
    """Processes of Ray workers whose title says that they do this."""
    titles = cluster.processes()
    return {number for number, title in titles if title.startswith("ray::") and name in title}


ON_GPU = ("embed.backbones.acoustic.num_gpus=0.5", "embed.backbones.color.num_gpus=0.5")


@pytest.mark.parametrize(
    ("title", "commits_before", "way"),
    [
        ("EmbedWorker", (0, 8, 20), ()),
        ("decode_asked", (0, 0, 0), ON_GPU),
        ("EmbedShard", (0, 8, 20), ON_GPU),
    ],
)
def test_killed_workers_and_actors_cost_nothing(
    place: Place,
    cluster: Cluster,
    undisturbed: dict,
    title: str,
    commits_before: tuple[int, ...],
    way: tuple[str, ...],
) -> None:
    driver = start(place, cluster.address, *way)
    killed: set[int] = set()
    for least in commits_before:
        wait_for(lambda least=least: len(commits(place.folder)) >= least, driver)
        wait_for(lambda: bool(workers(cluster, title) - killed), driver)
        for number in list(workers(cluster, title) - killed)[:1]:
            os.kill(number, signal.SIGKILL)
            killed.add(number)
    assert driver.wait(timeout=240) == 0, text(place)
    assert killed
    assert_same(place.folder, undisturbed)
