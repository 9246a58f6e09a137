"""Recordings that crash, hang, or go on for long: what they cost, on a real Ray."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from audioflow.backbones import BACKBONES
from audioflow.backbones.running import Heard, Limits, embed_sound
from audioflow.engine.embed import embed
from audioflow.engine.manifest import make_manifest
from audioflow.engine.run import Run
from audioflow.media.parts import SoundPart, Wanted
from audioflow.media.patches import Stretch
from audioflow.media.pyav import PyAV
from audioflow.media.spans import Span
from audioflow.registry import Settings
from audioflow.storage import local_path
from tests.media_files import ramp, tone, write_wav
from tests.ray.conftest import build_run

RATE = 8_000


@pytest.fixture
def root(tmp_path: Path, ray_session: None) -> Path:
    """Twelve short sounds of two classes."""
    for number in range(12):
        path = tmp_path / "media" / ("high" if number % 2 else "low") / f"{number:02d}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_wav(path, tone(200 + 50 * number, 0.5, RATE), RATE)
    return tmp_path / "media"


def made(root: Path, options: dict[str, Any], *overrides: str) -> Run:
    """A run of `embed` with the backbone `acoustic` of these options."""
    section = {"backbones": {"acoustic": options}, "clips_per_shard": 8, "decode_cpus": 0.5}
    systems = {"audio": {"backbone": "acoustic", "head": "linear", "train": {"epochs": 2}}}
    sections = {"embed": section, "systems": systems, "fuse": {}}
    run = build_run(root, root.parent, *overrides, sections=sections)
    make_manifest(run)
    embed(run)
    return run


def failures(run: Run) -> dict[str, dict[str, Any]]:
    rows = run.embeddings("acoustic").read_failures().to_pylist()
    return {row["clip_id"]: row for row in rows}


ON_GPU = "embed.backbones.acoustic.num_gpus=0.5"
"""Decoding is a step of its own then, and media travels."""


@pytest.mark.parametrize("way", [(), (ON_GPU,)])
def test_a_file_that_kills_the_decoder_costs_that_clip_only(
    root: Path, harmful: str, way: tuple[str, ...]
) -> None:
    for name in ("segfault", "hang", "bomb"):
        shutil.copy(root / "low" / "00.wav", root / "low" / f"{name}.wav")
    limits = ("embed.decode_timeout_s=8", "embed.decode_memory_gb=0.5", "embed.max_failed_share=1")
    run = made(root, {"patch_s": 0.3}, harmful, *limits, *way)
    lost = failures(run)
    assert {clip: row["error"] for clip, row in lost.items()} == {
        "low/segfault.wav": "crashed",
        "low/hang.wav": "timeout",
        "low/bomb.wav": "out_of_memory",
    }
    assert "SIGSEGV" in lost["low/segfault.wav"]["reason"]
    rows = run.embeddings("acoustic").read(["clip_id"])["clip_id"].to_pylist()
    assert len(rows) == len(set(rows)) == 12


def whole(path: Path, rate: int) -> np.ndarray:
    """The waveform as one array."""
    parts = PyAV(Settings()).decode(str(path), [Span()], Wanted((rate,)))
    return np.concatenate([part.samples for part in parts if isinstance(part, SoundPart)])


@pytest.mark.parametrize("way", [(), (ON_GPU,)])
def test_a_long_recording_in_windows_gives_what_the_whole_would(
    root: Path, way: tuple[str, ...]
) -> None:
    long = write_wav(root / "low" / "long.wav", ramp(2_000.0, RATE), RATE)
    options = {"patch_s": 1.0, "hop_s": 7.3}
    run = made(root, options, *way)
    table = run.embeddings("acoustic")
    rows = {row["clip_id"]: row for row in table.read().to_pylist()}
    row = rows["low/long.wav"]
    assert len(rows) == 13
    assert row["duration_s"] == pytest.approx(2_000.0, abs=0.001)
    assert row["coverage"] == 1.0
    assert row["patch_start_s"] == pytest.approx(
        np.arange(len(row["patch_start_s"])) * 7.3, abs=1e-3
    )
    backbone = BACKBONES.build("acoustic", options)
    samples = whole(long, backbone.input.sample_rate_hz)
    assert samples.nbytes > 80e6, "it would be one row"
    (part,) = embed_sound(backbone, [Heard(0, Stretch(samples))], torch.device("cpu"), Limits())
    vectors = part.embedding.layers["embedding"]
    assert len(row["embedding"]) == len(vectors) == 1 + (samples.size - 22_050) // 160_965
    assert np.allclose(np.array(row["embedding"], np.float32), vectors, atol=1e-4)
    assert not list(Path(local_path(table.folder.url)).rglob("_parts/*")), "parts are left over"
