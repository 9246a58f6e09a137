"""`audioflow weights codebook`: which clips it hears, what it writes, and what it refuses."""

import wave
from pathlib import Path

import numpy as np
import pytest
import torch
import typer
from safetensors.numpy import load_file
from typer.testing import CliRunner

from audioflow import goldens
from audioflow.codebook import fit_codebook
from audioflow.codebook_cli import codebook_command
from audioflow.frontend.mfcc import mfcc_0_d_a

RATE = 16_000
RECIPE = """
run_dir: {folder}/run
manifest: {{reader: csv, list: {folder}/clips.csv, root: {folder}, file_column: file,
  label_column: label, splits: {splits}}}
"""
PUBLISHED = "{column: part, train: [a], val: [b], test: [c]}"


def write_wav(path: Path, samples: np.ndarray) -> None:
    with wave.open(str(path), "wb") as stream:
        stream.setnchannels(1)
        stream.setsampwidth(2)
        stream.setframerate(RATE)
        stream.writeframes(samples.tobytes())


def sound(number: int) -> np.ndarray:
    """What is clip `number`: 16 bits of a file, as they come from the decoder."""
    samples = goldens.sound(1, RATE, seed=number)[0]
    return np.rint(samples / 32768 * 32767).astype(np.int16)


@pytest.fixture
def recipe(tmp_path) -> Path:
    """Six clips in three parts; those to train on are 0 and 3."""
    lines = ["file,label,part"]
    for number in range(6):
        write_wav(tmp_path / f"{number}.wav", goldens.sound(1, RATE, seed=number)[0])
        lines.append(f"{number}.wav,{'xy'[number >= 3]},{'abc'[number % 3]}")
    (tmp_path / "clips.csv").write_text("\n".join(lines))
    path = tmp_path / "recipe.yaml"
    path.write_text(RECIPE.format(folder=tmp_path, splits=PUBLISHED))
    return path


def run(recipe: Path, *options: str):
    app = typer.Typer()
    app.command()(codebook_command)
    return CliRunner().invoke(app, [str(recipe), *options])


def test_the_codebook_is_that_of_the_train_clips(recipe, tmp_path):
    out = str(tmp_path / "book.safetensors")
    found = run(recipe, "--out", out, "--clusters", "5", "--share", "0.5", "--seed", "3")
    assert found.exit_code == 0, found.output
    expected = fit_codebook([sound(0), sound(3)], 5, 0.5, 3)
    assert np.array_equal(load_file(out)["centres"], expected.centres)
    assert f"5 clusters of {expected.num_frames} frames, from 2 of 2 train clips" in found.output
    assert f"mfcc_bof: {{codebook: {out}, clusters: 5}}" in found.output


def test_a_clip_without_sound_is_told_and_left_out(recipe, tmp_path):
    (tmp_path / "3.wav").write_text("no sound at all")
    out = str(tmp_path / "book.safetensors")
    found = run(recipe, "--out", out, "--clusters", "4", "--share", "1")
    assert found.exit_code == 0, found.output
    assert "from 1 of 2 train clips" in found.output
    assert "1 clip gave no sound, '3.wav' (not_media" in found.output
    centres = load_file(out)["centres"]
    every = mfcc_0_d_a(torch.from_numpy(sound(0)[None]))[0].numpy()
    assert centres.min() >= every.min() - 1e-3
    assert centres.max() <= every.max() + 1e-3


@pytest.mark.parametrize(
    ("splits", "message"),
    [
        ("{folds: part}", "with manifest.splits.folds every clip is tested once"),
        ("{train: 0.0, val: 0.5, test: 0.5}", "no clip is of the split train"),
    ],
)
def test_without_clips_to_train_on_there_is_no_codebook(recipe, tmp_path, splits, message):
    text = recipe.read_text().replace(PUBLISHED, splits)
    lines = (tmp_path / "clips.csv").read_text().replace(",y,", ",x,")
    (tmp_path / "clips.csv").write_text(lines)
    recipe.write_text(text)
    found = run(recipe, "--out", str(tmp_path / "book.safetensors"))
    assert found.exit_code == 4
    assert message in " ".join(found.output.split())


def test_where_no_clip_gives_sound_that_is_an_error(recipe, tmp_path):
    for number in (0, 3):
        (tmp_path / f"{number}.wav").unlink()
    found = run(recipe, "--out", str(tmp_path / "book.safetensors"))
    assert found.exit_code == 4
    assert "none of the 2 train clips gave any sound" in " ".join(found.output.split())


def test_a_file_of_another_kind_and_a_wrong_recipe_are_refused(recipe, tmp_path):
    found = run(recipe, "--out", "book.npz")
    assert found.exit_code == 4
    assert "--out book.npz: a codebook is a .safetensors" in found.output
    found = run(recipe, "manifest.reader=nothing", "--out", str(tmp_path / "b.safetensors"))
    assert found.exit_code == 2
