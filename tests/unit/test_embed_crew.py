"""How many workers a pipeline has, what each asks for, and what is told of it."""

from dataclasses import replace

import pytest

from audioflow.backbones import BACKBONES
from audioflow.engine.embed_actor import BackboneSpec
from audioflow.engine.embed_crew import DECODE_TIER, AtWork, Crew
from audioflow.engine.embed_pipeline import Pipeline
from audioflow.engine.embed_tally import Tally
from audioflow.media.packing import ROW_BYTES
from audioflow.planning.machines import Machine, Machines
from audioflow.planning.peaks import BASE_BYTES, DECODE_BYTES, PEAK_MB, peak_bytes
from audioflow.recipe_embed import BackboneChoice, EmbedSection
from audioflow.storage import Folder, StorageOptions
from audioflow.timing import Stint, Times

GB = 2**30


def nodes(*cpus, memory_gb=100.0, gpus=0.0, store_gb=8.0, labels=None):
    resources = {"GPU": gpus, "memory": memory_gb * GB, "object_store_memory": store_gb * GB}
    return Machines(tuple(Machine(resources | {"CPU": one}, labels or {}) for one in cpus))


def crew(machines, *choices, **section):
    at_work = [
        AtWork(
            BackboneSpec(f"b{place}", "acoustic", {}, Folder("x"), 0.9, choice.num_gpus or 0.0),
            choice,
        )
        for place, choice in enumerate(choices)
    ]
    return Crew(EmbedSection(backbones={"x": BackboneChoice()}, **section), at_work, machines)


ONE = BackboneChoice()


@pytest.mark.parametrize(
    ("cpus", "actors", "workers", "share"),
    [
        ((4.0,), None, 4, 1.0),
        ((4.0, 2.0, 0.0), None, 6, 1.0),
        ((1.5, 1.5), None, 2, 1.0),
        ((0.5,), None, 1, 0.5),
        ((2.0,), 4, 4, 0.5),
        ((8.0,), 3, 3, 1.0),
        ((0.0,), None, 1, 1.0),
    ],
)
def test_a_worker_for_each_cpu_or_as_many_as_the_recipe_says(cpus, actors, workers, share):
    found = crew(nodes(*cpus), BackboneChoice(actors=actors))
    assert found.own_workers == workers
    assert found.worker.resources["CPU"] == pytest.approx(share)
    assert not found.told()


def test_a_node_gets_no_more_workers_than_its_memory_holds():
    choice = BackboneChoice(memory_gb=2.0)
    takes = (2 * GB + BASE_BYTES + DECODE_BYTES) / GB
    found = crew(nodes(16.0, 16.0, memory_gb=3.5 * takes), choice)
    assert found.worker.resources["memory"] == pytest.approx(takes * GB)
    assert found.own_workers == 6
    assert "6 workers, and not 32: each takes about 2.6 GB of memory" in found.told()


def test_memory_of_a_head_that_gives_no_cpus_is_not_counted():
    takes = (2 * GB + BASE_BYTES + DECODE_BYTES) / GB
    head = nodes(0.0, memory_gb=14.0)
    machines = Machines(head.nodes + nodes(2.0, memory_gb=1.5 * takes).nodes)
    told = crew(machines, BackboneChoice(memory_gb=2.0)).told()
    assert f"1 worker, and not 2: each takes about {takes:.1f} GB of memory" in told
    assert f"and the nodes have {1.5 * takes:.1f} GB for it" in told


@pytest.mark.parametrize(
    ("choice", "memory_gb", "advice"),
    [
        (BackboneChoice(actors=1), 100.0, "try embed.backbones.b0.actors=4: "),
        (BackboneChoice(memory_gb=2.0), 3.0, "memory allows no more workers"),
        (ONE, 100.0, "only more cores help (more nodes, or larger ones)"),
    ],
)
def test_advice_goes_by_what_there_is_room_for(choice, memory_gb, advice):
    found = crew(nodes(4.0, memory_gb=memory_gb), choice)
    tally = Tally(
        Pipeline(found.section, found.backbones, found.machines, StorageOptions(), joined=True), 64
    )
    tally.add(Times((Stint("decode", "n", 1, 0.0, 50.0, 50.0),)))
    assert tally.verdict().advice.startswith(advice)


def test_a_small_machine_still_has_a_worker_that_asks_for_what_there_is():
    found = crew(nodes(4.0, memory_gb=0.2), BackboneChoice(memory_gb=2.0))
    assert found.own_workers == 1
    assert found.worker.resources["memory"] == pytest.approx(0.2 * GB)
    assert not found.machines.lack(found.needs(10))


def test_several_backbones_in_one_worker_take_their_memory_together():
    found = crew(nodes(4.0), BackboneChoice(memory_gb=2.0), ONE)
    expected = BASE_BYTES + DECODE_BYTES + 2 * GB + peak_bytes("acoustic")
    assert found.worker.resources["memory"] == expected


def test_on_gpus_all_backbones_and_a_decoder_have_to_be_there():
    found = crew(nodes(4.0, gpus=1.0), BackboneChoice(num_gpus=0.5), BackboneChoice(num_gpus=1.0))
    assert found.own_workers == 0
    keys = [need.key for need in found.needs(10)]
    assert keys == [
        "embed.decode_cpus",
        "embed.backbones.b0.num_gpus",
        "embed.backbones.b1.num_gpus",
    ]
    lacking = found.machines.lack(found.needs(10))
    assert lacking.startswith("embed.backbones.b0.num_gpus: an actor of b0 needs 0.5 GPU")
    assert lacking.endswith("and there is no room for it beside all else that has to be there")
    assert not nodes(4.0, 0.0, gpus=1.0).lack(found.needs(10))


def test_actors_may_become_more_when_nodes_join_unless_the_recipe_says_how_many():
    found = crew(nodes(4.0, gpus=1.0), BackboneChoice(num_gpus=1.0))
    (one,) = found.backbones
    assert (found.actors(one), found.most_actors(one, 50)) == (1, 50)
    fixed = crew(nodes(4.0, gpus=1.0), BackboneChoice(num_gpus=0.5, actors=2))
    (one,) = fixed.backbones
    assert (fixed.actors(one), fixed.most_actors(one, 50)) == (2, 2)
    assert [need.count for need in fixed.needs(50)] == [1, 2]


def test_no_more_waits_in_the_object_store_than_half_of_it():
    found = crew(nodes(4.0, gpus=1.0), BackboneChoice(num_gpus=1.0))
    assert found.store_bytes() == 2 * ROW_BYTES * (4 + 1)
    assert not found.told()
    small = replace(found, machines=nodes(4.0, gpus=1.0, store_gb=0.25))
    assert small.store_bytes() == 0.125 * GB
    assert "the object stores hold 0.25 GB, less than two rows of 64 MB" in small.told()


def test_a_decode_task_asks_for_no_more_cpus_than_a_node_has():
    found = crew(nodes(2.0, 1.0, gpus=1.0), BackboneChoice(num_gpus=1.0), decode_cpus=4.0)
    assert found.decode_cpus == 2.0
    assert found.decoders(100) == 1


def test_decoding_keeps_to_its_nodes_where_there_are_any():
    gpu = BackboneChoice(num_gpus=1.0)
    both = (*nodes(2.0, labels=DECODE_TIER).nodes, *nodes(8.0, gpus=1.0).nodes)
    found = crew(Machines(both), gpu, decode_cpus=4.0)
    assert found.decoder.labels == DECODE_TIER
    assert (found.decode_cpus, found.decoders(100)) == (2.0, 1)
    assert crew(Machines(both[1:]), gpu).decoder.labels == {}
    asked = crew(Machines(both), gpu, placement={"decode": {"zone": "a"}})
    assert asked.decoder.labels == {"zone": "a"}
    assert "label zone=a" in asked.machines.lack(asked.needs(1))


@pytest.mark.parametrize(
    ("placement", "labels", "key", "told"),
    [
        ({}, {}, "embed", ""),
        ({"decode": {"disk": "nvme"}}, {"disk": "nvme"}, "embed.placement.decode", ""),
        ({"embed": {"zone": "a"}}, {"zone": "a"}, "embed.placement.embed", ""),
        (
            {"decode": {"disk": "nvme", "zone": "b"}, "embed": {"zone": "a"}},
            {"disk": "nvme", "zone": "a"},
            "embed.placement",
            "each worker decodes and embeds, on nodes with zone=a, as `embed` says",
        ),
    ],
)
def test_a_worker_that_does_both_is_on_a_node_fit_for_both(placement, labels, key, told):
    found = crew(nodes(2.0), ONE, placement=placement)
    assert (found.worker.labels, found.worker.key) == (labels, key)
    assert told in found.told()
    assert bool(found.told()) == bool(told)
    assert bool(found.machines.lack(found.needs(1))) == bool(labels)


def test_figures_of_memory_are_of_backbones_that_there_are():
    assert set(PEAK_MB) <= set(BACKBONES.names())
    assert peak_bytes("openl3") > peak_bytes("vggish") > peak_bytes("another") / 2 > 0


def test_no_more_memory_is_asked_for_than_kinds_of_nodes_say_that_they_have():
    small = Machine({"CPU": 1.0, "memory": 0.2 * GB}, most=4, kind="small")
    silent = Machine({"CPU": 1.0}, most=4, kind="silent")
    there = nodes(2.0, memory_gb=100.0)
    for kind, expected in ((small, 0.2 * GB), (silent, 0.0)):
        found = crew(replace(there, grows=True, kinds=(kind,)), BackboneChoice(memory_gb=2.0))
        assert found.worker.resources["memory"] == expected
        assert not replace(found.machines, nodes=()).hopeless(found.needs(10))
