"""Backbones: networks and recipes that turn patches into embeddings. One file per backbone."""

from audioflow.registry import Registry

BACKBONES = Registry(
    "backbone",
    {
        "acoustic": "audioflow.backbones.acoustic:Acoustic",
        "color": "audioflow.backbones.color:Color",
    },
)
