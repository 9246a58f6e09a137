"""docs/scale.md: what it computes follows from its inputs and from measured rates."""

import math
import re
from pathlib import Path

import pytest

from audioflow.engine import embed_deal
from audioflow.engine.score_stored import CLIPS_PER_SHARD
from audioflow.recipe_embed import EmbedSection
from audioflow.shards import BYTES_PER_SHARD
from benchmarks import scale
from tests.unit.test_docs_pages import rows, section

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "scale.md").read_text(encoding="utf-8")
BENCHMARKS = (ROOT / "benchmarks" / "README.md").read_text(encoding="utf-8")
MEASURED = {row[0]: row for row in rows(BENCHMARKS) if len(row) == 9}
DECODE, STEADY = 1, 5
SCALE = (ROOT / "benchmarks" / "scale.md").read_text(encoding="utf-8")
CPU, PLANNING, SHARDS, BYTES = 2, 3, 4, 8
BEFORE_GB = 0.7
"""Of the driver, before any clip is."""
INPUTS = {
    name: float(value.replace(",", "")) for name, value in rows(section(PAGE, "Your own figures"))
}
CLIPS = INPUTS["clips"]
MP4, WAV = "size of an mp4 of 10 s, bytes", "size of a wav of 5 s (16 kHz, mono), bytes"
PER_WRITE = INPUTS["1,000 requests that write (PUT, LIST), USD"] / 1000
PER_READ = INPUTS["1,000 requests that read (GET), USD"] / 1000


def number(text: str) -> float:
    return float(text.replace(",", ""))


def core_hours(seconds: float, rate: float) -> float:
    return CLIPS * seconds / 3600 / (rate / 2)


def test_hours_and_cost_follow_from_measured_rates() -> None:
    told = rows(section(PAGE, "Hours and money"))
    assert len(told) == 12
    for case, seconds, steady, hours, on_many, cost in told:
        assert steady == MEASURED[case][STEADY], case
        assert f"_{seconds}s" in case
        expected = core_hours(number(seconds), number(steady))
        assert hours == f"{expected:,.0f}", case
        assert on_many == f"{expected / 1000:.1f}", case
        assert cost == f"{expected * INPUTS['a core for an hour, USD']:,.0f}", case
    assert [number(row[3]) for row in told] == sorted(number(row[3]) for row in told)


def test_the_driver_bounds_the_hours_of_what_is_cheap() -> None:
    text = " ".join(section(PAGE, "Hours and money").split())
    (each,) = re.findall(r"hours = shards x ([\d.]+) / 3600", text)
    assert f"{1000 * float(each):g} ms" == f"{driver_ms():.0f} ms"
    assert f"which takes {1000 * float(each):g} ms for each" in text
    plan_s = 100 * number(phases("1,000,000")["nothing left"][CPU])
    assert f"beside {plan_s / 3600:.1f} h in which it plans" in text
    sizes = {"mp4_10s": INPUTS[MP4], "mp4_5s": INPUTS[MP4] / 2, "wav_5s": INPUTS[WAV]}
    shards = {what: math.ceil(CLIPS * size / BYTES_PER_SHARD) for what, size in sizes.items()}
    least = {what: count * float(each) / 3600 for what, count in shards.items()}
    for what, told in {
        "mp4_10s": "mp4 of 10 s ({count} shards to twice",
        "mp4_5s": "mp4 of 5 s (half the size, {count} shards)",
        "wav_5s": "wav of 5 s ({count} shards)",
    }.items():
        hours = f"{least[what]:.1f} to {2 * least[what]:.1f} h for "
        assert hours + told.format(count=f"{shards[what]:,}") in text
    bounded = []
    for case, seconds, steady, *_ in rows(section(PAGE, "Hours and money")):
        (what,) = re.findall(r"(?:mp4|wav)_\d+s", case)
        if core_hours(number(seconds), number(steady)) / 1000 < 2 * least[what]:
            bounded.append(case)
    assert f"it may bound {', '.join(bounded[:-1])} and {bounded[-1]}:" in text


def test_hours_of_decoding_follow_from_measured_rates() -> None:
    told = rows(section(PAGE, "GPUs"))
    assert told
    for case, rate, hours in told:
        assert rate == MEASURED[case][DECODE], case
        seconds = 10 if case.endswith("_10s`") else 5
        assert hours == f"{core_hours(seconds, number(rate)):,.0f}", case


def test_scoring_takes_what_was_measured() -> None:
    (rate,) = re.findall(r"\| 2 cores \| ([\d,]+) clips/s per core \|", BENCHMARKS)
    expected = (
        f"{rate} clips per second and core, which\nare {CLIPS / number(rate) / 3600:.1f} core"
    )
    assert expected in PAGE


@pytest.mark.parametrize(("column", "name", "patches"), [(1, MP4, 10), (2, WAV, 5)])
def test_bytes_and_requests_follow_from_the_inputs(column: int, name: str, patches: int) -> None:
    told = {
        row[0]: row[column] for row in rows(section(PAGE, "Bytes and requests")) if len(row) == 3
    }
    shards = math.ceil(CLIPS * INPUTS[name] / BYTES_PER_SHARD)
    table_gb = CLIPS * patches * 128 * 4 / 1e9
    assert told["recordings in, TB"] == f"{CLIPS * INPUTS[name] / 1e12:.1f}"
    assert told["reads of recordings, USD"] == f"{CLIPS * PER_READ:.0f}"
    assert told["shards, at least"] == f"{shards:,}"
    assert told["writes of one embeddings table, USD"] == f"{2 * shards * PER_WRITE:.1f}"
    assert told["reads of `verify`, USD"] == f"{2 * shards * PER_READ:.1f}"
    assert told["one `vggish` table of float32, TB"] == f"{table_gb / 1000:.2f}"
    assert told["kept for a month, USD"] == f"{table_gb * INPUTS['a GB kept for a month, USD']:.0f}"


def test_shards_follow_from_what_a_shard_may_hold() -> None:
    text = section(PAGE, "Shards")
    for clips, per_shard, small, large in rows(text):
        count = number(clips)
        by_clips = math.ceil(count / number(per_shard))
        by_bytes = math.ceil(count * INPUTS[MP4] / BYTES_PER_SHARD)
        assert number(small) == by_clips
        assert number(large) == max(by_clips, by_bytes)
    field = EmbedSection.model_fields["clips_per_shard"]
    most = next(one.le for one in field.metadata if hasattr(one, "le"))
    assert f"({field.default}, up to {most:,})" in text
    assert f"{BYTES_PER_SHARD // 2**20} MiB of media" in text
    assert f"up to {CLIPS_PER_SHARD:,} clips" in text


def test_what_a_lost_worker_costs_is_said_alike_and_as_the_code_has_it() -> None:
    text = " ".join(section(PAGE, "Shards").split())
    assert f"A worker is given {embed_deal._AHEAD} shards: one that it is at, and one ahead" in text
    (clips, seconds, rate, minutes) = re.findall(
        r"at ([\d,]+) clips of (\d+) s and (\d+) x real time up to (\d+) minutes of one core", text
    )[0]
    assert int(minutes) == round(number(clips) * int(seconds) / int(rate) / 60)
    assert embed_deal._AHEAD == 2
    cluster = (ROOT / "cluster" / "README.md").read_text(encoding="utf-8")
    assert "the two shards that each of its workers was given" in cluster


def test_how_fast_a_bucket_has_to_answer_follows_from_measured_rates() -> None:
    text = section(PAGE, "Bytes and requests")
    for case, seconds in (("vggish_mp4_10s", 10), ("acoustic_mp4_5s", 5)):
        files = number(MEASURED[f"`{case}`"][STEADY]) / 2 * 1000 / seconds
        assert f"{files:,.0f} with `{case}`" in text


def driver() -> dict[str, list[str]]:
    """What the page says of the driver, by job."""
    return {row[0]: row for row in rows(section(PAGE, "The driver"))}


def phases(clips: str) -> dict[str, list[str]]:
    """The run of the benchmark over so many clips, by phase, as the tool prints it."""
    of_it = SCALE.partition(f"\n{clips} clips, ")[2].partition("\n\n")[2].partition("\n\n")[0]
    assert of_it.startswith(scale.HEAD), clips
    return {row[0]: row for row in rows(of_it)}


def driver_ms() -> float:
    """What a shard takes of the driver: what a run that made some took more than an idle one."""
    of = phases("1,000,000")
    took = number(of["resume"][CPU]) - number(of["nothing left"][CPU])
    return 1000 * took / number(of["resume"][SHARDS])


def test_the_memory_of_the_driver_was_measured() -> None:
    told, largest = driver(), phases("10,000,000")
    assert len(told) == 5
    for job, (_, clips, each, _, at_100m) in told.items():
        assert at_100m == f"{BEFORE_GB + number(each) * 1e8 / 1e9:.0f}", job
        if job.startswith("`embed`"):
            runs = ("embed", "resume", "nothing left")
            assert number(each) == max(number(largest[phase][BYTES]) for phase in runs)
        elif job.startswith("`verify`"):
            assert each == largest["verify"][BYTES]
        else:
            assert f"| {clips} |" in SCALE
            assert f"{each} bytes per clip" in SCALE


def test_the_time_of_the_driver_was_measured() -> None:
    told = {job: row[3] for job, row in driver().items()}
    million = phases("1,000,000")
    cpu = {name: number(row[CPU]) for name, row in million.items()}
    assert told["`embed`: plan, resume"] == (
        f"{10 * cpu['nothing left']:.0f}, and {driver_ms():.0f} ms per shard"
    )
    assert f"and {driver_ms():.0f} ms of the driver" in section(PAGE, "Shards")
    assert told["`verify` of one table"] == f"{10 * cpu['verify']:.0f}, in shards of 512"
    (score, report) = (
        number(re.findall(rf"^\| `{job}` .*\| ([\d.]+) s of CPU, [^|]*\|$", SCALE, re.MULTILINE)[0])
        for job in ("score", "report")
    )
    assert told["`score`: plan"] == f"{10 * score:.0f}"
    assert (
        told["`report`, a fifth of the clips in `test`"] == f"{10 * report:.0f}, and its intervals"
    )
    assert f", {told['`manifest` from a list']} s of CPU" in SCALE
    planning = [number(row[PLANNING]) for row in phases("10,000,000").values() if row[PLANNING]]
    text = " ".join(section(PAGE, "The driver").split())
    assert f"planning ten million took {min(planning):.0f} to {max(planning):.0f} s" in text


def test_what_ten_million_clips_take_follows_from_that() -> None:
    text = " ".join(section(PAGE, "The driver").split())
    each = {job: BEFORE_GB + number(row[2]) / 100 for job, row in driver().items()}
    report = each.pop("`report`, a fifth of the clips in `test`") + 0.8
    assert "its intervals take up to 0.8 GB" in text
    assert f"every job of the table but `report` takes {max(each.values()):.1f} GB at most" in text
    scores = 10_000_000 / 5 * 600 * 3 * 4 / 1e9
    assert f"a report {report:.1f} GB and its scores" in text
    assert (
        "With 2 million clips of 600 classes in `test` and 3 systems these are "
        f"{scores:.1f} GB: {report + scores:.1f} GB together, where 10 classes "
        f"are {report + scores / 60:.1f} GB"
    ) in text
    (gib,) = re.findall(r"A head of (\d+) GiB, as the files of `cluster/` have", text)
    for name in ("raycluster", "rayjob"):
        file = (ROOT / "cluster" / "kuberay" / f"{name}.yaml").read_text(encoding="utf-8")
        head = file.partition("headGroupSpec:")[2].partition("workerGroupSpecs:")[0]
        assert set(re.findall(r"memory: (\d+)Gi", head)) == {gib}
    assert max(each.values()) + 2 < int(gib) * 2**30 / 1e9
    at_100m = [number(row[4]) for row in driver().values()]
    (told,) = re.findall(r"last column (\d+) GB would be enough for 100 million", text)
    assert max(at_100m) <= int(told)


def test_the_shards_of_a_run_are_accounted_for() -> None:
    runs = re.findall(
        r"^([\d,]+) clips, `clips_per_shard: \d+` \(([\d,]+) shards(?: of|\), with)",
        SCALE,
        re.MULTILINE,
    )
    assert len(runs) == 2
    for clips, count in runs:
        run, shards = phases(clips), number(count)
        done = number(run["embed"][SHARDS]) + number(run["resume"][SHARDS])
        assert shards - 20 < done <= shards
        assert number(run["verify"][SHARDS]) == shards + 1


def test_the_memory_of_a_whole_job_was_measured() -> None:
    cases = BENCHMARKS.partition("<!-- bench: begin -->")[2].partition("<!-- bench: end -->")[0]
    memory = [float(row[6]) for row in rows(cases) if len(row) == 8]
    assert len(memory) == sum(len(row) == 9 for row in rows(cases)) > 10
    operations = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    text = " ".join(section(operations, "Memory").split())
    assert f"a whole `embed` took was {min(memory)} to {max(memory)} GB on 2 cores" in text
