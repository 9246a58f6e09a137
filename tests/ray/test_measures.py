"""Measures as Prometheus gets them, events as the page has them, and who made which shard."""

import re
import time
import urllib.request
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import ray

from audioflow.engine.embed import embed
from audioflow.engine.fuse import fuse_systems
from audioflow.engine.manifest import make_manifest
from audioflow.engine.report_timeline import timeline_of
from audioflow.engine.run import Run
from audioflow.engine.score import score
from audioflow.engine.train import train
from tests.ray.conftest import build_run
from tests.unit.test_events import FIELDS

JOBS = (make_manifest, embed, train, score, fuse_systems)
LINE = re.compile(r"^(\w+)\{(.*)\} (\S+)$")
NAME = "gez%C3%A4hlt"
"""A run whose folder is `gezählt`: labels of Ray are ASCII."""
Scraped = dict[str, list[tuple[dict[str, str], float]]]


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory, corpus: Path, ray_session: None) -> Run:
    """A run of its own name, so that nothing else counts into its measures."""
    folder = tmp_path_factory.mktemp("measured")
    shorter = ["systems.audio.train.epochs=2", "systems.video.train.epochs=2"]
    run = build_run(corpus, folder, *shorter, run_dir=str(folder / "gezählt"))
    for job in JOBS:
        job(run)
    return run


def scraped(run: str) -> Scraped:
    """What the metrics endpoints of all nodes say of a run."""
    found: Scraped = {}
    for node in ray.nodes():
        url = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
        with urllib.request.urlopen(url, timeout=10) as answer:
            text = answer.read().decode()
        for name, labels, value in filter(None, map(_parsed, text.splitlines())):
            if labels.get("run") == run:
                found.setdefault(name.removeprefix("ray_audioflow_"), []).append((labels, value))
    return found


def _parsed(line: str) -> tuple[str, dict[str, str], float] | None:
    match = LINE.match(line)
    if match is None or not match[1].startswith("ray_audioflow_"):
        return None
    return match[1], dict(re.findall(r'(\w+)="([^"]*)"', match[2])), float(match[3])


def total(found: Scraped, name: str, **labels: str) -> float:
    """The sum of all series of a measure that have these labels."""
    return sum(
        value
        for mine, value in found.get(name, [])
        if all(mine.get(key) == one for key, one in labels.items())
    )


def test_the_endpoint_of_the_node_says_what_the_tables_hold(measured: Run) -> None:
    until = time.monotonic() + 60
    while not total(found := scraped(NAME), "shards_total", table="fused"):
        assert time.monotonic() < until, "the measures did not arrive"
        time.sleep(0.5)
    acoustic = measured.embeddings("acoustic").complete_header()
    both, job = "acoustic, color", {"audioflow_job": "embed"}
    assert total(found, "clips_total", table=both, **job) == acoustic.rows + acoustic.failures == 48
    assert total(found, "shards_total", table=both) == len(acoustic.shards)
    assert total(found, "shard_seconds_count", table=both) == len(acoustic.shards)
    for table in ("acoustic", "color"):
        errors: Counter[str] = Counter()
        header = measured.embeddings(table).complete_header()
        for shard in header.shards:
            errors.update(shard.errors)
        assert errors
        told = {m["error"]: value for m, value in found["failures_total"] if m["table"] == table}
        assert told == errors
        patches = total(found, "patches_total", backbone=table)
        assert 0 < patches <= total(found, "batch_slots_total", backbone=table)
    written = sum(
        shard.size_bytes
        for name in ("acoustic", "color")
        for shard in measured.embeddings(name).complete_header().shards
    )
    assert total(found, "written_bytes_total", **job) == written
    uris = measured.manifest().read(["uri"])["uri"].to_pylist()
    media = sum(Path(uri).stat().st_size for uri in uris)
    assert total(found, "read_bytes_total", **job) == media
    assert total(found, "stage_seconds_total", stage="decode") > 0
    assert total(found, "stage_seconds_total", stage="embed", backbone="color") > 0
    assert total(found, "clips_left", **job) == 0
    assert total(found, "epochs_total", table="audio") == 2
    assert total(found, "examples_total", table="audio") > 0
    scores = measured.scores("audio").complete_header()
    assert total(found, "clips_total", table="audio") == scores.rows + scores.failures


def test_no_label_names_a_clip_a_file_or_a_shard(measured: Run) -> None:
    ids = set(measured.manifest().read(["clip_id"])["clip_id"].to_pylist())
    names = {s.name for s in measured.embeddings("acoustic").complete_header().shards}
    values = {
        value
        for series in scraped(NAME).values()
        for labels, _ in series
        for value in labels.values()
    }
    assert "acoustic" in values
    assert values & (ids | names) == set()


def test_events_have_the_fields_of_the_page(measured: Run) -> None:
    seen: dict[str, set[str]] = {}
    for event in measured.listener:
        seen.setdefault(event.kind, set()).update(event.data)
    assert {"start", "shard", "progress", "epoch", "verdict", "done"} <= set(seen)
    for kind, fields in seen.items():
        assert fields <= set(FIELDS[kind]), kind
    assert seen["epoch"] == set(FIELDS["epoch"])
    assert seen["verdict"] == set(FIELDS["verdict"])


def test_every_job_says_what_held_it_up(measured: Run) -> None:
    told = {(e.job, e.name): e.data for e in measured.listener if e.kind == "verdict"}
    assert {job for job, _ in told} == {"embed", "train", "score", "fuse"}
    for data in told.values():
        assert data["bound"]
        assert sum(data["shares"].values()) == pytest.approx(1, abs=0.01)
    header = measured.scores("fused").complete_header()
    assert header.stats["verdict"] == told["fuse", "fused"]["text"]


def test_the_timeline_has_every_shard_once_and_its_workers(measured: Run) -> None:
    names = (
        "embeddings/acoustic",
        "embeddings/color",
        "heads/audio",
        "scores/audio",
        "scores/fused",
    )
    places: dict[str, Any] = {
        "embeddings": measured.embeddings,
        "heads": measured.head,
        "scores": measured.scores,
    }
    tables = {}
    for path in names:
        kind, _, name = path.partition("/")
        table = places[kind](name)
        tables[path] = (table, table.complete_header())
    timeline = timeline_of(tables)
    shards = [one for one in timeline.shards if one.job == "embed"]
    assert sum(one.clips for one in shards) == 48
    assert {one.table for one in shards} == {"acoustic, color"}
    assert sum(one.failures for one in shards) == sum(
        tables[path][1].failures for path in names[:2]
    )
    stages = {stint.stage for one in shards for stint in one.stints}
    assert {"decode", "embed acoustic", "embed color", "write"} <= stages
    assert [one.job for one in timeline.tables] == ["embed", "embed", "train", "score", "fuse"]
    embedded = timeline.tables[0]
    assert all(embedded.begin <= one.begin <= one.end <= embedded.end + 0.1 for one in shards)


def test_where_decoding_is_a_step_of_its_own_both_workers_are_known(
    corpus: Path, tmp_path: Path, ray_session: None
) -> None:
    sections = {
        "embed": {
            "backbones": {"acoustic": {"num_gpus": 0.5}},
            "clips_per_shard": 12,
            "max_failed_share": 0.5,
        }
    }
    systems = {"audio": {"backbone": "acoustic", "head": "linear"}}
    run = build_run(
        corpus,
        tmp_path,
        run_dir=str(tmp_path / "streamed"),
        sections=sections | {"systems": systems, "fuse": {}},
    )
    make_manifest(run)
    (header,) = embed(run)
    stints = run.embeddings("acoustic").stints([shard.name for shard in header.shards])
    for mine in stints.values():
        workers = {one.stage: one.worker for one in mine}
        assert workers["decode"] != workers["embed acoustic"] == workers["write"]
        ends = {one.stage: one for one in mine}
        assert ends["decode"].end <= ends["embed acoustic"].begin + 0.1
    progress = [event.data for event in run.listener if event.kind == "progress"]
    assert all(one["shards_waiting"] >= 0 for one in progress)
    assert progress[-1]["busy"]["acoustic"]["device"] == "gpu"
    assert sum(e.data["clips"] for e in run.listener if e.kind == "shard") == 48
