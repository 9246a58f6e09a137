"""`train`, `score`, `fuse` and `report` on a real Ray."""

import json
from collections import Counter
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from sklearn.metrics import accuracy_score

from audioflow.engine.flow import run_job
from audioflow.engine.run import Run
from audioflow.errors import InputError, RecipeError, TableError
from audioflow.scores import score_matrix
from audioflow.systems.bundle import HeadBundle
from audioflow.tables import MANIFEST_SCHEMA, Table


def accuracy(table: Table, split: str = "test") -> float:
    rows = [row for row in table.read().to_pylist() if row["split"] == split]
    return float(
        accuracy_score([row["labels"][0] for row in rows], [row["predicted"] for row in rows])
    )


def test_no_more_workers_are_started_than_have_something_to_do(done: Run) -> None:
    told = [event.data["text"] for event in done.listener if event.kind == "note"]  # type: ignore[attr-defined]
    assert not [text for text in told if "workers instead of" in text]


def test_the_flow_learns_and_every_table_accounts_for_its_clips(done: Run) -> None:
    manifest = done.manifest().read().to_pylist()
    wanted = {row["clip_id"] for row in manifest}
    for name in ("audio", "video", "fused"):
        table = done.scores(name)
        rows = table.read()
        ids = rows["clip_id"].to_pylist() + table.read_failures()["clip_id"].to_pylist()
        assert Counter(ids) == Counter(wanted)
        assert np.allclose(score_matrix(rows).sum(axis=1), 1, atol=1e-4)
    chance = 1 / len(done.manifest().complete_header().classes)
    assert accuracy(done.scores("audio")) > 2 * chance
    assert accuracy(done.scores("fused")) > 2 * chance

    fused = done.scores("fused").read().to_pylist()
    available = Counter(tuple(row["available"]) for row in fused)
    assert available[("audio", "video")] > available[("video",)] > 0
    audio = {row["clip_id"] for row in done.scores("audio").read().to_pylist()}
    assert all(("audio" in row["available"]) == (row["clip_id"] in audio) for row in fused)

    results = json.loads(done.report().folder.read("report.json"))
    told = {system["name"]: system["metrics"]["accuracy"]["value"] for system in results["systems"]}
    for name in ("audio", "video", "fused"):
        assert told[name] == pytest.approx(accuracy(done.scores(name)))
    assert b"<html" in done.report().folder.read("index.html")


def test_a_second_run_skips_every_job(make_run) -> None:
    again = make_run()
    run_job("run", again)
    kinds = Counter(event.kind for event in again.listener if event.kind != "start")  # type: ignore
    assert set(kinds) == {"skip"}


def test_another_head_setting_makes_again_only_what_depends_on_it(make_run) -> None:
    again = make_run("systems.audio.train.epochs=2")
    run_job("run", again)
    did = {(event.job, event.name) for event in again.listener if event.kind == "done"}  # type: ignore
    assert did == {
        ("train", "audio"),
        ("score", "audio"),
        ("fuse", "fused"),
        ("report", "report"),
    }


@pytest.mark.slow  # Ray Train takes its time; test_train compares two workers with one, too
def test_two_workers_come_to_the_same_head_as_one(done: Run, make_run) -> None:
    one = HeadBundle.load(done.head("audio").folder).weights
    run = make_run("systems.audio.train.workers=2")
    run_job("train", run)
    assert run.head("audio").complete_header().stats["workers"] == 2
    two = HeadBundle.load(run.head("audio").folder).weights
    for name, tensor in one.items():
        assert np.allclose(tensor.numpy(), two[name].numpy(), atol=1e-4), name


def test_the_head_bundle_says_how_it_was_made(done: Run) -> None:
    spec = HeadBundle.load(done.head("video").folder).spec
    assert spec.classes == done.manifest().complete_header().classes
    assert spec.embeddings == done.embeddings("color").complete_header().settings["vectors"]
    assert spec.head["hidden"] == [16]
    assert 1 <= spec.trained_on["best_epoch"] <= 12
    files = done.head("video").folder.names()
    assert {"weights.safetensors", "head.json", "epochs.json", "_header.json"} <= set(files)
    assert [
        name for name in (done.head("video").folder / "tensorboard").names() if "tfevents" in name
    ]


def test_epochs_are_told_while_they_run(done: Run) -> None:
    told = [event for event in done.listener if event.kind == "epoch"]  # type: ignore[attr-defined]
    audio = [event.data for event in told if event.name == "audio"]
    assert [record["epoch"] for record in audio] == list(range(1, 13))
    assert audio[-1]["train_loss"] < audio[0]["train_loss"]
    told_of = {"accuracy", "macro_f1", "map", "auc", "weighted_auc"}
    assert set(audio[0]["metrics"]) == {f"val_{name}" for name in told_of}


def test_a_head_does_not_score_vectors_made_otherwise(make_run) -> None:
    run = make_run()
    head = json.loads(run.head("audio").folder.read("head.json"))
    head["embeddings"] = "0123"
    run.head("audio").folder.write("head.json", json.dumps(head).encode())
    run.scores("audio").folder.remove("_header.json")
    with pytest.raises(TableError, match="head 'audio' was trained on vectors of fingerprint 0123"):
        run_job("score", run)


def test_a_layer_that_the_backbone_lacks_is_named(make_run) -> None:
    with pytest.raises(RecipeError, match=r"systems.audio.layer: 'pool5' is not a layer of"):
        make_run("systems.audio.layer=pool5")


def test_a_system_without_a_val_clip_is_refused(make_run) -> None:
    with pytest.raises(RecipeError, match="gives no clips to 'val'"):
        make_run("manifest.splits={train: 0.6, test: 0.4}")


def test_a_split_whose_clips_all_failed_is_named(make_run) -> None:
    run = make_run("systems.audio.train.epochs=3")
    table = run.manifest()
    rows = table.read().to_pylist()
    failed = set(run.embeddings("acoustic").read_failures()["clip_id"].to_pylist())
    for row in rows:
        row["split"] = "val" if row["clip_id"] in failed else "train"
    old = table.complete_header()
    receipt = table.commit(old.shards[0].name, pa.Table.from_pylist(rows, MANIFEST_SCHEMA))
    table.finish(replace(old, shards=[receipt], fingerprint="other"))
    with pytest.raises(InputError, match="no clip of the split val has an embedding"):
        run_job("train", run)


def test_folds_score_every_clip_by_a_head_that_never_saw_it(make_run) -> None:
    sections = {
        "manifest": {"reader": "folder", "splits": {"folds": 3}},
        "score": {"splits": ["test"]},
        "fuse": {},
    }
    run = make_run("systems.video.train.epochs=3", sections=sections)
    run_job("run", run)
    manifest = {row["clip_id"]: row for row in run.manifest().read().to_pylist()}
    assert {row["fold"] for row in manifest.values()} == {"1", "2", "3"}
    table = run.scores("audio")
    rows = table.read().to_pylist()
    ids = [row["clip_id"] for row in rows] + table.read_failures()["clip_id"].to_pylist()
    assert sorted(ids) == sorted(manifest)
    assert {row["split"] for row in rows} == {"test"}
    for fold in ("1", "2", "3"):
        spec = HeadBundle.load(run.head("audio").folder / f"fold-{fold}").spec
        assert spec.fold == fold
        outside = sum(row["fold"] != fold for row in manifest.values())
        assert sum(spec.trained_on["clips"].values()) < outside + 1
    assert accuracy(table) > 0.3


def test_the_whole_flow_runs_in_a_bucket(done: Run, make_run, corpus, s3_server: str) -> None:
    import s3fs

    fs = s3fs.S3FileSystem(endpoint_url=s3_server)
    fs.mkdir("flow")
    fs.put(str(corpus), "flow/corpus", recursive=True)
    sections = {"manifest": {"reader": "folder", "root": "s3://flow/corpus"}}
    run = make_run(run_dir="s3://flow/runs/one", sections=sections)
    run_job("run", run)
    remote = {row["clip_id"]: row for row in run.embeddings("acoustic").read().to_pylist()}
    here = {row["clip_id"]: row for row in done.embeddings("acoustic").read().to_pylist()}
    assert remote == here
    assert fs.exists("flow/runs/one/report/index.html")
    assert fs.glob("flow/runs/one/heads/audio/tensorboard/*tfevents*")
    again = make_run(run_dir="s3://flow/runs/one", sections=sections)
    run_job("run", again)
    assert {event.kind for event in again.listener} - {"start"} == {"skip"}  # type: ignore
