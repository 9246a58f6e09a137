"""The head of a cluster is lost in the middle of a job: the command says so, and how it ended."""

import json
import os
import signal
import subprocess
from pathlib import Path

import yaml

from audioflow.datasets.demo_corpus import make_corpus
from tests.conftest import ROOT
from tests.e2e.conftest import BIN, Cluster, Place, running, wait_until

RECIPE = {
    "run_dir": "runs/headless",
    "embed": {
        "backbones": {"acoustic": {}},
        "clips_per_shard": 2,
        "max_failed_share": 0.5,
        "augment": {"variants": 100, "splits": ["train", "val", "test"], "gain": {}},
    },
}


def kill_head(cluster: Cluster) -> None:
    """Kill the process that knows the cluster, and nothing else."""
    (head,) = (
        number
        for number, title in cluster.processes()
        if title.partition("\0")[0].endswith("gcs_server")
    )
    os.kill(head, signal.SIGKILL)


def test_a_head_that_is_lost_is_told_and_ends_the_command_with_a_reason(tmp_path: Path) -> None:
    place = Place(tmp_path)
    corpus = make_corpus(tmp_path / "media", clips=24, seed=3)
    recipe = RECIPE | {"manifest": {"reader": "folder", "root": str(corpus)}}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    place.audioflow("manifest", str(tmp_path / "recipe.yaml"))
    command = [BIN / "audioflow", "embed", tmp_path / "recipe.yaml"]
    with running(place, cpus=2, gpus=0) as cluster:
        process = subprocess.Popen(
            [*command, f"ray.address={cluster.address}", "--events", tmp_path / "events"],
            cwd=ROOT,
            env=place.environment(RAY_gcs_rpc_server_reconnect_timeout_s="15"),
            stdout=(tmp_path / "out.txt").open("wb"),
            stderr=subprocess.STDOUT,
        )
        shards = tmp_path / "runs" / "headless" / "embeddings" / "acoustic" / "_shards"
        wait_until(lambda: len(list(shards.glob("*"))) >= 4, process, 90)
        kill_head(cluster)
        assert process.wait(90) == 1
    said = (tmp_path / "out.txt").read_text()
    assert "does not answer: Connection refused; without it this command ends in" in said
    assert "error: the head of the cluster (" in said
    assert "run the same command again to go on" in said
    *_, end = map(json.loads, (tmp_path / "events").read_text().splitlines())
    assert (end["kind"], end["exit_code"]) == ("end", 1)
    assert "has not answered for" in end["error"]
    status = json.loads(place.audioflow("status", str(tmp_path / "runs/headless"), "--json").stdout)
    assert status["command"]["exit_code"] == 1
    assert [table["complete"] for table in status["tables"]] == [True, False], "what is left"
