"""What `embed` must not do twice, or at all; in counts and in shares of one run, which hold on a
machine that is busy with other things."""

import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from audioflow.engine.embed import embed
from audioflow.engine.embed_pipeline import Item
from audioflow.engine.embed_plan import embed_shards
from audioflow.engine.embed_work import Work
from audioflow.engine.manifest import make_manifest
from audioflow.engine.run import Run
from tests.media_files import tone, write_wav
from tests.ray.conftest import Register, build_run

RATE, CLIPS = 8_000, 72


@pytest.fixture
def sounds(tmp_path: Path, ray_session: None) -> Path:
    for number in range(CLIPS):
        path = tmp_path / "media" / ("high" if number % 2 else "low") / f"{number:02d}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_wav(path, tone(200 + 20 * number, 4.0, RATE), RATE)
    return tmp_path / "media"


def made(root: Path, *overrides: str, **section: object) -> Run:
    backbones = {"short": {"name": "acoustic", "patch_s": 0.3}, "long": {"name": "acoustic"}}
    embed_section = {"backbones": backbones, "clips_per_shard": 6} | section
    systems = {"audio": {"backbone": "long", "head": "linear", "train": {"epochs": 2}}}
    sections = {"embed": embed_section, "systems": systems, "fuse": {}}
    run = build_run(root, root.parent, *overrides, sections=sections)
    make_manifest(run)
    embed(run)
    return run


@pytest.mark.parametrize("way", [(), ("embed.backbones.long.num_gpus=0.5",)])
def test_a_recording_is_decoded_once_for_all_backbones(
    sounds: Path, register: Register, way: tuple[str, ...]
) -> None:
    run = made(sounds, register("counting", "tests.decoders:Counting"), *way)
    assert run.embeddings("short").complete_header().rows == CLIPS
    assert run.embeddings("long").complete_header().rows == CLIPS
    decoded = sorted(sounds.parent.glob("media/*/*.decoded"))
    assert len(decoded) == CLIPS
    assert all(path.read_text() == "x" for path in decoded), "a file was decoded twice"


def test_workers_are_hardly_ever_without_work(sounds: Path) -> None:
    run = made(sounds)
    stats = run.embeddings("long").complete_header().stats
    # Those that are held up by another process are at work all the same, and say so.
    assert stats["shares"]["wait"] < 0.6
    assert stats["shares"]["write"] + stats["shares"]["fetch"] < 0.5


def test_no_media_travels_to_workers_that_decode_by_themselves(sounds: Path) -> None:
    run = made(sounds)
    manifest = run.manifest().read()
    section = run.recipe.embed
    assert section is not None
    for number, shard in enumerate(embed_shards(manifest, section)):
        ids = shard.rows["clip_id"].to_pylist()
        work = Work(shard.name("0" * 32), dict(zip(ids, shard.clip_keys, strict=True)))
        row = Item(shard, {"long": work}, [False] * len(shard)).row(number)
        assert len(pickle.dumps(row)) < 5_000 + 500 * len(shard)


@pytest.fixture
def batches(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    from audioflow.backbones import running

    sizes: list[int] = []
    embedded = running._embedded

    def counted(backbone: object, batch: object) -> object:
        sizes.append(len(batch))  # type: ignore[arg-type]
        return embedded(backbone, batch)  # type: ignore[arg-type]

    monkeypatch.setattr(running, "_embedded", counted)
    return sizes


def test_patches_of_many_clips_go_together(batches: list[int]) -> None:
    import torch

    from audioflow.backbones import BACKBONES
    from audioflow.backbones.running import Heard, Limits, embed_sound
    from audioflow.media.patches import Stretch

    backbone = BACKBONES.build("acoustic", {"patch_s": 0.5, "hop_s": 0.5})
    rate = backbone.input.sample_rate_hz
    clips = [Heard(clip, Stretch(np.ones(2 * rate, np.int16))) for clip in range(50)]
    embed_sound(backbone, clips, torch.device("cpu"), Limits(32))
    assert batches == [32] * 6 + [8]


def test_the_driver_of_workers_on_cpus_does_without_ray_data() -> None:
    """It takes half a second to import, and two actors of its own to start."""
    code = "import audioflow.engine.embed, audioflow.engine.embed_pool, sys; "
    code += "print([name for name in ('ray.data', 'ray.train', 'polars') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == "[]\n"
