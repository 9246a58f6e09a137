"""`embed` with real networks on a real Ray: sound and pictures, off one decode."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from audioflow.backbones.ready import made_ready
from audioflow.engine.embed import embed
from audioflow.engine.embed_plan import embed_shards, table_plan
from audioflow.engine.flow import run_job
from audioflow.engine.report import make_report
from audioflow.engine.run import Run
from audioflow.engine.score import score
from audioflow.engine.train import train
from audioflow.errors import InputError
from audioflow.storage import local_path
from audioflow.weights import UnknownWeights, WeightsError

RANDOM = {"weights": "random", "batch_size": 8}
NETWORKS = {
    "yamnet": RANDOM | {"layers": ["embedding", "scores"]},
    "soundnet": RANDOM | {"layers": ["pool5", "conv6"], "patch_s": 1.0, "hop_s": 1.0},
    "frames": RANDOM | {"name": "resnet18", "num_frames": 2},
    "acoustic": {},
}


def sections(backbones: dict) -> dict:
    system = {"head": "linear", "train": {"epochs": 3, "lr": 0.01}}
    return {
        "embed": {
            "backbones": backbones,
            "clips_per_shard": 12,
            "decode_cpus": 0.5,
            "max_failed_share": 0.5,
        },
        "systems": {"audio": {"backbone": next(iter(backbones))} | system},
        "fuse": {},
    }


def test_four_backbones_go_through_one_decode(make_run) -> None:
    run = make_run(sections=sections(NETWORKS))
    embed(run)
    manifest = run.manifest().read(["clip_id"]).num_rows
    for name, layers in (
        ("yamnet", {"embedding": 1024, "scores": 521}),
        ("soundnet", {"pool5": 256, "conv6": 512}),
        ("frames", {"embedding": 512}),
        ("acoustic", {"embedding": 108}),
    ):
        header = run.embeddings(name).complete_header()
        assert header.rows + header.failures == manifest
        assert header.settings["layers"] == layers
        for row in run.embeddings(name).read().slice(0, 5).to_pylist():
            for layer, width in layers.items():
                vectors = np.asarray(row[layer], np.float32)
                assert vectors.shape == (len(row["patch_start_s"]), width)
                assert np.isfinite(vectors).all()
                assert vectors.std() > 0
    told = run.embeddings("yamnet").complete_header().settings
    assert told["weights"]["weights"]["trained"] is False
    assert told["settings"]["precision"] == "float32"
    assert run.embeddings("acoustic").complete_header().settings["weights"] == {}


def shard_times(run: Run, name: str) -> dict[str, int]:
    folder = Path(local_path(run.embeddings(name).folder.url))
    return {path.name: path.stat().st_mtime_ns for path in folder.glob("*.parquet")}


def test_weights_count_by_what_is_in_them(make_run, tmp_path) -> None:
    """Moved or renamed they make nothing again; others make another table."""
    centres = np.random.default_rng(0).standard_normal((50, 39)).astype(np.float32)
    first, moved, other = (tmp_path / f"{name}.safetensors" for name in ("a", "b", "c"))
    save_file({"centres": centres}, first)
    moved.write_bytes(first.read_bytes())
    save_file({"centres": centres + 1}, other)

    def made(path: Path) -> Run:
        run = make_run(sections=sections({"bag": {"name": "mfcc_bof", "codebook": str(path)}}))
        embed(run)
        return run

    run = made(first)
    before, header = shard_times(run, "bag"), run.embeddings("bag").complete_header()
    told = header.settings["weights"]["codebook"]
    assert (told["trained"], told["given"]) == (True, str(first))
    assert header.settings["settings"]["codebook"] == told["sha256"]
    first.unlink()
    run = made(moved)
    assert shard_times(run, "bag") == before
    run = made(other)
    assert not set(shard_times(run, "bag")) & set(before)


def test_weights_that_are_not_there_are_told_before_anything_starts(make_run) -> None:
    run = make_run(sections=sections({"vggish": {}, "speech": {"name": "openl3"}, "acoustic": {}}))
    with pytest.raises(WeightsError) as caught:
        run_job("run", run)
    assert "2 backbones lack their weights" in str(caught.value)
    assert "embed.backbones.vggish.weights: torchvggish" in str(caught.value)
    assert "`audioflow weights fetch openl3/mel256_music`" in str(caught.value)
    assert not run.listener
    run = make_run(sections=sections({"vggish": {"weights": "torchvgish"}}))
    with pytest.raises(UnknownWeights, match="did you mean 'torchvggish'"):
        run_job("embed", run)


def test_weights_of_another_network_end_the_job_with_what_differs(make_run, tmp_path) -> None:
    path = tmp_path / "codebook.safetensors"
    save_file({"centres": np.zeros((8, 39), np.float32)}, path)
    run = make_run(sections=sections({"bag": {"name": "mfcc_bof", "codebook": str(path)}}))
    with pytest.raises(WeightsError, match=r"centres is \(8, 39\), expected \(50, 39\)"):
        embed(run)


def test_other_weights_on_a_node_are_refused(make_run, tmp_path) -> None:
    path = tmp_path / "codebook.safetensors"
    save_file({"centres": np.zeros((50, 39), np.float32)}, path)
    run = make_run(sections=sections({"bag": {"name": "mfcc_bof", "codebook": str(path)}}))
    manifest = run.manifest().complete_header()
    section = run.recipe.embed
    shards = embed_shards(run.manifest().read(), section)
    spec = table_plan(run, "bag", section.backbones["bag"], manifest, shards).spec
    assert spec.weights == made_ready("mfcc_bof", {"codebook": str(path)}).hashes
    save_file({"centres": np.ones((50, 39), np.float32)}, path)
    with pytest.raises(InputError, match=r"are not those of the machine that started the job"):
        assert replace(spec).ready


def test_the_report_says_what_was_not_trained(make_run) -> None:
    run = make_run(sections=sections({"yamnet": RANDOM}) | {"fuse": {}})
    embed(run)
    train(run)
    score(run)
    make_report(run)
    folder = Path(local_path(run.report().folder.url))
    assert "untrained" in (folder / "index.html").read_text()
    found = json.loads((folder / "report.json").read_text())
    assert "yamnet (untrained: random weights)" in json.dumps(found)
