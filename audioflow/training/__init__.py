"""Training a system's network on embeddings, in plain torch: the one loop that everything uses."""

from audioflow.training.batches import MemorySource, Share, Source, class_weights, epoch_order
from audioflow.training.judge import Judge, better, stopped
from audioflow.training.loop import FitState, Material, OnEpoch, Workers, epochs, fit, normalise

__all__ = [
    "FitState",
    "Judge",
    "Material",
    "MemorySource",
    "OnEpoch",
    "Share",
    "Source",
    "Workers",
    "better",
    "class_weights",
    "epoch_order",
    "epochs",
    "fit",
    "normalise",
    "stopped",
]
