"""A shard scored straight from media: parts, older shards, retries, labels of today."""

from pathlib import Path

import numpy as np
import pytest

from audioflow.backbones.running import ClipPart
from audioflow.embeddings import ClipEmbedding, embedding_rows
from audioflow.engine.embed_work import Embedded, ShardClips, Work
from audioflow.engine.score_commit import ScoreCommitter
from audioflow.engine.score_target import Target
from audioflow.errors import MediaError
from audioflow.media.packing import ClipEnd
from audioflow.storage import Folder
from audioflow.systems.ensemble import Heads, save_ensemble
from tests.unit.test_ensemble import LAYERS, bundle

KEYS = {"a": "ka", "b": "kb", "c": "kc"}
LABELS = [["x"], ["y"], []]
WHOLE = ClipEnd(2.0, 1.0)
LOST = ClipEnd.failed("fetch", MediaError("network", "no answer", 5))


def clips(*, labels: list[list[str]] = LABELS, folds: list[str | None] | None = None) -> ShardClips:
    uris, splits = ["/a", "/b", "/c"], ["val", "test", "test"]
    return ShardClips([*KEYS], uris, "node7", labels, splits, folds or [None] * 3)


def embedding(clip: int, patches: int = 2, variant: int = 0) -> ClipEmbedding:
    drawn = np.random.default_rng(10 * clip + variant)
    layers = {n: drawn.normal(size=(patches, w)).astype(np.float32) for n, w in LAYERS.items()}
    return ClipEmbedding(layers, np.arange(patches) * 0.5, 2.0, 1.0, variant)


def part(clip: int, **more: int) -> ClipPart:
    return ClipPart(clip, embedding(clip, **more))


@pytest.fixture
def heads(tmp_path: Path) -> Folder:
    """The heads of two folds."""
    folder = Folder(str(tmp_path / "heads" / "s"))
    for number, fold in enumerate(("1", "2")):
        bundle(number, fold=fold).save(folder / f"fold-{fold}", [])
    save_ensemble(folder, ["1", "2"])
    return folder


@pytest.fixture
def committer(tmp_path: Path, heads: Folder) -> ScoreCommitter:
    return committer_of(tmp_path, heads)


def committer_of(tmp_path: Path, heads: Folder, **changes: bool) -> ScoreCommitter:
    targets = [
        Target(name, Folder(str(tmp_path / "scores" / name)), heads, ("x", "y"), **changes)
        for name in ("one", "two")
    ]
    return ScoreCommitter.of(targets, LAYERS, min_coverage=0.8)


def scores(committer: ScoreCommitter, shard: str, table: str = "one") -> dict[str, list[float]]:
    rows = committer.scorers[table].target.table.read_shard(shard).to_pylist()
    return {row["clip_id"]: row["scores"] for row in rows}


def test_every_table_gets_rows_and_failures(committer: ScoreCommitter, heads: Folder) -> None:
    found = Embedded([part(2), part(0)], {0: WHOLE, 1: LOST, 2: WHOLE})
    works = {"one": Work("s1", KEYS), "two": Work("s2", KEYS)}
    receipts = committer.commit(works, clips(folds=["2", None, None]), [found])
    assert {name: (r.name, r.rows, r.failures) for name, r in receipts.items()} == {
        "one": ("s1", 2, 1),
        "two": ("s2", 2, 1),
    }
    assert receipts["one"].media_s == 4.0
    rows = embedding_rows(["a", "c"], [embedding(0), embedding(2)], LAYERS)
    both = Heads.load(heads)
    assert scores(committer, "s1")["a"] == both.scores(rows.slice(0, 1), "2")[1][0].tolist()
    assert scores(committer, "s1")["c"] == both.scores(rows.slice(1, 1))[1][0].tolist()
    table = committer.scorers["two"].target.table
    (failure,) = table.shard_failures("s2").to_pylist()
    assert (failure["clip_id"], failure["stage"], failure["attempts"]) == ("b", "fetch", 5)
    assert table.clip_keys(["s2"]) == {"s2": KEYS}


def test_heads_of_elsewhere_know_nothing_of_folds(tmp_path: Path, heads: Folder) -> None:
    committer = committer_of(tmp_path, heads, by_fold=False)
    found = Embedded([part(0)], {0: WHOLE, 1: LOST, 2: LOST})
    committer.commit({"one": Work("s", KEYS)}, clips(folds=["17", None, None]), [found])
    rows = embedding_rows(["a"], [embedding(0)], LAYERS)
    assert scores(committer, "s")["a"] == Heads.load(heads).scores(rows)[1][0].tolist()


def test_parts_written_down_make_the_shard_that_one_part_makes(committer: ScoreCommitter) -> None:
    works = {"one": Work("whole", KEYS), "two": Work("parts", KEYS)}
    whole = Embedded([part(0), part(1)], {0: WHOLE, 1: WHOLE, 2: LOST})
    halves = [Embedded([part(0)], {0: WHOLE}), Embedded([part(1)], {1: WHOLE, 2: LOST})]
    one = committer.commit({"one": works["one"]}, clips(), [whole])["one"]
    table, name = committer.keeper(works)
    for number, half in enumerate(halves):
        table.write_part(name, number, half.to_rows(clips(), LAYERS))
    read = [Embedded.from_rows(rows, clips(), LAYERS) for rows in table.read_parts(name, 2)]
    two = committer.commit({"two": works["two"]}, clips(), read)["two"]
    assert (one.sha256, one.failures_sha256) == (two.sha256, two.failures_sha256)


def test_older_scores_are_taken_over_with_the_labels_of_today(committer: ScoreCommitter) -> None:
    first = Embedded([part(0)], {0: WHOLE, 1: LOST})
    committer.commit({"one": Work("old", KEYS)}, clips(), [first])
    table = committer.scorers["one"].target.table
    work = Work("new", KEYS, todo=[1, 2], reuse={"old": ["a"]})
    today = clips(labels=[["y"], ["y"], ["x"]])
    found = Embedded([part(2), part(1)], {1: WHOLE, 2: WHOLE})
    assert committer.commit({"one": work}, today, [found])["one"].rows == 3
    rows = table.read_shard("new").to_pylist()
    assert [row["clip_id"] for row in rows] == ["a", "b", "c"]
    assert [row["labels"] for row in rows] == [["y"], ["y"], ["x"]]
    assert scores(committer, "new")["a"] == scores(committer, "old")["a"]


def test_a_retry_that_changes_nothing_leaves_the_shard_as_it_is(committer: ScoreCommitter) -> None:
    lost = Embedded([], dict.fromkeys(range(3), LOST))
    before = committer.commit({"one": Work("s", KEYS)}, clips(), [lost])
    again = {"one": Work("s-r1", KEYS, None, {}, retry_of="s")}
    assert committer.commit(again, clips(), [lost]) == before
    assert committer.scorers["one"].target.table.committed() == {"s"}


def test_variants_are_averaged(tmp_path: Path, heads: Folder) -> None:
    committer = committer_of(tmp_path, heads, mean=True)
    found = Embedded([part(0), part(0, variant=1)], {0: WHOLE, 1: LOST, 2: LOST})
    committer.commit({"one": Work("s", KEYS)}, clips(), [found])
    rows = embedding_rows(["a", "a"], [embedding(0), embedding(0, variant=1)], LAYERS)
    wanted = Heads.load(heads).scores(rows)[1].mean(axis=0)
    assert scores(committer, "s")["a"] == pytest.approx(wanted, abs=1e-7)


def test_patches_are_scored_as_clips_of_one_patch(tmp_path: Path, heads: Folder) -> None:
    committer = committer_of(tmp_path, heads, patches=True)
    found = Embedded([part(0, patches=3), part(2, patches=1)], {0: WHOLE, 1: LOST, 2: WHOLE})
    committer.commit({"one": Work("s", KEYS)}, clips(), [found])
    rows = committer.scorers["one"].target.table.read_shard("s").to_pylist()
    assert [row["patch_start_s"] for row in rows] == [[0.0, 0.5, 1.0], [0.0]]
    assert [len(row["patch_scores"]) for row in rows] == [3, 1]
    whole = embedding(0, patches=3)
    alone = [
        ClipEmbedding({n: v[p : p + 1] for n, v in whole.layers.items()}, np.zeros(1), 1.0, 1.0)
        for p in range(3)
    ]
    wanted = Heads.load(heads).scores(embedding_rows(["p"] * 3, alone, LAYERS))[1]
    assert np.allclose(rows[0]["patch_scores"], wanted, atol=1e-6)
    assert rows[1]["patch_scores"][0] == pytest.approx(rows[1]["scores"], abs=1e-6)
