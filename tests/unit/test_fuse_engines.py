"""The job `fuse` on score tables of any cut: in memory and in pieces, with the same result."""

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from audioflow import cut
from audioflow.embeddings import ClipEmbedding, embedding_rows
from audioflow.engine import fuse_fit, fuse_inputs
from audioflow.engine.fuse import fuse_systems
from audioflow.engine.run import Run
from audioflow.engine.tasks import here
from audioflow.errors import StoppedError, TableError
from audioflow.scores import score_matrix
from audioflow.storage import Folder
from audioflow.tables import Header, Table
from audioflow.verify import verify
from tests.unit.scored_tables import (
    Clips,
    bytes_of,
    fusing,
    make_clips,
    softmax_scores,
    write_manifest,
    write_scores,
)

ENGINES = ("memory", "stream")


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts and groups that small tables have several of."""
    monkeypatch.setattr(cut, "CLIPS_PER_PART", 50)
    monkeypatch.setattr(fuse_inputs, "BYTES_PER_GROUP", 4 * 3 * 150)


def fuse(folder: Path, **fused: Any) -> tuple[Run, Header]:
    run = fusing(folder, **fused)
    return run, fuse_systems(run, here)[0]


def by_hash(clips: Clips) -> Clips:
    """The same clips in the order of their hashes, so that shards of neighbours are parts."""
    order = np.argsort(cut.clip_hashes(clips.ids))
    return replace(
        clips,
        ids=[clips.ids[row] for row in order],
        targets=clips.targets[order],
        splits=[clips.splits[row] for row in order],
    )


def two_tables(folder: Path, clips: Clips, *, shards: int = 3) -> None:
    """Audio that lacks every 7th clip, video that lacks every 35th: those no system has."""
    count = len(clips.ids)
    run = Folder(str(folder))
    audio, video = softmax_scores(clips, 1), softmax_scores(clips, 2)
    write_scores(run, "audio", clips, audio, failed=range(0, count, 7), shards=shards)
    write_scores(run, "video", clips, video, failed=range(0, count, 35), shards=shards + 2)


@pytest.mark.parametrize("order", ["hashed", "unordered"])
@pytest.mark.parametrize("rule", ["weighted", "max"])
def test_both_engines_write_the_same_bytes(tmp_path: Path, order: str, rule: str) -> None:
    clips = make_clips(400)
    clips = by_hash(clips) if order == "hashed" else clips
    found = {}
    for engine in ENGINES:
        two_tables(tmp_path / engine, clips, shards=6)
        run, header = fuse(tmp_path / engine, rule=rule, engine=engine)
        found[engine] = (bytes_of(run.scores("fused")), header.settings, header.shards)
        assert len(header.shards) == 8
        assert (header.rows, header.failures) == (388, 12)
        assert not (tmp_path / engine / "fuse").exists()
    assert found["memory"] == found["stream"]


def test_the_result_does_not_depend_on_the_order_of_rows_or_their_shards(tmp_path: Path) -> None:
    clips = make_clips(300)
    two_tables(tmp_path / "a", clips)
    order = np.random.default_rng(0).permutation(300)
    audio, video = softmax_scores(clips, 1), softmax_scores(clips, 2)
    mixed = replace(
        clips,
        ids=[clips.ids[row] for row in order],
        targets=clips.targets[order],
        splits=[clips.splits[row] for row in order],
    )
    places = np.argsort(order)
    run = Folder(str(tmp_path / "b"))
    write_scores(run, "audio", mixed, audio[order], failed=places[::7], shards=1)
    write_scores(run, "video", mixed, video[order], failed=places[::35], shards=40)
    content = []
    for name in ("a", "b"):
        run_, header = fuse(tmp_path / name, engine="stream")
        table = run_.scores("fused")
        content.append((table.read(), header.settings, table.read_failures()))
    assert content[0][0].equals(content[1][0])
    assert content[0][1] == content[1][1]
    assert content[0][2].equals(content[1][2])


@pytest.mark.parametrize("engine", ENGINES)
def test_every_clip_is_a_row_or_a_failure_with_the_reasons_of_all(
    tmp_path: Path, engine: str
) -> None:
    clips = make_clips(200)
    write_manifest(Folder(str(tmp_path)), clips)
    two_tables(tmp_path, clips)
    run, _ = fuse(tmp_path, engine=engine)
    rows = run.scores("fused").read().to_pylist()
    failed = run.scores("fused").read_failures().to_pylist()
    lost = {clips.ids[row] for row in range(0, 200, 35)}
    assert {row["clip_id"] for row in failed} == lost
    assert {row["clip_id"] for row in rows} == set(clips.ids) - lost
    assert len(rows) + len(failed) == 200
    told = "audio: no_audio: audio has no sound; video: no_audio: video has no sound"
    assert {row["reason"] for row in failed} == {told}
    alone = {clips.ids[row] for row in range(0, 200, 7)} - lost
    assert {row["clip_id"] for row in rows if row["available"] == ["video"]} == alone
    faults = [fault for fault in verify(run.folder).faults if fault.table == "scores/fused"]
    assert faults == []


def at_fusing(outcomes: int) -> Callable[..., Iterator[tuple[Any, Any]]]:
    """Work in this process that is stopped after some parts were fused."""

    def each(
        function: Callable[[Any, Any], Any], shared: Any, items: Iterable[Any]
    ) -> Iterator[tuple[Any, Any]]:
        for number, found in enumerate(here(function, shared, items)):
            if function.__name__ == "fuse_part" and number == outcomes:
                raise StoppedError("enough")
            yield found

    return each


def test_a_run_that_was_stopped_goes_on_with_what_is_there(tmp_path: Path) -> None:
    clips = make_clips(400)
    for name in ("whole", "stopped"):
        two_tables(tmp_path / name, clips)
    whole, _ = fuse(tmp_path / "whole", engine="stream")
    run = fusing(tmp_path / "stopped", engine="stream")
    with pytest.raises(StoppedError):
        fuse_systems(run, at_fusing(3))
    table = run.scores("fused")
    assert table.header() is None
    spilled = sorted((tmp_path / "stopped" / "fuse").rglob("*.rows"))
    written = [path.stat().st_mtime_ns for path in spilled]
    begun = {
        path: path.stat().st_mtime_ns
        for path in (tmp_path / "stopped/scores/fused").glob("*.parquet")
    }
    assert len(begun) == 4  # the one that was not told is committed all the same
    assert len(written) == 8
    params = json.loads(table.folder.read("fusion.json"))["params"]

    def still_there(*arguments: Any) -> Iterator[tuple[Any, Any]]:
        assert [path.stat().st_mtime_ns for path in spilled] == written
        return here(*arguments)

    (header,) = fuse_systems(run, still_there)
    assert header.settings["params"] == params
    assert header.stats["resumed"] == 4
    assert {path: path.stat().st_mtime_ns for path in begun} == begun
    assert bytes_of(table) == bytes_of(whole.scores("fused"))
    assert not (tmp_path / "stopped" / "fuse").exists()


def test_a_change_of_the_recipe_makes_the_table_anew_and_a_change_of_engine_does_not(
    tmp_path: Path,
) -> None:
    two_tables(tmp_path, make_clips(200))
    _, first = fuse(tmp_path, engine="stream")
    run, again = fuse(tmp_path, engine="memory")
    assert again.fingerprint == first.fingerprint
    assert [event.kind for event in run.listener] == ["skip"]  # type: ignore[attr-defined]
    run, other = fuse(tmp_path, engine="memory", rule="max")
    assert other.fingerprint != first.fingerprint
    assert set(run.scores("fused").committed()) == {shard.name for shard in other.shards}


def change(clips: Clips, row: int, **values: Any) -> Clips:
    """The clips, of which one has another label or split."""
    targets, splits = clips.targets.copy(), list(clips.splits)
    targets[row] = values.get("target", targets[row])
    splits[row] = values.get("split", splits[row])
    return replace(clips, targets=targets, splits=splits)


@pytest.mark.parametrize("engine", ENGINES)
def test_tables_that_disagree_are_refused(tmp_path: Path, engine: str) -> None:
    clips = make_clips(200)
    row = 101
    other = (clips.targets[row] + 1) % 3
    two_tables(tmp_path, clips)
    run = Folder(str(tmp_path))
    for changed, match in (
        (change(clips, row, target=other), rf"clip '{clips.ids[row]}' has labels"),
        (change(clips, row, split="train"), rf"clip '{clips.ids[row]}' has split"),
        (
            replace(clips, ids=[*clips.ids[:199], clips.ids[0]]),
            rf"'video' has clip '{clips.ids[0]}' 2 times",
        ),
    ):
        write_scores(run, "video", changed, softmax_scores(changed, 2), shards=4)
        with pytest.raises(TableError, match=match):
            fuse(tmp_path, engine=engine)


@pytest.mark.parametrize("engine", ENGINES)
def test_classes_in_another_order_are_put_right_and_others_are_refused(
    tmp_path: Path, engine: str
) -> None:
    clips, run = make_clips(200), Folder(str(tmp_path))
    scores = softmax_scores(clips, 1)
    turned = replace(clips, classes=("owl", "cat", "dog"), targets=(clips.targets + 1) % 3)
    write_scores(run, "audio", clips, scores)
    write_scores(run, "video", turned, np.roll(scores, 1, axis=1))
    done, header = fuse(tmp_path, engine=engine, weights={"audio": 1, "video": 1}, calibrate="none")
    rows = done.scores("fused").read()
    assert header.classes == ["cat", "dog", "owl"]
    own = dict(zip(clips.ids, scores, strict=True))
    expected = np.stack([own[clip_id] for clip_id in rows["clip_id"].to_pylist()])
    np.testing.assert_allclose(score_matrix(rows), expected, atol=1e-6)
    write_scores(run, "video", replace(clips, classes=("cat", "dog", "elk")), scores)
    with pytest.raises(TableError, match="only 'audio' has owl; only 'video' has elk"):
        fuse(tmp_path, engine=engine)


def test_the_fit_is_on_a_bounded_sample_that_no_order_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fuse_fit, "FIT_CELLS", 60 * 2 * 3)
    clips = make_clips(400)
    params = []
    for engine, own in (("memory", clips), ("stream", clips), ("stream", by_hash(clips))):
        folder = tmp_path / f"{len(params)}"
        scores = {name: softmax_scores(clips, seed) for seed, name in enumerate(("audio", "video"))}
        places = [clips.ids.index(clip_id) for clip_id in own.ids]
        for name, values in scores.items():
            write_scores(Folder(str(folder)), name, own, values[places])
        params.append(fuse(folder, engine=engine)[1].settings["params"])
    assert params[0] == params[1] == params[2]
    fit = {"split": "val", "clips": 60, "sampled_from": 200, "cross_fitted": False}
    assert params[0]["fit"] == fit


def test_clips_that_are_not_fitted_on_do_not_touch_the_fit(tmp_path: Path) -> None:
    clips = make_clips(300)
    params = []
    for name, noise in (("a", 0), ("b", 99)):
        scores = softmax_scores(clips, 1)
        scores[1::2] = softmax_scores(clips, 1 + noise)[1::2]
        write_scores(Folder(str(tmp_path / name)), "audio", clips, scores)
        write_scores(Folder(str(tmp_path / name)), "video", clips, softmax_scores(clips, 2))
        params.append(fuse(tmp_path / name, engine="stream")[1].settings["params"])
    assert params[0] == params[1]


@pytest.mark.parametrize("engine", ENGINES)
def test_clips_that_lack_a_system_are_dropped_or_refused(tmp_path: Path, engine: str) -> None:
    clips = make_clips(210)
    two_tables(tmp_path, clips)
    write_manifest(Folder(str(tmp_path)), clips)
    run, header = fuse(tmp_path, engine=engine, missing="drop")
    assert (header.rows, header.failures) == (180, 30)
    failed = {row["clip_id"]: row for row in run.scores("fused").read_failures().to_pylist()}
    one = failed[clips.ids[7]]
    assert (one["stage"], one["error"]) == ("fuse", "no_audio")
    assert "audio: no_audio: audio has no sound" in one["reason"]
    assert [fault for fault in verify(run.folder).faults if fault.table == "scores/fused"] == []
    with pytest.raises(TableError, match=r"24 of 204 clips have not been scored by all systems"):
        fuse(tmp_path, engine=engine, missing="fail")
    assert run.scores("fused").header() is None


@pytest.mark.parametrize("engine", ENGINES)
def test_a_split_without_clips_is_named_with_those_present(tmp_path: Path, engine: str) -> None:
    two_tables(tmp_path, make_clips(200, splits=("test",)))
    with pytest.raises(TableError, match=r"split 'val'.* there are test \(194\)"):
        fuse(tmp_path, engine=engine)


@pytest.mark.parametrize("engine", ENGINES)
def test_clips_in_folds_are_fused_by_what_was_fitted_on_other_folds(
    tmp_path: Path, engine: str
) -> None:
    clips = make_clips(300, splits=("test",))
    clips = replace(clips, folds=[str(row % 5) for row in range(300)])
    found = {}
    for name in ("own", "one"):
        run = Folder(str(tmp_path / name))
        write_manifest(run, clips)
        audio, video = softmax_scores(clips, 1), softmax_scores(clips, 2)
        if name == "one":  # in this fold audio is always right: its own clips must not know
            rows = np.array([fold == "3" for fold in clips.folds])
            audio[rows] = np.eye(3, dtype=np.float32)[clips.targets[rows]]
        write_scores(run, "audio", clips, audio)
        write_scores(run, "video", clips, video)
        done, header = fuse(tmp_path / name, engine=engine)
        found[name] = header.settings["params"]
        assert header.rows == 300
        assert done.scores("fused").read().num_rows == 300
    part = found["own"]["cross_fit"]["part_of"]["3"]
    assert part == found["one"]["cross_fit"]["part_of"]["3"]
    for key in ("weights", "calibrators"):
        own, one = (found[name]["cross_fit"]["parts"][part][key] for name in found)
        assert own == one
        assert found["own"][key] != found["one"][key]
    assert found["own"]["fit"]["cross_fitted"] is True


def test_a_table_without_a_row_is_fused_with_one_that_has_some(tmp_path: Path) -> None:
    clips, run = make_clips(60), Folder(str(tmp_path))
    write_scores(run, "audio", clips, softmax_scores(clips, 1), failed=range(60))
    write_scores(run, "video", clips, softmax_scores(clips, 2))
    for engine in ENGINES:
        done, header = fuse(tmp_path, engine=engine, rule="max")
        assert (header.rows, header.failures) == (60, 0)
        done.scores("fused").folder.remove("_header.json")


def write_coverage(run: Folder, clips: Clips, coverage: np.ndarray) -> None:
    """Embeddings of all clips but the last five, in two shards, in another order."""
    table, layers = Table(run / "embeddings" / "acoustic"), {"embedding": 2}
    order = np.argsort(clips.ids)[:-5]
    receipts = []
    for number, places in enumerate(np.array_split(order, 2)):
        vectors = [{"embedding": np.zeros((1, 2), np.float32)} for _ in places]
        embedded = [
            ClipEmbedding(vector, np.zeros(1), 1.0, float(coverage[place]))
            for vector, place in zip(vectors, places, strict=True)
        ]
        rows = embedding_rows([clips.ids[place] for place in places], embedded, layers)
        receipts.append(table.commit(f"e-{number}", rows))
    settings = {"vectors": "0", "layers": layers}
    table.finish(Header("embeddings", "acoustic", "0", {}, settings, len(order), 0, receipts))


def test_quality_of_the_clips_reaches_the_rule_wherever_they_are_fused(tmp_path: Path) -> None:
    clips = make_clips(400)
    coverage = np.random.default_rng(5).uniform(size=400).round(3)
    audio = softmax_scores(clips, 1, skill=4)
    poor = coverage < 0.5
    audio[poor] = softmax_scores(clips, 3, skill=0)[poor]
    found = {}
    for engine in ENGINES:
        run = Folder(str(tmp_path / engine))
        write_scores(run, "audio", clips, audio)
        write_scores(run, "video", clips, softmax_scores(clips, 2))
        write_coverage(run, clips, coverage)
        quality = {"table": "acoustic", "columns": ["coverage"]}
        done, header = fuse(tmp_path / engine, engine=engine, rule="gated", quality=quality)
        found[engine] = bytes_of(done.scores("fused"))
        assert header.parents["embeddings/acoustic"] == "0"
    assert found["memory"] == found["stream"]
    plain, _ = fuse(tmp_path / "stream", engine="stream")
    gated, _ = fuse(tmp_path / "memory", rule="gated", quality=quality)
    truth = dict(zip(clips.ids, map(clips.labels, range(400)), strict=True))
    right = [
        sum(
            [row["predicted"]] == truth[row["clip_id"]]
            for row in run.scores("fused").read().to_pylist()
            if row["split"] == "test"
        )
        for run in (gated, plain)
    ]
    assert right[0] > right[1]


@pytest.mark.parametrize("count", [20, pytest.param(600, marks=pytest.mark.slow)])
def test_the_case_of_kinetics_is_fused_by_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    """29,753 video and 29,731 audio rows of 600 classes; ids are Windows paths; each lacks some."""
    monkeypatch.undo()
    classes = [f"class {number}" for number in range(count)]
    clips = make_clips(
        29_800, ("test",), classes, name="D:\\Kinetics 600\\val\\été\\{:011}_000010.mp4"
    )
    rng, run = np.random.default_rng(0), Folder(str(tmp_path))
    both = {name: rng.random((29_800, count), np.float32) for name in ("audio", "video")}
    lost = {"audio": rng.permutation(29_800)[:69], "video": rng.permutation(29_800)[:47]}
    for name, scores in both.items():
        write_scores(run, name, clips, scores, failed=lost[name].tolist())
    done, header = fuse(tmp_path, weights={"audio": 1, "video": 3}, calibrate="none")
    neither = np.intersect1d(*lost.values())
    assert (header.rows, header.failures) == (29_800 - len(neither), len(neither))
    assert len(header.shards) == 2
    rows = done.scores("fused").read()
    place = {clip_id: row for row, clip_id in enumerate(clips.ids)}
    order = [place[clip_id] for clip_id in rows["clip_id"].to_pylist()]
    share = {name: scores / scores.sum(axis=1, keepdims=True) for name, scores in both.items()}
    expected = 0.25 * share["audio"] + 0.75 * share["video"]
    expected[lost["audio"]] = both["video"][lost["audio"]]
    expected[lost["video"]] = both["audio"][lost["video"]]
    np.testing.assert_allclose(score_matrix(rows), expected[order], atol=1e-6)
    available = np.array([len(names) for names in rows["available"].to_pylist()])
    assert np.count_nonzero(available == 1) == len(lost["audio"]) + len(lost["video"]) - 2 * len(
        neither
    )
