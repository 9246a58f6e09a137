"""`score` on a real Ray: from embeddings and from media; heads, folds, variants, patches."""

import os
import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import ray
import yaml

from audioflow.cli import plugins
from audioflow.engine.flow import job_function, run_job
from audioflow.engine.run import Run
from audioflow.engine.score import score
from audioflow.errors import InputError
from audioflow.events import Event
from audioflow.recipe_file import load_recipe
from audioflow.scores import score_matrix
from audioflow.storage import local_path
from audioflow.systems.ensemble import Heads
from audioflow.tables import Table
from audioflow.verify import verify
from tests.media_files import tone, write_wav
from tests.ray.conftest import Recorder, Register, build_run
from tests.ray.moody import DOWN

CLOSE = 2e-6
"""Between ways that put other clips together in a batch."""


def by_id(table: Table) -> dict[str, dict[str, Any]]:
    return {row["clip_id"]: row for row in table.read().to_pylist()}


def failed(table: Table) -> dict[str, tuple[str, str, str]]:
    rows = table.read_failures().to_pylist()
    return {row["clip_id"]: (row["stage"], row["error"], row["reason"]) for row in rows}


def assert_same(one: Table, other: Table) -> None:
    """Two score tables say the same, whatever shards they are in."""
    first, second = (table.read().sort_by("clip_id") for table in (one, other))
    assert first.schema == second.schema
    for name in ("clip_id", "labels", "split", "predicted"):
        assert first[name].to_pylist() == second[name].to_pylist(), name
    assert np.abs(score_matrix(first) - score_matrix(second)).max() <= CLOSE
    assert failed(one) == failed(other)


def test_media_give_the_scores_that_embeddings_give_also_with_gpus(done: Run, make_run) -> None:
    run = make_run("score.source=media", "embed.backbones.acoustic.num_gpus=0.5")
    for backbone in ("acoustic", "color"):
        run.embeddings(backbone).folder.remove_all()
    score(run)
    for name in ("audio", "video"):
        assert_same(run.scores(name), done.scores(name))
        header = run.scores(name).complete_header()
        assert set(header.parents) == {"manifest", f"heads/{name}"}
        assert {"decode", "score", "wait"} <= header.stats["shares"].keys()
        assert header.media_s > 0
    assert not Path(local_path(run.folder.url), "embeddings", "acoustic").exists()
    score(run)
    assert [e.name for e in run.listener if e.kind == "skip"] == ["audio", "video"]


CLIPS = 36
SECTIONS: dict[str, Any] = {
    "manifest": {"reader": "folder", "splits": {"folds": 3, "test": 0.25}},
    "embed": {
        "backbones": {"acoustic": {"patch_s": 0.3, "hop_s": 0.3}},
        "clips_per_shard": 6,
        "decode_cpus": 0.5,
        "augment": {"variants": 2, "splits": ["test"], "gain": {"gain_db": [-12, -6]}},
    },
    "systems": {
        "mean": {"backbone": "acoustic", "head": "logistic_regression"},
        "loudest": {"backbone": "acoustic", "pooling": "max", "head": "logistic_regression"},
    },
    "score": {"splits": ["val", "test"]},
    "fuse": {},
}


@pytest.fixture(scope="module")
def sounds(tmp_path_factory: pytest.TempPathFactory, ray_session: None) -> Path:
    """Short sounds of two classes, the length of every third one differing."""
    root = tmp_path_factory.mktemp("score") / "sounds"
    for number in range(CLIPS):
        path = root / ("high" if number % 2 else "low") / f"{number:02d}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        hz, seconds = 200 + 40 * number, 1.2 if number % 3 else 0.7
        write_wav(path, tone(hz, seconds, 8_000), 8_000)
    return root


@pytest.fixture(scope="module")
def trained(sounds: Path) -> Run:
    """A run with heads for three folds of two systems, and their scores from embeddings."""
    run = build_run(sounds, sounds.parent, sections=SECTIONS)
    for job in ("manifest", "embed", "train", "score"):
        job_function(job)(run)
    return run


def copied(trained: Run, sounds: Path, folder: Path, *overrides: str) -> Run:
    """A run that finds a copy of all that `trained` made."""
    shutil.copytree(local_path(trained.folder.url), folder / "run")
    return build_run(sounds, folder, *overrides, sections=SECTIONS)


ALL = ("score.patches=true", "score.variants=mean")


@pytest.fixture(scope="module")
def stored(trained: Run, sounds: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Everything there is, from embeddings; a worker is killed meanwhile."""
    run = copied(trained, sounds, tmp_path_factory.mktemp("stored"), *ALL)
    killed: list[int] = []

    def listener(event: Event) -> None:
        if event.kind == "progress" and not killed:
            killed.append(kill_worker("ray::ScoreWorker"))

    run.listener = listener
    score(run)
    assert killed
    return run


@pytest.fixture(scope="module")
def streamed(trained: Run, sounds: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Everything there is, from media."""
    folder = tmp_path_factory.mktemp("streamed")
    run = copied(trained, sounds, folder, *ALL, "score.source=media")
    score(run)
    return run


def rows_of(run: Run, clip_id: str) -> pa.Table:
    """A clip's rows of embeddings, its variants among them."""
    rows = run.embeddings("acoustic").read()
    return rows.filter(pc.equal(rows["clip_id"], clip_id)).combine_chunks()


def scores_by(run: Run, system: str, rows: pa.Table, fold: str | None) -> np.ndarray:
    return Heads.load(run.head(system).folder).scores(rows, fold)[1]


def test_systems_on_one_table_are_scored_in_one_pass(trained: Run) -> None:
    told = [e.name for e in trained.listener if (e.job, e.kind) == ("score", "start")]
    assert told == ["mean, loudest"]
    manifest = {row["clip_id"]: row for row in trained.manifest().read().to_pylist()}
    for name in ("mean", "loudest"):
        rows = by_id(trained.scores(name))
        assert rows.keys() == manifest.keys()
        for clip_id in list(rows)[::5]:
            row, fold = rows[clip_id], manifest[clip_id]["fold"]
            assert row["split"] == ("test" if fold is None else "val")
            one = rows_of(trained, clip_id).slice(0, 1)
            assert row["scores"] == pytest.approx(scores_by(trained, name, one, fold)[0], abs=CLOSE)
    assert not np.allclose(*(score_matrix(trained.scores(n).read()) for n in ("mean", "loudest")))


def test_a_lost_worker_costs_nothing(trained: Run, stored: Run) -> None:
    for name in ("mean", "loudest"):
        assert by_id(stored.scores(name)).keys() == by_id(trained.scores(name)).keys()
    assert verify(stored.folder).ok


def test_media_give_the_same_by_folds_with_patches_and_variants(stored: Run, streamed: Run) -> None:
    for name in ("mean", "loudest"):
        assert_same(streamed.scores(name), stored.scores(name))
        mine, theirs = (by_id(run.scores(name)) for run in (streamed, stored))
        for clip_id, row in mine.items():
            assert row["patch_start_s"] == theirs[clip_id]["patch_start_s"]
            assert np.allclose(row["patch_scores"], theirs[clip_id]["patch_scores"], atol=CLOSE)
    settings = streamed.scores("mean").complete_header().settings
    assert (settings["patch_s"], settings["hop_s"]) == (0.3, 0.3)
    assert settings["columns"] == ["patch_start_s", "patch_scores"]
    assert verify(streamed.folder).ok


def test_patches_have_the_scores_that_they_have_alone(stored: Run) -> None:
    rows = stored.scores("mean").read()
    assert rows.schema.field("patch_scores").type == pa.list_(pa.list_(pa.float32(), 2))
    manifest = {row["clip_id"]: row for row in stored.manifest().read().to_pylist()}
    counts = set()
    for row in rows.to_pylist()[::4]:
        clip = rows_of(stored, row["clip_id"]).slice(0, 1)
        assert row["patch_start_s"] == clip["patch_start_s"][0].as_py()
        counts.add(len(row["patch_scores"]))
        place = clip.column_names.index("embedding")
        for vector, scores in zip(clip["embedding"][0].as_py(), row["patch_scores"], strict=True):
            alone = pa.array([[vector]], clip["embedding"].type)
            one = clip.set_column(place, "embedding", alone)
            fold = manifest[row["clip_id"]]["fold"]
            assert scores == pytest.approx(scores_by(stored, "mean", one, fold)[0], abs=CLOSE)
    assert len(counts) > 1, "clips have unequal numbers of patches"


def test_variants_are_averaged_where_there_are_some(trained: Run, stored: Run) -> None:
    before = by_id(trained.scores("mean"))
    for clip_id, row in by_id(stored.scores("mean")).items():
        if row["split"] == "val":
            assert row["scores"] == pytest.approx(before[clip_id]["scores"], abs=CLOSE)
            continue
        rows = rows_of(stored, clip_id)
        assert rows["variant"].to_pylist() == [0, 1, 2]
        wanted = scores_by(stored, "mean", rows, None).mean(axis=0)
        assert row["scores"] == pytest.approx(wanted, abs=CLOSE)
        assert row["scores"] != pytest.approx(before[clip_id]["scores"], abs=CLOSE)


def new_run(folder: Path, media: Path, heads: dict[str, str], *overrides: str) -> Run:
    """A run that only scores files of which nothing is known, with heads of another run."""
    recipe = {
        "run_dir": str(folder / "new"),
        "manifest": {"reader": "folder", "root": str(media), "labels": False},
        "embed": SECTIONS["embed"] | {"max_failed_share": 1.0},
        "score": {"splits": ["test"], "heads": heads, "source": "media"},
    }
    recipe["manifest"]["splits"] = {"test": 1.0}
    path = folder / "new.yaml"
    path.write_text(yaml.safe_dump(recipe))
    checked = load_recipe(str(path), list(overrides), plugins())
    return Run(checked, Recorder(), path.read_text(), "test")


@pytest.fixture
def unknown(sounds: Path, tmp_path: Path) -> Path:
    """Some of the files as new ones in a folder, one of them broken."""
    shutil.copytree(sounds / "low", tmp_path / "unknown" / "low")
    shutil.copy(sounds / "high" / "01.wav", tmp_path / "unknown")
    (tmp_path / "unknown" / "broken.wav").write_bytes(b"RIFFnothing")
    return tmp_path / "unknown"


def test_heads_of_another_run_score_new_files_and_then_only_what_is_new(
    trained: Run, unknown: Path, tmp_path: Path, register: Register
) -> None:
    moody = register("moody", "tests.ray.moody:Moody")
    place = local_path(trained.head("mean").folder.url)
    run = new_run(tmp_path, unknown, {"mean": place, "twin": place})
    with pytest.raises(InputError, match=r"embed.backbones.acoustic differs: decoder: 'pyav'"):
        run_job("run", new_run(tmp_path, unknown, {"mean": place}, moody))
    run_job("run", run)
    assert {e.job for e in run.listener} == {"manifest", "score"}
    assert not (tmp_path / "new" / "embeddings").exists()
    rows, count = by_id(run.scores("twin")), CLIPS // 2 + 1
    assert by_id(run.scores("mean")) == rows
    assert len(rows) == count
    assert (rows["01.wav"]["labels"], rows["01.wav"]["split"]) == ([], "test")
    assert failed(run.scores("mean"))["broken.wav"][:2] == ("decode", "not_media")
    settings = run.scores("mean").complete_header().settings
    assert settings["bundle"]["spec"]["head"]["name"] == "logistic_regression"
    assert verify(run.folder).ok

    write_wav(unknown / "broken.wav", tone(440, 1.0, 8_000), 8_000)
    write_wav(unknown / "low" / "more.wav", tone(880, 1.0, 8_000), 8_000)
    again = new_run(tmp_path, unknown, {"mean": place, "twin": place})
    run_job("run", again)
    stats = again.scores("mean").complete_header().stats
    assert stats["clips"] == 2
    assert by_id(again.scores("mean")).keys() - rows.keys() == {"broken.wav", "low/more.wav"}
    assert not failed(again.scores("mean"))
    assert verify(again.folder).ok


def test_failed_clips_are_tried_again_from_media(
    trained: Run, unknown: Path, tmp_path: Path, register: Register
) -> None:
    register("pyav", "tests.ray.moody:Moody")
    place = local_path(trained.head("mean").folder.url)
    (unknown / "low" / DOWN).touch()
    run = new_run(tmp_path, unknown, {"mean": place}, "manifest.pattern='*.wav'")
    run_job("run", run)
    table = run.scores("mean")
    assert {error for _, error, _ in failed(table).values()} == {"network", "not_media"}
    assert set(by_id(table)) == {"01.wav"}
    (unknown / "low" / DOWN).unlink()
    run.retry_failed = True
    run_job("score", run)
    assert set(failed(table)) == {"broken.wav"}
    assert len(by_id(table)) == CLIPS // 2 + 1


def kill_worker(title: str) -> int:
    """Kill a process of this session's Ray that is called so."""
    raylet = ray.worker._global_node.all_processes["raylet"][0].process.pid
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            name = (folder / "cmdline").read_bytes().decode()
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        if name.startswith(title) and parent == raylet:
            os.kill(int(folder.name), signal.SIGKILL)
            return int(folder.name)
    raise AssertionError(f"no process {title}")
