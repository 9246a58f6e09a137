"""`logistic_regression`: multinomial logistic regression with an L2 penalty, by L-BFGS.

The head `linear` is the same model without a penalty, trained by epochs.
"""

from typing import ClassVar

from pydantic import Field
from sklearn.linear_model import LogisticRegression as Classifier
from sklearn.pipeline import Pipeline

from audioflow.heads.base import Takes
from audioflow.heads.estimators import EstimatorSettings, pipeline


class LogisticRegressionSettings(EstimatorSettings):
    """c: weight of the errors against the penalty; tol: where the solver stops.

    max_iter: the most steps of the solver.
    """

    c: float = Field(1.0, gt=0)
    tol: float = Field(1e-4, ge=0)
    max_iter: int = Field(1000, ge=1)


class LogisticRegression:
    """The optimum, whatever the seed."""

    Settings = LogisticRegressionSettings
    takes: ClassVar[Takes] = "vectors"

    def __init__(self, settings: LogisticRegressionSettings) -> None:
        self.settings = settings

    def estimator(self, seed: int) -> Pipeline:
        classifier = Classifier(
            C=self.settings.c,
            tol=self.settings.tol,
            max_iter=self.settings.max_iter,
            class_weight=self.settings.weights_of_classes,
            random_state=seed,
        )
        return pipeline("logistic_regression", self.settings, classifier, seed)
