"""Memory is asked for by nodes that could do the work, and never by a roomy head without CPUs.

On a cluster as on Kubernetes: the head gives no CPUs, and has much more memory than the worker.
"""

from types import SimpleNamespace
from typing import Any

import pytest

from audioflow.engine import embed_pool, ray_tasks, train_fits, train_needs
from audioflow.engine.ray_tasks import OnRay
from audioflow.planning.machines import Machine, Machines, Need
from audioflow.recipe_train import TrainSection

MB, GB = 2**20, 2**30
HEAD = Machine({"CPU": 0.0, "memory": 14.0 * GB})
SMALL = Machine({"CPU": 2.0, "memory": 400.0 * MB})
WITH_GPU = Machine({"CPU": 2.0, "GPU": 1.0, "memory": 200.0 * MB})
CLUSTER = Machines((HEAD, SMALL))


def see(monkeypatch: pytest.MonkeyPatch, machines: Machines) -> None:
    """Let every module find these machines."""
    for module in (embed_pool, ray_tasks, train_fits, train_needs):
        monkeypatch.setattr(module, "look", lambda: machines)
    monkeypatch.setattr(ray_tasks, "_cpus", lambda: machines.total("CPU"))
    monkeypatch.setattr(embed_pool, "nodes_within_s", lambda run: 0.0)

    def ready_for(run: Any, job: str, needs: list[Need]) -> Machines:
        assert not (lacking := machines.lack(needs)), lacking
        return machines

    monkeypatch.setattr(embed_pool, "ready_for", ready_for)


def trained(section: TrainSection) -> Any:
    return SimpleNamespace(system="birds", section=SimpleNamespace(train=section))


def test_a_task_asks_for_what_a_node_has_that_can_do_it(monkeypatch: pytest.MonkeyPatch) -> None:
    see(monkeypatch, CLUSTER)
    need = OnRay(3 * GB, 1.0).need("fuse")
    assert need.resources == {"CPU": 1.0, "memory": 200.0 * MB}
    assert not CLUSTER.lack([need])
    assert OnRay(100 * MB, 1.0).need("fuse").resources["memory"] == 100 * MB


def test_where_no_node_can_do_it_memory_is_not_what_is_lacking(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    see(monkeypatch, alone := Machines((HEAD,)))
    need = OnRay(3 * GB, 1.0).need("fuse")
    assert alone.lack([need]) == "fuse: a task needs 1 CPU, and no node has that"


def test_a_worker_that_trains_alone_asks_for_what_its_node_has(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    see(monkeypatch, CLUSTER)
    need = train_fits.need_of(trained(TrainSection()), GB)
    assert need.resources == {"CPU": 1.0, "GPU": 0.0, "memory": 200.0 * MB}
    assert not CLUSTER.lack([need])
    see(monkeypatch, several := Machines((HEAD, SMALL, WITH_GPU)))
    need = train_fits.need_of(trained(TrainSection(gpus_per_worker=1.0)), GB)
    assert need.resources["memory"] == 100.0 * MB
    assert not several.lack([need])


def test_a_worker_that_trains_alone_asks_for_no_more_cpus_than_a_node_has(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    see(monkeypatch, halves := Machines((Machine({"CPU": 0.5, "memory": 8.0 * GB}),) * 2))
    assert not halves.lack([train_fits.need_of(trained(TrainSection()), GB)])


def test_workers_that_score_ask_for_what_their_nodes_have(monkeypatch: pytest.MonkeyPatch) -> None:
    see(monkeypatch, CLUSTER)
    run: Any = SimpleNamespace(session=SimpleNamespace(ensure=lambda: {"CPU": 2.0}))
    room = embed_pool.room_for(run, "score", "birds", 600 * MB)
    assert room.worker.resources == {"CPU": 1.0, "memory": 400.0 * MB}
    assert room.first == 1


def test_the_roomiest_node_is_one_that_has_all_else() -> None:
    labelled = Machine({"CPU": 1.0, "memory": 2.0 * GB}, {"tier": "a"})
    machines = Machines((HEAD, SMALL, labelled))
    assert machines.roomiest(Need("", "", {"CPU": 1.0})) == 2.0 * GB
    assert machines.roomiest(Need("", "", {"CPU": 2.0})) == 400.0 * MB
    assert machines.roomiest(Need("", "", {"CPU": 0.5}, {"tier": "b"})) == 0.0
    kind = Machine({"CPU": 8.0, "memory": 3.0 * GB}, kind="large")
    coming = Machines((HEAD,), grows=True, kinds=(kind,))
    assert coming.roomiest(Need("", "", {"CPU": 1.0})) == 3.0 * GB
