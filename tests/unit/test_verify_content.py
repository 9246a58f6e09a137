"""`verify`: clips, parents, values and heads that are not what the headers say."""

import hashlib
import json
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pytest
import torch
from safetensors.torch import load, save

from audioflow.schemas import embeddings_schema
from audioflow.storage import Folder
from audioflow.tables import Table
from audioflow.verify import verify
from audioflow.verify.heads import EPOCHS, HEAD, WEIGHTS
from tests.unit.small_run import (
    CLIPS,
    LATE,
    PICTURES,
    SILENT,
    SOUND,
    edit_header,
    embedding_row,
    embedding_rows,
    failure,
    found,
    manifest_rows,
    of_kind,
    path_of,
    recommit,
    scored_rows,
)

# Clips


def test_a_clip_that_came_to_the_manifest_is_missed_in_every_table(run: Folder) -> None:
    rows = manifest_rows([*CLIPS[7:], "new"], ["val"] * 2 + ["test"] * 4)
    recommit(run, "manifest", "m-1", rows)
    lost = of_kind(run, "lost_clip")
    assert [fault.table for fault in lost] == [
        SOUND,
        PICTURES,
        "scores/audio",
        "scores/fused",
        "scores/video",
    ]
    assert {fault.where for fault in lost} == {"new"}
    assert lost[0].way_out == ("remove embeddings/acoustic/ and run `audioflow embed RECIPE` again")
    edit_header(run, "manifest", fingerprint="0" * 32)
    lost = of_kind(run, "lost_clip")
    assert lost[0].way_out == "run `audioflow embed RECIPE` again"


def test_a_clip_that_the_manifest_lacks_is_found(run: Folder) -> None:
    recommit(run, "manifest", "m-0", manifest_rows(CLIPS[:6], ["train"] * 6))
    unknown = of_kind(run, "unknown_clip")
    assert [(fault.table, fault.where) for fault in unknown] == [
        (SOUND, "e-0.parquet"),
        (SOUND, "e-0.parquet"),
        (SOUND, "e-0.parquet"),
        (PICTURES, "e-0.parquet"),
        ("scores/audio", "s-0.parquet"),
        ("scores/fused", "f-0.parquet"),
        ("scores/video", "s-0.parquet"),
    ]
    assert unknown[0].what == "clip 'clip06' is not in the manifest"


def test_a_clip_that_stands_twice_is_found_with_both_places(run: Folder) -> None:
    recommit(run, PICTURES, "e-0", embedding_rows([*CLIPS[0::3], "clip01"]))
    lost = [failure(LATE, "truncated"), failure("clip02", "truncated")]
    recommit(run, PICTURES, "e-2", embedding_rows(["clip02", "clip08", "clip11"]), *lost)
    told = [(fault.what, fault.where) for fault in verify(run).faults]
    assert told == [
        ("clip 'clip01' stands more than once", "e-0.parquet and e-1.parquet"),
        ("clip 'clip02' stands more than once", "e-2.parquet and failures/e-2.parquet"),
    ]


def test_a_clip_twice_in_the_manifest_is_found_there_only(run: Folder) -> None:
    rows = manifest_rows([*CLIPS[7:], CLIPS[0]], ["val"] * 2 + ["test"] * 4)
    recommit(run, "manifest", "m-1", rows)
    assert found(run) == [("manifest", "repeated_clip", "m-0.parquet and m-1.parquet")]


def test_a_manifest_that_cannot_be_read_is_the_only_table_at_fault(run: Folder) -> None:
    (run / "manifest").write("m-0.parquet", b"no more")
    assert found(run) == [("manifest", "damaged_file", "m-0.parquet")]


def test_without_a_manifest_clips_are_still_counted(run: Folder) -> None:
    (run / "manifest").remove_all()
    recommit(run, PICTURES, "e-0", embedding_rows([*CLIPS[0::3], "clip01"]))
    faults = verify(run).faults
    assert {fault.kind for fault in faults} == {"parent", "repeated_clip"}


def test_variants_are_counted_each_for_itself(run: Folder) -> None:
    rows = [embedding_row(clip, variant) for clip in CLIPS[0::3] for variant in range(3)]
    rows = [row for row in rows if (row["clip_id"], row["variant"]) != ("clip03", 0)]
    rows += [embedding_row("clip06", 2), embedding_row("clip01", -1)]
    schema = embeddings_schema({"pool": 2, "embedding": 3})
    recommit(run, SOUND, "e-0", pa.Table.from_pylist(rows, schema=schema))
    told = [(fault.kind, fault.what) for fault in verify(run).faults]
    assert told == [
        ("value", "clip 'clip01' has the variant -1, expected 0 up"),
        ("repeated_clip", "clip 'clip01' stands more than once"),
        ("repeated_clip", "clip 'clip06' stands more than once in variant 2"),
        ("variant", "clip 'clip03' has rows of variants, but none of itself (variant 0)"),
        ("lost_clip", "clip 'clip03' is neither in the rows nor in the failures"),
    ]


def test_variants_of_a_clip_that_failed_are_found(run: Folder) -> None:
    rows = [embedding_row(clip, variant) for clip in CLIPS[1::3] for variant in range(1, 3)]
    rows += [embedding_row(clip) for clip in CLIPS[1::3] if clip != SILENT]
    schema = embeddings_schema({"pool": 2, "embedding": 3})
    lost = failure(SILENT, "no_audio")
    recommit(run, SOUND, "e-1", pa.Table.from_pylist(rows, schema=schema), lost)
    (fault,) = verify(run).faults
    assert (fault.kind, fault.where) == ("variant", SILENT)


def test_scores_hold_the_clips_of_their_splits_and_no_others(run: Folder) -> None:
    recommit(run, "scores/video", "s-0", scored_rows(["clip07", "clip08", "clip00"]))
    told = [(fault.table, fault.kind, fault.what) for fault in verify(run).faults]
    assert told == [
        ("scores/video", "lost_clip", "clip 'clip06' is neither in the rows nor in the failures"),
        (
            "scores/video",
            "unknown_clip",
            "clip 'clip00' is of a split that scores/video does not score",
        ),
    ]


def test_clips_that_are_cross_validated_are_scored_whatever_the_splits(run: Folder) -> None:
    for name, clips in (("m-0", CLIPS[:7]), ("m-1", CLIPS[7:])):
        recommit(run, "manifest", name, manifest_rows(clips, ["cv"] * len(clips)))
    lost = [fault.where for fault in of_kind(run, "lost_clip") if fault.table == "scores/video"]
    assert lost == CLIPS[:6]


def test_a_fused_table_that_names_itself_comes_to_an_end(run: Folder) -> None:
    edit_header(run, "scores/fused", settings={"systems": ["fused", "video"], "fused": True})
    assert {fault.table for fault in verify(run).faults} == {"scores/fused"}


# Parents


@pytest.mark.parametrize(
    ("parent", "children"),
    [
        ("manifest", ["embeddings/acoustic", "embeddings/color", "heads/audio", "heads/video"]),
        ("embeddings/acoustic", ["heads/audio", "scores/audio", "report"]),
        ("heads/video", ["scores/video"]),
        ("scores/audio", ["scores/fused"]),
        ("scores/fused", ["report"]),
    ],
)
def test_tables_made_from_another_parent_are_found(
    run: Folder, parent: str, children: list[str]
) -> None:
    old = Table(run / parent).complete_header().fingerprint
    edit_header(run, parent, fingerprint="0" * 32)
    faults = verify(run).faults
    assert {fault.kind for fault in faults} == {"parent"}
    assert {*children} <= {fault.table for fault in faults}
    told = next(fault for fault in faults if fault.table == children[0])
    assert told.what == (
        f"{children[0]} was made from another {parent}: that had the fingerprint {old}, the one "
        f"there has {'0' * 32}"
    )
    jobs = {"embeddings": "embed", "heads": "train", "scores": "score", "report": "report"}
    job = "fuse" if children[0] == "scores/fused" else jobs[children[0].partition("/")[0]]
    assert told.way_out == f"run `audioflow {job} RECIPE` again"


def test_a_parent_that_is_gone_or_never_was_named_is_found(run: Folder) -> None:
    (run / "heads" / "audio").remove_all()
    edit_header(run, PICTURES, parents={})
    told = [(fault.table, fault.what) for fault in verify(run).faults]
    assert told == [
        (PICTURES, "embeddings/color names no parent manifest"),
        ("scores/audio", "scores/audio was made from heads/audio, which is not there"),
    ]


# Values


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_embeddings_that_are_not_finite_are_found_by_clip_and_layer(
    run: Folder, value: float
) -> None:
    rows = [embedding_row(clip) for clip in CLIPS[0::3]]
    rows[2]["embedding"][1] = [1.0, value, 2.0]
    schema = embeddings_schema({"pool": 2, "embedding": 3})
    recommit(run, PICTURES, "e-0", pa.Table.from_pylist(rows, schema=schema))
    (fault,) = verify(run).faults
    assert (fault.table, fault.kind, fault.where) == (PICTURES, "value", "e-0.parquet")
    assert fault.what == "clip 'clip06' has NaN, infinity or nothing in layer 'embedding'"


def test_embeddings_that_are_not_there_are_found(run: Folder) -> None:
    rows = [embedding_row(clip) for clip in CLIPS[0::3]]
    rows[0]["pool"] = None
    rows[1]["pool"] = []
    rows[2]["pool"] = [None, [1.0, 2.0]]
    rows[3]["pool"] = [[1.0, 2.0], [None, 2.0]]
    schema = embeddings_schema({"pool": 2, "embedding": 3})
    recommit(run, PICTURES, "e-0", pa.Table.from_pylist(rows, schema=schema))
    assert [fault.what for fault in verify(run).faults] == [
        "clip 'clip00' has no vector of layer 'pool'",
        "clip 'clip03' has no vector of layer 'pool'",
        "clip 'clip06' has NaN, infinity or nothing in layer 'pool'",
        "clip 'clip09' has NaN, infinity or nothing in layer 'pool'",
    ]


def test_scores_that_cannot_be_are_found(run: Folder) -> None:
    rows = scored_rows(CLIPS[9:]).to_pylist()
    rows[0]["scores"] = [-0.25, 0.75]
    rows[1]["scores"] = [float("nan"), 0.75]
    rows[2] |= {"predicted": "cow"}
    schema = scored_rows(CLIPS[9:]).schema
    recommit(run, "scores/video", "s-1", pa.Table.from_pylist(rows, schema=schema))
    assert [fault.what for fault in verify(run).faults] == [
        "clip 'clip09' has the score -0.25, expected 0 to 1",
        "clip 'clip10' has the score nan, expected 0 to 1",
        "clip 'clip11' is predicted to be 'cow', which is not among the classes",
    ]


def test_a_score_that_is_not_among_the_scores_is_found(run: Folder) -> None:
    rows = scored_rows(CLIPS[9:]).to_pylist()
    rows[1]["score"] = 0.5
    schema = scored_rows(CLIPS[9:]).schema
    recommit(run, "scores/video", "s-1", pa.Table.from_pylist(rows, schema=schema))
    (fault,) = verify(run).faults
    assert fault.what == "clip 'clip10' has the score 0.5 for 'dog', but not in its scores"


def test_systems_that_were_not_fused_are_found(run: Folder) -> None:
    available = [["audio", "video"]] * 4 + [["audio", "text"], []]
    recommit(run, "scores/fused", "f-0", scored_rows(CLIPS[6:], available))
    assert [fault.what for fault in verify(run).faults] == [
        "clip 'clip10' names the system 'text', fused are audio, video",
        "clip 'clip11' names no system that it was fused from",
    ]


def test_an_error_class_that_there_is_not_is_found(run: Folder) -> None:
    lost = failure(LATE, "eaten")
    recommit(run, PICTURES, "e-2", embedding_rows(["clip02", "clip08", "clip11"]), lost)
    (fault,) = verify(run).faults
    assert fault.what.startswith("'eaten' is not one of the error classes not_found, permission")


# Heads and the report


Damage = Callable[[Folder], None]


def _nan_weights(head: Folder) -> None:
    weights = load(head.read(WEIGHTS))
    weights["normalise.mean"] = torch.full((2,), torch.nan)
    head.write(WEIGHTS, save(weights))


def _other(key: str, value: object) -> Damage:
    def damage(head: Folder) -> None:
        head.write(HEAD, json.dumps(json.loads(head.read(HEAD)) | {key: value}).encode())

    return damage


@pytest.mark.parametrize(
    ("damage", "name", "told"),
    [
        (lambda head: head.remove(WEIGHTS), WEIGHTS, "the file is gone"),
        (lambda head: head.write(WEIGHTS, b"x" * 30), WEIGHTS, "it cannot be read"),
        (lambda head: head.write(HEAD, b"{"), HEAD, "it cannot be read"),
        (lambda head: head.write(HEAD, b"[]"), HEAD, "it holds no description of a head"),
        (lambda head: head.write(EPOCHS, b"{}"), EPOCHS, "it holds no list of epochs"),
        (_nan_weights, WEIGHTS, "normalise.mean has values that are not finite"),
        (_other("classes", ["cat"]), HEAD, "its classes are not those of the header"),
        (
            _other("embeddings", "e" * 32),
            HEAD,
            f"it was trained on vectors of fingerprint {'e' * 32}, the embeddings there have fff",
        ),
    ],
)
@pytest.mark.parametrize(("table", "place"), [("heads/audio", ""), ("heads/video", "fold-2/")])
def test_a_damaged_head_is_found(
    run: Folder, damage: Damage, name: str, told: str, table: str, place: str
) -> None:
    damage(run / table / place.rstrip("/") if place else run / table)
    (fault,) = verify(run).faults
    assert (fault.table, fault.where) == (table, f"{place}{name}")
    assert fault.what.startswith(told)
    assert fault.way_out == f"remove {table}/_header.json and run `audioflow train RECIPE` again"


def test_a_head_that_is_counted_wrongly_is_found(run: Folder) -> None:
    edit_header(run, "heads/video", rows=5)
    (fault,) = verify(run).faults
    assert fault.what == "the header counts 5 heads, its settings make 2"


def test_a_file_of_the_report_that_is_gone_is_found(run: Folder) -> None:
    (run / "report").remove("index.html")
    (fault,) = verify(run).faults
    assert (fault.table, fault.kind, fault.where) == ("report", "missing_file", "index.html")


@pytest.mark.parametrize(
    ("table", "name"), [("report", "report.json"), ("heads/video", "fold-1/weights.safetensors")]
)
def test_files_whose_hashes_the_header_names_are_compared(
    run: Folder, table: str, name: str
) -> None:
    path = path_of(run / table, name)
    edit_header(run, table, stats={"files": {name: hashlib.sha256(path.read_bytes()).hexdigest()}})
    assert verify(run).ok
    path.write_bytes(path.read_bytes()[:-1] + b"~")
    (fault,) = verify(run).faults
    assert (fault.table, fault.kind, fault.where) == (table, "damaged_file", name)
    assert fault.what == "its bytes are not those that the header names"
