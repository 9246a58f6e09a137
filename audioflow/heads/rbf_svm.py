"""`rbf_svm`: a support vector machine with a Gaussian kernel, one per pair of classes (libsvm).

Fitting takes time and memory with the square of the number of vectors: up to some ten thousand.
"""

from typing import Any, ClassVar

from pydantic import Field, field_validator
from sklearn.pipeline import Pipeline
from sklearn.svm import SVC

from audioflow.errors import shown
from audioflow.heads.base import Takes
from audioflow.heads.estimators import EstimatorSettings, pipeline

_CACHE_MIB = 500


class RbfSvmSettings(EstimatorSettings):
    """c: weight of the errors against the width of the margin; tol: where the solver stops.

    gamma: of the kernel exp(-gamma * distance²); `scale` is 1 / (D * variance of all values),
    `auto` is 1 / D.
    """

    c: float = Field(1.0, gt=0)
    gamma: float | str = "scale"
    tol: float = Field(1e-3, gt=0)

    @field_validator("gamma", mode="before")
    @classmethod
    def _known(cls, value: Any) -> Any:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if value not in ("scale", "auto") and not (number and 0 <= value < float("inf")):
            raise ValueError(
                f"gamma is {shown(value)}; allowed: scale, auto or a number of 0 or more"
            )
        return value


class RbfSvm:
    """Pairs of classes vote; of those with the most votes, libsvm takes the first."""

    Settings = RbfSvmSettings
    takes: ClassVar[Takes] = "vectors"

    def __init__(self, settings: RbfSvmSettings) -> None:
        self.settings = settings

    def estimator(self, seed: int) -> Pipeline:
        classifier = SVC(
            C=self.settings.c,
            kernel="rbf",
            gamma=self.settings.gamma,
            tol=self.settings.tol,
            cache_size=_CACHE_MIB,
            class_weight=self.settings.weights_of_classes,
            decision_function_shape="ovo",
        )
        return pipeline("rbf_svm", self.settings, classifier, seed)
