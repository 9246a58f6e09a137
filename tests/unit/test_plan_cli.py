"""What `audioflow plan` says of a forecast: figures as a person reads them, and what to change."""

from dataclasses import replace

import numpy as np
import pytest
from rich.text import Text

from audioflow.planning.estimate import Cluster
from audioflow.planning.figures import (
    ErrorSeen,
    Forecast,
    Measured,
    Price,
    Rules,
    TableMeasured,
    TableTodo,
)
from audioflow.planning.forecast import STARTUP_S, WORKER_BYTES, Known, forecast
from audioflow.planning.intervals import Interval
from audioflow.planning.sample import Sample, Stratum, recordings_of
from audioflow.planning.text import between, duration, forecast_lines, hints, percent, size
from audioflow.planning_cli import as_json
from tests.unit.test_planning import manifest

COUNT = 10_000
TRIED = 40
GIB = 2**30


def table(seconds: float, *, name: str = "acoustic", failed: int = 0, **more) -> TableMeasured:
    """A backbone that takes so many core seconds per recording of 60 s, in 120 patches."""
    rows = np.ones(TRIED)
    rows[:failed] = 0
    seen = [("no_audio", failed, "c/3.mp4", "/m/c/3.mp4", "the recording has no sound track")]
    values = {
        "backbone": name,
        "device": "cpu",
        "rows": rows,
        "failed": 1 - rows,
        "media_s": 60 * rows,
        "patches": 120 * rows,
        "raw_bytes": 50_000 * rows,
        "patch_cost_s": seconds / 120,
        "packed": 0.9,
        "file_bytes": 2000,
        "load_s": 1.5,
        "process_bytes": 6e8,
        "hop_s": 0.5,
        "errors": tuple(ErrorSeen(*one) for one in seen if failed),
    }
    return TableMeasured(name, **(values | more))


def known(*tables: TableMeasured, decode_s: float = 1.0, cpus: float = 64, **more) -> Known:
    """Ten thousand recordings of 60 s and 1 MB, of which forty were probed."""
    recordings = recordings_of(manifest([f"/m/{i}.mp4" for i in range(COUNT)], [10**6] * COUNT))
    nothing = np.zeros(COUNT, np.int64)
    chosen = np.arange(TRIED) * (COUNT // TRIED)
    strata = (Stratum("mp4", COUNT, TRIED, 10**6, 10**6),)
    ones = np.ones(TRIED)
    measured = Measured(
        media_s=60 * ones,
        decode_s=decode_s * ones,
        fetch_s=0 * ones,
        fetched_bytes=1e6 * ones,
        tables=tables,
        clips_tried=TRIED,
        child_bytes=2e8,
        row_bytes=6e7,
        probe_s=12.0,
    )
    left = np.ones(COUNT, np.bool_)
    todo = [TableTodo(one.table, 300, 0, 32, False, left) for one in tables]
    values = {"todo": todo, "rules": Rules(1.0, 4.0, 0.05), "cluster": Cluster(cpus)}
    values |= {"recordings": recordings, "measured": measured}
    return Known(**(values | {"sample": Sample(chosen, nothing[:TRIED], nothing, strata)} | more))


def lines(found: Forecast) -> list[str]:
    told = list(forecast_lines(found, "runs/x"))
    return [Text.from_markup(line).plain for line in told]


def test_the_figures_of_a_large_run():
    found = forecast(known(table(3.0), price=Price(2.0, "EUR")))
    assert found.media_s.value == pytest.approx(60 * COUNT)
    assert found.fetch_bytes.value == 10**6 * COUNT
    assert found.decode_x_real_time == pytest.approx(60)
    (acoustic,) = found.tables
    assert acoustic.x_real_time == pytest.approx(20)
    assert acoustic.bytes_per_clip == pytest.approx(45_000 + 2000 * 300 / COUNT)
    assert acoustic.output_bytes.value == pytest.approx(45_000 * COUNT + 2000 * 300)
    assert found.wall.core_s == pytest.approx(4.0 * COUNT)
    # 32 actors for 3 s of each recording: they are the narrow place, not the 64 cores
    assert found.wall.by == "embeddings/acoustic"
    assert found.wall.seconds == pytest.approx(3.0 * COUNT / 32 + STARTUP_S)
    assert found.cost is not None
    assert found.cost.value == pytest.approx(found.wall.seconds / 3600 * 2.0)
    memory = found.memory_per_machine
    assert memory.decode_bytes == 64 * (2e8 + WORKER_BYTES)
    assert memory.decode_limit_bytes == 64 * (4 * GIB + WORKER_BYTES)
    assert memory.backbones_bytes == 32 * 6e8
    assert memory.store_bytes == (64 + 2 * 32) * 6e7
    assert (found.reads, found.writes) == (COUNT, 2 * 300)


def test_requests_are_those_of_what_is_left():
    left = np.arange(COUNT) < 70
    todo = [TableTodo("acoustic", 300, 290, 32, False, left)]
    found = forecast(known(table(3.0), todo=todo))
    assert (found.reads, found.writes) == (70, 20)
    told = "requests   70 recordings to get and 20 files to put, where they are in a bucket"
    assert told in lines(found)
    done = replace(todo[0], shards_done=300, left=np.zeros(COUNT, np.bool_))
    assert not any(
        line.startswith("requests") for line in lines(forecast(known(table(3.0), todo=[done])))
    )


def test_the_lines_of_a_large_run_are_read_by_people():
    told = lines(forecast(known(table(3.0, failed=3), price=Price(2.0, "EUR"))))
    assert told[1] == "media      10000 clips of 10000 recordings, 167 h, 10 GB to fetch"
    assert "embeddings/acoustic   20x real time      32     45 kB    417 MB       300" in told
    assert told[-1].startswith("->         embed.backbones.acoustic.hop_s=1 (now 0.5) would halve")
    assert any("no_audio     3 clips of the sample, as c/3.mp4: the rec" in line for line in told)
    assert "would end with exit code 3" in "".join(told)
    assert max(map(len, told)) <= 100


def test_the_interval_of_failures_is_told_where_it_reaches_what_is_allowed():
    told = "".join(lines(forecast(known(table(3.0, failed=1)))))
    assert "2.5 % of the clips fail in embeddings/acoustic (95 %: 0.4 % to 12.9 %)" in told
    assert "allows 5.0 %: that may not be enough" in told


def test_a_busy_cluster_names_what_keeps_it_busy():
    found = forecast(known(table(1.0), decode_s=9.0, cpus=8))
    told = " ".join(hints(found))
    assert found.wall.by == "cores"
    assert "decoding takes 90.0 % of the work; twice the cores halve the time" in told
    assert "hop_s" not in told, "it would change little"
    found = forecast(known(table(9.0), decode_s=1.0, cpus=8))
    told = " ".join(hints(found))
    assert "embeddings/acoustic takes 90.0 % of the work" in told
    assert "hop_s=1 (now 0.5) would halve these 90.0 %" in told


def test_a_backbone_without_hop_or_with_few_patches_gets_no_such_advice():
    few = table(9.0, patches=4 * np.ones(TRIED), patch_cost_s=9.0 / 4)
    for one in (table(9.0, hop_s=None), few):
        assert "hop_s" not in " ".join(hints(forecast(known(one, cpus=8))))


def test_few_workers_and_the_setting_that_gives_more_are_named():
    base = known(table(0.1), decode_s=9.0)
    few = forecast(replace(base, rules=Rules(8.0, 4.0, 0.05)))
    assert (few.decode_workers, few.wall.by) == (8, "decode")
    assert "decoding has 8 workers only: make embed.decode_cpus smaller" in " ".join(hints(few))
    todo = [replace(base.todo[0], shards=4)]
    few = forecast(replace(base, todo=todo))
    assert "4 workers only: make embed.clips_per_shard smaller" in " ".join(hints(few))


def test_few_workers_of_their_own_are_named():
    base = known(table(3.0), decode_s=1.0)
    few = forecast(replace(base, rules=Rules(1.0, 4.0, 0.05, own_workers=8)))
    assert (few.decode_workers, few.wall.by) == (8, "workers")
    assert few.wall.seconds == pytest.approx(4.0 * COUNT / 8 + STARTUP_S)
    told = " ".join(hints(few))
    assert "there are 8 workers only: raise `actors`, or leave it out" in told
    memory = few.memory_per_machine
    assert (memory.decode_bytes, memory.store_bytes) == (8 * 2e8, 8 * 6e7)


def test_a_long_recording_holds_a_run_up():
    base = known(table(0.001), decode_s=0.001, cpus=1000)
    decode_s = np.full(TRIED, 0.001)
    decode_s[3] = 4000.0
    measured = replace(base.measured, decode_s=decode_s)
    rare = replace(base, measured=measured, cluster=Cluster(10**6))
    found = forecast(replace(rare, todo=[replace(base.todo[0], shards=10**6)]))
    assert found.wall.by == "longest"
    assert "one long recording takes longer than all others" in " ".join(hints(found))


def test_all_of_a_forecast_is_json_with_units():
    data = as_json(forecast(known(table(3.0), table(1.0, name="color"))), "runs/x")
    assert [one["table"] for one in data["tables"]] == ["acoustic", "color"]
    assert data["wall_s"].keys() == {"value", "low", "high"}
    memory = data["memory_per_machine"]
    parts = [memory[f"{name}_bytes"] for name in ("decode", "backbones", "store")]
    assert memory["expected_bytes"] == pytest.approx(sum(parts))


def test_names_that_a_terminal_would_act_on_are_escaped():
    odd = ErrorSeen("no_audio", 1, "[red]x\n", "/m/x", "broken\x1b[31m")
    told = "\n".join(forecast_lines(forecast(known(table(3.0, errors=(odd,)))), "u"))
    assert "\\[red]x\\n: broken\\x1b" in told


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.04, "0.0 s"),
        (5.14, "5.1 s"),
        (119, "119 s"),
        (840, "14 min"),
        (11_520, "3.2 h"),
        (10**6, "12 days"),
    ],
)
def test_durations(seconds, text):
    assert duration(seconds) == text


def test_sizes_shares_and_ranges():
    assert [size(count) for count in (0, 999, 1900, 41e9, 2.5e12)] == [
        "0 B",
        "999 B",
        "1.9 kB",
        "41 GB",
        "2.5 TB",
    ]
    assert [percent(share) for share in (0, 0.0421, 1)] == ["0 %", "4.2 %", "100 %"]
    assert between(Interval(3600 * 3, 3600 * 2.5, 3600 * 4), duration) == "3.0 h (2.5 h to 4.0 h)"
    assert between(Interval(5, 5, 5), duration) == "5.0 s"
