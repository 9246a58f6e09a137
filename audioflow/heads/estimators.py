"""Heads that scikit-learn fits: their common settings, fitting, scores, and their files.

Shapes: N vectors (clips or patches), D their width, C classes, K classes that training had.
"""

import warnings
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator
from scipy.special import log_expit, softmax
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.linear_model import SGDClassifier
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from sklearn.utils.validation import has_fit_parameter

from audioflow.errors import InputError
from audioflow.heads.estimator_file import load, save, versions
from audioflow.heads.multi_label import MultiLabel
from audioflow.registry import Settings

__all__ = [
    "EstimatorSettings",
    "fit",
    "load",
    "multi_label",
    "pipeline",
    "save",
    "scores",
    "versions",
]

Floats = NDArray[np.float32]
Targets = NDArray[np.int64] | NDArray[np.float32]


class EstimatorSettings(Settings):
    """scale: shift and scale each column to mean 0 and deviation 1 over the training vectors.

    pca: number of principal components of the training vectors that are kept, after scaling; None
    for all columns as they are. whiten: scale the components to deviation 1. class_weight:
    `balanced` weighs the classes alike, however many vectors each has.
    """

    no_class_weights: ClassVar[str] = ""
    """The classifier of this head, where it cannot weigh classes."""
    weighs_vectors: ClassVar[bool] = True
    """Whether vectors can count more or less in training, as `train.class_weights` wants."""

    scale: bool = True
    pca: int | None = Field(None, ge=1)
    whiten: bool = True
    class_weight: Literal["none", "balanced"] = "none"

    @field_validator("class_weight")
    @classmethod
    def _possible(cls, value: str) -> str:
        if value != "none" and cls.no_class_weights:
            raise ValueError(
                f"class_weight is {value!r}, but scikit-learn's {cls.no_class_weights} has no "
                "weights of classes; allowed: none"
            )
        return value

    @property
    def weights_of_classes(self) -> str | None:
        """`class_weight` as scikit-learn takes it."""
        return None if self.class_weight == "none" else self.class_weight


def pipeline(name: str, settings: EstimatorSettings, classifier: Any, seed: int) -> Pipeline:
    """Scaling and components as `settings` say, then `classifier`, a step called as the head is."""
    steps: list[tuple[str, Any]] = []
    if settings.scale:
        steps.append(("scale", StandardScaler()))
    if settings.pca is not None:
        steps.append(("pca", PCA(settings.pca, whiten=settings.whiten, random_state=seed)))
    return Pipeline([*steps, (name, classifier)])


def multi_label(estimator: Pipeline) -> Pipeline:
    """A fresh pipeline like `estimator` that takes targets (N, C) of 0 and 1."""
    *before, (name, classifier) = clone(estimator).steps
    return Pipeline([*before, (name, MultiLabel(classifier))])


def fit(
    estimator: Pipeline,
    vectors_ND: Floats,
    targets: Targets,
    weights_N: Floats | None = None,
) -> list[str]:
    """Fit `estimator` on vectors (N, D); returns what scikit-learn warned of, each text once.

    targets: classes (N,) from 0; or, for an estimator of `multi_label`, (N, C) of 0 and 1.
    weights_N: how much a vector counts for the classifier, 0 or more. Only their ratios matter, so
    that equal weights are no weights; a vector of weight 0 is left out, also of scaling and PCA.

    Raises `InputError` where the head cannot be fitted on these vectors.
    """
    name, last = estimator.steps[-1]
    if isinstance(last, MultiLabel) != (targets.ndim == 2):
        raise ValueError(
            f"head {name} got targets of shape {targets.shape}; (N, C) go with multi_label "
            "alone, (N,) with all others"
        )
    classifier = last.estimator if isinstance(last, MultiLabel) else last
    options = {}
    if weights_N is not None:
        counts = _checked(name, weights_N, len(vectors_ND)) > 0
        vectors_ND, targets, weights_N = vectors_ND[counts], targets[counts], weights_N[counts]
        if np.any(weights_N != weights_N[:1]):
            options[f"{name}__sample_weight"] = _relative(name, weights_N, classifier)
    _check_targets(name, targets)
    _check_sizes(estimator, classifier, *vectors_ND.shape)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            estimator.fit(vectors_ND, targets, **options)
        except ValueError as error:
            rows, width = vectors_ND.shape
            raise InputError(
                f"head {name} cannot be fitted on {rows} vectors of width {width}: "
                + " ".join(str(error).split())
            ) from error
    texts = [f"{each.category.__name__}: {' '.join(str(each.message).split())}" for each in caught]
    return list(dict.fromkeys(texts))


def _checked(name: str, weights_N: Floats, rows: int) -> Floats:
    if weights_N.shape != (rows,):
        raise ValueError(
            f"head {name} got weights of shape {weights_N.shape} for {rows} vectors; "
            f"allowed: ({rows},)"
        )
    wrong = weights_N[~(np.isfinite(weights_N) & (weights_N >= 0))]
    if wrong.size:
        raise InputError(f"head {name} got the weight {wrong[0]:g}; allowed: 0 or more")
    return weights_N


def _relative(name: str, weights_N: Floats, classifier: Any) -> NDArray[np.float64]:
    if not has_fit_parameter(classifier, "sample_weight"):
        raise InputError(
            f"head {name} cannot weigh vectors, and these have weights from {weights_N.min():g} "
            f"to {weights_N.max():g}; give all the same weight, or take another head"
        )
    exact_N = weights_N.astype(np.float64)
    return exact_N / exact_N.mean()


def _check_targets(name: str, targets: Targets) -> None:
    values = np.unique(targets)
    if targets.ndim == 2:
        if np.any(wrong := ~np.isin(values, (0, 1))):
            raise InputError(f"head {name} got the target {values[wrong][0]:g}; allowed: 0, 1")
        learned = targets.any(axis=0) & ~targets.all(axis=0)
        if not learned.any():
            raise InputError(
                f"head {name} has nothing to tell apart: none of {targets.shape[1]} classes is in "
                f"some of {len(targets)} training vectors and not in others"
            )
    elif len(values) < 2:
        classes = f"class {values[0]}" if len(values) else "no class"
        raise InputError(
            f"head {name} needs training vectors of two classes or more, got {len(targets)} of "
            f"{classes}"
        )


def _check_sizes(estimator: Pipeline, classifier: Any, rows: int, width: int) -> None:
    name = estimator.steps[-1][0]
    components = estimator.named_steps["pca"].n_components if "pca" in estimator.named_steps else 0
    if components > min(rows, width):
        raise InputError(
            f"head {name} has pca {components}, but there are {rows} training vectors of width "
            f"{width}; allowed: up to {min(rows, width)}"
        )
    if isinstance(classifier, KNeighborsClassifier) and classifier.n_neighbors > rows:
        raise InputError(
            f"head {name} has k {classifier.n_neighbors}, but there are {rows} training vectors; "
            f"allowed: up to {rows}"
        )


def scores(estimator: Pipeline, vectors_ND: Floats, num_classes: int) -> Floats:
    """Scores (N, C) in [0, 1] in class order; their largest is the class that is predicted.

    They sum to 1, and a class that was not in training has 0. Those of an estimator of
    `multi_label` are of each class by itself. logistic_regression, sgd, sklearn_mlp and knn give
    their probabilities; the SVMs, which have none, a softmax (or sigmoid) of their decision values:
    in the right order, but not calibrated.

    Raises `ValueError` where the estimator was fitted on classes beyond `num_classes`.
    """
    last = estimator[-1]
    single = not isinstance(last, MultiLabel)
    classes = last.classes_ if single else np.arange(len(last.constant_))
    if classes[0] < 0 or classes[-1] >= num_classes:
        raise ValueError(
            f"head {estimator.steps[-1][0]} was fitted on class {classes[-1]}, but classes go "
            f"from 0 to {num_classes - 1}"
        )
    scores_NC = np.zeros((len(vectors_ND), num_classes), np.float32)
    if len(vectors_ND):
        prepared = estimator[:-1].transform(vectors_ND) if len(estimator) > 1 else vectors_ND
        scores_NC[:, classes] = _of_one_label(last, prepared) if single else last.scores(prepared)
    return scores_NC


def _of_one_label(classifier: Any, vectors_ND: Floats) -> Floats:
    """Scores (N, K), in single precision too with the largest where `predict` has its class."""
    if hasattr(classifier, "decision_function"):
        decision = classifier.decision_function(vectors_ND).astype(np.float64)
        values_NK, best_N = _decided(classifier, decision)
        exact_NK = softmax(values_NK, axis=1)
    else:
        exact_NK = classifier.predict_proba(vectors_ND)
        best_N = exact_NK.argmax(axis=1)
    scores_NK = exact_NK.astype(np.float32)
    rows = np.flatnonzero(scores_NK.argmax(axis=1) != best_N)
    highest = scores_NK[rows].max(axis=1)
    scores_NK[rows, best_N[rows]] = np.nextafter(highest, np.float32(np.inf))
    return scores_NK


def _decided(
    classifier: Any, decision: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Values (N, K) whose softmax are the scores, and the best class (N,) as `predict` has it."""
    if decision.ndim == 1:
        values_NK = np.stack([-decision / 2, decision / 2], axis=1)
        second = decision >= 0 if isinstance(classifier, SVC) else decision > 0
        return values_NK, second.astype(np.int64)
    if isinstance(classifier, SVC):
        return _voted(decision, len(classifier.classes_))
    best_N = decision.argmax(axis=1)
    # Of many classes, SGD learns each against the rest: its probabilities are normalised sigmoids.
    return (log_expit(decision) if isinstance(classifier, SGDClassifier) else decision), best_N


def _voted(
    pairs: NDArray[np.float64], num_classes: int
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Decisions of all pairs of classes as votes, plus less than a half for how clear they were.

    libsvm, and with it `predict`, takes the first of the classes that share the most votes; here
    it gets the clearest one's value, so that it is the largest.
    """
    first, second = np.triu_indices(num_classes, 1)
    votes_NK = np.zeros((len(pairs), num_classes))
    margins_NK = np.zeros_like(votes_NK)
    for column, (one, other) in enumerate(zip(first, second, strict=True)):
        decision = pairs[:, column]
        votes_NK[:, one] += decision > 0
        votes_NK[:, other] += decision <= 0
        margins_NK[:, one] += decision
        margins_NK[:, other] -= decision
    best_N = votes_NK.argmax(axis=1)
    values_NK = votes_NK + margins_NK / (3 * (np.abs(margins_NK) + 1))
    best = (np.arange(len(pairs)), best_N)
    top = (np.arange(len(pairs)), values_NK.argmax(axis=1))
    values_NK[best], values_NK[top] = values_NK[top], values_NK[best]
    return values_NK, best_N
