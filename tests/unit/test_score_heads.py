"""Patches as clips of one patch, and heads from elsewhere that do not fit."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from audioflow.embeddings import ClipEmbedding, embedding_rows, layer_rows, patch_rows
from audioflow.engine.score_misfit import misfit
from audioflow.errors import InputError
from audioflow.storage import Folder
from audioflow.systems.ensemble import Heads
from audioflow.tables import Header, Table
from tests.unit.test_ensemble import bundle

LAYERS = {"pool5": 3}


def clip_rows(vectors: int, patches: int) -> pa.Table:
    layers = {"pool5": np.arange(3 * vectors, dtype=np.float32).reshape(-1, 3)}
    clips = [ClipEmbedding(layers, 0.5 * np.arange(patches), 1.0, 1.0) for _ in range(2)]
    return embedding_rows(["a", "b"], clips, LAYERS)


@pytest.mark.parametrize(("vectors", "patches"), [(4, 4), (6, 3), (5, 1)])
def test_every_patch_has_the_vectors_that_are_its_own(vectors: int, patches: int) -> None:
    rows = patch_rows(clip_rows(vectors, patches), ["pool5"])
    assert rows["clip_id"].to_pylist() == ["a"] * patches + ["b"] * patches
    starts = [[0.5 * patch] for patch in range(patches)]
    assert rows["patch_start_s"].to_pylist() == 2 * starts
    layer, each = layer_rows(rows, "pool5"), vectors // patches
    assert np.diff(layer.offsets).tolist() == [each] * 2 * patches
    assert layer.clip(patches)[0].tolist() == [0.0, 1.0, 2.0], "the first patch of the second clip"


def test_vectors_that_are_of_no_patch_are_refused() -> None:
    with pytest.raises(InputError, match=r"clip 'a' has 5 vectors of the layer 'pool5' in 2 patc"):
        patch_rows(clip_rows(5, 2), ["pool5"])


def test_what_differs_is_told_where_the_other_run_is_there(tmp_path: Path) -> None:
    settings = {"settings": {"patch_s": 1.0, "hop_s": 0.5}, "decoder": "pyav", "vectors": "f"}
    header = Header("embeddings", "b", "x", {}, settings, 0, 0, [])
    Table(Folder(str(tmp_path / "embeddings" / "b"))).finish(header)
    heads, folder = Heads({"": bundle(0)}), Folder(str(tmp_path / "heads" / "s"))
    ours = {
        "far": {"settings": {"patch_s": 3.0, "hop_s": 2.0}, "decoder": "pyav", "vectors": "g"},
        "near": {"settings": {"patch_s": 1.0, "hop_s": 0.25}, "decoder": "pyav", "vectors": "h"},
    }
    told = misfit("new", folder, heads, ours)
    assert told.startswith("score.heads.new: the head in ")
    assert "reads vectors of fingerprint f, made by 'b', and far has g, near has h" in told
    assert "In embed.backbones.near differs: settings.hop_s: 0.5 there, 0.25 here" in told
    elsewhere = Folder(str(tmp_path / "copied"))
    assert "give embed.backbones the backbone" in misfit("new", elsewhere, heads, ours)
