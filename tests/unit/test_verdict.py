"""Where the time of a run went, in one sentence with one setting to change."""

from dataclasses import replace

import pytest

from audioflow.planning.verdict import Backbone, RunFacts, verdict

VGGISH = Backbone("vggish", precision="float32", hop_s=0.96)
BUSY = RunFacts(
    start_s=6.0,
    work_s=50.0,
    items=64,
    workers=2,
    seconds={"fetch": 0.1, "decode": 14.0, "embed vggish": 82.0, "write": 0.9},
    backbones=[VGGISH],
)
ON_GPU = replace(
    BUSY,
    workers=14,
    seconds={"fetch": 1.0, "decode": 400.0, "embed vggish": 45.0, "write": 1.0},
    backbones=[replace(VGGISH, precision="bfloat16", on_gpu=True, actors=1)],
)


def test_shares_are_of_all_the_time_that_workers_had():
    found = verdict(BUSY)
    assert found.shares == pytest.approx(
        {"fetch": 0.001, "decode": 0.14, "embed vggish": 0.82, "write": 0.009, "wait": 0.03}
    )
    assert sum(found.shares.values()) == pytest.approx(1)


def test_a_run_bound_by_its_network_names_the_share_of_the_bare_one():
    found = verdict(BUSY)
    assert (found.kind, found.bare) == ("network", pytest.approx(0.82))
    assert found.text == (
        "bound by the backbone vggish (vggish 82%, decode 14%, waiting 3%, write 1%); "
        "82% of what vggish alone reaches in as many processes; "
        "try embed.backbones.vggish.num_gpus=1 on a machine with a GPU"
    )


@pytest.mark.parametrize(
    ("backbone", "fast", "advice"),
    [
        (VGGISH, True, "try embed.backbones.vggish.precision=bfloat16"),
        (replace(VGGISH, precision="bfloat16"), True, "num_gpus=1 on a machine with a GPU"),
        (replace(VGGISH, precision=None), True, "hop_s=1.92 (now 0.96) would halve it"),
        (replace(VGGISH, precision=None, hop_s=None), True, "only more cores"),
    ],
)
def test_what_makes_a_network_faster_depends_on_what_there_is(backbone, fast, advice):
    found = verdict(replace(BUSY, backbones=[backbone], fast_bfloat16=fast))
    assert advice in found.advice


def test_heads_may_take_longer_than_the_backbones_they_read():
    found = verdict(replace(BUSY, seconds={"decode": 10.0, "embed vggish": 30.0, "score": 50.0}))
    assert found.kind == "heads"
    assert found.text.startswith("bound by the heads (score 50%, vggish 30%, decode 10%")


def test_the_slowest_of_several_backbones_is_named():
    seconds = BUSY.seconds | {"embed vggish": 30.0, "embed yamnet": 50.0}
    found = verdict(replace(BUSY, seconds=seconds, backbones=[VGGISH, Backbone("yamnet")]))
    assert found.kind == "network"
    assert "bound by the backbone yamnet" in found.text


def test_a_run_bound_by_decoding_asks_for_cores():
    found = verdict(replace(BUSY, seconds={"decode": 80.0, "embed vggish": 15.0}))
    assert (found.kind, found.advice) == (
        "decode",
        "only more cores help (ray.num_cpus, more nodes)",
    )


def test_on_a_ray_that_was_there_no_setting_of_its_start_is_named():
    decoding = replace(BUSY, seconds={"decode": 80.0, "embed vggish": 15.0}, joined=True)
    assert verdict(decoding).advice == "only more cores help (more nodes, or larger ones)"


@pytest.mark.parametrize("stage", ["decode", "embed vggish", "score"])
def test_cores_without_a_worker_are_put_to_work_first(stage):
    few = replace(BUSY, workers=1, seconds={stage: 45.0}, room=4, cores=4)
    assert verdict(few).advice == (
        "try embed.backbones.vggish.actors=4: there is room for so many workers"
    )
    assert "actors" not in verdict(replace(few, room=1, cores=1)).advice
    assert "actors" not in verdict(replace(few, items=1)).advice


@pytest.mark.parametrize("stage", ["decode", "embed vggish", "score", "fetch"])
def test_where_memory_keeps_cores_idle_it_is_named(stage):
    found = verdict(replace(BUSY, workers=1, seconds={stage: 45.0}, room=1, cores=4))
    assert found.advice == (
        "memory allows no more workers: nodes with more of it, or a smaller "
        "embed.backbones.vggish.memory_gb"
    )


def test_workers_that_waited_for_nodes_are_no_matter_of_shards():
    waited = replace(BUSY, seconds={"embed vggish": 20.0}, items=32, lost_nodes=True)
    found = verdict(waited)
    assert (found.kind, found.advice) == ("scheduler", "")
    assert "(waiting 80%, vggish 20%); nodes were lost meanwhile" in found.text
    assert "lost" not in verdict(replace(BUSY, lost_nodes=True)).text


@pytest.mark.parametrize(
    ("seconds", "advice"),
    [
        ({"fetch": 60.0, "embed vggish": 30.0}, "try embed.backbones.vggish.actors=4"),
        ({"write": 60.0, "embed vggish": 30.0}, "try a larger embed.clips_per_shard"),
    ],
)
def test_a_run_bound_by_its_store_names_what_waits(seconds, advice):
    found = verdict(replace(BUSY, seconds=seconds))
    assert found.kind == "io"
    assert advice in found.advice


@pytest.mark.parametrize(("items", "size"), [(3, "smaller"), (500, "larger")])
def test_workers_without_work_are_a_matter_of_shards(items, size):
    found = verdict(replace(BUSY, seconds={"embed vggish": 20.0}, items=items))
    assert found.kind == "scheduler"
    assert f"try a {size} embed.clips_per_shard: the {items} shards were" in found.advice


def test_a_short_run_is_bound_by_its_start():
    found = verdict(replace(BUSY, start_s=8.0, work_s=3.0, seconds={"embed vggish": 5.0}))
    assert found.kind == "start"
    assert found.text.startswith("the start took 8.0 s, the work 3.0 s")


def test_a_busy_gpu_is_measured_by_its_own_actors():
    found = verdict(ON_GPU)
    assert (found.kind, found.bare) == ("network", pytest.approx(0.9))
    assert "90% of what vggish alone reaches on the GPU" in found.text


def test_a_gpu_that_waits_for_decoders_asks_for_cpus():
    seconds = ON_GPU.seconds | {"decode": 690.0, "embed vggish": 20.0}
    found = verdict(replace(ON_GPU, seconds=seconds))
    assert found.kind == "decode"
    assert found.advice == "give Ray more CPUs: the GPU waits for the decoders"
    fetching = ON_GPU.seconds | {"fetch": 500.0, "decode": 190.0, "embed vggish": 20.0}
    found = verdict(replace(ON_GPU, seconds=fetching))
    assert (found.kind, found.advice) == (
        "io",
        "try a smaller embed.decode_cpus: more files are fetched at once",
    )


def test_a_gpu_that_waits_for_nothing_in_particular_is_a_matter_of_shards():
    idle = {"decode": 100.0, "embed vggish": 10.0}
    assert verdict(replace(ON_GPU, seconds=idle)).kind == "scheduler"


def test_more_time_spent_than_there_was_is_no_negative_waiting():
    found = verdict(replace(BUSY, seconds={"embed vggish": 130.0}))
    assert found.shares == {"embed vggish": 1.0, "wait": 0.0}
    assert verdict(replace(BUSY, start_s=0.0, work_s=0.0, seconds={})).shares == {"wait": 1.0}
