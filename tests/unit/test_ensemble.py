"""The heads of all folds as one system: who scores what, and what is damaged."""

import hashlib
import json
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
import torch

from audioflow.calibration.fit_system import Material, Wanted, fit_system
from audioflow.calibration.system import CALIBRATION
from audioflow.embeddings import ClipEmbedding, embedding_rows
from audioflow.errors import TableError
from audioflow.storage import Folder
from audioflow.systems.bundle import HeadBundle, HeadSpec
from audioflow.systems.ensemble import ENSEMBLE, Heads, save_ensemble
from audioflow.systems.network import network_for

LAYERS = {"pool5": 3, "conv6": 2}
IDS = ["a", "b", "c"]


def bundle(seed: int, **changes) -> HeadBundle:
    spec = HeadSpec(
        system="s",
        backbone="b",
        embeddings="f",
        layers={"pool5": 3},
        vectors_per_patch=1,
        pooling={"name": "mean", "on": "embeddings"},
        head={"name": "linear"},
        classes=["x", "y"],
        head_classes=["x", "y"],
        merge=None,
        multi_label=False,
        temperature=1.0,
        normalised=False,
        trained_on={},
    )
    spec = replace(spec, **changes)
    generator = torch.Generator().manual_seed(seed)
    state = network_for(spec.network, 0).state_dict()
    drawn = {name: torch.randn(value.shape, generator=generator) for name, value in state.items()}
    return HeadBundle(spec, drawn)


@pytest.fixture
def rows() -> pa.Table:
    generator = np.random.default_rng(0)
    clips = [
        ClipEmbedding(
            {
                name: generator.normal(size=(count, width)).astype(np.float32)
                for name, width in LAYERS.items()
            },
            np.arange(count) * 0.5,
            1.0,
            1.0,
        )
        for count in (2, 1, 3)
    ]
    return embedding_rows(IDS, clips, LAYERS)


@pytest.fixture
def folder(tmp_path) -> Folder:
    """Three folds' heads, of which one reads another layer and one pools otherwise."""
    place = Folder(str(tmp_path / "heads" / "s"))
    for name, one in members().items():
        one.save(place / f"fold-{name}", [])
    save_ensemble(place, list(members()))
    return place


def members() -> dict[str, HeadBundle]:
    return {
        "1": bundle(1),
        "2": bundle(2, layers={"conv6": 2}),
        "10": bundle(3, pooling={"name": "max", "on": "logits"}),
    }


def alone(one: HeadBundle, rows: pa.Table) -> np.ndarray:
    return one.scores(one.inputs.read(rows))


def test_a_system_of_one_head_scores_as_its_bundle(tmp_path, rows):
    place = Folder(str(tmp_path))
    bundle(1).save(place, [])
    heads = Heads.load(place)
    ids, scores = heads.scores(rows)
    assert ids == IDS
    assert np.array_equal(scores, alone(bundle(1), rows))
    assert (list(heads.members), heads.first.spec.layers) == ([""], {"pool5": 3})


def test_a_clip_of_a_fold_is_scored_by_the_head_of_that_fold(folder, rows):
    heads = Heads.load(folder)
    assert list(heads.members) == ["1", "2", "10"]
    for name, one in members().items():
        ids, scores = heads.scores(rows, name)
        assert ids == IDS
        assert np.array_equal(scores, alone(one, rows))


def test_a_clip_of_no_fold_is_scored_by_the_mean_of_all_heads(folder, rows):
    ids, scores = Heads.load(folder).scores(rows)
    each = [alone(one, rows) for one in members().values()]
    assert ids == IDS
    assert scores == pytest.approx(np.mean(each, axis=0), abs=1e-6)
    assert scores.dtype == np.float32
    assert not np.allclose(scores, each[0], atol=1e-2)


def test_the_columns_are_those_of_all_members(folder, rows):
    heads = Heads.load(folder)
    assert heads.columns == ["clip_id", "variant", "pool5", "conv6"]
    assert np.array_equal(heads.scores(rows.select(heads.columns))[1], heads.scores(rows)[1])


def test_no_clip_has_no_scores(folder, rows):
    ids, scores = Heads.load(folder).scores(rows.slice(0, 0))
    assert (ids, scores.shape) == ([], (0, 2))


def calibrated(classes: tuple[str, ...]) -> bytes:
    raw = np.random.default_rng(0).dirichlet([1, 1], 40).astype(np.float32)
    there = Material(raw, np.arange(40) % 2, [str(clip) for clip in range(40)])
    return fit_system(there, Wanted("platt", None, True, classes, False), "key").to_bytes()


def test_a_calibration_is_read_with_the_heads_and_their_scores_stay_as_they_were(folder, rows):
    before = Heads.load(folder)
    assert before.calibration is None
    folder.write(CALIBRATION, calibrated(("x", "y")))
    heads = Heads.load(folder)
    assert (heads.calibration.method, heads.calibration.key) == ("platt", "key")
    assert np.array_equal(heads.scores(rows)[1], before.scores(rows)[1])


def test_a_calibration_of_other_classes_is_refused(folder):
    folder.write(CALIBRATION, calibrated(("y", "x")))
    with pytest.raises(
        TableError, match=r"is of the classes \['y', 'x'\], the heads there of \['x', "
    ):
        Heads.load(folder)


def test_the_hash_of_the_file_is_told(folder):
    told = save_ensemble(folder, ["1"])
    assert told == {ENSEMBLE: hashlib.sha256(folder.read(ENSEMBLE)).hexdigest()}


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"{", "Expecting"),
        (b"[]", "is not of version 1"),
        (json.dumps({"version": 2, "members": ["fold-1"]}).encode(), "is not of version 1"),
        (json.dumps({"version": 1, "members": []}).encode(), "it names no member"),
    ],
)
def test_a_damaged_list_of_members_is_told(folder, data, why):
    folder.write(ENSEMBLE, data)
    with pytest.raises(TableError, match=r"heads/s/ensemble\.json is damaged: .* run the job") as e:
        Heads.load(folder)
    assert why in str(e.value)


def test_a_member_that_is_gone_is_told(folder):
    (folder / "fold-2").remove_all()
    with pytest.raises(TableError, match="heads/s/fold-2 holds no head bundle; run the job train"):
        Heads.load(folder)
