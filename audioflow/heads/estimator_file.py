"""Fitted scikit-learn heads as files: skops, and nothing in them but what our heads are made of.

A file of skops is a zip with `schema.json`, the objects by type, and the arrays. Loading makes
objects of the types that it names, so all of them are compared with a list beforehand; that list is
shorter than what skops trusts by itself, which is every estimator of scikit-learn.
"""

import copy
import io
import json
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import sklearn
from sklearn.exceptions import InconsistentVersionWarning
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import Pipeline
from sklearn.svm import SVC

from audioflow.errors import TableError
from audioflow.heads.multi_label import MultiLabel

_SCHEMA = "schema.json"

TYPES = {
    "DictNode": {"builtins.dict"},
    "JsonNode": {"builtins.str"},
    "ListNode": {"builtins.list"},
    "TupleNode": {"builtins.tuple"},
    "TypeNode": {"builtins.str"},
    "NdArrayNode": {
        "numpy.ndarray",
        "numpy.bool",
        "numpy.float32",
        "numpy.float64",
        "numpy.int32",
        "numpy.int64",
    },
    "ObjectNode": {
        "audioflow.heads.multi_label.MultiLabel",
        "sklearn.decomposition._pca.PCA",
        "sklearn.linear_model._logistic.LogisticRegression",
        "sklearn.linear_model._stochastic_gradient.SGDClassifier",
        "sklearn.neighbors._classification.KNeighborsClassifier",
        "sklearn.neural_network._multilayer_perceptron.MLPClassifier",
        "sklearn.pipeline.Pipeline",
        "sklearn.preprocessing._data.StandardScaler",
        "sklearn.preprocessing._label.LabelBinarizer",
        "sklearn.svm._classes.LinearSVC",
        "sklearn.svm._classes.SVC",
    },
}
"""What a file may hold: by how skops makes it, the types; all else is refused."""

_OF_TRAINING = ("_optimizer", "_random_state", "_loss_function_")
"""Attributes that only further training would need; they would be most of an MLP's file."""


def save(estimator: Pipeline) -> bytes:
    """A fitted pipeline as a skops file; two saves of one pipeline differ in their bytes.

    Raises `TableError` where it holds what `load` would refuse.
    """
    import skops.io

    *before, (name, classifier) = estimator.steps
    pipeline = copy.copy(estimator)
    pipeline.steps = [*before, (name, _without_training(classifier))]
    data: bytes = skops.io.dumps(pipeline)
    _check_types(_schema(data))
    return data


def _without_training(classifier: Any) -> Any:
    slim = copy.copy(classifier)
    if isinstance(slim, MultiLabel):
        slim.estimators_ = [_without_training(each) for each in slim.estimators_]
    for attribute in _OF_TRAINING:
        vars(slim).pop(attribute, None)
    return slim


def load(data: bytes) -> Pipeline:
    """The pipeline of a file of `save`, also of another version of scikit-learn (see `versions`).

    Raises `TableError` where the bytes are damaged, or hold a type that no head is made of; such a
    file is not loaded, and nothing in it runs.
    """
    import skops.io

    with _readable():
        schema = _schema(data)
        _check_types(schema)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", InconsistentVersionWarning)
            loaded = skops.io.loads(data, trusted=sorted(TYPES["ObjectNode"]))
        if not isinstance(loaded, Pipeline):
            raise ValueError(f"it is a {type(loaded).__name__}, not a pipeline")
        last = loaded.steps[-1][1]
        for each in last.estimators_ if isinstance(last, MultiLabel) else [last]:
            _check_fits_together(each)
    return loaded


def versions(data: bytes) -> dict[str, str]:
    """The releases that wrote a file: `scikit-learn` and `skops`; `TableError` where damaged."""
    with _readable():
        schema = _schema(data)
        return {
            "scikit-learn": json.loads(schema["content"]["content"]["_sklearn_version"]["content"]),
            "skops": str(schema["_skops_version"]),
        }


@contextmanager
def _readable() -> Iterator[None]:
    try:
        yield
    except (
        zipfile.BadZipFile,
        ArithmeticError,
        AttributeError,
        EOFError,
        ImportError,
        LookupError,
        MemoryError,
        OSError,
        RuntimeError,
        TypeError,
        ValueError,
    ) as error:
        why = " ".join(str(error).split()) or type(error).__name__
        raise TableError(
            f"the file of the scikit-learn head cannot be read by scikit-learn "
            f"{sklearn.__version__}: {why}; train the head again"
        ) from error


def _schema(data: bytes) -> dict[str, Any]:
    with zipfile.ZipFile(io.BytesIO(data)) as file:
        for member in file.infolist():
            if member.compress_type != zipfile.ZIP_STORED:
                raise ValueError(f"{member.filename} is compressed, which audioflow never does")
        schema = json.loads(file.read(_SCHEMA))
    if not isinstance(schema, dict):
        raise ValueError(f"{_SCHEMA} is not a mapping")
    return schema


def _check_types(schema: dict[str, Any]) -> None:
    """Look at every part of the schema, whether or not it would be used."""
    strange: set[str] = set()
    parts: list[Any] = [schema]
    while parts:
        part = parts.pop()
        if isinstance(part, dict):
            if "__loader__" in part:
                loader, name = str(part["__loader__"]), f"{part['__module__']}.{part['__class__']}"
                if name not in TYPES.get(loader, ()):
                    strange.add(f"{name} ({loader})")
            parts += part.values()
        elif isinstance(part, list):
            parts += part
    if strange:
        raise TableError(
            f"the file of the scikit-learn head holds {', '.join(sorted(strange))}, which no head "
            "is made of; it is not loaded. Find out who wrote it, and train the head again"
        )


def _check_fits_together(classifier: Any) -> None:
    """Refuse arrays that would lead scikit-learn's compiled code beyond their ends."""
    if isinstance(classifier, SVC):
        count, width = classifier.support_vectors_.shape
        classes = len(classifier.classes_)
        fits = (
            not vars(classifier).keys() & {"_impl", "_sparse_kernels"}
            and (classifier.kernel, classifier.decision_function_shape) == ("rbf", "ovo")
            and classifier._sparse is False
            and classifier.shape_fit_[1] == width
            and classifier.support_.shape == (count,)
            and classifier._n_support.shape == (classes,)
            and bool(np.all(classifier._n_support >= 0))
            and classifier._n_support.sum(dtype=np.int64) == count
            and classifier._dual_coef_.shape == (classes - 1, count)
            and classifier._intercept_.shape == (classes * (classes - 1) // 2,)
        )
    elif isinstance(classifier, KNeighborsClassifier):
        labels = classifier._y
        fits = (
            classifier._fit_method == "brute"
            and len(labels) == len(classifier._fit_X) >= classifier.n_neighbors >= 1
            and (
                classifier.outputs_2d_
                or bool(np.all((labels >= 0) & (labels < len(classifier.classes_))))
            )
        )
    else:
        fits = True
    if not fits:
        raise ValueError(f"the arrays of its {type(classifier).__name__} do not fit together")
