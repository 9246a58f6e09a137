"""Heads that scikit-learn fits: what they learn, their scores, their files, a published figure."""

import io
import os
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
import skops.io
from pydantic import ValidationError
from sklearn.base import BaseEstimator
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression as Plain
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer

from audioflow.errors import InputError, TableError
from audioflow.heads.estimators import fit, load, multi_label, save, scores, versions
from audioflow.heads.knn import Knn
from audioflow.heads.linear_svm import LinearSvm
from audioflow.heads.logistic_regression import LogisticRegression
from audioflow.heads.rbf_svm import RbfSvm
from audioflow.heads.sgd import Sgd
from audioflow.heads.sklearn_mlp import SklearnMlp

HEADS = {
    "knn": Knn,
    "linear_svm": LinearSvm,
    "logistic_regression": LogisticRegression,
    "rbf_svm": RbfSvm,
    "sgd": Sgd,
    "sklearn_mlp": SklearnMlp,
}
WEIGHED = sorted(HEADS.keys() - {"knn"})
QUICK = {"sklearn_mlp": {"lr": 0.1, "max_iter": 60}}


@pytest.fixture(params=sorted(HEADS))
def name(request) -> str:
    return request.param


def made(name: str, seed: int = 0, **options) -> Pipeline:
    head = HEADS[name]
    return head(head.Settings.model_validate(QUICK.get(name, {}) | options)).estimator(seed)


def blobs(seed: int, classes: int = 3, rows: int = 60, noise: float = 0.2):
    generator = np.random.default_rng(seed)
    targets = np.arange(rows) % classes
    vectors = 2 * np.eye(classes, 6)[targets] + noise * generator.normal(size=(rows, 6))
    return vectors.astype(np.float32), targets.astype(np.int64)


def labels(seed: int, rows: int = 80):
    """Vectors whose columns say which of three labels they have, then which they have not."""
    generator = np.random.default_rng(seed)
    targets = generator.integers(0, 2, (rows, 3))
    vectors = 2 * np.concatenate([targets, 1 - targets], axis=1)
    vectors = vectors + 0.1 * generator.normal(size=vectors.shape)
    return vectors.astype(np.float32), targets.astype(np.float32)


# Learning


@pytest.mark.parametrize("classes", [2, 3, 5])
@pytest.mark.parametrize("options", [{}, {"scale": False}, {"scale": True, "pca": 4}])
def test_a_head_learns_separable_vectors(name, classes, options):
    estimator = made(name, **options)
    fit(estimator, *blobs(1, classes))
    vectors, targets = blobs(2, classes)
    found = scores(estimator, vectors, classes)
    assert (found.shape, found.dtype) == ((60, classes), np.float32)
    assert np.array_equal(found.argmax(axis=1), targets)
    assert found.sum(axis=1) == pytest.approx(np.ones(60), abs=1e-5)
    assert found.min() >= 0


def test_a_seed_decides_all(name):
    vectors, targets = blobs(1, noise=1.5)
    one, same = made(name, seed=3, pca=3), made(name, seed=3, pca=3)
    for estimator in (one, same):
        fit(estimator, vectors, targets)
    assert np.array_equal(scores(one, vectors, 3), scores(same, vectors, 3))


@pytest.mark.parametrize("name", ["sgd", "sklearn_mlp"])
def test_another_seed_gives_another_head(name):
    vectors, targets = blobs(1, noise=1.5)
    one, other = made(name, seed=3), made(name, seed=4)
    for estimator in (one, other):
        fit(estimator, vectors, targets)
    assert not np.array_equal(scores(one, vectors, 3), scores(other, vectors, 3))


def test_scaling_and_components_are_steps_before_the_head(name):
    steps = made(name, scale=True, pca=3, whiten=False).named_steps
    assert list(steps) == ["scale", "pca", name]
    assert (steps["pca"].n_components, steps["pca"].whiten) == (3, False)
    assert list(made(name, scale=False).named_steps) == [name]
    assert ("scale" in made(name).named_steps) == (name != "knn")


@pytest.mark.parametrize("name", sorted(HEADS.keys() - {"knn", "sklearn_mlp"}))
def test_balanced_classes_weigh_alike_however_many_vectors_they_have(name):
    vectors = np.array([[0.0]] * 90 + [[0.0]] * 10, np.float32)
    vectors += np.random.default_rng(0).normal(size=vectors.shape).astype(np.float32)
    targets = np.repeat([0, 1], [90, 10])
    plain, balanced = made(name), made(name, class_weight="balanced")
    for estimator in (plain, balanced):
        fit(estimator, vectors, targets)
    rare = [scores(each, vectors, 2).argmax(axis=1).mean() for each in (plain, balanced)]
    assert rare[0] < 0.2
    assert rare[1] > 0.25


def test_what_scikit_learn_warns_of_is_returned_and_not_shown():
    vectors, targets = blobs(1, noise=1.5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = fit(made("logistic_regression", max_iter=1), vectors, targets)
        assert fit(made("logistic_regression"), vectors, targets) == []
    assert len(found) == 1
    assert found[0].startswith("ConvergenceWarning: lbfgs failed to converge after 1 iteration")


def test_the_same_warning_of_many_classes_is_returned_once():
    vectors, targets = labels(1)
    found = fit(multi_label(made("sgd", max_iter=1)), vectors, targets)
    assert len(found) == 1
    assert "ConvergenceWarning: Maximum number of iteration reached" in found[0]


# Scores


@pytest.mark.parametrize("classes", [2, 3, 6])
@pytest.mark.parametrize("scale", [True, False])
def test_the_largest_score_is_the_class_that_is_predicted(name, classes, scale):
    """On vectors near the borders, far away, all alike, and so large that scores saturate."""
    estimator = made(name, scale=scale)
    vectors, targets = blobs(1, classes, noise=1.5)
    fit(estimator, vectors, targets)
    generator = np.random.default_rng(2)
    sizes = 10.0 ** generator.uniform(-6, 5, (3000, 1))
    asked = np.float32(np.concatenate([generator.normal(size=(3000, 6)) * sizes, vectors]))
    found = scores(estimator, asked, classes)
    assert np.isfinite(found).all()
    assert found.max() <= 1
    assert np.array_equal(found.argmax(axis=1), estimator.predict(asked))


@pytest.mark.parametrize("name", ["knn", "logistic_regression", "sgd", "sklearn_mlp"])
@pytest.mark.parametrize("classes", [2, 3])
def test_scores_are_the_probabilities_where_there_are_some(name, classes):
    estimator = made(name, **({"k": 7} if name == "knn" else {}))
    vectors, targets = blobs(1, classes, noise=1.5)
    fit(estimator, vectors, targets)
    found = scores(estimator, vectors, classes)
    assert found == pytest.approx(estimator.predict_proba(vectors), abs=1e-6)
    assert len(np.unique(found)) > 5


def test_the_scores_of_a_support_vector_machine_follow_its_decisions():
    vectors, targets = blobs(1, 2, noise=1.5)
    for name in ("linear_svm", "rbf_svm"):
        estimator = made(name)
        fit(estimator, vectors, targets)
        expected = 1 / (1 + np.exp(-estimator.decision_function(vectors)))
        assert scores(estimator, vectors, 2)[:, 1] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("present", [[0, 2], [1, 4], [0, 2, 3]])
def test_a_class_that_was_not_in_training_scores_zero(name, present):
    estimator = made(name)
    vectors, targets = blobs(1, len(present))
    fit(estimator, vectors, np.array(present)[targets])
    found = scores(estimator, vectors, 5)
    assert not found[:, np.setdiff1d(np.arange(5), present)].any()
    assert np.array_equal(found.argmax(axis=1), np.array(present)[targets])


def test_more_classes_than_there_should_be_are_refused(name):
    estimator = made(name)
    vectors, targets = blobs(1)
    fit(estimator, vectors, targets)
    with pytest.raises(ValueError, match=f"{name} was fitted on class 2, but classes .* 0 to 1"):
        scores(estimator, vectors, 2)


def test_no_vectors_have_no_scores(name):
    estimator = made(name)
    fit(estimator, *blobs(1))
    assert scores(estimator, np.zeros((0, 6), np.float32), 3).shape == (0, 3)


# Weights


@pytest.mark.parametrize("name", WEIGHED)
def test_the_label_with_more_weight_wins(name):
    """Each vector stands there once with its class and once with the next one."""
    vectors, targets = blobs(1)
    twice = np.concatenate([vectors, vectors])
    both = np.concatenate([targets, (targets + 1) % 3])
    for factor, expected in ((20, targets), (0.05, (targets + 1) % 3)):
        estimator = made(name)
        weights = np.repeat(np.float32([factor, 1]), len(vectors))
        fit(estimator, twice, both, weights)
        assert np.array_equal(scores(estimator, vectors, 3).argmax(axis=1), expected)


@pytest.mark.parametrize("name", WEIGHED)
def test_only_the_ratios_of_weights_count(name):
    vectors, targets = blobs(1, noise=1.5)
    weights = np.random.default_rng(0).integers(1, 5, len(vectors)).astype(np.float32)
    found = []
    for each in (weights, 1024 * weights):
        estimator = made(name)
        fit(estimator, vectors, targets, each)
        found.append(scores(estimator, vectors, 3))
    assert np.array_equal(*found)


def test_equal_weights_are_no_weights_and_zero_leaves_out(name):
    vectors, targets = blobs(1, noise=1.5)
    plain, weighed = made(name), made(name)
    fit(plain, vectors[:40], targets[:40])
    weights = np.repeat(np.float32([0.3, 0]), [40, 20])
    fit(weighed, vectors, targets, weights)
    assert np.array_equal(scores(plain, vectors, 3), scores(weighed, vectors, 3))


def test_nearest_neighbours_refuse_weights():
    vectors, targets = blobs(1)
    weights = np.linspace(0.5, 2, 60, dtype=np.float32)
    with pytest.raises(InputError, match=r"head knn cannot weigh vectors.*from 0\.5 to 2"):
        fit(made("knn"), vectors, targets, weights)


@pytest.mark.parametrize("wrong", [-0.5, float("nan"), float("inf")])
def test_weights_that_make_no_sense_are_refused(name, wrong):
    vectors, targets = blobs(1)
    weights = np.ones(60, np.float32)
    weights[7] = wrong
    with pytest.raises(InputError, match=f"head {name} got the weight {wrong:g}; allowed: 0 or"):
        fit(made(name), vectors, targets, weights)
    with pytest.raises(ValueError, match=r"weights of shape \(59,\) for 60 vectors"):
        fit(made(name), vectors, targets, weights[1:])


# More than one label


def test_labels_are_learned_each_by_itself(name):
    estimator = multi_label(made(name))
    fit(estimator, *labels(1))
    vectors, targets = labels(2)
    found = scores(estimator, vectors, 3)
    assert (found.shape, found.dtype) == ((80, 3), np.float32)
    assert np.array_equal(found > 0.5, targets > 0.5)
    assert found.sum(axis=1).max() > 1.4
    assert scores(estimator, vectors[:0], 3).shape == (0, 3)


def test_a_label_that_none_or_all_have_scores_zero_or_one(name):
    vectors, targets = labels(1)
    none, every = np.zeros((80, 1), np.float32), np.ones((80, 1), np.float32)
    for learned in ([0, 1, 2], [1]):
        columns = np.concatenate([none, targets[:, learned], every, none], axis=1)
        estimator = multi_label(made(name))
        assert not [text for text in fit(estimator, vectors, columns) if "present" in text]
        found = scores(estimator, vectors, columns.shape[1])
        assert (found[:, 0] == 0).all()
        assert (found[:, -2:] == [1, 0]).all()
        assert np.array_equal(found > 0.5, columns > 0.5)


@pytest.mark.parametrize("name", WEIGHED)
def test_labels_take_weights(name):
    vectors, targets = labels(1)
    twice, both = np.concatenate([vectors, vectors]), np.concatenate([targets, 1 - targets])
    estimator = multi_label(made(name))
    fit(estimator, twice, both, np.repeat(np.float32([1, 20]), 80))
    assert np.array_equal(scores(estimator, vectors, 3) > 0.5, targets < 0.5)


def test_an_estimator_for_one_label_stays_as_it_is(name):
    single = made(name, pca=3)
    assert list(multi_label(single).named_steps) == list(single.named_steps)
    fit(single, *blobs(1))
    assert scores(single, blobs(1)[0], 3).shape == (60, 3)


def test_targets_of_the_other_form_are_refused(name):
    (vectors, targets), (_, many) = blobs(1, rows=80), labels(1)
    with pytest.raises(ValueError, match=rf"head {name} got targets of shape \(80, 3\)"):
        fit(made(name), vectors, many)
    with pytest.raises(ValueError, match=rf"head {name} got targets of shape \(80,\)"):
        fit(multi_label(made(name)), vectors, targets)


# Input that cannot be learned from


def test_more_components_than_vectors_or_columns_are_refused(name):
    vectors, targets = blobs(1)
    with pytest.raises(InputError, match=f"head {name} has pca 7, .* 60 .* width 6; .* up to 6"):
        fit(made(name, pca=7), vectors, targets)
    with pytest.raises(InputError, match=f"head {name} has pca 5, .* 4 .* width 6; .* up to 4"):
        fit(multi_label(made(name, pca=5)), *(each[:4] for each in labels(1)))


def test_more_neighbours_than_vectors_are_refused():
    vectors, targets = blobs(1)
    with pytest.raises(InputError, match=r"head knn has k 61, but there are 60 .* up to 60"):
        fit(made("knn", k=61), vectors, targets)


def test_one_class_or_none_cannot_be_learned(name):
    vectors, targets = blobs(1)
    with pytest.raises(InputError, match=f"{name} needs .* two classes or more, got 60 of class 4"):
        fit(made(name), vectors, np.full(60, 4))
    with pytest.raises(InputError, match=f"{name} needs .* two classes or more, got 0 of no class"):
        fit(made(name), vectors, targets, np.zeros(60, np.float32))
    with pytest.raises(InputError, match=f"{name} has nothing to tell apart: none of 2 classes"):
        fit(multi_label(made(name)), vectors, np.tile(np.float32([0, 1]), (60, 1)))


def test_labels_between_zero_and_one_are_refused(name):
    vectors, targets = labels(1)
    with pytest.raises(InputError, match=rf"head {name} got the target 0\.5; allowed: 0, 1"):
        fit(multi_label(made(name)), vectors, np.maximum(targets, 0.5))


def test_vectors_that_are_not_finite_are_refused(name):
    vectors, targets = blobs(1)
    vectors[3, 2] = np.nan
    with pytest.raises(InputError, match=f"{name} cannot be .* 60 vectors of width 6: .* NaN"):
        fit(made(name), vectors, targets)


# Settings


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        *((name, {"pca": 0}, "pca") for name in HEADS),
        *((name, {"class_weight": "equal"}, "class_weight") for name in HEADS),
        *((name, {"no_such": 1}, "no_such") for name in HEADS),
        ("knn", {"class_weight": "balanced"}, "'balanced', .* KNeighborsClassifier .*; .* none"),
        ("sklearn_mlp", {"class_weight": "balanced"}, "'balanced', .* MLPClassifier .*; .* none"),
        ("knn", {"k": 0}, "k"),
        ("knn", {"metric": "minkowski"}, "metric"),
        ("linear_svm", {"c": 0}, "greater than 0"),
        ("linear_svm", {"tol": 0}, "greater than 0"),
        ("linear_svm", {"max_iter": 0}, "max_iter"),
        ("logistic_regression", {"c": float("inf")}, "finite"),
        ("rbf_svm", {"gamma": -0.1}, r"gamma is -0\.1; allowed: scale, auto or .* 0 or more"),
        ("rbf_svm", {"gamma": "large"}, "gamma is 'large'; allowed: scale, auto or a number"),
        ("rbf_svm", {"gamma": True}, "gamma is true"),
        ("rbf_svm", {"gamma": float("nan")}, "gamma is nan"),
        ("sgd", {"alpha": 0}, "alpha is 0, by which learning_rate optimal divides"),
        ("sgd", {"rate": 0.1}, r"rate \(0\.1\) is not used by learning_rate optimal"),
        ("sgd", {"learning_rate": "constant", "rate": 0}, "rate"),
        ("sklearn_mlp", {"hidden": []}, "hidden"),
        ("sklearn_mlp", {"hidden": [4, 0]}, "hidden has the width 0; allowed: 1 or more"),
        ("sklearn_mlp", {"lr": 0}, "lr"),
    ],
)
def test_settings_out_of_range_are_refused(name, options, message):
    with pytest.raises(ValidationError, match=message):
        made(name, **options)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("rbf_svm", {"gamma": 0}),
        ("rbf_svm", {"gamma": "auto"}),
        ("logistic_regression", {"tol": 0, "max_iter": 20}),
        ("sgd", {"alpha": 0, "learning_rate": "constant", "rate": 0.1, "tol": 0, "max_iter": 9}),
        ("sgd", {"learning_rate": "adaptive", "tol": None, "max_iter": 9}),
        ("sgd", {"learning_rate": "invscaling"}),
        ("sklearn_mlp", {"alpha": 0, "tol": 0, "solver": "adam", "batch_size": 7}),
        ("knn", {"k": 5, "metric": "manhattan", "weights": "distance", "scale": True}),
    ],
)
def test_settings_at_the_ends_of_their_ranges_can_be_fitted(name, options):
    vectors, targets = blobs(1)
    estimator = made(name, **options)
    fit(estimator, vectors, targets)
    assert np.isfinite(scores(load(save(estimator)), vectors, 3)).all()


def test_the_defaults_are_those_of_the_published_system():
    last = {
        name: head(head.Settings()).estimator(5).steps[-1][1].get_params()
        for name, head in HEADS.items()
    }
    assert (last["linear_svm"]["C"], last["linear_svm"]["dual"]) == (1, "auto")
    assert (last["rbf_svm"]["C"], last["rbf_svm"]["gamma"]) == (1, "scale")
    assert (last["knn"]["n_neighbors"], last["knn"]["metric"]) == (1, "cosine")
    sgd = [last["sgd"][key] for key in ("loss", "max_iter", "learning_rate")]
    assert sgd == ["log_loss", 600, "optimal"]
    keys = ("hidden_layer_sizes", "solver", "learning_rate", "learning_rate_init", "max_iter")
    assert [last["sklearn_mlp"][key] for key in keys] == [(20,), "sgd", "constant", 1e-3, 600]
    assert {each["random_state"] for each in last.values() if "random_state" in each} == {5, None}


# Files


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize(
    "options",
    [{"scale": False}, {"scale": True, "pca": 3}, {"scale": False, "pca": 3, "whiten": False}],
)
def test_a_head_comes_back_from_its_file_with_identical_scores(name, classes, options):
    vectors, targets = blobs(1, classes, noise=1.5)
    estimator = made(name, **options)
    fit(estimator, vectors, targets)
    before = scores(estimator, vectors, classes)
    assert np.array_equal(scores(load(save(estimator)), vectors, classes), before)
    assert np.array_equal(scores(estimator, vectors, classes), before)


def test_a_head_for_labels_comes_back_from_its_file(name):
    vectors, targets = labels(1)
    for columns in (targets, targets[:, :1], np.pad(targets, ((0, 0), (1, 1)))):
        estimator = multi_label(made(name, pca=3))
        fit(estimator, vectors, columns)
        found = scores(estimator, vectors, columns.shape[1])
        loaded = load(save(estimator))
        assert np.array_equal(scores(loaded, vectors, columns.shape[1]), found)


def test_a_file_tells_the_releases_that_wrote_it():
    import sklearn

    estimator = made("knn")
    fit(estimator, *blobs(1))
    found = versions(save(estimator))
    assert found == {"scikit-learn": sklearn.__version__, "skops": skops.__version__}


def test_a_file_of_another_release_is_loaded_in_silence_and_says_so():
    vectors, targets = blobs(1)
    estimator = made("logistic_regression")
    fit(estimator, vectors, targets)
    import sklearn

    data = rewritten(save(estimator), sklearn.__version__, "1.6.0")
    assert versions(data)["scikit-learn"] == "1.6.0"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loaded = load(data)
    assert np.array_equal(scores(loaded, vectors, 3), scores(estimator, vectors, 3))


def rewritten(data: bytes, old: str, new: str, how: int = zipfile.ZIP_STORED) -> bytes:
    """A skops file with a text of its schema replaced."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as source, zipfile.ZipFile(buffer, "w", how) as target:
        for name in source.namelist():
            content = source.read(name)
            if name == "schema.json":
                assert old.encode() in content
                content = content.replace(old.encode(), new.encode())
            target.writestr(name, content)
    return buffer.getvalue()


class Spy(BaseEstimator):
    """Tells that it was made of a file."""

    woken = 0

    def __setstate__(self, state):
        type(self).woken += 1
        super().__setstate__(state)

    def fit(self, vectors, targets):
        return self


def test_a_file_with_another_class_is_refused_and_nothing_of_it_runs():
    data = skops.io.dumps(Pipeline([("spy", Spy())]))
    skops.io.loads(data, trusted=[f"{__name__}.Spy"])
    assert Spy.woken == 1
    with pytest.raises(TableError, match=rf"holds {__name__}\.Spy .*it is not loaded"):
        load(data)
    assert Spy.woken == 1


def test_a_file_with_a_function_is_refused_and_nothing_of_it_runs(tmp_path: Path):
    command = f"touch {tmp_path}/ran"
    step = FunctionTransformer(os.system, inverse_func=os.system, kw_args={"command": command})
    with pytest.raises(TableError, match=r"holds posix\.system .*, sklearn.*\.FunctionTransformer"):
        load(skops.io.dumps(Pipeline([("run", step), ("head", Plain())])))
    assert not (tmp_path / "ran").exists()


def test_what_skops_trusts_and_no_head_is_made_of_is_refused():
    vectors, targets = blobs(1)
    forest = Pipeline([("forest", RandomForestClassifier(2).fit(vectors, targets))])
    with pytest.raises(TableError, match=r"RandomForestClassifier \(ObjectNode\)"):
        load(skops.io.dumps(forest))
    with pytest.raises(TableError, match=r"RandomForestClassifier \(ObjectNode\)"):
        save(forest)
    sine = Pipeline([("head", Plain(C=np.sin))])
    with pytest.raises(TableError, match=r"holds numpy.* which no head is made of"):
        load(skops.io.dumps(sine))


def test_a_type_under_another_loader_is_refused():
    estimator = made("logistic_regression")
    fit(estimator, *blobs(1))
    data = rewritten(save(estimator), '"__loader__": "ListNode"', '"__loader__": "SetNode"')
    with pytest.raises(TableError, match=r"builtins\.list \(SetNode\)"):
        load(data)


def test_a_file_of_something_else_is_refused():
    vectors, targets = blobs(1)
    with pytest.raises(TableError, match="it is a LogisticRegression, not a pipeline"):
        load(skops.io.dumps(Plain().fit(vectors, targets)))
    estimator = made("knn")
    fit(estimator, vectors, targets)
    packed = rewritten(save(estimator), "{", "{", zipfile.ZIP_DEFLATED)
    with pytest.raises(TableError, match="is compressed, which audioflow never does"):
        load(packed)


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04", b"nothing" * 99, b"PK\x05\x06" + bytes(18)])
def test_bytes_that_are_no_file_are_refused(data):
    for read in (load, versions):
        with pytest.raises(TableError, match=r"cannot be read .*train the head again"):
            read(data)


def test_a_damaged_file_is_refused_or_gives_the_same_scores():
    vectors, targets = blobs(1)
    estimator = made("logistic_regression", pca=3)
    fit(estimator, vectors, targets)
    data, expected = save(estimator), scores(estimator, vectors, 3)
    refused = 0
    for place in range(0, len(data), 401):
        damaged = bytearray(data)
        damaged[place] ^= 0x55
        for each in (bytes(damaged), data[:place]):
            try:
                loaded = load(each)
            except TableError:
                refused += 1
            else:
                assert np.array_equal(scores(loaded, vectors, 3), expected)
    assert refused > 2 * len(range(0, len(data), 401)) - 10


@pytest.mark.parametrize(
    ("attribute", "change"),
    [
        ("_n_support", lambda old: old * 1000),
        ("_n_support", lambda old: old[:2]),
        ("_dual_coef_", lambda old: old[:, :1]),
        ("_intercept_", lambda old: old[:1]),
        ("support_", lambda old: old[:1]),
        ("support_vectors_", lambda old: np.ascontiguousarray(old[:, :1])),
        ("kernel", lambda old: "precomputed"),
        ("_sparse", lambda old: True),
        ("decision_function_shape", lambda old: "ovr"),
    ],
)
def test_arrays_that_would_lead_libsvm_astray_are_refused(attribute, change):
    vectors, targets = blobs(1)
    estimator = made("rbf_svm")
    fit(estimator, vectors, targets)
    last = estimator[-1]
    setattr(last, attribute, change(getattr(last, attribute)))
    with pytest.raises(TableError, match="the arrays of its SVC do not fit together"):
        load(save(estimator))


@pytest.mark.parametrize(
    ("attribute", "value"),
    [
        ("_y", np.full(60, 3)),
        ("_y", np.full(60, -1)),
        ("_y", np.zeros(59, np.int64)),
        ("n_neighbors", 61),
        ("_fit_method", "kd_tree"),
    ],
)
def test_neighbours_that_do_not_exist_are_refused(attribute, value):
    vectors, targets = blobs(1)
    estimator = made("knn", metric="euclidean")
    fit(estimator, vectors, targets)
    setattr(estimator[-1], attribute, value)
    with pytest.raises(TableError, match="of its KNeighborsClassifier do not fit together"):
        load(save(estimator))


# Against a published figure: cached MusiCNN tag features of GTZAN, one row of 50 per patch


@pytest.fixture(scope="module")
def gtzan(shared_data: Path):
    def read(part: str):
        path = shared_data / "features" / f"{part}_data_GTZAN_MSDmusicnn_taggram.npz"
        with np.load(path, allow_pickle=False) as file:
            return file["X"], file["Y"], file["IDS"]

    return read("training"), read("evaluation")


@pytest.mark.parametrize(
    ("name", "patches", "clips"), [("linear_svm", 0.7512, 233), ("rbf_svm", 0.7203, 223)]
)
def test_real_features_give_the_accuracy_that_scikit_learn_gives(gtzan, name, patches, clips):
    (vectors, targets, _), (asked, truth, ids) = gtzan
    estimator = made(name, c=1.0, scale=False)
    assert fit(estimator, vectors, targets) == []
    predicted = scores(load(save(estimator)), asked, 10).argmax(axis=1)
    assert (predicted == truth).mean() == pytest.approx(patches, abs=5e-5)
    names, clip = np.unique(ids, return_inverse=True)
    votes = np.zeros((len(names), 10), int)
    np.add.at(votes, (clip, predicted), 1)
    truth_of_clip = np.zeros(len(names), int)
    truth_of_clip[clip] = truth
    assert len(names) == 290
    assert (votes.argmax(axis=1) == truth_of_clip).sum() == clips
