"""The sample, the intervals and the estimates of `audioflow plan`, against independent formulas."""

import time
from math import inf

import numpy as np
import pyarrow as pa
import pytest
from scipy import stats

from audioflow.engine.embed_pipeline import Pipeline
from audioflow.planning.estimate import (
    Cluster,
    Stage,
    decode_workers,
    engine_actors,
    own_workers,
    total,
    wall,
)
from audioflow.planning.intervals import Interval, effective_count, wilson
from audioflow.planning.machines import Machine, Machines
from audioflow.planning.sample import Recordings, Sample, Stratum, allocate, draw, recordings_of
from audioflow.recipe_embed import BackboneChoice, EmbedSection
from audioflow.shards import plan_shards
from audioflow.storage import StorageOptions
from audioflow.tables import MANIFEST_SCHEMA

MB = 10**6


def manifest(uris, sizes=None, labels=None, durations=None) -> pa.Table:
    count = len(uris)
    columns = {
        "clip_id": [f"{number:07d}" for number in range(count)],
        "uri": uris,
        "start_s": [None] * count,
        "duration_s": durations or [None] * count,
        "labels": labels or [["a"]] * count,
        "split": ["train"] * count,
        "fold": [None] * count,
        "group": uris,
        "size_bytes": sizes or [None] * count,
        "version": [None] * count,
        "source": ["main"] * count,
        "fine_labels": labels or [["a"]] * count,
    }
    return pa.Table.from_pydict(columns, schema=MANIFEST_SCHEMA)


def files(count: int, sizes=None, suffix: str = "wav", **more) -> Recordings:
    return recordings_of(manifest([f"/m/{i}.{suffix}" for i in range(count)], sizes, **more))


# recordings


def test_recordings_are_the_clips_of_one_file_together():
    uris = ["/m/b.WAV", "/m/a.mp3", "/m/b.WAV", "s3://b/x.mp3?versionId=a.b/c", "/m.d/none"]
    labels = [["x"], ["y"], ["z"], [], ["y", "x"]]
    found = recordings_of(manifest(uris, [10, 20, 10, None, 5], labels, [1.0, 2.0, 3.0, None, 4.0]))
    assert found.of_clip.tolist() == [0, 1, 0, 2, 3]
    assert found.first.tolist() == [0, 1, 3, 4]
    assert found.clips.tolist() == [2, 1, 1, 1]
    assert [found.kinds[place] for place in found.kind] == ["wav", "mp3", "mp3", "other"]
    np.testing.assert_array_equal(found.size_bytes, [10, 20, np.nan, 5])
    np.testing.assert_array_equal(found.claimed_s, [4, 2, np.nan, 4])
    assert found.label[2] == -1
    assert found.label[1] == found.label[3] != found.label[0]


# the sample


def test_the_sample_is_the_same_for_the_same_manifest_and_stands_for_all():
    recordings = files(500, [int(1000 * 1.01**i) for i in range(500)])
    first, again = draw(recordings, 40), draw(recordings, 40)
    assert first.chosen.tolist() == again.chosen.tolist()
    assert len(set(first.chosen.tolist())) == len(first) == 40
    assert first.weights.sum() == pytest.approx(500)
    assert sum(stratum.recordings for stratum in first.strata) == 500
    assert sum(stratum.sampled for stratum in first.strata) == 40


@pytest.mark.parametrize("count", [1, 2, 3, 5, 30, 31, 1000])
def test_a_sample_has_the_asked_size_or_all_recordings(count):
    sizes = [int(1000 * 1.3**i) for i in range(30)]
    sample = draw(files(30, sizes), count)
    assert len(sample) == min(count, 30)
    assert sample.weights.sum() == pytest.approx(30)


def test_the_few_huge_files_are_seen():
    sizes = [MB] * 2000
    sizes[77] = 100_000 * MB
    sample = draw(files(2000, sizes), 20)
    assert 77 in sample.chosen
    assert sample.strata[sample.of_recording[77]] == Stratum("wav", 1, 1, sizes[77], sizes[77])


def test_files_of_like_size_and_unknown_size_are_each_one_stratum():
    assert len(draw(files(100, [1000 + 20 * i for i in range(100)]), 40).strata) == 1
    assert draw(files(100), 40).strata == (Stratum("wav", 100, 40, None, None),)
    half = [MB if i % 2 else None for i in range(100)]
    assert [one.low_bytes for one in draw(files(100, half), 40).strata] == [MB, None]


def test_every_suffix_is_seen_and_rare_ones_are_put_together():
    uris = [f"/m/{i}.mp3" for i in range(300)] + ["/m/x.wav", "/m/y.wav", "/m/z.flac"]
    uris += [f"/m/{i}.s{i:03d}" for i in range(50)]
    sample = draw(recordings_of(manifest(uris)), 40)
    assert {stratum.kind: stratum.recordings for stratum in sample.strata}["mp3"] == 300
    assert {stratum.kind for stratum in sample.strata} > {"mp3", "other"}
    assert len(sample.strata) <= 10


def test_classes_are_sampled_as_often_as_they_occur():
    labels = [["rare" if i % 10 == 0 else "common"] for i in range(1000)]
    recordings = files(1000, labels=labels)
    sample = draw(recordings, 40)
    assert np.bincount(recordings.label[sample.chosen]).tolist() == [4, 36]


@pytest.mark.parametrize(
    ("sizes", "masses", "count", "expected"),
    [
        ([100, 100], [0.5, 0.5], 40, [20, 20]),
        ([1000, 1], [0.5, 0.5], 40, [39, 1]),
        ([1000, 1000], [0.99, 0.01], 40, [38, 2]),
        ([3, 3], [0.5, 0.5], 40, [3, 3]),
        ([5, 5], [0.9, 0.1], 1, [1, 1]),
    ],
)
def test_allocation(sizes, masses, count, expected):
    assert allocate(np.array(sizes), np.array(masses), count).tolist() == expected


# intervals


@pytest.mark.parametrize(("failed", "count"), [(0, 40), (1, 40), (7, 40), (40, 40), (3, 1000)])
def test_wilson_is_that_of_scipy(failed, count):
    found = wilson(failed / count, count)
    expected = stats.binomtest(failed, count).proportion_ci(0.95, method="wilson")
    assert found.value == failed / count
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_wilson_of_everything_and_of_nothing():
    assert wilson(0.25, inf) == Interval(0.25, 0.25, 0.25)
    assert wilson(0.0, 0) == Interval(0.0, 0.0, 1.0)


def test_equal_draws_count_as_many_as_they_are_and_unequal_ones_less():
    assert effective_count(np.full(40, 25.0), 10**9) == pytest.approx(40, rel=1e-6)
    assert effective_count(np.array([1.0, 1, 1, 97]), 10**9) < 1.1
    assert effective_count(np.ones(40), 40) == inf
    assert effective_count(np.full(20, 2.0), 40) == 39.0  # half of all were seen


# totals


def simple(recordings: Recordings, chosen) -> Sample:
    strata = (Stratum("wav", len(recordings), len(chosen), None, None),)
    nothing = np.zeros(len(recordings), np.int64)
    return Sample(np.array(chosen), nothing[: len(chosen)], nothing, strata)


def test_a_total_without_any_other_knowledge_is_the_mean_times_the_number():
    recordings, values = files(1000), np.array([1.0, 2.0, 3.0, 6.0, 8.0])
    found = total(values, simple(recordings, [3, 50, 200, 500, 900]), recordings)
    assert found.value == pytest.approx(4000)
    error = 1000 * np.sqrt((1 - 5 / 1000) * values.var(ddof=1) / 5)
    assert found.high - found.value == pytest.approx(stats.t.ppf(0.95, 4) * error, rel=0.01)
    assert found.low == max(0.0, found.value - (found.high - found.value))


def test_what_follows_the_size_is_told_exactly():
    sizes = [1000 * (1 + i % 37) ** 2 for i in range(500)]
    recordings = files(500, sizes)
    sample = draw(recordings, 20)
    values = 3.0 * np.array(sizes, float)[sample.chosen]
    found = total(values, sample, recordings)
    assert found.value == pytest.approx(3.0 * sum(sizes))
    assert found.high == pytest.approx(found.low)


def test_claimed_durations_are_used_where_every_clip_has_one():
    durations = [1.0 + i % 5 for i in range(100)]
    recordings = files(100, durations=durations)
    sample = draw(recordings, 10)
    values = 0.25 * np.array(durations)[sample.chosen]
    assert total(values, sample, recordings).value == pytest.approx(0.25 * sum(durations))


def test_a_sample_of_all_is_exact():
    rng = np.random.default_rng(3)
    recordings = files(30, [int(size) for size in rng.integers(1, 10**6, 30)])
    values = rng.random(30)
    sample = draw(recordings, 100)
    found = total(values[sample.chosen], sample, recordings)
    assert (found.value, found.low, found.high) == pytest.approx([values.sum()] * 3)


def test_a_part_of_the_recordings_takes_its_part():
    recordings = files(100, [1000] * 50 + [3000] * 50)
    sample = draw(recordings, 100)
    values = recordings.size_bytes[sample.chosen]
    where = np.arange(100) < 50
    assert total(values, sample, recordings, where).value == pytest.approx(50_000)
    assert total(values, sample, recordings, ~where).value == pytest.approx(150_000)
    assert total(values, sample, recordings, where & ~where) == Interval(0.0, 0.0, 0.0)


def test_totals_are_right_on_average_and_their_bounds_hold_as_often_as_they_say():
    rng = np.random.default_rng(0)
    hits, errors = 0, []
    for _ in range(200):
        sizes = (1000 * rng.lognormal(3, 1.5, 400)).astype(np.int64)
        recordings = files(400, sizes.tolist())
        values = sizes * rng.uniform(0.5, 1.5, 400) * (rng.random(400) > 0.1)
        sample = draw(recordings, 40)
        found = total(values[sample.chosen], sample, recordings)
        errors.append(found.value / values.sum() - 1)
        hits += found.low <= values.sum() <= found.high
    assert abs(np.mean(errors)) < 0.015
    assert 0.82 <= hits / 200 <= 0.96


# time


def test_busy_cores_share_all_the_work():
    stages = [Stage("decode", 600.0, 8), Stage("embeddings/a", 200.0, 8)]
    found = wall(stages, Cluster(8), 1.0, 13.0)
    assert (found.seconds, found.by, found.busiest) == (113.0, "cores", "decode")
    assert (found.core_s, found.share, found.startup_s) == (800.0, 0.75, 13.0)


def test_too_few_workers_and_a_long_recording_hold_a_run_up():
    stages = [Stage("decode", 600.0, 2), Stage("embeddings/a", 200.0, 8)]
    assert wall(stages, Cluster(8), 1.0, 0.0).by == "decode"
    assert wall(stages, Cluster(8), 400.0, 13.0).seconds == 413.0
    assert wall(stages, Cluster(8), 400.0, 13.0).by == "longest"


def test_work_on_a_gpu_takes_no_core():
    stages = [Stage("decode", 80.0, 8), Stage("embeddings/a", 200.0, 1, on_gpu=True)]
    found = wall(stages, Cluster(8, 1), 1.0, 0.0)
    assert (found.seconds, found.by, found.core_s) == (200.0, "embeddings/a", 80.0)


def test_nothing_to_do_takes_no_time():
    assert wall([Stage("decode", 0.0, 2)], Cluster(2), 0.0, 13.0).seconds == 0.0


@pytest.mark.parametrize("cpus", [1, 2, 3, 64])
def test_decode_workers_are_those_of_the_engine(cpus):
    section = EmbedSection(backbones={"a": BackboneChoice()}, decode_cpus=2)
    resources = {"CPU": float(cpus)}
    pipeline = Pipeline(section, [], Machines((Machine(resources),)), StorageOptions())
    assert decode_workers(Cluster(cpus), 2, 1000) == int(cpus / pipeline.decode_cpus)
    assert decode_workers(Cluster(cpus), 2, 1) == 1


@pytest.mark.parametrize(
    ("wishes", "cpus", "workers"),
    [
        ([(None, 0.0)], 2, 2),
        ([(None, 0.0), (None, 0.0)], 64, 64),
        ([(None, 0.0)], 0.5, 1),
        ([(3, 0.0), (None, 0.0), (5, 0.0)], 64, 5),
        ([(None, 0.0), (None, 0.5)], 64, 0),
    ],
)
def test_workers_decode_and_embed_by_themselves_unless_a_backbone_needs_a_gpu(
    wishes, cpus, workers
):
    assert own_workers(wishes, Cluster(cpus)) == workers


@pytest.mark.parametrize(
    ("wish", "cluster", "actors"),
    [
        ((None, 0.0), Cluster(64, 4), 32),
        ((3, 0.0), Cluster(64, 4), 3),
        ((None, 0.5), Cluster(64, 4), 4),
        ((None, 1.0), Cluster(64, 4), 2),
        ((None, 1.0), Cluster(64, 0), 1),
    ],
)
def test_each_backbone_has_its_actors_where_one_needs_a_gpu(wish, cluster, actors):
    assert engine_actors(wish, cluster, [wish, (None, wish[1])]) == actors


def test_too_few_workers_of_their_own_are_what_holds_a_run_up():
    stages = [Stage("decode", 600.0, 2), Stage("embeddings/a", 200.0, 2)]
    found = wall(stages, Cluster(8), 1.0, 0.0, own_workers=2)
    assert (found.seconds, found.by, found.busiest) == (400.0, "workers", "decode")
    assert wall(stages, Cluster(8), 1.0, 0.0, own_workers=8).seconds == 100.0


# speed


@pytest.mark.slow
def test_a_million_clips_are_planned_in_seconds():
    count = 1_000_000
    sizes = (1000 * np.random.default_rng(0).lognormal(3, 1.5, count)).astype(np.int64)
    uris = [f"s3://bucket/{i % 600:03d}/{i}.{'mp4' if i % 3 else 'webm'}" for i in range(count)]
    rows = manifest(uris, sizes.tolist(), [[f"class{i % 600}"] for i in range(count)])
    started = time.perf_counter()
    recordings = recordings_of(rows)
    sample = draw(recordings, 40)
    values = sizes[sample.chosen].astype(float)
    assert total(values, sample, recordings).value == pytest.approx(sizes.sum())
    mine_s = time.perf_counter() - started
    started = time.perf_counter()
    plan_shards(rows, 32)
    assert mine_s < max(5.0, time.perf_counter() - started)
