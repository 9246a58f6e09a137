"""Weights of networks: which files are known, where they lie, and how they are read safely."""

from audioflow.weights.known import RANDOM, KnownWeights, WeightsName, weights_fields
from audioflow.weights.read import WeightsError, read_tensors
from audioflow.weights.resolve import Identity, UnknownWeights, resolved

__all__ = [
    "RANDOM",
    "Identity",
    "KnownWeights",
    "UnknownWeights",
    "WeightsError",
    "WeightsName",
    "read_tensors",
    "resolved",
    "weights_fields",
]
