"""`verify` and `failures` on what the jobs really wrote."""

import re
import shutil
import uuid
from pathlib import Path

import pytest
import s3fs

from audioflow.engine.flow import run_job
from audioflow.engine.run import Run
from audioflow.failures import all_failures, summarise
from audioflow.storage import Folder, local_path
from audioflow.tables import Table
from audioflow.verify import verify

TABLES = [
    "manifest",
    "embeddings/acoustic",
    "embeddings/color",
    "heads/audio",
    "heads/video",
    "scores/audio",
    "scores/fused",
    "scores/video",
    "report",
]


@pytest.fixture
def copy(done: Run, tmp_path: Path) -> Folder:
    """A copy of the run, to damage."""
    shutil.copytree(local_path(done.folder.url), tmp_path / "run")
    return Folder(str(tmp_path / "run"))


def shard_of(run: Folder, table: str) -> Path:
    receipt = next(one for one in Table(run / table).complete_header().shards if one.rows)
    return Path(run.url, table, f"{receipt.name}.parquet")


def test_what_the_jobs_write_is_whole(done: Run) -> None:
    result = verify(done.folder)
    assert result.faults == ()
    assert [check.table for check in result.tables] == TABLES
    for check in result.tables:
        header = Table(done.folder / check.table).complete_header()
        assert (check.rows, check.failures) == (header.rows, header.failures)


@pytest.mark.parametrize("table", [one for one in TABLES if one[:4] not in ("head", "repo")])
def test_a_deleted_a_doubled_and_a_damaged_shard_are_found(copy: Folder, table: str) -> None:
    shard = shard_of(copy, table)
    content = shard.read_bytes()

    shard.unlink()
    assert ("missing_file", shard.name) in told(copy, table)
    shard.write_bytes(content)
    assert verify(copy).ok

    double = shard.with_name("copy-of-it.parquet")
    double.write_bytes(content)
    assert told(copy, table) == [("extra_file", double.name)]
    double.unlink()

    middle = len(content) // 2
    flipped = bytes([content[middle] ^ 0x01])
    shard.write_bytes(content[:middle] + flipped + content[middle + 1 :])
    assert ("damaged_file", shard.name) in told(copy, table)


def test_the_way_out_leads_out(make_run) -> None:
    run = make_run()
    shard_of(run.folder, "embeddings/color").unlink()
    gone = next(fault for fault in verify(run.folder).faults if fault.kind == "missing_file")
    removed = re.findall(r"embeddings/color/\S+\.json", gone.way_out)
    assert len(removed) == 2
    for name in removed:
        Path(local_path(run.folder.file(name))).unlink()
    assert "run `audioflow embed RECIPE` again" in gone.way_out
    run_job("embed", run)
    assert verify(run.folder).faults == ()


def told(run: Folder, table: str) -> list[tuple[str, str]]:
    return [(fault.kind, fault.where) for fault in verify(run).faults if fault.table == table]


def test_a_run_in_a_bucket_is_verified_as_on_disk(done: Run, s3_server: str) -> None:
    fs = s3fs.S3FileSystem(endpoint_url=s3_server)
    bucket = f"verify-{uuid.uuid4().hex[:8]}"
    fs.mkdir(bucket)
    fs.put(f"{local_path(done.folder.url)}/", f"{bucket}/run/", recursive=True)
    run = Folder(f"s3://{bucket}/run")
    assert [check.table for check in verify(run).tables] == TABLES
    assert verify(run).ok
    assert [found.count for found in summarise(run)] == [
        found.count for found in summarise(done.folder)
    ]
    name = Table(run / "embeddings/color").complete_header().shards[0].name
    (run / "embeddings/color").remove(f"{name}.parquet")
    assert ("missing_file", f"{name}.parquet") in told(run, "embeddings/color")


def test_failures_are_those_of_the_embeddings_each_once(done: Run) -> None:
    tables = {found.table: found for found in summarise(done.folder)}
    for backbone in ("acoustic", "color"):
        header = done.embeddings(backbone).complete_header()
        found = tables[f"embeddings/{backbone}"]
        assert (found.complete, found.clips) == (True, 48)
        assert found.count == header.failures > 0
        assert sum(group.count for group in found.groups) == header.failures
    for system in ("audio", "video", "fused"):
        found = tables[f"scores/{system}"]
        assert found.count == 0
        assert found.following == done.scores(system).complete_header().failures
    counted = sum(found.count for found in tables.values())
    assert len(list(all_failures(done.folder))) == counted
