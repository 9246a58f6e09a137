"""`sgd`: logistic regression per class against the rest, by stochastic gradient descent.

Linear time in the number of vectors.
"""

from typing import ClassVar, Literal

from pydantic import Field, model_validator
from sklearn.linear_model import SGDClassifier
from sklearn.pipeline import Pipeline

from audioflow.heads.base import Takes
from audioflow.heads.estimators import EstimatorSettings, pipeline

_RATE = 0.01


class SgdSettings(EstimatorSettings):
    """alpha: factor of the L2 penalty. max_iter: the most passes over the vectors.

    tol: stop after five passes that lower the loss by less; None for all `max_iter` passes.
    learning_rate: `optimal` falls as 1 / (alpha * (t + t0)); the others begin with `rate`:
    `constant`, `invscaling` (rate / √t), or `adaptive` (a fifth whenever the loss stays). rate: the
    first learning rate, 0.01 if None; not of `optimal`.
    """

    alpha: float = Field(1e-4, ge=0)
    learning_rate: Literal["optimal", "constant", "invscaling", "adaptive"] = "optimal"
    rate: float | None = Field(None, gt=0)
    max_iter: int = Field(600, ge=1)
    tol: float | None = Field(1e-3, ge=0)

    @model_validator(mode="after")
    def _go_together(self) -> "SgdSettings":
        if self.learning_rate == "optimal" and self.alpha == 0:
            raise ValueError(
                "alpha is 0, by which learning_rate optimal divides; allowed: more than 0, or "
                "learning_rate constant, invscaling, adaptive"
            )
        if self.learning_rate == "optimal" and self.rate is not None:
            raise ValueError(
                f"rate ({self.rate:g}) is not used by learning_rate optimal; leave it out, or "
                "allowed: learning_rate constant, invscaling, adaptive"
            )
        return self


class Sgd:
    """Logistic loss; the seed shuffles the vectors."""

    Settings = SgdSettings
    takes: ClassVar[Takes] = "vectors"

    def __init__(self, settings: SgdSettings) -> None:
        self.settings = settings

    def estimator(self, seed: int) -> Pipeline:
        classifier = SGDClassifier(
            loss="log_loss",
            alpha=self.settings.alpha,
            learning_rate=self.settings.learning_rate,
            eta0=_RATE if self.settings.rate is None else self.settings.rate,
            power_t=0.5,
            max_iter=self.settings.max_iter,
            tol=self.settings.tol,
            class_weight=self.settings.weights_of_classes,
            random_state=seed,
        )
        return pipeline("sgd", self.settings, classifier, seed)
