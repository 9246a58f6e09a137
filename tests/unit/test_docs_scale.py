"""docs/scale.md: what it computes follows from its inputs and from measured rates."""

import math
import re
from pathlib import Path

import pytest

from audioflow.engine.score_stored import CLIPS_PER_SHARD
from audioflow.recipe_embed import EmbedSection
from audioflow.shards import BYTES_PER_SHARD
from tests.unit.test_docs_pages import rows, section

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "scale.md").read_text(encoding="utf-8")
BENCHMARKS = (ROOT / "benchmarks" / "README.md").read_text(encoding="utf-8")
MEASURED = {row[0]: row for row in rows(BENCHMARKS) if len(row) == 9}
DECODE, STEADY = 1, 5
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


def test_how_fast_a_bucket_has_to_answer_follows_from_measured_rates() -> None:
    text = section(PAGE, "Bytes and requests")
    for case, seconds in (("vggish_mp4_10s", 10), ("acoustic_mp4_5s", 5)):
        files = number(MEASURED[f"`{case}`"][STEADY]) / 2 * 1000 / seconds
        assert f"{files:,.0f} with `{case}`" in text


def test_what_the_driver_takes_was_measured() -> None:
    measured = (ROOT / "benchmarks" / "scale.md").read_text(encoding="utf-8")
    per_clip = [
        int(row[6]) for row in rows(measured) if len(row) == 8 and row[0].startswith("`embed`")
    ]
    told = {row[0]: row for row in rows(section(PAGE, "The driver"))}
    assert len(told) == 5
    for job, (_, clips, each, _, at_100m) in told.items():
        assert at_100m == f"{0.7 + number(each) * 1e8 / 1e9:.0f}", job
        if job.startswith("`embed`"):
            assert number(each) == max(per_clip[:3])
        elif job != "`verify`":
            assert f"| {clips} |" in measured
            assert f"{each} bytes per clip" in measured
        else:
            assert f" {each} |" in measured
