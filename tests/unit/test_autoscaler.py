"""What kinds of nodes an autoscaler may start, and what it is asked for in whose words."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from audioflow.engine import autoscaler
from audioflow.engine.autoscaler import kinds_in
from audioflow.planning.machines import Machine, Need

DECODE = {"audioflow/tier": "decode"}
CONFIG = {
    "max_workers": 5,
    "head_node_type": "head",
    "available_node_types": {
        "head": {"resources": {"CPU": 4}, "max_workers": 0},
        "decode": {"resources": {"CPU": 16, "memory": 1000}, "labels": DECODE, "max_workers": 40},
        "gpu": {"resources": {"GPU": 1, "CPU": 8}, "max_workers": 2},
        "any": {"resources": {"CPU": 1}},
        "none": {"resources": {"CPU": 1}, "max_workers": 0},
    },
}
DECODERS = Machine({"CPU": 16.0, "memory": 1000.0}, DECODE, 5, kind="decode")
GPUS = Machine({"CPU": 8.0, "GPU": 1.0}, {}, 2, real_gpus=True, kind="gpu")


def test_kinds_are_all_but_the_heads_and_no_more_than_the_cluster_may_have() -> None:
    assert kinds_in(CONFIG) == (DECODERS, GPUS, Machine({"CPU": 1.0}, {}, 5, kind="any"))


def test_a_configuration_without_a_most_has_that_of_each_kind() -> None:
    config = {key: value for key, value in CONFIG.items() if key != "max_workers"}
    assert [(one.kind, one.most) for one in kinds_in(config)] == [("decode", 40), ("gpu", 2)]
    assert kinds_in({}) == ()


def test_an_autoscaler_that_knows_no_labels_is_asked_for_a_whole_node_that_has_them() -> None:
    need = Need("a.b", "a task", {"CPU": 2.0}, DECODE)
    assert autoscaler._whole(need, [GPUS, DECODERS]) == DECODERS.resources
    assert autoscaler._whole(need, [GPUS]) == {"CPU": 2.0}
    plain = Need("a.b", "a task", {"CPU": 2.0})
    assert autoscaler._whole(plain, [GPUS, DECODERS]) == {"CPU": 2.0}


@pytest.fixture
def monitor(tmp_path: Path) -> Iterator[None]:
    """A process with the arguments that Ray gives to its autoscaler."""
    arguments = ("--logs-dir=/x/session_7_1/logs", "--autoscaling-config=of_it.yaml")
    command = [sys.executable, "-c", "print(flush=True); input()", "monitor.py", *arguments]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=tmp_path, stdin=pipe, stdout=pipe) as process:
        assert process.stdout
        process.stdout.readline()
        yield
        process.kill()


@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="needs Linux")
def test_the_configuration_is_that_of_the_autoscaler_of_this_ray(
    monitor: None, tmp_path: Path
) -> None:
    assert autoscaler._config_file("session_7_1") == tmp_path / "of_it.yaml"
    assert autoscaler._config_file("session_7_10") is None
