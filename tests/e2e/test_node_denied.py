"""A node that may not read the media, beside one that may; each has its own way to the store.

The head has no cores for work, so that all of it is on these two.
"""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from audioflow.datasets.demo_corpus import make_corpus
from tests.e2e.conftest import Cluster, Place, joining, running
from tests.e2e.jobs import Home, Job
from tests.faulty_s3 import FaultyS3, Rule

CLIPS = 48
KEYS = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_DEFAULT_REGION": "us-east-1",
}
BUCKET = "seen-by-one"


@pytest.fixture(scope="module")
def proxy(s3_server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultyS3]:
    """The way of the second node to the store, which has the media and the run."""
    import s3fs

    media = make_corpus(tmp_path_factory.mktemp("denied") / "media", clips=CLIPS, seed=3)
    store = s3fs.S3FileSystem(endpoint_url=s3_server)
    store.mkdir(BUCKET)
    store.put(str(media), f"{BUCKET}/media", recursive=True)
    with FaultyS3(s3_server) as proxy:
        yield proxy


class Waiting(FaultyS3):
    """A way to the store on which media come late, at the latest after a minute."""

    def __init__(self, target: str) -> None:
        super().__init__(target)
        self.comes: Callable[[], bool] = lambda: True

    def choose(self, method: str, path: str) -> str:
        until = time.monotonic() + 60
        while "/media/" in path and not self.comes() and time.monotonic() < until:
            time.sleep(0.05)
        return super().choose(method, path)


@pytest.fixture(scope="module")
def other(s3_server: str) -> Iterator[Waiting]:
    """The way of the first node to the store."""
    with Waiting(s3_server) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def cluster(
    other: Waiting, proxy: FaultyS3, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Cluster]:
    place = Place(tmp_path_factory.mktemp("nodes"))
    with running(place, cpus=0, gpus=0) as cluster, joining(cluster) as nodes:
        for way in (other, proxy):
            nodes.add(AWS_ENDPOINT_URL=way.url, **KEYS)
        yield cluster


def home_of(folder: Path, cluster: Cluster, **run: Any) -> Home:
    recipe = {
        "run_dir": "runs/it",
        "manifest": {"reader": "folder", "root": f"s3://{BUCKET}/media"},
        "embed": {
            "backbones": {"acoustic": {}},
            "clips_per_shard": 2,
            "max_failed_share": 0.2,
        },
    }
    home = Home(Place(folder), cluster)
    home.recipe.write_text(yaml.safe_dump(recipe | run))
    return home


def begin(home: Home, job: str, s3_server: str) -> Job:
    return home.start(*home.command(job), AWS_ENDPOINT_URL=s3_server, **KEYS)


def test_what_it_may_not_read_the_other_reads(
    cluster: Cluster, s3_server: str, other: Waiting, proxy: FaultyS3, tmp_path: Path
) -> None:
    proxy.clear()
    proxy.add(Rule(("forbidden",), path="/media/"))
    # However late its worker begins, the node that may not read gets some of the work.
    other.comes = lambda: proxy.injected["forbidden"] >= 8
    home = home_of(tmp_path, cluster)
    begin(home, "manifest", s3_server).done()
    job = begin(home, "embed", s3_server)
    try:
        job.done()
    finally:
        other.comes = lambda: True
        job.end()
    assert proxy.injected["forbidden"] >= 8, "it was not asked for anything"
    ids = home.rows("embeddings/acoustic")["clip_id"].to_pylist()
    failures = home.table("embeddings/acoustic").read_failures().to_pylist()
    assert len(ids) + len(failures) == CLIPS
    assert "permission" not in {row["error"] for row in failures}
    notes = [note["text"] for note in job.told("note") if "reads nothing" in note["text"]]
    assert len(notes) == 1
    assert "failed there as 'permission'" in notes[0]
    home.verify()


def test_what_it_cannot_write_is_told_with_its_name(
    cluster: Cluster, s3_server: str, proxy: FaultyS3, tmp_path: Path
) -> None:
    proxy.clear()
    home = home_of(tmp_path, cluster, run_dir=f"s3://{BUCKET}/run")
    begin(home, "manifest", s3_server).done()
    proxy.add(Rule(("forbidden",), method="PUT"))
    job = begin(home, "embed", s3_server)
    try:
        assert job.process.wait(timeout=120) == 1
    finally:
        job.end()
    assert "on node " in job.text
    assert f"s3://{BUCKET}/run/embeddings/acoustic" in job.text
