"""`linear_svm`: a linear support vector machine per class against the rest (liblinear)."""

from typing import ClassVar

from pydantic import Field
from sklearn.pipeline import Pipeline
from sklearn.svm import LinearSVC

from audioflow.heads.base import Takes
from audioflow.heads.estimators import EstimatorSettings, pipeline


class LinearSvmSettings(EstimatorSettings):
    """c: weight of the errors against the width of the margin; tol: where the solver stops.

    max_iter: the most steps of the solver.
    """

    c: float = Field(1.0, gt=0)
    tol: float = Field(1e-4, gt=0)
    max_iter: int = Field(10_000, ge=1)


class LinearSvm:
    """Squared hinge loss, in the dual where there are fewer vectors than columns."""

    Settings = LinearSvmSettings
    takes: ClassVar[Takes] = "vectors"

    def __init__(self, settings: LinearSvmSettings) -> None:
        self.settings = settings

    def estimator(self, seed: int) -> Pipeline:
        classifier = LinearSVC(
            C=self.settings.c,
            tol=self.settings.tol,
            max_iter=self.settings.max_iter,
            dual="auto",
            class_weight=self.settings.weights_of_classes,
            random_state=seed,
        )
        return pipeline("linear_svm", self.settings, classifier, seed)
