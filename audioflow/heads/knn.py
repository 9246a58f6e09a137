"""`knn`: the classes of the nearest training vectors.

A bundle holds all training vectors, and every vector that is scored is compared with each.
"""

from typing import ClassVar, Literal

from pydantic import Field
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import Pipeline

from audioflow.heads.base import Takes
from audioflow.heads.estimators import EstimatorSettings, pipeline


class KnnSettings(EstimatorSettings):
    """k: how many neighbours; metric: of the distance to them.

    weights: of neighbours, alike (`uniform`) or one over their distance (`distance`).
    """

    no_class_weights: ClassVar[str] = "KNeighborsClassifier"
    weighs_vectors: ClassVar[bool] = False

    scale: bool = False
    k: int = Field(1, ge=1)
    metric: Literal["cosine", "euclidean", "manhattan"] = "cosine"
    weights: Literal["uniform", "distance"] = "uniform"


class Knn:
    """By comparing with all: trees do not help at the widths of embeddings."""

    Settings = KnnSettings
    takes: ClassVar[Takes] = "vectors"

    def __init__(self, settings: KnnSettings) -> None:
        self.settings = settings

    def estimator(self, seed: int) -> Pipeline:
        classifier = KNeighborsClassifier(
            self.settings.k,
            metric=self.settings.metric,
            weights=self.settings.weights,
            algorithm="brute",
        )
        return pipeline("knn", self.settings, classifier, seed)
