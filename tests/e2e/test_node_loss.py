"""Nodes that are lost while jobs are at work on them: whatever was begun there is done by others.

The head has no cores for work, so that all of it is on nodes that can be lost.
"""

import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from safetensors.numpy import load_file

from audioflow.datasets.demo_corpus import make_corpus
from tests.e2e.conftest import Cluster, Machine, Machines, Place, joining, running
from tests.e2e.jobs import Home, Job

SOON = {
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "3000",
    "RAY_health_check_failure_threshold": "3",
}
"""A node that is lost is noticed within seconds; by default that takes 15 to 65 of them."""

TRAIN = {"lr": 0.01, "batch_size": 8, "select": "last"}
ALONE_EPOCHS, TOGETHER_EPOCHS = 800, 30
ALONE = {"backbone": "acoustic", "head": "linear", "train": TRAIN | {"epochs": ALONE_EPOCHS}}
TOGETHER = {
    "backbone": "color",
    "head": "linear",
    "train": TRAIN | {"epochs": TOGETHER_EPOCHS, "workers": 2, "cpus_per_worker": 1},
}
RECIPE_EPOCHS = {"alone": ALONE_EPOCHS, "together": TOGETHER_EPOCHS}
RECIPE: dict[str, Any] = {
    "run_dir": "runs/it",
    "manifest": {"reader": "folder", "splits": {"train": 0.5, "val": 0.25, "test": 0.25}},
    "embed": {
        "backbones": {"acoustic": {}, "color": {"num_frames": 2}},
        "clips_per_shard": 2,
        "decode_cpus": 0.5,
        "max_failed_share": 0.5,
    },
    "systems": {"alone": ALONE, "together": TOGETHER},
    "score": {"splits": ["train", "val", "test"], "patches": True},
    "fuse": {"fused": {"systems": ["alone", "together"], "engine": "stream"}},
}
CLIPS = 48


@pytest.fixture(scope="module")
def headless(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with running(Place(tmp_path_factory.mktemp("nodes")), cpus=0, gpus=0, **SOON) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def nodes(headless: Cluster) -> Iterator[Machines]:
    with joining(headless) as machines:
        yield machines


@pytest.fixture
def two(nodes: Machines) -> list[Machine]:
    """Two nodes with a core each; those that an earlier test has left, if it has."""
    return nodes.alive(2)


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_corpus(tmp_path_factory.mktemp("lost") / "media", clips=CLIPS, seed=3)


def home_of(folder: Path, media: Path, cluster: Cluster, **more: Any) -> Home:
    recipe = RECIPE | {"manifest": RECIPE["manifest"] | {"root": str(media)}} | more
    home = Home(Place(folder), cluster)
    home.recipe.write_text(yaml.safe_dump(recipe))
    return home


@pytest.fixture(scope="module")
def undisturbed(
    headless: Cluster, nodes: Machines, media: Path, tmp_path_factory: pytest.TempPathFactory
) -> Home:
    """The whole run, without a loss."""
    nodes.alive(2)
    home = home_of(tmp_path_factory.mktemp("undisturbed"), media, headless)
    home.start(*home.command("run")).done()
    return home


@pytest.fixture
def home(undisturbed: Home, media: Path, tmp_path: Path) -> Home:
    """A copy of the undisturbed run, from which a test takes what its jobs are to make."""
    shutil.copytree(undisturbed.run, tmp_path / "runs" / "it", copy_function=shutil.copy2)
    return home_of(tmp_path, media, undisturbed.cluster)


@pytest.fixture
def begin(home: Home) -> Iterator[Callable[..., Job]]:
    """Starts a job of this home, which is ended at the latest with the test."""
    begun: list[Job] = []

    def start(job: str, *overrides: str) -> Job:
        begun.append(home.start(*home.command(job, *overrides)))
        return begun[-1]

    yield start
    for job in begun:
        job.end()


def lose(job: Job, nodes: list[Machine], title: str) -> Machine:
    """Lose the first node that does this at this moment."""
    found: list[Machine] = []

    def one_does() -> bool:
        found[:] = [node for node in nodes if node.process.poll() is None and node.does(title)]
        return bool(found)

    job.until(one_does)
    found[0].lose()
    return found[0]


def assert_kept(job: Job, before: dict[str, int]) -> None:
    """Of what was committed before the loss, only what others were told to do was made again."""
    assert before
    now = job.home.receipts(Path(next(iter(before))).parts[0])
    again = {Path(name).name.split("-")[0] for name in before if now[name] != before[name]}
    assert again <= {event["shard"] for event in job.told("retry")}
    assert len(now) > len(before), "it was not lost half-way"


def assert_same(home: Home, undisturbed: Home, *tables: str) -> None:
    for table in tables:
        assert home.rows(table).equals(undisturbed.rows(table)), table
    home.verify()


EMBEDDED = ("embeddings/acoustic", "embeddings/color")
SCORED = ("scores/alone", "scores/together", "scores/fused")


def test_embed_loses_a_node(
    home: Home, undisturbed: Home, two: list[Machine], begin: Callable[..., Job]
) -> None:
    shutil.rmtree(home.run / "embeddings")
    job = begin("embed")
    job.until(lambda: len(embedded(home)) >= 8)
    both = {shard["node"] for shard in job.told("shard")}
    lose(job, two, "EmbedWorker.do")
    before = embedded(home)
    job.done()
    assert job.told("retry"), "nothing was at work there"
    assert_kept(job, before)
    assert_same(home, undisturbed, *EMBEDDED)
    worked = {shard["node"] for shard in job.told("shard")}
    # On a busy machine a node may be lost before it has committed any.
    assert both <= worked, "nodes of one host name are told apart"
    assert {node for _, node in stints(home, "embeddings/acoustic")} == worked


def stints(home: Home, table: str) -> set[tuple[str, str]]:
    """Stages of the shards of a table, each with the node that did it."""
    receipts = (json.loads(path.read_bytes()) for path in home.run.glob(f"{table}/_shards/*.json"))
    return {(one[0], one[1]) for receipt in receipts for one in receipt["stints"]}


def embedded(home: Home) -> dict[str, int]:
    return home.receipts("embeddings")


def test_train_loses_two_nodes(
    home: Home, undisturbed: Home, nodes: Machines, two: list[Machine], begin: Callable[..., Job]
) -> None:
    """One that trains a head alone, which another takes up from its checkpoint; and one of two that
    train one together, which the other then trains by itself."""
    shutil.rmtree(home.run / "heads")
    job = begin("train")
    job.until(lambda: len(job.told("epoch", name="alone")) > 150)
    lose(job, two, "fit_timed")
    another = nodes.add()
    job.until(lambda: len(job.told("epoch", name="together")) > 12)
    another.lose()
    job.done()
    (again,) = job.told("retry", name="together")
    assert (again["workers"], again["wanted"]) == (1, 2)
    assert again["reason"] == "1 node was lost."
    gone = [node["name"] for node in job.told("node", what="lost")]
    assert len(set(gone)) == len(gone) > 0, "nodes of one host name are told apart"
    assert f"node {gone[0]} was lost" in job.text
    assert "marked dead" not in job.text, "Ray tells it, too"
    notes = {name: [one["text"] for one in job.told("note", name=name)] for name in RECIPE_EPOCHS}
    for name, total in RECIPE_EPOCHS.items():
        counts = [(event["done"], event["total"]) for event in job.told("epoch", name=name)]
        assert counts[-1] == (total, total)
        assert any("goes on after epoch" in text for text in notes[name])
    told = {name: len(job.told("epoch", name=name)) for name in ("alone", "together")}
    assert told["alone"] <= ALONE_EPOCHS + 15, "it did not go on from its checkpoint"
    assert told["together"] <= TOGETHER_EPOCHS + 11
    for system, apart in {"alone": 1e-6, "together": 1e-4}.items():
        files = (one.run / "heads" / system / "weights.safetensors" for one in (home, undisturbed))
        mine, theirs = map(load_file, files)
        assert mine.keys() == theirs.keys()
        assert max(abs(mine[name] - theirs[name]).max() for name in mine) <= apart, system
    home.verify()


def test_score_and_fuse_lose_a_node_each(
    home: Home, undisturbed: Home, nodes: Machines, begin: Callable[..., Job]
) -> None:
    shutil.rmtree(home.run / "scores")
    first, second = nodes.alive(3)[:2]
    job = begin("run")
    job.until(lambda: job.told("progress", job="score"))
    first.lose()
    before = home.receipts("scores")
    job.until(lambda: job.told("start", job="fuse"))
    second.lose()
    job.done()
    assert_kept(job, before)
    assert_same(home, undisturbed, *SCORED)


def test_a_job_whose_nodes_are_all_lost_ends_and_can_be_resumed(
    home: Home, nodes: Machines, two: list[Machine], begin: Callable[..., Job]
) -> None:
    shutil.rmtree(home.run / "heads" / "alone")
    job = begin("train", "ray.wait_for_nodes_s=3")
    job.until(lambda: len(job.told("epoch")) > 50)
    for node in nodes.alive():
        node.lose()
    assert job.process.wait(timeout=90) == 1
    assert "nodes were lost, and for 3 s none was left with room: systems.alone" in job.text
    assert "run the same command again to go on" in job.text
    shutil.rmtree(home.run / "scores" / "fused")
    refused = begin("fuse")
    assert refused.process.wait(timeout=90) == 2
    assert "fuse: a task needs 1 CPU" in refused.text
    home.events.unlink()
    nodes.add()
    job = begin("train")
    job.done()
    assert job.told("epoch", name="alone")[0]["epoch"] > 20


SLOW = {"acoustic": {}, "openl3": {"weights": "random", "hop_s": 2.0}}


def test_a_submitted_run_loses_a_node_of_a_new_cluster(tmp_path: Path, media: Path) -> None:
    """What a user does: start Ray on two machines, submit a run, and lose one of them."""
    short = {"alone": ALONE | {"train": TRAIN | {"epochs": 20}}}
    (tmp_path / "recipes").mkdir()
    place = Place(tmp_path)
    with running(place, cpus=1, gpus=0, **SOON) as cluster, joining(cluster) as nodes:
        slow = RECIPE["embed"] | {"backbones": SLOW}
        home_of(tmp_path / "recipes", media, cluster, embed=slow, systems=short, fuse={}, report={})
        home, lost = Home(place, cluster), nodes.add()
        folder = ("--folder", str(tmp_path / "recipes"), "--address", cluster.dashboard)
        job = home.start("submit", str(tmp_path / "recipes" / "recipe.yaml"), *folder)
        try:
            job.until(lambda: len(embedded(home)) >= 8)
            lose(job, [lost], "EmbedWorker.do")
            before = embedded(home)
            job.done()
        finally:
            job.end()
        again = re.findall(r"shard (\S+) is done again", job.text)
        assert again, f"nothing was at work there\n{job.text}"
        now = embedded(home)
        assert len(now) > len(before), "it was not lost half-way"
        made = {Path(name).name.split("-")[0] for name in before if now[name] != before[name]}
        assert made <= set(again)
        home.verify()


SPACE = {"space": {"train.lr": [0.001, 0.003, 0.01, 0.03]}, "search": "grid", "trials": 4}


@pytest.mark.slow  # what can go wrong is what can in training
@pytest.mark.parametrize(("stacked", "title"), [("never", "ImplicitFunc"), ("auto", "fit_stack")])
def test_tune_loses_a_node(
    home: Home,
    media: Path,
    two: list[Machine],
    begin: Callable[..., Job],
    stacked: str,
    title: str,
) -> None:
    searched = ALONE | {"train": {"lr": 0.01, "epochs": 400, "cpus_per_worker": 1}}
    tune = {"found": {"system": "alone", "stacked": stacked} | SPACE}
    home_of(home.place.folder, media, home.cluster, systems={"alone": searched}, tune=tune, fuse={})
    job = begin("tune")
    if stacked == "never":
        job.until(lambda: job.told("trial"))
    lose(job, two, title)
    job.done()
    assert [event["state"] for event in job.told("trial")] == ["finished"] * 4


GPUS = {"acoustic": {"num_gpus": 0.5}, "color": {"num_frames": 2, "num_gpus": 0.5}}


@pytest.mark.slow  # the same by another way, which needs four nodes
def test_embed_loses_a_node_that_decodes_and_one_with_gpus(
    home: Home, undisturbed: Home, nodes: Machines, two: list[Machine], begin: Callable[..., Job]
) -> None:
    shutil.rmtree(home.run / "embeddings")
    gpus = [nodes.add(cpus=0, gpus=1), nodes.add(cpus=0, gpus=1)]
    job = begin("embed", f"embed.backbones={json.dumps(GPUS)}")
    job.until(lambda: len(embedded(home)) >= 4)
    lose(job, two, "decode_asked")
    job.until(lambda: len(embedded(home)) >= 12)
    lose(job, gpus, "EmbedShard")
    assert len(embedded(home)) < CLIPS
    job.done()
    assert_same(home, undisturbed, *EMBEDDED)
