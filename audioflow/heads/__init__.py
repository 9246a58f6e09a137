"""Heads: the trained classifiers on embeddings. One file per head."""

from audioflow.registry import Registry

HEADS = Registry(
    "head",
    {
        "linear": "audioflow.heads.linear:Linear",
        "mlp": "audioflow.heads.mlp:Mlp",
    },
)
