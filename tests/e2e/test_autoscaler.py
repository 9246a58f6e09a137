"""Jobs on a cluster whose nodes Ray's autoscaler starts when they are asked for, and ends when they
have nothing to do. The autoscalers are Ray's own, both of them; only the cloud is this machine."""

import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from audioflow.datasets.demo_corpus import make_corpus
from tests.e2e.autoscaled import IDLE_S, Autoscaled, Version, autoscaling, kind
from tests.e2e.conftest import Place
from tests.e2e.jobs import Home, Job

DECODE, GPU = {"audioflow/tier": "decode"}, {"audioflow/tier": "gpu"}
TRAIN = {"lr": 0.01, "batch_size": 8, "select": "last", "epochs": 3, "workers": 2}
RECIPE: dict[str, Any] = {
    "run_dir": "runs/it",
    "manifest": {"reader": "folder", "splits": {"train": 0.5, "val": 0.25, "test": 0.25}},
    "embed": {
        "backbones": {"acoustic": {}},
        "clips_per_shard": 2,
        "max_failed_share": 0.5,
        "augment": {"variants": 40, "splits": ["train", "val", "test"], "gain": {}},
    },
    "systems": {
        "two": {
            "backbone": "acoustic",
            "head": "linear",
            "train": TRAIN | {"cpus_per_worker": 1},
        }
    },
}


def home_in(folder: Path, cluster: Autoscaled) -> Home:
    """A run with a manifest, whose jobs the cluster does."""
    corpus = make_corpus(folder / "media", clips=24, seed=3)
    home = Home(Place(folder), cluster)
    home.recipe.write_text(
        yaml.safe_dump(RECIPE | {"manifest": RECIPE["manifest"] | {"root": str(corpus)}})
    )
    home.place.audioflow("manifest", str(home.recipe))
    return home


def begin(home: Home, job: str, *overrides: str) -> Job:
    home.events.unlink(missing_ok=True)
    return home.start(*home.command(job, *overrides))


def notes(job: Job) -> str:
    return "\n".join(event["text"] for event in job.told("note"))


def refused(job: Job) -> str:
    """Why a job was refused, and that it was before anything was waited for."""
    assert job.process.wait(60) == 2, job.text
    assert not notes(job)
    return " ".join(job.text.split())


CPUS = {"small": kind(2, CPU=1)}


def test_embed_waits_for_a_node_and_grows_to_as_many_as_there_may_be(tmp_path: Path) -> None:
    with autoscaling(Place(tmp_path), "v2", CPUS) as cluster:
        home = home_in(tmp_path, cluster)
        text = refused(begin(home, "embed", "embed.placement.decode={zone: moon}"))
        assert "label zone=moon, and no node has that. The cluster has 1 node with 0 CPU" in text
        assert "Its autoscaler may start up to 2 small with 1 CPU, 1.9 GB of memory" in text
        assert not cluster.nodes("start")

        job = begin(home, "embed")
        job.done()
        assert "waiting for nodes, 600 s at most: embed: a worker needs 1 CPU" in notes(job)
        assert "2 workers instead of 1" in notes(job)
        assert "infeasible" not in job.text  # which Ray says of workers beyond those there may be
        assert cluster.nodes("start") == ["small", "small"]
        assert not cluster.nodes("end")
        home.verify()


@pytest.fixture(scope="module", params=["v1", "v2"])
def version(request: pytest.FixtureRequest) -> Version:
    found: Version = request.param
    return found


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory, version: Version) -> Iterator[Autoscaled]:
    with autoscaling(Place(tmp_path_factory.mktemp("home")), version, CPUS, 8.0) as started:
        yield started


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, cluster: Autoscaled) -> Home:
    """A run whose embeddings are there, made by nodes that have gone since."""
    found = home_in(tmp_path_factory.mktemp("run"), cluster)
    job = begin(found, "embed")
    job.done()
    assert "2 workers instead of 1" in notes(job)
    gone(cluster)
    return found


def gone(cluster: Autoscaled) -> None:
    """Wait until all nodes that were started have been ended."""
    deadline = time.monotonic() + 10 * IDLE_S
    while len(cluster.nodes("end")) < len(cluster.nodes("start")):
        assert time.monotonic() < deadline, cluster.log.read_text()
        time.sleep(0.5)


@pytest.mark.slow
def test_workers_that_train_together_wait_for_all_their_nodes(
    home: Home, cluster: Autoscaled
) -> None:
    before = len(cluster.nodes("start"))
    job = begin(home, "train")
    job.done()
    assert "systems.two.train.workers: a worker of two needs 1 CPU" in notes(job)
    assert len(cluster.nodes("start")) == before + 2
    gone(cluster)


@pytest.mark.slow
def test_more_workers_than_all_nodes_hold_are_refused_at_once(home: Home) -> None:
    text = refused(begin(home, "train", "systems.two.train.workers=3"))
    assert "3 times a worker of two have to be there at once" in text
    assert "there is room for 2" in text


@pytest.mark.slow
def test_nodes_that_take_longer_than_the_recipe_waits_are_told(
    home: Home, cluster: Autoscaled
) -> None:
    job = begin(home, "train", "ray.wait_for_nodes_s=3", "systems.two.train.epochs=4")
    assert job.process.wait(60) == 2
    text = " ".join(job.text.split())
    assert "and no other came within 3 s. Its autoscaler may start up to 2 small" in text
    gone(cluster)


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_a_driver_that_ends_while_it_waits_leaves_nothing_that_keeps_nodes(
    home: Home, cluster: Autoscaled, how: signal.Signals
) -> None:
    before = len(cluster.nodes("start"))
    job = begin(home, "train", f"systems.two.train.epochs={10 + how}")
    job.until(lambda: len(cluster.nodes("start")) > before)
    job.process.send_signal(how)
    assert job.process.wait(60) != 0
    gone(cluster)
    time.sleep(5.0)
    assert len(cluster.nodes("end")) == len(cluster.nodes("start"))


TWO_KINDS = {"decode": kind(1, DECODE, CPU=2), "gpu": kind(1, GPU, CPU=1, GPU=1)}


@pytest.mark.slow
def test_decoding_and_networks_get_nodes_of_their_kinds(tmp_path: Path, version: Version) -> None:
    with autoscaling(Place(tmp_path), version, TWO_KINDS) as cluster:
        home = home_in(tmp_path, cluster)
        job = begin(home, "embed", "embed.backbones.acoustic.num_gpus=1")
        job.done()
        assert "waiting for nodes, 600 s at most: embed.decode_cpus" in notes(job)
        assert sorted(cluster.nodes("start")) == ["decode", "gpu"]
        home.verify()


@pytest.mark.slow
def test_why_a_node_could_not_be_started_is_told(tmp_path: Path, version: Version) -> None:
    without_quota = kind(1, CPU=1) | {"node_config": {"refused": "the quota of 0 is used up"}}
    with autoscaling(Place(tmp_path), version, {"small": without_quota}) as cluster:
        home = home_in(tmp_path, cluster)
        job = begin(home, "embed", "ray.wait_for_nodes_s=30")
        assert job.process.wait(120) == 2
        # The second one keeps the reason to its log.
        why = "the quota of 0 is used up" if version == "v1" else "Ray's monitor.log on the head"
        assert f"a node could not be started: small: {why}" in notes(job)
        assert "no other came within 30 s" in " ".join(job.text.split())


@pytest.mark.slow
def test_an_embed_whose_only_node_is_lost_is_not_stalled_while_another_is_started(
    home: Home, cluster: Autoscaled
) -> None:
    options = ("embed.min_coverage=0.8", "embed.stall_timeout_s=8")
    job = begin(home, "embed", "embed.backbones.acoustic.actors=1", *options)
    job.until(lambda: job.told("shard"))
    before = len(cluster.nodes("start"))
    assert cluster.lose() == 1
    job.done()
    assert notes(job).count("waiting for nodes, ") == 2
    assert len(cluster.nodes("start")) == before + 1
    home.verify()
