"""When what was done: who worked on a shard, the time axis, the lanes, and the page."""

import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from audioflow.errors import TableError
from audioflow.planning.verdict_jobs import JobFacts, Trainer, fused, scored, trained
from audioflow.report.lanes import binned, lanes_of, timeline_figures
from audioflow.report.timeline import (
    NodeMark,
    ShardTimes,
    TableTime,
    TimeAxis,
    Timeline,
    clip_rates,
    failure_counts,
)
from audioflow.report.timeline_views import MOST_LANES
from audioflow.storage import Folder
from audioflow.tables import Content, Table
from audioflow.timing import Stint, Times, joined
from tests.unit.report_pages import Page, build_text, load, make_data, make_system, page_of

T0 = 1_795_968_700.0


def stint(stage: str, begin: float, end: float, busy_s: float | None = None, **more) -> Stint:
    place = {"node": "n1", "worker": 7} | more
    busy_s = end - begin if busy_s is None else busy_s
    return Stint(stage, place["node"], place["worker"], T0 + begin, T0 + end, busy_s)


def shard(name: str, *stints: Stint, clips: int = 4, failures: int = 0) -> ShardTimes:
    return ShardTimes("embed", "sound", name, clips, failures, stints)


def many(count: int, workers: int, nodes: int, start: float = 0.0) -> list[ShardTimes]:
    """Shards of some 10 s each, dealt out to workers as they become free."""
    generator, free = random.Random(1), [start] * workers
    found = []
    for number in range(count):
        worker = min(range(workers), key=free.__getitem__)
        begin, half = free[worker], 4 + 2 * generator.random()
        place = {"node": f"node-{worker % nodes}", "worker": worker}
        stints = (
            stint("decode", begin, begin + half, **place),
            stint("embed sound", begin + half, begin + 2 * half, **place),
        )
        free[worker] = begin + 2 * half
        found.append(shard(f"{number:05d}", *stints, failures=number % 50 == 0))
    return found


# Who worked on a shard


def test_stints_of_one_worker_in_one_stage_are_one() -> None:
    other = stint("decode", 5, 6, worker=8)
    found = joined([stint("decode", 0, 1), stint("fetch", 1, 2), stint("decode", 2, 4), other])
    assert found == (stint("decode", 0, 4, 3.0), stint("fetch", 1, 2), other)


def test_times_travel_as_text_and_add_up() -> None:
    times = Times((stint("decode", 0, 2),), {"bytes": 3}) + Times((stint("decode", 4, 5),), {})
    times += Times((stint("write", 5, 6, node="n2"),), {"bytes": 4})
    again = Times.from_text(times.to_text())
    assert again == times
    assert again.seconds == {"decode": 3.0, "write": 1.0}
    assert (again.counts, again.node) == ({"bytes": 7}, "n2")


def test_a_table_keeps_only_its_own_stages() -> None:
    times = Times((stint("decode", 0, 1), stint("embed a", 1, 2), stint("embed b", 2, 3)))
    assert [one.stage for one in times.of_table("b").stints] == ["decode", "embed b"]


def test_receipts_keep_who_made_a_shard_and_the_rows_do_not_depend_on_it(tmp_path: Path) -> None:
    rows = pa.table({"clip_id": ["a", "b"]})
    table = Table(Folder(str(tmp_path)))
    mine = [stint("decode", 0, 1), stint("write", 1, 2)]
    first = table.commit_content("s", Content(rows, times=lambda: Times(tuple(mine))))
    data = (tmp_path / "s.parquet").read_bytes()
    assert table.stints(["s"]) == {"s": mine}
    second = table.commit_content("s", Content(rows))
    assert (second, (tmp_path / "s.parquet").read_bytes()) == (first, data)
    assert table.stints(["s"]) == {"s": []}  # of one that was made before times were kept


def test_a_receipt_with_something_else_for_its_stints_is_damaged(tmp_path: Path) -> None:
    table = Table(Folder(str(tmp_path)))
    table.commit("s", pa.table({"clip_id": ["a"]}))
    (tmp_path / "_shards" / "s.json").write_text('{"stints": [["decode", "n"]]}')
    with pytest.raises(TableError, match=r"s\.json is damaged \(not enough values"):
        table.stints(["s"])


# The time axis


def test_a_pause_takes_the_same_room_whatever_it_lasted() -> None:
    for pause in (100.0, 1e6):
        axis = TimeAxis.of([(0.0, 50.0), (50 + pause, 100 + pause)])
        (gap,) = axis.gaps()
        assert (gap.seconds, axis.active_s) == (pause, 100.0)
        assert gap.right - gap.left == pytest.approx(0.03)
        assert (axis.at(0), axis.at(50), axis.at(100 + pause)) == (0, pytest.approx(0.485), 1)
        assert axis.at(50 + pause / 2) == pytest.approx(gap.right)


def test_short_pauses_are_none_and_many_pauses_leave_room_for_the_work() -> None:
    assert len(TimeAxis.of([(0, 1), (9, 20), (25, 30)]).periods) == 1
    axis = TimeAxis.of([(1000.0 * n, 1000.0 * n + 10) for n in range(50)])
    assert sum(gap.right - gap.left for gap in axis.gaps()) == pytest.approx(0.3)
    assert axis.at(49_010) == pytest.approx(1)


def test_bins_add_up_to_the_seconds_that_were_worked() -> None:
    shards = many(40, 3, 2) + many(10, 3, 2, start=5000)
    lanes = lanes_of(shards)
    axis = TimeAxis.of((one.begin, one.end) for one in shards)
    edges = axis.edges(150)
    assert np.all(np.diff(edges) >= 0)
    worked = sum(s.busy_s for one in shards for s in one.stints)
    shares = binned((piece for lane in lanes for piece in lane.pieces), edges)
    assert sum(float(found @ np.diff(edges)) for found in shares.values()) == pytest.approx(worked)
    assert float(clip_rates(shards, edges) @ np.diff(edges)) == pytest.approx(4 * 50)
    assert failure_counts(shards, edges).sum() == sum(one.failures for one in shards) == 2


# The lanes of workers


def test_a_worker_that_was_started_anew_goes_on_in_the_same_lane() -> None:
    before = shard("0", stint("decode", 0, 5, worker=1))
    beside = shard("1", stint("decode", 1, 9, worker=2))
    after = shard("2", stint("decode", 6, 8, worker=3))
    lanes = lanes_of([before, beside, after])
    assert [[p.shard.name for p in lane.pieces] for lane in lanes] == [["0", "2"], ["1"]]
    assert [(lane.node, lane.number) for lane in lanes] == [("n1", 1), ("n1", 2)]


def test_nodes_stand_in_the_order_of_their_numbers() -> None:
    lanes = lanes_of([shard("0", stint("decode", 0, 1, node=f"n{n}")) for n in (10, 9, 1)])
    assert [lane.node for lane in lanes] == ["n1", "n9", "n10"]


def test_stages_that_took_turns_share_the_time_by_how_busy_they_were() -> None:
    (lane,) = lanes_of([shard("0", stint("fetch", 0, 9, 2.0), stint("decode", 1, 10, 6.0))])
    ends = [(one.stage, one.begin - T0, one.end - T0) for one in lane.pieces]
    assert ends == [("fetch", 0, 2), ("decode", 2, 8)]


# The page


def built(timeline: Timeline | None) -> tuple[Page, str, dict]:
    files = build_text(make_data(make_system("audio"), timeline=timeline), num_bootstrap=2)
    return page_of(files), files["index.html"].decode(), load(files)


def test_without_times_the_page_says_nothing_of_them() -> None:
    for nothing in (None, Timeline()):
        page, text, content = built(nothing)
        assert "When it was done" not in page.text
        assert '<div class="timeline">' not in text
        assert content["timeline"]["periods"] == []


def test_few_shards_are_shown_one_by_one() -> None:
    tables = (
        TableTime("embed", "sound", T0, T0 + 40),
        TableTime("train", "audio", T0 + 40, T0 + 50),
    )
    page, text, content = built(Timeline(tables, tuple(many(6, 2, 1))))
    assert "2 workers on 1 node made its shards" in page.text
    assert text.count("<title>decoding, shard 0000") == 6
    assert text.count("<title>sound, shard 0000") == 6
    assert [one["node"] for one in content["timeline"]["workers"]] == ["node-0", "node-0"]
    assert content["timeline"]["tables"][1]["table"] == "audio"


def test_an_interrupted_run_has_a_gap_with_its_length_and_marks() -> None:
    shards = many(8, 2, 2) + many(8, 2, 2, start=7200)
    end = max(one.end for one in shards)
    marks = (NodeMark(T0 + 12, "lost", "node-1"),)
    page, text, _ = built(
        Timeline((TableTime("embed", "sound", T0 + 7190, end),), tuple(shards), marks)
    )
    assert "in 2 periods with pauses between them" in page.text
    assert "1 h 59 min later" in page.text
    assert 'class="tl-before"' in text
    assert "node node-1 was lost" in text
    assert "Nodes (upright lines): node-1 was lost." in page.text


def test_ten_thousand_shards_of_many_nodes_stay_readable_and_small() -> None:
    shards = many(10_000, 160, 40)
    end = max(one.end for one in shards)
    page, text, content = built(Timeline((TableTime("embed", "sound", T0, end),), tuple(shards)))
    assert "17 other nodes (68)" in page.text
    assert text.count('aria-label="what ') == MOST_LANES
    assert len(text) < 700_000
    assert "shard 00001" not in text
    assert len(content["timeline"]["workers"]) == 160
    assert "99 % busy" in page.text or "100 % busy" in page.text


def test_names_of_nodes_are_escaped() -> None:
    _, text, _ = built(Timeline((), (shard("<s>", stint("decode", 0, 9, node="<b>&")),)))
    assert "<b>&" not in text
    assert "&lt;b&gt;&amp;" in text


def test_figures_without_a_timeline_are_empty() -> None:
    assert timeline_figures(None)["workers"] == []


# Verdicts of the jobs without media

FACTS = JobFacts(1.0, 10.0, {"read": 12.0, "score": 3.0, "write": 2.0}, 2, 100)


def test_scoring_is_bound_by_what_took_longest() -> None:
    found = scored(FACTS)
    assert (found.kind, found.advice[:20]) == ("io", "try ray.num_cpus=4: ")
    assert found.text.startswith("bound by reading embeddings (read 60%, ")
    assert sum(found.shares.values()) == pytest.approx(1)
    found = scored(replace(FACTS, joined=True))
    assert found.advice == "more nodes, or larger ones: workers wait for the store side by side"
    heads = scored(JobFacts(1.0, 10.0, {"read": 2.0, "score": 13.0}, 2, 100))
    assert (heads.kind, heads.text[:18]) == ("heads", "bound by the heads")
    assert scored(JobFacts(9.0, 2.0, {"read": 1.0}, 1, 1)).kind == "start"
    loading = scored(JobFacts(1.0, 10.0, {"load": 16.0, "score": 2.0}, 2, 100))
    assert loading.text.startswith("the start took 9.0 s, the work 2.0 s")
    idle = scored(JobFacts(0.0, 10.0, {"read": 2.0}, 4, 4))
    assert idle.kind == "scheduler"
    assert idle.text.endswith(": 4 shards are too few to share out")
    alone = scored(JobFacts(0.0, 10.0, {"read": 2.0}, 4, 1))
    assert alone.text.endswith(": 1 shard is too few to share out")


def test_a_fusion_is_told_the_engine_that_would_help() -> None:
    seconds = {"read": 1.0, "fit": 2.0, "fuse": 6.0, "write": 1.0}
    memory = fused(JobFacts(0.0, 10.0, seconds, 1, 9), "both", streams=False)
    assert memory.kind == "join"
    assert memory.advice == "fuse.both.engine=stream has it done in parts, side by side"
    read = fused(JobFacts(0.0, 10.0, {"read": 9.0}, 1, 9), "both", streams=True)
    assert read.advice.startswith("fuse.both.engine=memory")
    streamed = fused(JobFacts(0.0, 10.0, seconds, 1, 9, joined=True), "both", streams=True)
    assert streamed.advice == "only more cores help (more nodes, or larger ones)"
    fitting = fused(JobFacts(0.0, 10.0, {"fit": 9.0}, 1, 9), "both", streams=False)
    assert (fitting.kind, fitting.advice) == ("fit", "")
    assert "more clips cost no more of it" in fitting.text


@pytest.mark.parametrize(
    ("facts", "kind", "advice"),
    [
        (Trainer(1, 10, 1, 1, "t", gains=True), "compute", "t.gpus_per_worker=1"),
        (Trainer(1, 10, 1, 1, "t"), "compute", "try a larger t.batch_size: an epoch has fewer"),
        (Trainer(1, 10, 1, 1, "t", on_gpu=True), "compute", "t.precision=bfloat16"),
        (Trainer(1, 10, 1, 1, "t", on_gpu=True, bfloat16=True), "compute", ""),
        (Trainer(1, 10, 8, 1, "t", streams=True, needs_gb=7.5), "ingest", "t.ingest=memory"),
        (Trainer(1, 10, 8, 1, "t"), "ingest", "t.batch_size"),
        (Trainer(1, 10, 1, 8, "t"), "judge", "manifest.splits"),
        (Trainer(20, 10, 1, 8, "t"), "start", "more epochs"),
    ],
)
def test_training_is_bound_by_examples_network_or_val(facts, kind, advice) -> None:
    found = trained(facts)
    assert (found.kind, found.bare) == (kind, None)
    assert advice in found.advice
    assert found.text.endswith(found.advice)
