"""`sklearn_mlp`: scikit-learn's neural network, ReLU between fully connected layers.

The head `mlp` is one that torch trains, with dropout, by epochs and on GPUs.
"""

from typing import ClassVar, Literal

from pydantic import Field, field_validator
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import Pipeline

from audioflow.heads.base import Takes
from audioflow.heads.estimators import EstimatorSettings, pipeline


class SklearnMlpSettings(EstimatorSettings):
    """hidden: widths of the hidden layers. solver: what makes the steps. lr: learning rate.

    alpha: factor of the L2 penalty. batch_size: None for 200, or all vectors where there are fewer.
    max_iter: the most passes over the vectors. tol: stop after ten passes that lower the loss by
    less.
    """

    no_class_weights: ClassVar[str] = "MLPClassifier"

    hidden: tuple[int, ...] = Field((20,), min_length=1)
    solver: Literal["sgd", "adam"] = "sgd"
    lr: float = Field(1e-3, gt=0)
    alpha: float = Field(1e-4, ge=0)
    batch_size: int | None = Field(None, ge=1)
    max_iter: int = Field(600, ge=1)
    tol: float = Field(1e-4, ge=0)

    @field_validator("hidden")
    @classmethod
    def _positive(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        wrong = [width for width in value if width < 1]
        if wrong:
            raise ValueError(f"hidden has the width {wrong[0]}; allowed: 1 or more")
        return value


class SklearnMlp:
    """SGD has a constant rate and a Nesterov momentum of 0.9; the seed decides first weights."""

    Settings = SklearnMlpSettings
    takes: ClassVar[Takes] = "vectors"

    def __init__(self, settings: SklearnMlpSettings) -> None:
        self.settings = settings

    def estimator(self, seed: int) -> Pipeline:
        batch_size = self.settings.batch_size
        classifier = MLPClassifier(
            hidden_layer_sizes=self.settings.hidden,
            solver=self.settings.solver,
            learning_rate_init=self.settings.lr,
            alpha=self.settings.alpha,
            batch_size="auto" if batch_size is None else batch_size,
            max_iter=self.settings.max_iter,
            tol=self.settings.tol,
            random_state=seed,
        )
        return pipeline("sklearn_mlp", self.settings, classifier, seed)
