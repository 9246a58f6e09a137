"""Head bundles: what is written is what scores, and what is damaged is refused with its folder."""

import hashlib
import json
import pickle

import numpy as np
import pytest
import torch

from audioflow.embeddings import LayerRows
from audioflow.errors import TableError
from audioflow.heads import HEADS
from audioflow.heads.bundle import EPOCHS, HEAD, WEIGHTS, HeadBundle, HeadSpec
from audioflow.pooling import POOLINGS
from audioflow.storage import Folder

WIDTH, CLASSES = 6, ["cat", "dog", "ü"]
VECTORS = np.random.default_rng(0).normal(3, 2, (10, WIDTH)).astype(np.float32)


def spec(**changes) -> HeadSpec:
    values = {
        "system": "audio",
        "backbone": "acoustic",
        "embeddings": "f" * 32,
        "layer": "embedding",
        "width": WIDTH,
        "pooling": {"name": "mean"},
        "head": {"name": "mlp", "hidden": [5]},
        "classes": CLASSES,
        "trained_on": {"clips": 10},
    }
    return HeadSpec(**(values | changes))


def weights(head: HeadSpec) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    options = {key: value for key, value in head.head.items() if key != "name"}
    module = HEADS.build(head.head["name"], options).build(head.width, len(head.classes))
    state = {f"head.{name}": torch.randn_like(value) for name, value in module.state_dict().items()}
    normal = {
        "normalise.mean": torch.full((WIDTH,), 3.0),
        "normalise.std": torch.full((WIDTH,), 2.0),
    }
    return state | normal


@pytest.fixture
def folder(tmp_path) -> Folder:
    folder = Folder(str(tmp_path / "heads" / "audio"))
    HeadBundle(spec(), weights(spec())).save(folder, [{"epoch": 1, "val_loss": 0.5}])
    return folder


def rewrite(folder: Folder, **changes) -> None:
    data = json.loads(folder.read(HEAD)) | changes
    folder.write(HEAD, json.dumps({k: v for k, v in data.items() if v is not None}).encode())


def test_saving_tells_the_hash_of_every_file(tmp_path):
    place = Folder(str(tmp_path))
    found = HeadBundle(spec(), weights(spec())).save(place, [])
    assert sorted(found) == sorted(place.names()) == sorted([HEAD, WEIGHTS, EPOCHS])
    for name, sha256 in found.items():
        assert hashlib.sha256(place.read(name)).hexdigest() == sha256


def test_a_bundle_scores_as_it_did_before_it_was_saved(folder):
    before = HeadBundle(spec(), weights(spec())).scores(VECTORS)
    bundle = HeadBundle.load(folder)
    assert np.array_equal(bundle.scores(VECTORS), before)
    assert bundle.spec == spec()
    assert json.loads(folder.read(EPOCHS)) == [{"epoch": 1, "val_loss": 0.5}]


def test_scores_are_the_softmax_of_the_normalised_vectors(folder):
    bundle = HeadBundle.load(folder)
    w = {name: value.numpy().astype(np.float64) for name, value in bundle.weights.items()}
    hidden = np.maximum(0, (VECTORS - 3) / 2 @ w["head.0.weight"].T + w["head.0.bias"])
    logits = hidden @ w["head.3.weight"].T + w["head.3.bias"]
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    expected = shares / shares.sum(axis=1, keepdims=True)
    assert bundle.scores(VECTORS) == pytest.approx(expected, abs=1e-5)


def test_dropout_is_off_while_scoring(folder):
    bundle = HeadBundle.load(folder)
    assert np.array_equal(bundle.scores(VECTORS), bundle.scores(VECTORS))


def test_rows_are_pooled_and_scored(folder):
    bundle = HeadBundle.load(folder)
    rows = LayerRows(["a", "b"], VECTORS, np.array([0, 4, 10]))
    pooled = np.stack([VECTORS[:4].mean(axis=0), VECTORS[4:].mean(axis=0)])
    found = bundle.scores(POOLINGS.build("mean", {}).pool(rows))
    assert found == pytest.approx(bundle.scores(pooled), abs=1e-6)


def test_vectors_that_may_not_be_written_to_are_scored_without_a_warning(folder):
    fixed = VECTORS.copy()
    fixed.flags.writeable = False
    assert HeadBundle.load(folder).scores(fixed).shape == (10, 3)
    assert HeadBundle.load(folder).scores(VECTORS[:0]).shape == (0, 3)


@pytest.mark.parametrize("shape", [(3, WIDTH + 1), (3, WIDTH - 1), (WIDTH,)])
def test_vectors_of_another_width_are_refused(folder, shape):
    with pytest.raises(
        TableError, match=r"head 'audio' takes vectors of width 6, got an array"
    ) as e:
        HeadBundle.load(folder).scores(np.zeros(shape, np.float32))
    assert str(shape) in str(e.value)


def test_a_missing_bundle_says_where_it_was_looked_for(tmp_path):
    with pytest.raises(TableError, match=r"none holds no head bundle; run the job train first"):
        HeadBundle.load(Folder(str(tmp_path / "none")))


@pytest.mark.parametrize("name", [HEAD, WEIGHTS])
def test_a_bundle_that_lacks_a_file_is_none(folder, name):
    folder.remove(name)
    with pytest.raises(TableError, match="audio holds no head bundle; run the job train first"):
        HeadBundle.load(folder)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        (HEAD, b""),
        (HEAD, b"{"),
        (HEAD, b"\xff\xfe\x00"),
        (WEIGHTS, b""),
        (WEIGHTS, b"\x00" * 100),
        (WEIGHTS, b"\xff" * 100),
        (WEIGHTS, pickle.dumps({"head.0.weight": 1})),
    ],
    ids=["empty json", "half json", "no text", "no weights", "zeros", "ones", "pickle"],
)
def test_a_damaged_file_is_refused_with_its_folder(folder, name, data):
    folder.write(name, data)
    with pytest.raises(
        TableError, match=r"heads/audio holds a damaged head bundle: .* run the job"
    ):
        HeadBundle.load(folder)


def test_weights_cut_short_are_refused(folder):
    folder.write(WEIGHTS, folder.read(WEIGHTS)[:-10])
    with pytest.raises(TableError, match="heads/audio holds a damaged head bundle"):
        HeadBundle.load(folder)


@pytest.mark.parametrize("version", [0, 2, "1", None])
def test_another_version_is_refused(folder, version):
    rewrite(folder, version=version)
    with pytest.raises(
        TableError,
        match=rf"head\.json has version {version}, this audioflow reads 1; train the head",
    ):
        HeadBundle.load(folder)


def test_a_list_is_no_bundle(folder):
    folder.write(HEAD, b"[1]")
    with pytest.raises(TableError, match=r"head\.json has version None"):
        HeadBundle.load(folder)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"width": WIDTH + 1}, "do not fit a mlp head of width 7 and 3 classes"),
        ({"classes": ["a", "b"]}, "do not fit a mlp head of width 6 and 2 classes"),
        ({"head": {"name": "linear"}}, "do not fit a linear head"),
        ({"head": {"name": "mlp", "hiden": 3}}, "hiden"),
        ({"head": {}}, "name"),
        ({"system": None}, "system"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_a_description_that_does_not_fit_the_weights_is_refused(folder, changes, why):
    rewrite(folder, **changes)
    with pytest.raises(TableError, match="heads/audio holds a damaged head bundle") as error:
        HeadBundle.load(folder)
    assert why in str(error.value)


def test_a_head_that_this_audioflow_does_not_have_is_named(folder):
    rewrite(folder, head={"name": "forest"})
    with pytest.raises(
        TableError, match="heads/audio cannot be used: head 'forest' does not exist"
    ):
        HeadBundle.load(folder)


@pytest.mark.parametrize("missing", ["normalise.mean", "normalise.std", "head.0.weight"])
def test_weights_that_are_not_all_there_are_refused(missing):
    some = weights(spec())
    del some[missing]
    name = missing.removeprefix("head.")
    with pytest.raises(TableError, match=f"the weights of head 'audio' do not fit.*{name}"):
        HeadBundle(spec(), some)


def test_nothing_in_a_bundle_is_pickled(folder):
    assert set(folder.names()) == {WEIGHTS, HEAD, EPOCHS}
    for name in (HEAD, EPOCHS):
        json.loads(folder.read(name))
    data = folder.read(WEIGHTS)
    head = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    assert "normalise.mean" in head
