"""Head bundles: what is written is what scores, and what is damaged is refused with its folder."""

import hashlib
import json
import math
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from audioflow.embeddings import LayerRows
from audioflow.errors import TableError
from audioflow.heads import HEADS, estimators
from audioflow.pooling import POOLINGS
from audioflow.storage import Folder
from audioflow.systems.bundle import EPOCHS, ESTIMATOR, HEAD, WEIGHTS, HeadBundle, HeadSpec
from audioflow.systems.inputs import ClipRows
from audioflow.systems.network import network_for

pytestmark = pytest.mark.usefixtures("one_thread")

WIDTH, CLASSES = 6, ["cat", "dog", "ü"]
VECTORS = np.random.default_rng(0).normal(3, 2, (10, WIDTH)).astype(np.float32)
MEAN = {"name": "mean", "on": "embeddings"}


def spec(**changes) -> HeadSpec:
    values = {
        "system": "audio",
        "backbone": "acoustic",
        "embeddings": "f" * 32,
        "layers": {"embedding": WIDTH},
        "vectors_per_patch": 1,
        "pooling": MEAN,
        "head": {"name": "mlp", "hidden": [5]},
        "classes": CLASSES,
        "head_classes": changes.get("classes", CLASSES),
        "merge": None,
        "multi_label": False,
        "temperature": 1.0,
        "normalised": True,
        "trained_on": {"clips": 10},
    }
    return HeadSpec(**(values | changes))


def weights(head: HeadSpec) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    found = {}
    for name, value in network_for(head.network, 0).state_dict().items():
        fixed = 3.0 if name.endswith(".mean") else 2.0
        plain = name.startswith("normalise.") or not value.is_floating_point()
        found[name] = torch.full_like(value, fixed) if plain else torch.randn_like(value)
        if name.endswith("running_var"):
            found[name].abs_()
    return found


def bundle(**changes) -> HeadBundle:
    return HeadBundle(spec(**changes), weights(spec(**changes)))


def clips(*layers: np.ndarray, patches: list[int] | None = None) -> ClipRows:
    """Clips of one row each, or of so many patches."""
    counts = patches or [1] * len(layers[0])
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    return ClipRows([str(place) for place in range(len(counts))], layers, offsets)


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    folder = Folder(str(tmp_path / "heads" / "audio"))
    bundle().save(folder, [{"epoch": 1, "val_loss": 0.5}])
    return folder


def rewrite(folder: Folder, **changes) -> None:
    data = json.loads(folder.read(HEAD)) | changes
    folder.write(HEAD, json.dumps({k: v for k, v in data.items() if v != "gone"}).encode())


def softmax(logits: np.ndarray) -> np.ndarray:
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    return shares / shares.sum(axis=1, keepdims=True)


# What is written


def test_saving_tells_the_hash_of_every_file(tmp_path):
    place = Folder(str(tmp_path))
    found = bundle().save(place, [])
    assert sorted(found) == sorted(place.names()) == sorted([HEAD, WEIGHTS, EPOCHS])
    for name, sha256 in found.items():
        assert hashlib.sha256(place.read(name)).hexdigest() == sha256


def test_a_bundle_scores_as_it_did_before_it_was_saved(folder):
    loaded = HeadBundle.load(folder)
    assert np.array_equal(loaded.scores(clips(VECTORS)), bundle().scores(clips(VECTORS)))
    assert loaded.spec == spec()
    assert json.loads(folder.read(EPOCHS)) == [{"epoch": 1, "val_loss": 0.5}]


def test_a_bundle_that_is_loaded_and_saved_again_is_the_same(folder, tmp_path):
    again = Folder(str(tmp_path / "again"))
    HeadBundle.load(folder).save(again, [{"epoch": 1, "val_loss": 0.5}])
    assert all(again.read(name) == folder.read(name) for name in (HEAD, WEIGHTS, EPOCHS))


def test_nothing_in_a_bundle_is_pickled(folder):
    assert set(folder.names()) == {WEIGHTS, HEAD, EPOCHS}
    for name in (HEAD, EPOCHS):
        json.loads(folder.read(name))
    data = folder.read(WEIGHTS)
    head = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    assert {"normalise.0.mean", "normalise.0.std", "head.0.weight"} <= set(head)


def test_numbers_that_json_does_not_have_are_null(tmp_path):
    place = Folder(str(tmp_path))
    told = {"val_auc": math.nan, "losses": [1.0, math.inf], "seen": (2,)}
    bundle(trained_on=told).save(place, [{"train_loss": -math.inf, "epoch": 1}])

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    assert json.loads(place.read(EPOCHS), parse_constant=refuse) == [
        {"train_loss": None, "epoch": 1}
    ]
    head = json.loads(place.read(HEAD), parse_constant=refuse)
    assert head["trained_on"] == {"val_auc": None, "losses": [1.0, None], "seen": [2]}


# What it scores


def test_scores_are_the_softmax_of_the_normalised_vectors(folder):
    loaded = HeadBundle.load(folder)
    w = {name: value.numpy().astype(np.float64) for name, value in loaded.weights.items()}
    hidden = np.maximum(0, (VECTORS - 3) / 2 @ w["head.0.weight"].T + w["head.0.bias"])
    logits = hidden @ w["head.3.weight"].T + w["head.3.bias"]
    assert loaded.scores(clips(VECTORS)) == pytest.approx(softmax(logits), abs=1e-5)
    assert loaded.logits(clips(VECTORS))[0].numpy() == pytest.approx(logits, abs=1e-4)


def test_dropout_is_off_while_scoring(folder):
    loaded = HeadBundle.load(folder)
    assert np.array_equal(loaded.scores(clips(VECTORS)), loaded.scores(clips(VECTORS)))


def test_rows_are_pooled_and_scored(folder):
    loaded = HeadBundle.load(folder)
    rows = LayerRows(["a", "b"], VECTORS, np.array([0, 4, 10]))
    pooled = np.stack([VECTORS[:4].mean(axis=0), VECTORS[4:].mean(axis=0)])
    found = loaded.scores(clips(POOLINGS.build("mean", {}).pool(rows)))
    assert found == pytest.approx(loaded.scores(clips(pooled)), abs=1e-6)


@pytest.mark.parametrize("temperature", [0.5, 5.0])
def test_the_temperature_divides_the_logits(temperature):
    warm = bundle(temperature=temperature)
    logits = warm.logits(clips(VECTORS))[0].numpy()
    assert logits == pytest.approx(bundle().logits(clips(VECTORS))[0].numpy())
    assert warm.scores(clips(VECTORS)) == pytest.approx(softmax(logits / temperature), abs=1e-6)


def test_fine_classes_are_merged_into_those_of_the_manifest():
    fine = ["dog", "cat: meow", "ü", "cat: purr"]
    merge = {"dog": "dog", "cat: meow": "cat", "ü": "ü", "cat: purr": "cat"}
    merged = bundle(head_classes=fine, merge=merge)
    of_fine = softmax(merged.logits(clips(VECTORS))[0].numpy())
    expected = np.stack([of_fine[:, 1] + of_fine[:, 3], of_fine[:, 0], of_fine[:, 2]], axis=1)
    assert merged.scores(clips(VECTORS)) == pytest.approx(expected, abs=1e-6)


def test_scores_of_several_labels_are_sigmoids():
    several = bundle(multi_label=True, temperature=2.0)
    logits = several.logits(clips(VECTORS))[0].numpy()
    assert several.scores(clips(VECTORS)) == pytest.approx(1 / (1 + np.exp(-logits / 2)), abs=1e-6)


def test_logits_of_several_layers_are_averaged(tmp_path):
    layers = {"pool5": WIDTH, "conv6": 2}
    made = bundle(layers=layers, head={"name": "multi_layer", "hidden": [4]})
    given = clips(VECTORS, VECTORS[:, :2].copy())
    logits = made.logits(given).numpy()
    assert logits.shape == (2, 10, 3)
    assert made.scores(given) == pytest.approx(softmax(logits.mean(axis=0)), abs=1e-6)
    made.save(Folder(str(tmp_path)), [])
    assert np.array_equal(HeadBundle.load(Folder(str(tmp_path))).scores(given), made.scores(given))


@pytest.mark.parametrize(
    ("pooling", "head"),
    [
        ({"name": "max", "on": "logits"}, {"name": "linear"}),
        ({"name": "learned", "on": "scores", "alpha": 2.0}, {"name": "linear"}),
        ({"name": "attention", "on": "embeddings", "hidden": 3}, {"name": "mlp", "hidden": [4]}),
        ({"name": "attention", "on": "logits", "gated": True}, {"name": "linear"}),
        ({"name": "vote", "on": "logits"}, {"name": "linear"}),
        (None, {"name": "attention", "num_heads": 2}),
        (None, {"name": "gated_attention", "hidden": 4}),
    ],
    ids=str,
)
def test_poolings_come_back_with_what_they_learned(tmp_path, pooling, head):
    made, place = bundle(pooling=pooling, head=head), Folder(str(tmp_path))
    given = clips(VECTORS, patches=[4, 1, 5])
    made.save(place, [])
    loaded = HeadBundle.load(place)
    assert loaded.spec == made.spec
    assert np.array_equal(loaded.scores(given), made.scores(given))
    assert made.scores(given).shape == (3, 3)
    assert made.scores(given).sum(axis=1) == pytest.approx(np.ones(3), abs=1e-5)


def test_vectors_that_may_not_be_written_to_are_scored_without_a_warning(folder):
    loaded = HeadBundle.load(folder)
    fixed = VECTORS.copy()
    fixed.flags.writeable = False
    assert loaded.scores(clips(fixed)).shape == (10, 3)
    assert loaded.scores(clips(fixed[:0])).shape == (0, 3)


def test_a_bundle_keeps_its_weights_whatever_becomes_of_those_it_was_made_of():
    given = weights(spec())
    made = HeadBundle(spec(), given)
    before = made.scores(clips(VECTORS))
    for value in given.values():
        value.zero_()
    assert np.array_equal(made.scores(clips(VECTORS)), before)


def test_weights_of_half_precision_are_scored_in_single_precision():
    half = {name: value.half() for name, value in weights(spec()).items()}
    found = HeadBundle(spec(), half).scores(clips(VECTORS))
    assert found.dtype == np.float32
    assert found == pytest.approx(bundle().scores(clips(VECTORS)), abs=0.02)


def test_a_bundle_is_loaded_without_the_weights_that_training_started_from(tmp_path):
    """VGGish's file is on the machine that trained, and perhaps on no other."""
    start = tmp_path / "vggish.safetensors"
    shape = {"layers": {"log_mel": 64}, "vectors_per_patch": 96, "pooling": None}
    told = {"name": "vggish_finetune", "weights": "random", "pool": "mean"}
    random = spec(**shape, normalised=False, head=told)
    given = network_for(random.network, 0).state_dict()
    pictures = clips(np.random.default_rng(0).normal(size=(2, 96, 64)).astype(np.float32))
    expected = HeadBundle(random, given).scores(pictures)
    gone = spec(**shape, normalised=False, head=told | {"weights": str(start)})
    assert np.array_equal(HeadBundle(gone, given).scores(pictures), expected)


# scikit-learn's


def estimator_bundle(**changes) -> HeadBundle:
    told = {"head": {"name": "logistic_regression", "c": 2.0}, "normalised": False} | changes
    made = HEADS.build("logistic_regression", {"c": 2.0}).estimator(0)
    targets = np.arange(10) % 3
    if told.get("multi_label"):
        made = estimators.multi_label(made)
        targets = np.eye(3, dtype=np.float32)[targets]
    estimators.fit(made, VECTORS, targets)
    return HeadBundle(spec(**told), estimators.save(made))


@pytest.mark.parametrize("multi_label", [False, True])
def test_an_estimator_comes_back_with_identical_scores(tmp_path, multi_label):
    made, place = estimator_bundle(multi_label=multi_label), Folder(str(tmp_path))
    hashes = made.save(place, [{"epoch": 1, "train_loss": math.nan}])
    assert sorted(hashes) == sorted(place.names()) == sorted([HEAD, ESTIMATOR, EPOCHS])
    loaded = HeadBundle.load(place)
    assert np.array_equal(loaded.scores(clips(VECTORS)), made.scores(clips(VECTORS)))
    direct = estimators.scores(estimators.load(place.read(ESTIMATOR)), VECTORS, 3)
    assert made.scores(clips(VECTORS)) == pytest.approx(direct, abs=1e-6)


def test_an_estimator_of_patches_is_pooled_and_cooled():
    voting = estimator_bundle(pooling={"name": "vote", "on": "logits"})
    patches = estimator_bundle().scores(clips(VECTORS)).argmax(axis=1)
    found = voting.scores(clips(VECTORS, patches=[4, 6]))
    shares = [np.bincount(part, minlength=3) / len(part) for part in (patches[:4], patches[4:])]
    assert found == pytest.approx(np.array(shares), abs=1e-5)
    plain, warm = estimator_bundle(), estimator_bundle(temperature=2.0)
    expected = np.sqrt(plain.scores(clips(VECTORS)))
    expected /= expected.sum(axis=1, keepdims=True)
    assert warm.scores(clips(VECTORS)) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"layers": {"embedding": 7}}, "does not fit {'embedding': 7} with 3 classes"),
        ({"classes": ["a", "b"]}, "does not fit {'embedding': 6} with 2 classes"),
    ],
)
def test_an_estimator_of_other_vectors_or_classes_is_refused(changes, why):
    with pytest.raises(TableError, match="the estimator of head 'audio'") as error:
        estimator_bundle(**changes)
    assert why in str(error.value)


@pytest.mark.parametrize("data", [b"", b"PK\x05\x06" + b"\0" * 18, pickle.dumps({"a": 1})])
def test_an_estimator_that_is_damaged_is_refused(tmp_path, data):
    place = Folder(str(tmp_path / "heads" / "audio"))
    estimator_bundle().save(place, [])
    place.write(ESTIMATOR, data)
    with pytest.raises(TableError, match=r"heads/audio holds a damaged head bundle: .* run the"):
        HeadBundle.load(place)


# What is refused


@pytest.mark.parametrize("shape", [(3, WIDTH + 1), (3, WIDTH - 1), (WIDTH,), (3, 2, WIDTH)])
def test_vectors_of_another_width_are_refused(folder, shape):
    given = ClipRows(["a"] * shape[0], (np.zeros(shape, np.float32),), np.arange(shape[0] + 1))
    with pytest.raises(
        TableError, match=r"head 'audio' takes vectors of width 6, got an array"
    ) as error:
        HeadBundle.load(folder).scores(given)
    assert str(shape) in str(error.value)


@pytest.mark.parametrize("shape", [(3, 5, WIDTH), (3, 4, 5), (3, WIDTH)])
def test_pictures_of_another_size_are_refused(shape):
    on_logits = {"name": "mean", "on": "logits"}
    made = bundle(head={"name": "resnet18"}, vectors_per_patch=4, pooling=on_logits)
    assert made.scores(clips(np.zeros((3, 4, WIDTH), np.float32))).shape == (3, 3)
    with pytest.raises(
        TableError, match="head 'audio' takes pictures of 4 vectors of width 6, got an array"
    ) as error:
        made.scores(clips(np.zeros(shape, np.float32)))
    assert str(shape) in str(error.value)


def test_another_number_of_layers_is_refused():
    layers = {"pool5": WIDTH, "conv6": 2}
    made = bundle(layers=layers, head={"name": "multi_layer", "hidden": [4]})
    with pytest.raises(TableError, match="'audio' takes the layers pool5, conv6, got 1 arrays"):
        made.scores(clips(VECTORS))
    with pytest.raises(TableError, match="takes vectors of width 2, got an array of shape"):
        made.scores(clips(VECTORS, VECTORS))


def test_a_missing_bundle_says_where_it_was_looked_for(tmp_path):
    with pytest.raises(TableError, match=r"none holds no head bundle; run the job train first"):
        HeadBundle.load(Folder(str(tmp_path / "none")))


def test_a_bundle_that_lacks_its_description_is_none(folder):
    folder.remove(HEAD)
    with pytest.raises(TableError, match="audio holds no head bundle; run the job train first"):
        HeadBundle.load(folder)


def test_a_bundle_that_lacks_its_weights_is_damaged(folder):
    folder.remove(WEIGHTS)
    with pytest.raises(TableError, match=r"audio holds a damaged head bundle: .*weights\.safet"):
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


@pytest.mark.parametrize("version", [0, 1, 3, "2", None])
def test_another_version_is_refused(folder, version):
    rewrite(folder, version=version)
    with pytest.raises(
        TableError,
        match=rf"head\.json has version {version}, this audioflow reads 2; train the head",
    ):
        HeadBundle.load(folder)


def test_a_list_is_no_bundle(folder):
    folder.write(HEAD, b"[1]")
    with pytest.raises(TableError, match=r"head\.json has version None"):
        HeadBundle.load(folder)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"layers": {"embedding": 7}}, "do not fit a mlp head on {'embedding': 7} with 3 classes"),
        (
            {"classes": ["a", "b"], "head_classes": ["a", "b"]},
            "do not fit a mlp head on {'embedding': 6} with 2 classes",
        ),
        ({"head": {"name": "linear"}}, "do not fit a linear head"),
        ({"head": {"name": "mlp", "hiden": 3}}, "hiden"),
        ({"head": {}}, "name"),
        ({"head": "mlp"}, "string"),
        ({"system": "gone"}, "system"),
        ({"colour": "red"}, "colour"),
        ({"layers": ["embedding"]}, "list"),
        ({"layers": {}}, "unpack"),
        ({"layers": {"embedding": "6"}}, "str"),
        ({"pooling": "mean"}, "str"),
        ({"pooling": {"name": "attention", "on": "logits"}}, "pooling.hidden.weight"),
        ({"head_classes": ["a", "b", "c"]}, "merge does not say which are which"),
        ({"merge": {"cat": "cat", "dog": "dog"}}, "ü"),
        ({"merge": {"cat": "cat", "dog": "dog", "ü": "bird"}}, "'bird' is not in list"),
        ({"temperature": 0}, "temperature 0 cannot divide"),
        ({"temperature": None}, "NoneType"),
        ({"normalised": False}, "normalise.0.mean"),
    ],
    ids=str,
)
def test_a_description_that_does_not_fit_the_weights_is_refused(folder, changes, why):
    rewrite(folder, **changes)
    with pytest.raises(TableError, match="heads/audio holds a damaged head bundle") as error:
        HeadBundle.load(folder)
    assert why in str(error.value)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"head": {"name": "forest"}}, "head 'forest' does not exist"),
        ({"pooling": {"name": "sum", "on": "embeddings"}}, "pooling 'sum' does not exist"),
    ],
)
def test_a_plug_in_that_this_audioflow_does_not_have_is_named(folder, changes, why):
    rewrite(folder, **changes)
    with pytest.raises(TableError, match=f"heads/audio cannot be used: {why}"):
        HeadBundle.load(folder)


@pytest.mark.parametrize("missing", ["normalise.0.mean", "normalise.0.std", "head.0.weight"])
def test_weights_that_are_not_all_there_are_refused(missing):
    some = weights(spec())
    del some[missing]
    with pytest.raises(TableError, match=f"the weights of head 'audio' do not fit.*{missing}"):
        HeadBundle(spec(), some)


def test_weights_that_are_too_many_are_refused():
    more = weights(spec()) | {"head.9.weight": torch.zeros(1)}
    with pytest.raises(TableError, match=r"the weights of head 'audio' do not fit.*head\.9\.wei"):
        HeadBundle(spec(), more)
