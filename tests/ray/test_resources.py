"""What a job asks of the cluster: refused at once where it is not there, used where it comes."""

import json
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import yaml

from audioflow.cli import plugins
from audioflow.datasets.demo_corpus import make_corpus
from audioflow.engine.autoscaler import has_autoscaler
from audioflow.engine.embed_crew import AtWork, on_gpus
from audioflow.engine.embed_plan import backbone_spec
from audioflow.engine.embed_rows import handing_out
from audioflow.engine.flow import run_job
from audioflow.engine.resources import look
from audioflow.engine.run import Run
from audioflow.engine.train_place import placed
from audioflow.errors import ClusterError
from audioflow.planning.machines import Machine, Machines
from audioflow.recipe import SystemSection
from audioflow.recipe_file import load_recipe
from tests.conftest import ROOT
from tests.e2e.conftest import BIN, Cluster, Place, joining, running, wait_until
from tests.ray.conftest import MakeRun

REFUSED_S = 10.0


# refused at once


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "embed.backbones.acoustic.num_gpus=2",
            r"embed.backbones.acoustic.num_gpus: an actor of acoustic needs 2 GPU.* no node has "
            r"that. The cluster has 1 node with 2 CPU, 1 GPU, .* \(ray.wait_for_nodes_s says",
        ),
        (
            "embed.backbones.acoustic={num_gpus: 1.0, actors: 3}",
            "3 times an actor of acoustic have to be there at once.* there is room for 1 beside",
        ),
        (
            "ray.accelerator=gpu; embed.backbones.vggish={weights: random, num_gpus: 1.0}; "
            "embed.backbones.yamnet={weights: random}",
            "ray.accelerator: an actor of yamnet needs 1 GPU, .* no room for it beside all else",
        ),
        (
            "embed.placement.decode={zone: moon}",
            "embed.placement.decode: a worker needs 1 CPU, .*label zone=moon, and no node has that",
        ),
    ],
)
def test_what_the_cluster_cannot_give_is_refused_at_once(make_run: MakeRun, override, message):
    run = make_run(
        "embed.min_coverage=0.8", *override.split("; ")
    )  # so that there is something to do
    began = time.monotonic()
    with pytest.raises(ClusterError, match=message) as raised:
        run_job("embed", run)
    assert time.monotonic() - began < REFUSED_S
    assert raised.value.exit_code == 2


@pytest.mark.parametrize(
    ("train", "message"),
    [
        (
            {"workers": 5, "cpus_per_worker": 0.5},
            "audio.train.workers: 5 times a worker of audio",
        ),
        (
            {"cpus_per_worker": 3.0},
            "audio.train.cpus_per_worker: a worker of audio needs 3 CPU",
        ),
        ({"gpus_per_worker": 2.0}, "audio.train.gpus_per_worker: a worker of audio .* 2 GPU"),
    ],
)
def test_training_that_has_no_room_is_refused_at_once(make_run: MakeRun, train, message):
    run = make_run(f"systems.audio.train={json.dumps(train)}")
    began = time.monotonic()
    with pytest.raises(ClusterError, match=message):
        run_job("train", run)
    assert time.monotonic() - began < REFUSED_S


def test_a_calibration_that_has_no_room_is_refused_at_once(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
):
    """Also where the heads are there, so that nothing else would need any."""
    monkeypatch.setattr("audioflow.engine.train_calibrate.alone_cpus", lambda train: 3.0)
    run = make_run("systems.audio.calibration={method: temperature}")
    began = time.monotonic()
    with pytest.raises(ClusterError, match=r"systems\.audio\.train: a calibration needs 3 CPU"):
        run_job("train", run)
    assert time.monotonic() - began < REFUSED_S


def test_where_nodes_may_come_they_are_waited_for_as_long_as_the_recipe_says(make_run: MakeRun):
    run = make_run(
        "embed.min_coverage=0.8",
        "embed.backbones.acoustic.num_gpus=2",
        "ray.wait_for_nodes_s=2.5",
    )
    began = time.monotonic()
    with pytest.raises(ClusterError, match=r"no other came within 2.5 s\. Ask for less"):
        run_job("embed", run)
    assert 2.5 < time.monotonic() - began < REFUSED_S
    told = [event.data["text"] for event in run.listener if event.kind == "note"]  # type: ignore[attr-defined]
    assert "waiting for nodes, 2.5 s at most: embed.backbones.acoustic.num_gpus" in told[0]


def test_a_ray_without_an_autoscaler_is_known_as_one(ray_session: None):
    assert not has_autoscaler()
    machines = look()
    assert (machines.total("CPU"), machines.total("GPU"), machines.real_gpus) == (2, 1, 0)


# accelerator


def test_gpus_for_what_gains_nothing_by_them_are_told_of(make_run: MakeRun) -> None:
    run = make_run("embed.min_coverage=0.8", "ray.accelerator=gpu")
    run_job("embed", run)
    told = [event.data["text"] for event in run.listener if event.kind == "note"]  # type: ignore[attr-defined]
    assert "on CPUs, though ray.accelerator is gpu: acoustic, color would not gain by a GPU" in told


REAL_GPU = Machines((Machine({"CPU": 2.0, "GPU": 1.0}, real_gpus=True),))
SAID_GPU = Machines((Machine({"CPU": 2.0, "GPU": 1.0}),))


@pytest.mark.parametrize(
    ("accelerator", "machines", "shares"),
    [
        ("auto", REAL_GPU, [0.0, 1.0]),
        ("auto", SAID_GPU, [0.0, 0.0]),
        ("gpu", SAID_GPU, [0.0, 1.0]),
        ("cpu", REAL_GPU, [0.0, 0.0]),
    ],
)
def test_who_gets_a_gpu_changes_no_fingerprint(tmp_path: Path, accelerator, machines, shares):
    backbones = {"acoustic": {}, "vggish": {"weights": "random"}}
    manifest = {"reader": "folder", "root": str(tmp_path)}
    recipe = {"run_dir": "x", "manifest": manifest, "embed": {"backbones": backbones}}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    run = Run(load_recipe(str(tmp_path / "recipe.yaml"), [], plugins()))
    section = run.recipe.embed
    assert section is not None
    at_work, settings = [], []
    for name, choice in section.backbones.items():
        spec, told = backbone_spec(run, name, choice)
        at_work.append(AtWork(spec, choice))
        settings.append(told["settings"])
    found = on_gpus(at_work, accelerator, machines)
    assert [one.spec.num_gpus for one in found] == shares
    assert [one.spec.ready.what_counts() for one in found] == settings
    assert settings[1]["precision"] == "float32"


def test_heads_that_gain_by_a_gpu_get_one_and_stay_the_same_heads(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
):
    run = make_run()
    asked: list[float] = []
    monkeypatch.setattr("audioflow.engine.train_place.look", lambda: REAL_GPU)
    for head in ("linear", "resnet18"):
        system = SystemSection.model_validate({"backbone": "acoustic", "head": head})
        chosen = placed(run, "train", "audio", system, 1)
        asked.append(chosen.train.gpus)
        assert chosen.of_head == system.of_head
    assert asked == [0.0, 1.0]


# rows


class _Items:
    """Work items that note which of them were made."""

    def __init__(self, count: int) -> None:
        self.count, self.made, self.works = count, list[int](), dict[str, Any]()

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, number: int) -> "_Items":
        self.made.append(number)
        return self

    def row(self, number: int) -> pa.Table:
        if number == 13:
            raise ValueError("no such row: 13")
        return pa.table({"item": [number]})


def test_rows_are_made_when_they_are_asked_for(ray_session: None):
    import ray

    items = _Items(1_000_000)
    with handing_out(items) as rows:

        @ray.remote(num_cpus=0.5)
        def ask(number: int) -> pa.Table:
            return rows.row(number)

        found = ray.get([ask.remote(number) for number in (7, 3, 999_999, 7)], timeout=60)
        with pytest.raises(ValueError, match="no such row: 13"):
            ray.get(ask.remote(13), timeout=60)
    assert [row["item"].to_pylist() for row in found] == [[7], [3], [999_999], [7]]
    assert set(items.made) == {7, 3, 999_999, 13}


# nodes that come


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster whose head has no CPU for work."""
    with running(Place(tmp_path_factory.mktemp("home")), cpus=0, gpus=0) as started:
        yield started


RECIPE = {
    "run_dir": "runs/grown",
    "embed": {
        "backbones": {"acoustic": {}},
        "clips_per_shard": 2,
        "max_failed_share": 0.5,
        "augment": {"variants": 150, "splits": ["train", "val", "test"], "gain": {}},
    },
}


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """A home with a recipe and a manifest."""
    corpus = make_corpus(tmp_path / "media", clips=60, seed=3)
    recipe = RECIPE | {"manifest": {"reader": "folder", "root": str(corpus)}}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    here = Place(tmp_path)
    here.audioflow("manifest", str(tmp_path / "recipe.yaml"))
    return here


def embed(place: Place, cluster: Cluster, *overrides: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [
            *(BIN / "audioflow", "embed", place.folder / "recipe.yaml"),
            *(f"ray.address={cluster.address}", "--events", place.folder / "events"),
            *overrides,
        ],
        cwd=ROOT,
        env=place.environment(),
        stdout=(place.folder / "out.txt").open("wb"),
        stderr=subprocess.STDOUT,
    )


def events(place: Place, kind: str) -> list[dict[str, Any]]:
    path = place.folder / "events"
    lines = path.read_text().splitlines() if path.exists() else []
    return [event for line in lines if (event := json.loads(line))["kind"] == kind]


def test_nodes_that_join_are_used_and_decoding_keeps_to_its_nodes(empty: Cluster, place: Place):
    refused = embed(place, empty)
    assert refused.wait(60) == 2
    text = " ".join((place.folder / "out.txt").read_text().split())
    assert "embed: a worker needs 1 CPU" in text
    assert "1 node with 0 CPU" in text
    (begin,), (end,) = events(place, "begin"), events(place, "end")
    first, last = (datetime.fromisoformat(event["time"]) for event in (begin, end))
    assert (last - first).total_seconds() < REFUSED_S

    with joining(empty) as machines:
        # It waits for the first node, begins, and the second one joins.
        process = embed(place, empty, "ray.wait_for_nodes_s=120")
        wait_until(lambda: bool(events(place, "note")), process, 60)
        decode = machines.add(tier="decode")
        gpu = machines.add(gpus=1, tier="gpu")
        wait_until(lambda: gpu.does("EmbedWorker"), process, 90)
        notes = [event["text"] for event in events(place, "note")]
        assert any("2 workers instead of 1" in text for text in notes), notes
        process.send_signal(signal.SIGTERM)  # that a run goes to its end so, others look at
        assert process.wait(90) == 1, (place.folder / "out.txt").read_text()

        options = ("embed.backbones.acoustic.num_gpus=1", "embed.augment.variants=4")
        process = embed(place, empty, *options)
        found = _titles(process, {"decode": decode.does, "gpu": gpu.does})
        assert process.wait(200) == 0, (place.folder / "out.txt").read_text()
        assert found == {("decode", "decode_asked"), ("gpu", "EmbedShard")}
        place.audioflow("verify", str(place.folder / "runs/grown"))


def _titles(
    process: subprocess.Popen[bytes], nodes: dict[str, Callable[..., bool]]
) -> set[tuple[str, str]]:
    """What workers of each node were seen to do."""
    found = set()
    while process.poll() is None:
        for name, does in nodes.items():
            found |= {(name, title) for title in ("decode_asked", "EmbedShard") if does(title)}
        time.sleep(0.05)
    return found
