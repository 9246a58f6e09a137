"""`embed` on a real Ray, with real files."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from audioflow.engine.embed import embed
from audioflow.engine.manifest import make_manifest
from audioflow.engine.run import Run
from audioflow.errors import TableError, TooManyFailures
from audioflow.storage import local_path
from tests.ray.conftest import build_run


def rows_by_id(run: Run, backbone: str) -> dict[str, dict]:
    return {row["clip_id"]: row for row in run.embeddings(backbone).read().to_pylist()}


def shard_times(run: Run, backbone: str) -> dict[str, int]:
    folder = Path(local_path(run.embeddings(backbone).folder.url))
    return {path.name: path.stat().st_mtime_ns for path in folder.glob("*.parquet")}


def test_every_clip_is_once_in_the_rows_or_in_the_failures(done: Run) -> None:
    manifest = done.manifest().read(["clip_id"])["clip_id"].to_pylist()
    assert len(set(manifest)) == len(manifest) == 48
    for backbone in ("acoustic", "color"):
        table = done.embeddings(backbone)
        rows = table.read(["clip_id"])["clip_id"].to_pylist()
        failed = table.read_failures()["clip_id"].to_pylist()
        assert failed
        assert sorted(rows + failed) == sorted(manifest)
        header = table.complete_header()
        assert (header.rows, header.failures) == (len(rows), len(failed))


def test_failures_name_the_stage_the_class_and_the_cause(done: Run) -> None:
    sound = done.embeddings("acoustic").read_failures().to_pylist()
    assert {"no_audio", "not_media", "truncated"} <= {row["error"] for row in sound}
    assert {row["stage"] for row in sound} == {"decode"}
    assert all(row["reason"] and row["uri"] and row["node"] for row in sound)
    pictures = done.embeddings("color").read_failures().to_pylist()
    assert "no_video" in {row["error"] for row in pictures}


def test_a_shard_reads_as_plain_parquet(done: Run) -> None:
    folder = Path(local_path(done.embeddings("acoustic").folder.url))
    schema = pq.read_schema(next(folder.glob("*.parquet")))
    assert schema.field("clip_id").type == pa.string()
    assert schema.field("embedding").type == pa.list_(pa.list_(pa.float32(), 108))
    assert not [field for field in schema if isinstance(field.type, pa.ExtensionType)]


@pytest.mark.parametrize("on_gpu", [("acoustic", "color"), ("acoustic",), ("color",)])
def test_the_way_of_backbones_on_gpus_gives_the_same_tables(
    corpus: Path, done: Run, tmp_path: Path, on_gpu: tuple[str, ...]
) -> None:
    run = build_run(corpus, tmp_path, *(f"embed.backbones.{name}.num_gpus=0.5" for name in on_gpu))
    make_manifest(run)
    embed(run)
    for backbone in ("acoustic", "color"):
        mine, other = run.embeddings(backbone), done.embeddings(backbone)
        assert mine.read().equals(other.read())
        gone = ["node"]
        assert mine.read_failures().drop(gone).equals(other.read_failures().drop(gone))
        header = mine.complete_header()
        assert header.fingerprint == other.complete_header().fingerprint
        shares = header.stats["shares"]
        assert {"decode", "embed acoustic", "embed color", "write", "wait"} <= shares.keys()
        assert sum(shares.values()) == pytest.approx(1.0, abs=1e-3)


def test_a_run_says_where_its_time_went(done: Run) -> None:
    notes = [event for event in done.listener if (event.job, event.kind) == ("embed", "verdict")]  # type: ignore[attr-defined]
    (note,) = notes
    stats = done.embeddings("acoustic").complete_header().stats
    assert note.data["text"] == stats["verdict"]
    assert stats["shares"].keys() == {
        "fetch",
        "decode",
        "embed acoustic",
        "embed color",
        "write",
        "wait",
    }
    assert all(0 <= share <= 1 for share in stats["shares"].values())
    assert 0 <= stats["start_s"] <= stats["seconds"]


def test_progress_counts_every_clip_once(done: Run) -> None:
    events = [event for event in done.listener if event.job == "embed"]  # type: ignore[attr-defined]
    progress = [event.data["done"] for event in events if event.kind == "progress"]
    assert progress == sorted(progress)
    assert progress[-1] == events[0].data["total"] == 48


@pytest.mark.parametrize("gone", ["receipt", "shard", "header"])
def test_what_is_missing_is_made_again_and_nothing_else(make_run, gone: str) -> None:
    run = make_run()
    expected, before = rows_by_id(run, "acoustic"), shard_times(run, "acoustic")
    table = run.embeddings("acoustic")
    lost = table.complete_header().shards[1].name
    table.folder.remove("_header.json")
    if gone == "receipt":
        (table.folder / "_shards").remove(f"{lost}.json")
    if gone == "shard":
        table.folder.remove(f"{lost}.parquet")
    embed(run)
    after = shard_times(run, "acoustic")
    changed = {name for name in before if after[name] != before[name]}
    assert changed == (set() if gone == "header" else {f"{lost}.parquet"})
    assert rows_by_id(run, "acoustic") == expected


def test_other_settings_make_another_table_and_leave_no_old_shard(make_run) -> None:
    run = make_run()
    before, first = shard_times(run, "acoustic"), rows_by_id(run, "acoustic")
    backbones = {
        "acoustic": {"patch_s": 0.5, "hop_s": 0.2},
        "color": {"num_frames": 4},
        "short": {"name": "acoustic", "patch_s": 0.5, "hop_s": 0.4},
    }
    embed_section = {"backbones": backbones, "clips_per_shard": 6, "max_failed_share": 0.5}
    other = make_run(sections={"embed": embed_section})
    embed(other)
    assert not set(shard_times(other, "acoustic")) & set(before)
    second, short = rows_by_id(other, "acoustic"), rows_by_id(other, "short")
    assert first.keys() == second.keys() == short.keys()
    clip = next(iter(second))
    assert np.diff(second[clip]["patch_start_s"][:3]) == pytest.approx([0.2, 0.2])
    assert np.allclose(second[clip]["embedding"][::2], short[clip]["embedding"], atol=1e-4)
    skipped = [event.name for event in other.listener if event.kind == "skip"]
    assert skipped == ["color"]


def test_a_changed_split_does_not_cost_a_new_embedding(make_run) -> None:
    run = make_run("manifest.seed=7")
    before = shard_times(run, "acoustic")
    old = run.manifest().complete_header().fingerprint
    make_manifest(run)
    embed(run)
    assert shard_times(run, "acoustic") == before
    new = run.manifest().complete_header().fingerprint
    assert new != old
    assert run.embeddings("acoustic").complete_header().parents == {"manifest": new}


def test_too_many_failures_are_told_with_their_classes(make_run) -> None:
    run = make_run("embed.max_failed_share=0.01")
    with pytest.raises(TooManyFailures, match=r"acoustic: \d+ of 48 clips failed .*no_audio \d+"):
        embed(run)
    assert run.embeddings("acoustic").complete_header().failures > 0


def test_embed_without_a_manifest_says_what_to_run_first(make_run) -> None:
    run = make_run()
    run.manifest().folder.remove("_header.json")
    with pytest.raises(TableError, match="manifest is not complete: run its job first"):
        embed(run)
