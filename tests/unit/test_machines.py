"""What fits on the machines of a cluster, what they lack, and who gets a GPU."""

import pytest

from audioflow.engine.train_place import gains
from audioflow.planning.estimate import gpu_shares
from audioflow.planning.machines import Machine, Machines, Need

GB = 2**30
DECODE = {"audioflow/tier": "decode"}


def machine(cpus=0.0, gpus=0.0, memory_gb=100.0, labels=None, **more):
    resources = {"CPU": cpus, "GPU": gpus, "memory": memory_gb * GB}
    return Machine(resources, labels or {}, **more)


def need(key="a.b", count=1, labels=None, **resources):
    return Need(key, "an actor", resources, labels or {}, count)


def test_what_fits_is_counted_machine_by_machine():
    machines = Machines((machine(1.5, memory_gb=8), machine(4, memory_gb=2), machine(0)))
    assert machines.room(need(CPU=1.0)) == 5
    assert machines.room(need(CPU=1.0, memory=1.0 * GB)) == 3
    assert machines.room(need(CPU=0.5, memory=3.0 * GB)) == 2
    assert machines.room(need(CPU=5.0)) == 0
    assert Machines((machine(0.3),)).room(need(CPU=0.1)) == 3


def test_nothing_lacks_where_all_fits_at_once():
    machines = Machines((machine(2, 1), machine(2, 1)))
    assert not machines.lack([need(CPU=1.0, count=4), need(GPU=0.5, count=4)])


def test_what_no_machine_has_is_named_with_its_key():
    machines = Machines((machine(2), machine(2)))
    found = machines.lack([need(CPU=1.0), need("embed.backbones.x.num_gpus", GPU=1.0)])
    assert found == "embed.backbones.x.num_gpus: an actor needs 1 GPU, and no node has that"
    assert "needs 3 CPU" in machines.lack([need(CPU=3.0)])
    assert "needs 200.0 GB of memory" in machines.lack([need(memory=200.0 * GB)])


def test_what_does_not_fit_side_by_side_is_counted():
    machines = Machines((machine(2, 1), machine(2, 1)))
    found = machines.lack([need(GPU=1.0, count=3)])
    assert "3 times an actor have to be there at once, each needs 1 GPU" in found
    assert "there is room for 2" in found
    found = machines.lack([need("a.x", GPU=1.0, count=1), need("a.y", GPU=1.0, count=2)])
    assert "room for 1 beside all else" in found


def test_small_parts_fill_what_large_ones_leave():
    machines = Machines((machine(0, 1), machine(0, 1)))
    assert not machines.lack([need(GPU=0.5), need(GPU=0.5), need(GPU=1.0)])


def test_labels_are_looked_for():
    machines = Machines((machine(2, labels=DECODE), machine(8)))
    assert machines.room(need(CPU=1.0, labels=DECODE)) == 2
    assert machines.labelled(DECODE)
    assert not machines.labelled({"zone": "a"})
    found = machines.lack([need(CPU=1.0, labels={"zone": "a"})])
    assert "needs 1 CPU, label zone=a, and no node has that" in found


def test_nodes_that_may_come_give_hope():
    kinds = (machine(0, 4, most=2),)
    machines = Machines((machine(2),), grows=True, kinds=kinds)
    wanted = [need(GPU=1.0, count=8)]
    assert machines.lack(wanted)
    assert not machines.hopeless(wanted)
    assert "room for 8" in machines.hopeless([need(GPU=1.0, count=9)])
    assert machines.most_room(need(GPU=1.0)) == 8
    assert machines.gpus == 8


def test_without_an_autoscaler_there_is_no_hope_and_with_an_unknown_one_always():
    wanted = [need(GPU=1.0)]
    assert Machines((machine(2),)).hopeless(wanted)
    assert not Machines((machine(2),), grows=True).hopeless(wanted)
    assert Machines((machine(2),), grows=True).most_room(need(CPU=1.0)) is None
    assert Machines((machine(2),)).most_room(need(CPU=1.0)) == 2


def test_machines_are_told_in_words():
    told = str(Machines((machine(2, 1, 4), machine(6, 0, 8))))
    assert told.startswith("2 nodes with 8 CPU, 1 GPU, 12.0 GB of memory in all, at most 6 CPU")
    assert str(Machines((machine(2, 1, 4),))) == "1 node with 2 CPU, 1 GPU, 4.0 GB of memory in all"


@pytest.mark.parametrize(
    ("asked", "networks", "accelerator", "gpus", "shares"),
    [
        ([None, None], [True, False], "auto", 0, [0, 0]),
        ([None, None], [True, False], "auto", 1, [1, 0]),
        ([None, None], [True, True], "auto", 1, [0.5, 0.5]),
        ([None, None, None], [True, True, True], "auto", 2, [0.5, 0.5, 0.5]),
        ([None, None], [True, True], "auto", 8, [1, 1]),
        ([None, None], [True, True], "cpu", 8, [0, 0]),
        ([1.0, None], [True, True], "cpu", 8, [1.0, 0]),
        ([1.0, None], [True, True], "auto", 1, [1.0, 0]),
        ([0.0, None], [True, True], "auto", 1, [0.0, 1]),
        ([None], [True], "gpu", 0, [1]),
        ([None], [False], "gpu", 0, [0]),
        ([0.25], [False], "auto", 0, [0.25]),
    ],
)
def test_networks_share_the_gpus_that_the_recipe_leaves(asked, networks, accelerator, gpus, shares):
    assert gpu_shares(asked, networks, accelerator, gpus) == shares


def test_nodes_that_are_there_are_not_counted_once_more_as_those_that_may_come():
    kinds = (machine(1, most=2, kind="small"),)
    one, head = machine(1, kind="small"), machine(4, kind="head")
    machines = Machines((head, one), grows=True, kinds=kinds)
    assert machines.most_room(need(CPU=1.0)) == 4 + 2
    assert not machines.hopeless([need(CPU=1.0, count=6)])
    assert "there is room for 6" in machines.hopeless([need(CPU=1.0, count=7)])


@pytest.mark.parametrize(
    ("head", "faster"),
    [("linear", False), ("mlp", False), ("short_chunk_cnn", True), ("vggish_finetune", True)],
)
def test_heads_with_convolutions_are_faster_on_a_gpu(head, faster):
    assert gains(head) == faster
