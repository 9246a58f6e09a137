"""How many requests a run makes of an object store: they cost money and, in a row, time."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from audioflow.engine.embed import embed
from audioflow.engine.manifest import make_manifest
from audioflow.engine.run import Run
from audioflow.engine.score import score
from audioflow.engine.train import train
from audioflow.verify import verify
from tests.faulty_s3 import FaultyS3
from tests.ray.conftest import BASE, build_run

BUCKET = "counted"
ONCE = 24
"""Requests of a job that do not grow with its shards: listings, headers, what clients ask first."""


@pytest.fixture(scope="module")
def proxy(s3_server: str) -> Iterator[FaultyS3]:
    """A proxy that counts, to an empty bucket."""
    import s3fs

    s3fs.S3FileSystem(endpoint_url=s3_server).mkdir(BUCKET)
    with FaultyS3(s3_server) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def run(
    proxy: FaultyS3, corpus: Path, tmp_path_factory: pytest.TempPathFactory, ray_session: None
) -> Run:
    """Media on disk, everything else in the bucket; the manifest is made."""
    sections: dict[str, Any] = {
        "manifest": BASE["manifest"] | {"root": str(corpus)},
        "embed": BASE["embed"] | {"backbones": {"acoustic": {}}, "clips_per_shard": 4},
        "systems": {"audio": BASE["systems"]["audio"]},
        "fuse": {},
        "storage_options": {"endpoint_url": proxy.url, "key": "user", "secret": "any"},
    }
    folder = tmp_path_factory.mktemp("counted")
    run = build_run(corpus, folder, run_dir=f"s3://{BUCKET}/run", sections=sections)
    make_manifest(run)
    return run


def counted(proxy: FaultyS3, table: str) -> Counter[str]:
    """Requests since the last time, by method and folder of a table, others as `else`."""
    found: Counter[str] = Counter()
    for method, path in proxy.requests:
        _, there, rest = path.partition(f"/run/{table}/")
        folder, inside, name = rest.partition("/")
        kind = (folder if inside else "rows") if there and name + folder else "else"
        found[f"{method} {kind if '_header' not in rest else 'else'}"] += 1
    proxy.clear()
    return found


def test_a_shard_takes_few_requests(run: Run, proxy: FaultyS3) -> None:
    proxy.clear()
    header = embed(run)[0]
    shards, failing = len(header.shards), sum(1 for one in header.shards if one.failures)
    assert shards > 12
    assert 0 < failing < shards
    fresh = counted(proxy, "embeddings/acoustic")
    assert (fresh.pop("PUT rows"), fresh.pop("PUT _shards")) == (shards, shards)
    assert fresh.pop("PUT failures") == failing
    assert fresh.total() < ONCE, fresh

    embed(run)
    assert counted(proxy, "embeddings/acoustic").total() < 6, "nothing is left to do"

    table = run.embeddings("acoustic")
    gone = [one.name for one in header.shards[::2]]
    table.reopen()
    table.folder.remove_many(f"{name}.parquet" for name in gone)
    proxy.clear()
    assert embed(run)[0].shards == header.shards
    again = counted(proxy, "embeddings/acoustic")
    assert again.pop("GET _shards") == shards - len(gone), "what is kept is read once"
    assert (again.pop("PUT rows"), again.pop("PUT _shards")) == (len(gone), len(gone))
    again.pop("PUT failures", 0)
    again.pop("DELETE _shards")  # of shards whose rows are gone
    again.pop("DELETE failures", 0)
    assert again.total() < ONCE, again


def test_what_follows_reads_every_file_once(run: Run, proxy: FaultyS3) -> None:
    header = embed(run)[0]
    failing = sum(1 for one in header.shards if one.failures)
    train(run)
    proxy.clear()
    scored = score(run)[0]
    asked = list(proxy.requests)
    read = counted(proxy, "embeddings/acoustic")
    assert (read["GET rows"], read["GET failures"]) == (len(header.shards), failing)
    proxy.requests += asked
    written = counted(proxy, "scores/audio")
    assert written["PUT rows"] == written["PUT _shards"] == len(scored.shards)
    assert verify(run.folder).ok
    looked = counted(proxy, "embeddings/acoustic")
    assert (looked["GET rows"], looked["GET _shards"]) == (len(header.shards),) * 2
    assert looked["GET failures"] == failing
