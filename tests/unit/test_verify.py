"""`verify`: a whole run passes, and whatever is done to its files is found and named."""

import json
import subprocess
import sys
import uuid
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from audioflow.errors import InputError
from audioflow.ids import id_column
from audioflow.storage import Folder
from audioflow.systems import bundle
from audioflow.tables import Content, Table, parquet_bytes
from audioflow.verify import READERS, verify
from audioflow.verify.clips import Ledger
from audioflow.verify.faults import FAULT_KINDS, MOST_KEPT, Findings, TableFault
from audioflow.verify.heads import EPOCHS, HEAD, WEIGHTS
from tests.conftest import ROOT
from tests.unit.small_run import (
    CLIPS,
    PICTURES,
    SILENT,
    SOUND,
    edit_header,
    embedding_rows,
    found,
    make_manifest,
    make_small_run,
    of_kind,
    path_of,
    recommit,
)

# A whole run


def test_a_whole_run_passes_and_its_tables_are_counted(whole: Folder) -> None:
    told = []
    result = verify(whole, lambda table, done, total: told.append((table, done, total)))
    assert result.faults == ()
    assert result.ok
    counts = {
        check.table: (check.complete, check.rows, check.failures, check.shards, check.faults)
        for check in result.tables
    }
    assert counts == {
        "manifest": (True, 12, 0, 2, 0),
        "embeddings/acoustic": (True, 30, 2, 3, 0),
        "embeddings/color": (True, 11, 1, 3, 0),
        "heads/audio": (True, 1, 0, 0, 0),
        "heads/video": (True, 2, 0, 0, 0),
        "scores/audio": (True, 5, 1, 2, 0),
        "scores/fused": (True, 6, 0, 1, 0),
        "scores/video": (True, 6, 0, 2, 0),
        "report": (True, 3, 0, 0, 0),
    }
    assert told[:3] == [("manifest", 0, 2), ("manifest", 1, 2), ("manifest", 2, 2)]


def test_a_run_in_a_store_is_verified_as_on_disk() -> None:
    run = Folder(f"memory://{uuid.uuid4().hex}/run")
    try:
        make_small_run(run)
        assert verify(run).ok
        (run / SOUND).remove("e-1.parquet")
        assert (SOUND, "missing_file", "e-1.parquet") in found(run)
    finally:
        run.remove_all()


def test_a_run_of_which_only_some_jobs_are_done_passes(tmp_path: Path) -> None:
    run = Folder(str(tmp_path))
    make_manifest(run)
    (tmp_path / "embeddings" / "acoustic").mkdir(parents=True)
    assert [check.table for check in verify(run).tables] == ["manifest"]
    assert verify(run).ok


def test_neither_ray_nor_torch_is_needed(whole: Folder) -> None:
    code = (
        "import sys\nfrom audioflow.storage import Folder\nfrom audioflow.verify import verify\n"
        f"assert verify(Folder({whole.url!r})).ok\nimport audioflow.failures\n"
        "print([name for name in ('ray', 'torch') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"


def test_the_files_of_a_head_are_those_that_a_bundle_writes() -> None:
    assert (bundle.HEAD, bundle.WEIGHTS, bundle.EPOCHS) == (HEAD, WEIGHTS, EPOCHS)


def test_a_folder_without_tables_is_refused(run: Folder, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"/nowhere holds no table of a run; expected is the run_"):
        verify(Folder(str(tmp_path / "nowhere")))
    with pytest.raises(InputError, match=r"acoustic is a table itself: give the folder of its run"):
        verify(run / SOUND)
    assert InputError.exit_code == 4


# Files


def test_a_deleted_shard_is_found_with_its_clips(run: Folder) -> None:
    (run / PICTURES).remove("e-1.parquet")
    result = verify(run)
    assert not result.ok
    assert result.fault_counts == {"missing_file": 1, "lost_clip": 4}
    gone, *lost = result.faults
    assert (gone.table, gone.where) == (PICTURES, "e-1.parquet")
    assert gone.what == "the file is gone, and with it 4 rows"
    assert gone.way_out == (
        "remove embeddings/color/_header.json and embeddings/color/_shards/e-1.json, and run "
        "`audioflow embed RECIPE` again"
    )
    assert [fault.where for fault in lost] == CLIPS[1::3]
    assert lost[0].what == "clip 'clip01' is neither in the rows nor in the failures"
    assert lost[0].way_out == "first mend the files of embeddings/color that are told of here"


def test_a_shard_under_a_second_name_is_found(run: Folder) -> None:
    (run / SOUND).write("e-9.parquet", (run / SOUND).read("e-1.parquet"))
    (fault,) = verify(run).faults
    assert (fault.table, fault.kind, fault.where) == (SOUND, "extra_file", "e-9.parquet")
    assert fault.what == "embeddings/acoustic/_header.json does not name this file"
    assert fault.way_out == "remove embeddings/acoustic/e-9.parquet"


def test_a_shard_that_a_header_names_twice_is_found_and_so_are_its_clips(run: Folder) -> None:
    header = Table(run / PICTURES).complete_header()
    again = replace(header, shards=[*header.shards, header.shards[0]], rows=header.rows + 4)
    Table(run / PICTURES).finish(again)
    faults = verify(run).faults
    assert [fault.kind for fault in faults] == ["header"] + ["repeated_clip"] * 4
    assert faults[0].what.endswith("the header names shard 'e-0' more than once")
    assert faults[1].what == "clip 'clip00' stands more than once"
    assert faults[1].where == "e-0.parquet"


@pytest.mark.parametrize("name", ["e-2.parquet", "failures/e-2.parquet"])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 0.999])
def test_a_flipped_byte_is_found_wherever_it_is(run: Folder, name: str, share: float) -> None:
    path = path_of(run / SOUND, name)
    data = bytearray(path.read_bytes())
    data[int(share * len(data))] ^= 0xFF
    path.write_bytes(data)
    first = next(fault for fault in verify(run).faults if fault.kind == "damaged_file")
    assert (first.table, first.where) == (SOUND, name)
    assert first.what == "its bytes are not those of its receipt"
    assert "embeddings/acoustic/_shards/e-2.json" in first.way_out


def test_no_flipped_byte_makes_it_fail(run: Folder) -> None:
    path = path_of(run / PICTURES, "e-0.parquet")
    whole = path.read_bytes()
    for place in range(0, len(whole), max(1, len(whole) // 50)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x5A]) + whole[place + 1 :])
        kinds = {fault.kind for fault in verify(run).faults}
        assert "damaged_file" in kinds, place


@pytest.mark.parametrize("content", [b"", b"PAR1", b"PAR1" * 20, b"\x00" * 4096])
def test_what_is_no_parquet_any_more_is_one_fault_of_the_file(run: Folder, content: bytes) -> None:
    size = len((run / PICTURES).read("e-0.parquet"))
    (run / PICTURES).write("e-0.parquet", content)
    (fault,) = of_kind(run, "damaged_file")
    told = f" ({len(content)} instead of {size} bytes)"
    assert fault.what == f"its bytes are not those of its receipt{told}"
    assert {fault.where for fault in of_kind(run, "lost_clip")} == set(CLIPS[0::3])


def test_a_cut_off_shard_and_a_folder_in_its_place_are_found(run: Folder) -> None:
    path = path_of(run / PICTURES, "e-0.parquet")
    path.write_bytes(path.read_bytes()[:-100])
    other = path_of(run / PICTURES, "e-1.parquet")
    other.unlink()
    other.mkdir()
    faults = of_kind(run, "damaged_file")
    assert [fault.where for fault in faults] == ["e-0.parquet", "e-1.parquet"]
    assert "cannot be read: Is a directory" in faults[1].what


def test_two_shards_that_changed_names_are_found(run: Folder) -> None:
    first, second = (path_of(run / SOUND, f"e-{number}.parquet") for number in (0, 1))
    data = first.read_bytes(), second.read_bytes()
    first.write_bytes(data[1])
    second.write_bytes(data[0])
    damaged = [fault.where for fault in of_kind(run, "damaged_file")]
    assert damaged == ["e-0.parquet", "e-1.parquet"]
    assert of_kind(run, "lost_clip") == []


def test_a_lost_a_damaged_and_another_receipt_are_found(run: Folder) -> None:
    receipts = run / SOUND / "_shards"
    receipts.remove("e-0.json")
    receipts.write("e-1.json", b'{"name": "e-1", "rows')
    receipts.write(
        "e-2.json", receipts.read("e-2.json").replace(b'"failures": 1', b'"failures": 3')
    )
    faults = verify(run).faults
    assert [(fault.kind, fault.where) for fault in faults] == [
        ("receipt", f"_shards/e-{number}.json") for number in range(3)
    ]
    assert faults[0].what == "the receipt is missing"
    assert faults[1].what.startswith("the receipt cannot be read (")
    assert faults[2].what == "the receipt has failures 3, in the header 1"


def test_a_receipt_with_keys_of_other_clips_is_found(run: Folder) -> None:
    there = Table(run / PICTURES)
    old = there.complete_header()
    keys = dict.fromkeys(CLIPS[0::3], "key")
    content = Content(embedding_rows(CLIPS[0::3]), clip_keys=keys, media_s=4.0)
    assert there.commit_content("e-0", content) == old.shards[0]
    assert verify(run).ok
    keys |= {"clip01": "key"}
    there.commit_content("e-0", replace(content, clip_keys=keys))
    (fault,) = verify(run).faults
    assert (fault.kind, fault.where) == ("receipt", "_shards/e-0.json")
    assert fault.what == "the receipt has keys of other clips than the shard, 'clip01' for one"


@pytest.mark.parametrize(
    "content",
    [b'{"clip_keys": 3}', b"[]", b"null", b"{}", b"\xff\xfe", b'{"name": 3}', b"[[1]]", b'"e-1"'],
)
def test_no_receipt_makes_it_fail(run: Folder, content: bytes) -> None:
    (run / SOUND / "_shards").write("e-1.json", content)
    (fault,) = verify(run).faults
    assert (fault.kind, fault.where) == ("receipt", "_shards/e-1.json")


def test_receipts_and_failures_that_no_header_names_are_found(run: Folder) -> None:
    (run / SOUND / "_shards").write("e-9.json", b"{}")
    (run / PICTURES / "failures").write("e-0.parquet", b"x")
    (run / PICTURES / "_parts").write("e-0.00000.parquet", b"x")
    assert found(run) == [
        (SOUND, "extra_file", "_shards/e-9.json"),
        (PICTURES, "extra_file", "failures/e-0.parquet"),
        (PICTURES, "extra_file", "_parts/e-0.00000.parquet"),
    ]


def test_a_lost_file_of_failures_is_found(run: Folder) -> None:
    (run / SOUND / "failures").remove("e-1.parquet")
    gone, lost = verify(run).faults
    assert (gone.kind, gone.where) == ("missing_file", "failures/e-1.parquet")
    assert gone.what == "the file is gone, and with it 1 failures"
    assert (lost.kind, lost.where) == ("lost_clip", SILENT)


# Headers and counts


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "is damaged"),
        (b"[]", "is damaged"),
        (b"\xff\x00", "is damaged"),
        (b'{"schema_version": 7}', "has schema version 7, this audioflow reads 1"),
        (b'{"schema_version": 1, "shards": [3]}', "is damaged"),
    ],
)
def test_a_damaged_header_is_a_fault_of_its_table(run: Folder, content: bytes, told: str) -> None:
    (run / SOUND).write("_header.json", content)
    result = verify(run)
    fault = result.faults[0]
    assert (fault.table, fault.kind, fault.where) == (SOUND, "header", "_header.json")
    assert told in fault.what
    assert fault.way_out == "remove the table and run its job again"
    check = next(check for check in result.tables if check.table == SOUND)
    assert (check.complete, check.faults) == (False, 1)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"rows": "30"}, "rows is '30', expected int"),
        ({"parents": ["manifest"]}, "parents is ['manifest'], expected dict"),
        ({"settings": {}}, "settings.layers is None, expected names and widths"),
        ({"settings": {"layers": {"pool": "2"}}}, "settings.layers is {'pool': '2'}, expected"),
        ({"kind": "scores"}, "the header is of kind 'scores', expected 'embeddings'"),
        ({"name": "color"}, "the header is that of 'color', expected 'acoustic'"),
    ],
)
def test_a_header_that_does_not_fit_is_found(run: Folder, changes: dict, told: str) -> None:
    edit_header(run, SOUND, **changes)
    (fault,) = of_kind(run, "header")
    assert told in fault.what
    assert fault.way_out.startswith(
        "remove embeddings/acoustic/_header.json and run `audioflow emb"
    )


@pytest.mark.parametrize(
    ("table", "changes", "told"),
    [
        ("scores/audio", {"settings": {}}, "settings.splits is None, expected a list of names"),
        (
            "scores/fused",
            {"settings": {"fused": True}},
            "settings.systems is None, expected a list",
        ),
        ("scores/audio", {"classes": []}, "classes is [], expected names"),
        (
            "heads/audio",
            {"settings": {"folds": 3}},
            "settings.folds is 3, expected a list of names",
        ),
        ("report", {"stats": {}}, "stats.files is None, expected the names of its files"),
    ],
)
def test_settings_that_content_is_judged_by_have_to_be_there(
    run: Folder, table: str, changes: dict, told: str
) -> None:
    edit_header(run, table, **changes)
    (fault,) = of_kind(run, "header")
    assert fault.table == table
    assert told in fault.what


def test_a_shard_name_that_leads_out_of_the_table_is_refused(run: Folder) -> None:
    shards = json.loads((run / PICTURES).read("_header.json"))["shards"]
    shards[0]["name"] = "../acoustic/e-0"
    edit_header(run, PICTURES, shards=shards)
    (fault,) = of_kind(run, "header")
    assert "shard '../acoustic/e-0': name is no file name" in fault.what


def test_counts_of_a_header_that_do_not_fit_are_found(run: Folder) -> None:
    edit_header(run, SOUND, rows=31, failures=1)
    faults = verify(run).faults
    assert [fault.kind for fault in faults] == ["counts", "counts"]
    assert faults[0].what == "the header counts 31 rows, its receipts make 30 and its files hold 30"
    assert "the header counts 1 failures, its receipts make 2" in faults[1].what
    assert faults[0].way_out == (
        "remove embeddings/acoustic/_header.json and run `audioflow embed RECIPE` again"
    )


def test_counts_of_receipts_that_do_not_fit_are_found(run: Folder) -> None:
    shards = json.loads((run / SOUND).read("_header.json"))["shards"]
    shards[0] |= {"rows": 11, "variants": 7}
    shards[1] |= {"failures": 2, "errors": {"timeout": 2}}
    for shard in shards:
        (run / SOUND / "_shards").write(f"{shard['name']}.json", json.dumps(shard).encode())
    edit_header(run, SOUND, shards=shards)
    told = [fault.what for fault in of_kind(run, "counts")]
    assert told == [
        "it holds 12 rows, its receipt says 11",
        "it holds 8 rows of variants, its receipt says 7",
        "it holds 1 failures, its receipt says 2",
        "it holds no_audio 1, its receipt says timeout 2",
        "the header counts 30 rows, its receipts make 29",
        "the header counts 2 failures, its receipts make 3",
    ]


def test_an_incomplete_table_is_told_with_what_is_committed(run: Folder) -> None:
    (run / SOUND).remove("_header.json")
    (run / "heads" / "video").remove("_header.json")
    faults = verify(run).faults
    incomplete = [fault for fault in faults if fault.kind == "incomplete"]
    assert [fault.table for fault in incomplete] == [SOUND, "heads/video"]
    assert incomplete[0].what == (
        "embeddings/acoustic is not complete: it has no _header.json, 3 shards are committed"
    )
    assert incomplete[0].way_out == "run `audioflow embed RECIPE` to its end"
    assert {fault.kind for fault in faults} == {"incomplete"}


def test_columns_that_are_not_as_expected_are_found(run: Folder) -> None:
    rows = embedding_rows(CLIPS[0::3])
    recommit(run, PICTURES, "e-0", rows.drop_columns(["coverage"]))
    recommit(run, PICTURES, "e-1", embedding_rows(CLIPS[1::3]).append_column("more", [[1] * 4]))
    wide = rows.set_column(0, "clip_id", pa.array(CLIPS[0::3], pa.large_string()))
    recommit(run, SOUND, "e-0", wide)
    told = [fault.what for fault in of_kind(run, "schema")]
    assert told == [
        "column clip_id is large_string, expected string not null",
        "it has no column coverage; columns: clip_id, variant, duration_s, patch_start_s, pool, "
        "embedding",
        "it has the column more, which does not belong to this kind of table",
    ]


def test_a_reader_of_data_sets_may_add_columns_to_the_manifest(run: Folder) -> None:
    make = Table(run / "manifest").read_shard("m-0")
    recommit(run, "manifest", "m-0", make.append_column("site", [["a"] * 7]))
    assert verify(run).ok


# Accounting and bounds


def test_a_ledger_names_the_first_two_places_of_what_is_repeated() -> None:
    ledger = Ledger(None)
    for place in ("a", "b", "c"):
        assert ledger.add(place, id_column(["x", "y" if place == "b" else place])) == []
    (repeated,) = ledger.repeated()
    assert (repeated.clip_id, repeated.variant, repeated.places) == ("x", 0, ("a", "b"))


def test_the_faults_of_a_kind_that_are_kept_are_bounded_and_all_are_counted() -> None:
    findings = Findings()
    for number in range(MOST_KEPT + 5):
        findings.add(TableFault("manifest", "lost_clip", f"clip {number}", "", ""))
    assert len(findings.faults) == MOST_KEPT
    assert findings.by_kind() == {"lost_clip": MOST_KEPT + 5}
    assert findings.of_table("manifest") == MOST_KEPT + 5
    with pytest.raises(ValueError, match="fault kind 'odd' is not one of header, incomplete"):
        TableFault("manifest", "odd", "", "", "")


def test_every_kind_of_fault_has_its_words() -> None:
    assert all(FAULT_KINDS.values())
    assert isinstance(verify.__doc__, str)
    assert READERS <= 16


def test_whatever_file_is_removed_emptied_or_overwritten_is_found(run: Folder) -> None:
    for path in [path for path in sorted(Path(run.url).rglob("*")) if path.is_file()]:
        content = path.read_bytes()
        told = path.relative_to(run.url)
        path.unlink()
        assert not verify(run).ok, told
        for other in (b"", parquet_bytes(pa.table({"a": [1]}))):
            path.write_bytes(other)
            # The header of this report has no hashes.
            assert verify(run).ok == (path.parent.name == "report" and path.name[0] != "_"), told
        path.write_bytes(content)
    assert verify(run).ok
