"""Tables: commits that can be repeated, a header written last, and rows that anyone can read."""

import hashlib
import json
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from audioflow.errors import StorageError, TableError
from audioflow.storage import Folder, local_path
from audioflow.tables import (
    FAILURES_SCHEMA,
    MANIFEST_SCHEMA,
    Failure,
    Header,
    Receipt,
    Table,
    embeddings_schema,
    failures_table,
    fingerprint,
    package_versions,
    parquet_bytes,
    scores_schema,
)

LOST = Failure("lost", "/data/lost.wav", "decode", "truncated", "it ends early", 2, "node-1")


def rows_of(*clip_ids: str) -> pa.Table:
    rows = [
        {
            "clip_id": clip_id,
            "variant": 0,
            "duration_s": 1.0,
            "coverage": 1.0,
            "patch_start_s": [0.0, 0.5],
            "embedding": [[float(len(clip_id)), 2.0], [3.0, 4.0]],
        }
        for clip_id in clip_ids
    ]
    return pa.Table.from_pylist(rows, schema=embeddings_schema({"embedding": 2}))


def header_of(*receipts: Receipt) -> Header:
    return Header(
        kind="embeddings",
        name="acoustic",
        fingerprint=fingerprint("x"),
        parents={"manifest": "0" * 32},
        settings={"hop_s": 0.5, "name": "é"},
        rows=sum(receipt.rows for receipt in receipts),
        failures=sum(receipt.failures for receipt in receipts),
        shards=list(receipts),
        classes=["cat", "dog"],
        versions=package_versions(),
    )


@pytest.fixture(params=["local", "memory"])
def table(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Table]:
    memory = f"memory://{uuid.uuid4().hex}"
    yield Table(Folder(memory if request.param == "memory" else str(tmp_path / "table")))
    Folder(memory).remove_all()


@pytest.fixture
def finished(tmp_path: Path) -> Table:
    """A complete local table of two shards, the second with a failure."""
    table = Table(Folder(str(tmp_path / "table")))
    receipts = [
        table.commit("00000-a", rows_of("a", "bb"), media_s=2.5),
        table.commit("00001-b", rows_of("ccc"), [LOST], media_s=1.0),
    ]
    table.finish(header_of(*receipts))
    return table


# Commits


def test_a_committed_table_is_read_back_as_it_was(table: Table) -> None:
    first = table.commit("00000-a", rows_of("a", "bb"), media_s=2.5)
    second = table.commit("00001-b", rows_of("ccc"), [LOST], media_s=1.0)
    assert table.header() is None
    header = table.finish(header_of(first, second))
    assert Table(table.folder).complete_header() == header
    assert header.media_s == 3.5
    assert table.read()["clip_id"].to_pylist() == ["a", "bb", "ccc"]
    assert table.read(["clip_id"]).column_names == ["clip_id"]
    assert table.read().schema.equals(embeddings_schema({"embedding": 2}))
    assert [name for name, _ in table.shards()] == ["00000-a", "00001-b"]
    (failure,) = table.read_failures().to_pylist()
    assert Failure(**failure) == LOST
    assert table.shard_failures("00000-a").num_rows == 0
    assert table.shard_failures("00001-b").num_rows == 1
    assert table.receipt("00001-b") == second
    assert (second.rows, second.failures, second.errors) == (1, 1, {"truncated": 1})
    for folder, digest in (
        (table.folder, second.sha256),
        (table.failures_folder, second.failures_sha256),
    ):
        assert hashlib.sha256(folder.read("00001-b.parquet")).hexdigest() == digest
    assert second.size_bytes == len(table.folder.read("00001-b.parquet"))


def test_committing_twice_changes_nothing(table: Table) -> None:
    first = table.commit("00000-a", rows_of("a"), [LOST])
    data = table.folder.read("00000-a.parquet")
    assert table.commit("00000-a", rows_of("a"), [LOST]) == first
    assert table.folder.read("00000-a.parquet") == data
    assert table.folder.names() == ["00000-a.parquet"]
    assert table.failures_folder.names() == ["00000-a.parquet"]


def test_failures_of_a_try_that_was_broken_off_are_gone_once_the_table_is_complete(
    table: Table,
) -> None:
    table.commit("00000-a", rows_of("a"), [LOST])
    first = table.commit("00000-a", rows_of("a", "lost"))
    second = table.commit("00001-b", rows_of("b"), [LOST])
    table.finish(header_of(first, second))
    assert table.failures_folder.names() == ["00001-b.parquet"]
    assert table.read_failures().num_rows == 1


def test_a_shard_may_hold_failures_only(table: Table) -> None:
    receipt = table.commit("00000-a", rows_of(), [LOST])
    table.finish(header_of(receipt))
    assert table.read().num_rows == 0
    assert table.read_failures()["clip_id"].to_pylist() == ["lost"]


def test_rows_without_their_receipt_are_not_committed(table: Table) -> None:
    table.commit("00000-a", rows_of("a"))
    table.folder.write("00001-b.parquet", parquet_bytes(rows_of("b")))
    (table.folder / "_shards").write("00002-c.json", b"{}")
    assert table.committed() == {"00000-a"}


@pytest.mark.parametrize("crash_at", [1, 2, 3])
def test_a_commit_that_is_cut_off_leaves_no_committed_shard_and_no_partial_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, crash_at: int
) -> None:
    table = Table(Folder(str(tmp_path / "table")))
    calls = 0
    replace_file = os.replace

    def crash(source: object, target: object) -> None:
        nonlocal calls
        calls += 1
        if calls == crash_at:
            raise OSError(28, "No space left on device")
        replace_file(source, target)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "replace", crash)
    with pytest.raises(StorageError, match="No space left on device"):
        table.commit("00000-a", rows_of("a"), [LOST])
    assert table.committed() == set()
    for path in (tmp_path / "table").rglob("*.*"):
        assert pq.read_table(path).num_rows == 1
    monkeypatch.undo()
    table.commit("00000-a", rows_of("a"), [LOST])
    assert table.committed() == {"00000-a"}


def test_files_that_a_killed_writer_left_are_not_read(finished: Table) -> None:
    folder = Path(finished.folder.url)
    (folder / ".0123456789abcdef.tmp").write_bytes(b"half a shard")
    assert finished.committed() == {"00000-a", "00001-b"}
    assert finished.open_for(["00000-a"]) == {"00000-a"}


def test_opening_makes_incomplete_and_drops_what_does_not_belong(table: Table) -> None:
    receipts = [table.commit(name, rows_of(name), [LOST]) for name in ("old", "kept")]
    table.finish(header_of(*receipts))
    assert table.open_for(["kept", "to_come"]) == {"kept"}
    assert table.header() is None
    assert table.folder.names() == ["kept.parquet"]
    assert table.failures_folder.names() == ["kept.parquet"]
    assert (table.folder / "_shards").names() == ["kept.json"]


def test_failures_with_bytes_that_are_no_text_are_kept_escaped(table: Table) -> None:
    odd = replace(LOST, reason="cannot open '/data/caf\udce9.wav'")
    receipt = table.commit("00000-a", rows_of(), [odd])
    table.finish(header_of(receipt))
    (row,) = table.read_failures().to_pylist()
    assert row["reason"] == "cannot open '/data/caf\\udce9.wav'"


# What is not as it should be


def test_an_incomplete_table_is_told(table: Table) -> None:
    table.commit("00000-a", rows_of("a"))
    for read in (table.complete_header, table.read, table.read_failures):
        with pytest.raises(TableError, match="is not complete: run its job first"):
            read()
    assert TableError.exit_code == 4


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "is damaged"),
        (b"{", "is damaged"),
        (b"[]", "is damaged"),
        (b"{}", "is damaged"),
        (b'{"schema_version": 1}', "is damaged"),
        (b'{"schema_version": 7}', "has schema version 7, this audioflow reads 1; remove the tab"),
        (b'{"schema_version": 1, "shards": [{"nme": "x"}]}', "is damaged .*nme"),
        (b'{"schema_version": 1, "shards": [], "extra": 1}', "is damaged .*extra"),
    ],
)
def test_a_header_that_cannot_be_used_is_told(table: Table, content: bytes, told: str) -> None:
    table.folder.write("_header.json", content)
    with pytest.raises(TableError, match=rf"_header\.json {told}"):
        table.header()


def test_a_lost_or_damaged_shard_is_told_with_the_way_out(finished: Table) -> None:
    way_out = r"remove _header\.json and _shards/00001-b\.json of the table, and run its job again"
    finished.folder.write("00001-b.parquet", b"PAR1 no more")
    with pytest.raises(TableError, match=rf"00001-b\.parquet is damaged .*{way_out}"):
        finished.read()
    finished.folder.remove("00001-b.parquet")
    with pytest.raises(TableError, match=rf"00001-b\.parquet is missing .*{way_out}"):
        finished.read()
    finished.failures_folder.remove("00001-b.parquet")
    with pytest.raises(TableError, match=rf"failures/00001-b\.parquet is missing .*{way_out}"):
        finished.read_failures()
    (finished.folder / "_shards").write("00001-b.json", b'{"nme": 1}')
    with pytest.raises(TableError, match=r"_shards/00001-b\.json is damaged .*missing 5"):
        finished.receipt("00001-b")


def test_the_way_out_of_a_damaged_shard_leads_out(finished: Table) -> None:
    finished.folder.write("00001-b.parquet", b"PAR1 no more")
    finished.folder.remove("_header.json")
    (finished.folder / "_shards").remove("00001-b.json")
    assert finished.open_for(["00000-a", "00001-b"]) == {"00000-a"}


def test_a_column_that_is_not_there_is_told(finished: Table) -> None:
    with pytest.raises(TableError, match="has no column pool5; columns: clip_id, variant"):
        finished.read(["clip_id", "pool5"])


def test_a_complete_table_without_a_shard_has_no_rows_to_read(table: Table) -> None:
    table.finish(header_of())
    with pytest.raises(TableError, match="has no shard"):
        table.read()
    assert table.read_failures().schema.equals(FAILURES_SCHEMA)


# Fingerprints


def test_a_fingerprint_depends_on_content_and_not_on_the_order_of_keys() -> None:
    first = fingerprint("x", {"a": 1, "b": {"c": [1, 2], "d": None}})
    assert first == fingerprint("x", {"b": {"d": None, "c": (1, 2)}, "a": 1})
    others = [
        fingerprint("x", {"a": 1, "b": {"c": [2, 1], "d": None}}),
        fingerprint("x", {"a": 1, "b": {"c": [1, 2]}}),
        fingerprint("x", {"a": "1", "b": {"c": [1, 2], "d": None}}),
        fingerprint("x", {"a": 1}, {"b": {"c": [1, 2], "d": None}}),
        fingerprint(["x", {"a": 1, "b": {"c": [1, 2], "d": None}}]),
    ]
    assert len({first, *others}) == 6


def test_a_fingerprint_is_the_same_on_every_machine_and_in_every_process() -> None:
    assert fingerprint("é", "\udce9", 0.1, True) == _elsewhere()
    assert len(fingerprint()) == 32


def _elsewhere() -> str:
    code = "from audioflow.tables import fingerprint as f; print(f('é', '\\udce9', 0.1, True))"
    environment = os.environ | {"PYTHONHASHSEED": "7", "LC_ALL": "C"}
    return subprocess.run(
        [sys.executable, "-X", "utf8", "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env=environment,
    ).stdout.strip()


# Readers other than audioflow


def all_types(kind: pa.DataType) -> Iterator[pa.DataType]:
    yield kind
    for index in range(kind.num_fields):
        yield from all_types(kind.field(index).type)


@pytest.mark.parametrize(
    "schema",
    [
        MANIFEST_SCHEMA,
        FAILURES_SCHEMA,
        embeddings_schema({"embedding": 8, "pool5": 4}),
        scores_schema(3),
        scores_schema(3, fused=True),
    ],
)
def test_columns_have_plain_types_which_survive_the_file(schema: pa.Schema) -> None:
    for field in schema:
        for kind in all_types(field.type):
            assert not isinstance(kind, pa.BaseExtensionType)
            assert not pa.types.is_dictionary(kind)
    read = pq.read_table(pa.BufferReader(parquet_bytes(schema.empty_table()))).schema
    assert read.equals(schema)


def test_other_programs_read_the_rows_by_a_pattern(finished: Table) -> None:
    folder = Path(finished.folder.url)
    frame = pd.read_parquet(sorted(folder.glob("*.parquet")))
    assert list(frame["clip_id"]) == ["a", "bb", "ccc"]
    assert frame["embedding"][1][0].tolist() == [2.0, 2.0]
    polars = pl.read_parquet(folder / "*.parquet")
    assert polars["clip_id"].to_list() == ["a", "bb", "ccc"]
    assert polars["embedding"][2].to_list() == [[3.0, 2.0], [3.0, 4.0]]
    arrow = ds.dataset(sorted(map(str, folder.glob("*.parquet")))).to_table()
    assert arrow.equals(finished.read())
    failures = pd.read_parquet(folder / "failures")
    assert list(failures["reason"]) == ["it ends early"]


def test_reading_the_whole_folder_adds_the_failures_as_the_documentation_warns(
    finished: Table,
) -> None:
    frame = pd.read_parquet(finished.folder.url)
    assert set(frame["clip_id"]) == {"a", "bb", "ccc", "lost"}


def test_the_header_is_plain_json(finished: Table) -> None:
    data = json.loads(Path(local_path(finished.folder.url), "_header.json").read_text("utf-8"))
    assert data["classes"] == ["cat", "dog"]
    assert data["settings"] == {"hop_s": 0.5, "name": "é"}
    assert [shard["name"] for shard in data["shards"]] == ["00000-a", "00001-b"]
    assert {"pyarrow", "numpy", "torch", "ray"} <= data["versions"].keys()


def test_failures_have_a_table_of_their_own_type() -> None:
    assert failures_table([]).schema.equals(FAILURES_SCHEMA)
    assert failures_table([LOST]).to_pylist()[0]["attempts"] == 2
