"""`manifest` and `embed` with media and run folder in a bucket, behind a server that fails."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from audioflow.engine.embed import embed
from audioflow.engine.manifest import make_manifest
from audioflow.engine.run import Run
from audioflow.engine.train import train
from tests.faulty_s3 import FaultyS3, Rule
from tests.ray.conftest import BASE, build_run

BUCKET = "unsteady"
PLANTED = "Pl4nted-secret-of-the-store"
ROTATING = ("slow_down", "drop", "error", "refuse", "truncate", "html", "stall")


@pytest.fixture(scope="module")
def proxy(s3_server: str, corpus: Path) -> Iterator[FaultyS3]:
    """A proxy to a bucket that holds the corpus."""
    import s3fs

    fs = s3fs.S3FileSystem(endpoint_url=s3_server)
    fs.mkdir(BUCKET)
    fs.put(str(corpus), f"{BUCKET}/corpus", recursive=True)
    with FaultyS3(s3_server) as proxy:
        yield proxy


def run_through(proxy: FaultyS3, corpus: Path, folder: Path, name: str) -> Run:
    """The jobs `manifest` and `embed`, everything read and written through the proxy."""
    sections: dict[str, Any] = {
        "manifest": BASE["manifest"] | {"root": f"s3://{BUCKET}/corpus"},
        "embed": {
            "backbones": {"acoustic": {}},
            "clips_per_shard": 6,
            "decode_cpus": 0.5,
            "max_failed_share": 0.5,
            "stall_timeout_s": 120,
        },
        "systems": {"audio": BASE["systems"]["audio"]},
        "fuse": {},
        "storage_options": {
            "endpoint_url": proxy.url,
            "key": "user",
            "secret": PLANTED,
            "config_kwargs": {"read_timeout": 2},
        },
    }
    run = build_run(corpus, folder, run_dir=f"s3://{BUCKET}/{name}", sections=sections)
    make_manifest(run)
    embed(run)
    return run


def rows(run: Run) -> dict[str, Any]:
    return {row["clip_id"]: row for row in run.embeddings("acoustic").read().to_pylist()}


def failures(run: Run) -> dict[str, Any]:
    return {row["clip_id"]: row for row in run.embeddings("acoustic").read_failures().to_pylist()}


@pytest.fixture(scope="module")
def clean(
    proxy: FaultyS3, corpus: Path, tmp_path_factory: pytest.TempPathFactory, ray_session: None
) -> Run:
    """What the jobs make when no request fails."""
    proxy.clear()
    run = run_through(proxy, corpus, tmp_path_factory.mktemp("clean"), "clean")
    assert not proxy.injected
    media = [path for method, path in proxy.requests if method == "GET" and "/corpus/" in path]
    assert len(media) == len(set(media)) == 48, "one download per recording"
    lists = [(how, path) for how, path in proxy.requests if not path.startswith(f"/{BUCKET}/")]
    asked = [urlsplit(path) for how, path in lists if how != "POST"]  # those remove, by full names
    prefixes = {parse_qs(one.query)["prefix"][0].partition("/")[0] for one in asked}
    assert prefixes == {"corpus", "clean"}, "the right to list may end at a prefix"
    return run


def test_with_every_seventh_request_failing_the_tables_are_those_of_a_clean_run(
    proxy: FaultyS3, corpus: Path, tmp_path: Path, clean: Run
) -> None:
    proxy.clear()
    proxy.add(Rule(ROTATING, every=7))
    run = run_through(proxy, corpus, tmp_path, "faulty")
    assert set(proxy.injected) == set(ROTATING), "too few requests to try every fault"
    proxy.clear()
    assert rows(run) == rows(clean)
    told = {clip: (row["error"], row["reason"]) for clip, row in failures(clean).items()}
    assert {c: (row["error"], row["reason"]) for c, row in failures(run).items()} == told
    manifest = run.manifest().read(["clip_id"])["clip_id"].to_pylist()
    assert sorted([*rows(run), *failures(run)]) == sorted(manifest)
    assert len(manifest) == 48


def test_a_recording_that_never_comes_is_a_failure_and_the_rest_are_rows(
    proxy: FaultyS3, corpus: Path, tmp_path: Path, clean: Run
) -> None:
    lost = sorted(rows(clean))[5]
    proxy.clear()
    proxy.add(Rule(("drop", "error", "truncate", "stall"), "GET", path=f"/corpus/{lost}"))
    run = run_through(proxy, corpus, tmp_path, "lost")
    proxy.clear()
    row = failures(run)[lost]
    assert row["error"] == "network"
    assert f"s3://{BUCKET}/corpus/{lost} could not be fetched after 5 attempts" in row["reason"]
    assert row["attempts"] == 5
    assert rows(run) == {clip: row for clip, row in rows(clean).items() if clip != lost}


def test_training_keeps_its_state_in_the_store_of_the_recipe(proxy: FaultyS3, clean: Run) -> None:
    proxy.clear()
    train(clean)
    assert clean.head("audio").complete_header().rows == 1
    written = [path for method, path in proxy.requests if method == "PUT"]
    assert [path for path in written if path.startswith(f"/{BUCKET}/clean/train/audio-")]
    assert [path for path in written if path.startswith(f"/{BUCKET}/clean/heads/audio/")]


def test_nothing_that_was_written_holds_the_secret(proxy: FaultyS3, clean: Run) -> None:
    import s3fs

    proxy.clear()
    fs = s3fs.S3FileSystem(endpoint_url=proxy.url)
    files = fs.find(f"{BUCKET}/clean")
    assert len(files) > 10
    for path in files:
        assert PLANTED.encode() not in fs.cat_file(path), path
    assert PLANTED not in repr(list(clean.listener))  # type: ignore[call-overload]
